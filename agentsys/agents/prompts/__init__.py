"""The prompts, a file each, and the one way to fill them in.

A folder is an edition.  A version of an agent keeps the one that was current when it was made, so that what it does
does not change with an upgrade: what is better for new versions is a new folder, and old ones stay as they are.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

#: The edition of versions that are made now.
CURRENT = 1
#: Of one section; the rest of a longer one is left out, with a note.
MAX_SECTION_CHARS = 200_000


@lru_cache
def _file(edition: int, name: str) -> str:
    return (Path(__file__).parent / f"v{edition}" / f"{name}.md").read_text(encoding="utf-8").strip()


@dataclass(frozen=True, slots=True)
class Prompts:
    """What an agent's model is told beside the task: an edition of the prompts, and the agent's own instructions."""

    instructions: str = ""
    edition: int = CURRENT

    def text(self, name: str) -> str:
        """The file ``<name>.md``."""
        return _file(self.edition, name)

    def system(self, name: str) -> str:
        """A prompt with the agent's own instructions below it."""
        own = self.instructions.strip()
        return self.text(name) + (f"\n\n# This agent's instructions\n\n{own}" if own else "")

    def repair(self, prompt: str, result: Any, faults: list[Any]) -> str:
        """The prompt again, with what was wrong with the last result."""
        return f"{prompt}\n\n{self.text('repair')}\n\n{sections(result=result, faults=faults)}"


def sections(**parts: Any) -> str:
    """Headed sections: text as it is, anything else as JSON; empty ones are left out."""
    return "\n\n".join(f"# {name.capitalize()}\n\n{_written(part)}" for name, part in parts.items() if part)


def _written(part: Any) -> str:
    written = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, default=str)
    left_out = len(written) - MAX_SECTION_CHARS
    return f"{written[:MAX_SECTION_CHARS]}\n… ({left_out:,} characters left out)" if left_out > 0 else written
