"""The prompts, a file each, and the one way to fill them in."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

#: Of one section; the rest of a longer one is left out, with a note.
MAX_SECTION_CHARS = 200_000


@lru_cache
def text(name: str) -> str:
    """The file ``<name>.md`` of this folder."""
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8").strip()


def system(name: str, instructions: str) -> str:
    """A prompt with the agent's own instructions below it."""
    own = f"\n\n# This agent's instructions\n\n{instructions.strip()}" if instructions.strip() else ""
    return text(name) + own


def sections(**parts: Any) -> str:
    """Headed sections: text as it is, anything else as JSON; empty ones are left out."""
    return "\n\n".join(f"# {name.capitalize()}\n\n{_written(part)}" for name, part in parts.items() if part)


def repair(prompt: str, result: Any, faults: list[Any]) -> str:
    """The prompt again, with what was wrong with the last result."""
    return f"{prompt}\n\n{text('repair')}\n\n{sections(result=result, faults=faults)}"


def _written(part: Any) -> str:
    written = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, default=str)
    left_out = len(written) - MAX_SECTION_CHARS
    return f"{written[:MAX_SECTION_CHARS]}\n… ({left_out:,} characters left out)" if left_out > 0 else written
