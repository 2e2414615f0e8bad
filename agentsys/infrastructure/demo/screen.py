"""Shows the acts: tables that move in a terminal, one plain line per change anywhere else."""

import json
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agentsys.infrastructure.demo.play import Act

STYLES = {
    "succeeded": ("✔", "green"),
    "failed": ("✘", "red"),
    "cancelled": ("✘", "red"),
    "skipped": ("↷", "dim"),
    "running": ("▶", "yellow"),
    "sleeping": ("z", "blue"),
    "waiting": ("?", "magenta"),
}
PENDING = ("·", "dim")
MAX_CHARS, MAX_ITEMS = 70, 5


class Screen:
    """``with Screen(console, acts) as screen: …; screen.show()``."""

    def __init__(self, console: Console, acts: list[Act]) -> None:
        self._console, self._acts = console, acts
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._told: dict[tuple[str, str], str] = {}

    def __enter__(self) -> "Screen":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        if self._live:
            self._live.update(Group(*map(_panel, self._acts)))
        else:
            for number, act in enumerate(self._acts, 1):
                self._tell_changes(number, act)

    def _tell_changes(self, number: int, act: Act) -> None:
        moves = [(step["key"], _what(step), step["status"]) for step in act.steps]
        for key, what, status in [*moves, ("", act.scene.title, act.run["status"])]:
            if self._told.get((act.run["id"], key)) != status:
                self._told[act.run["id"], key] = status
                mark, _ = STYLES.get(status, PENDING)
                self._console.print(f"{number} {mark} {status:<10} {key:<12} {what}", markup=False, soft_wrap=True)


def _panel(act: Act) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for step in act.steps:
        mark, style = STYLES.get(step["status"], PENDING)
        table.add_row(Text(mark, style), Text(step["key"], style), _what(step), Text(short(step.get("output")), "dim"))
    status = act.run.get("status", "queued")
    _, style = STYLES.get(status, PENDING)
    title = f"{escape(act.scene.title)} · [{style}]{status}[/]"
    goal = Text(act.scene.body["goal"], "italic")
    return Panel(Group(goal, table), title=title, title_align="left", border_style=style)


def _what(step: dict[str, Any]) -> str:
    return str(step.get("tool") or step["kind"])


def short(value: Any) -> str:
    """A value as text that fits on a line."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"


def brief(value: Any) -> Any:
    """The same value with long texts and long lists cut, and what was cut said."""
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARS else f"{value[:MAX_CHARS]}… ({len(value):,} characters)"
    if isinstance(value, list):
        more = [f"… and {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else []
        return [*map(brief, value[:MAX_ITEMS]), *more]
    if isinstance(value, dict):
        return {name: brief(part) for name, part in value.items()}
    return value
