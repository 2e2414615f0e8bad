"""``manage.py retention``: show and set how long history is kept, and pause its leaving."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agentsys.core.errors import InvalidInput
from agentsys.runs import retention
from agentsys.runs.models import Retention

from .prune import workspace_id

NAMES = ("runs", "history", "keys")


class Command(BaseCommand):
    help = (
        "How many days finished runs, their events and attempts, and their idempotency keys are kept; 0: runs for ever,"
        " the others as long as their runs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--workspace", metavar="SLUG", help="show this one, or set its times")
        for name in NAMES:
            parser.add_argument(f"--{name}", metavar="DAYS", help="'default': as the installation has it")
        pausing = parser.add_mutually_exclusive_group()
        pausing.add_argument(
            "--pause", action="store_true", help="nothing leaves by itself; without a workspace: of any"
        )
        pausing.add_argument("--resume", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        values: dict[str, Any] = {f"{name}_days": _days(options[name]) for name in NAMES if options[name] is not None}
        if values and options["workspace"] is None:
            raise CommandError("Name a --workspace; the installation's own times are AGENTSYS_KEEP_…_DAYS.")
        if options["pause"] or options["resume"]:
            values["paused"] = options["pause"]
        workspace = workspace_id(options["workspace"])
        if values:
            self._set(workspace, values)
        self._show(options["workspace"])

    def _set(self, workspace: Any, values: dict[str, Any]) -> None:
        try:
            retention.set_policy(workspace, **values)
        except InvalidInput as error:
            raise CommandError(error.message) from None

    def _show(self, slug: str | None) -> None:
        """The installation's times, then those of workspaces that have their own; or of one, whether it has or not."""
        default = retention.policy()
        paused = Retention.objects.filter(workspace=None, paused=True).exists()
        self.stdout.write(_line("(all)", list(default.values()), paused))
        rows = Retention.objects.filter(workspace__isnull=False).order_by("workspace__slug")
        found = rows.select_related("workspace") if slug is None else rows.filter(workspace__slug=slug)
        for row in found:
            own = [row.runs_days, row.history_days, row.keys_days]
            self.stdout.write(_line(row.workspace.slug if row.workspace else "", own, row.paused))
        if slug is not None and not found:
            self.stdout.write(_line(slug, [None] * len(NAMES), False))


def _days(text: str) -> float | None:
    if text == "default":
        return None
    try:
        return float(text)
    except ValueError:
        raise CommandError(f"{text!r} is no number of days.") from None


def _line(name: str, days: list[float | None], paused: bool) -> str:
    told = (f"{what} {_told(what, value)}" for what, value in zip(NAMES, days, strict=True))
    return f"{name:20} {', '.join(told)}{'   paused' if paused else ''}"


def _told(what: str, days: float | None) -> str:
    if days is None:
        return "default"
    return f"{days:g} days" if days else "for ever" if what == "runs" else "as their runs"
