"""``manage.py prune``: let history go now, as the policy says or by a number of days."""

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agentsys.accounts.models import Workspace
from agentsys.runs import retention
from agentsys.runs.store.prune import BATCH, JOBS, Terms

TEXTS = {
    "runs": "finished runs, with all that belongs to them",
    "history": "finished runs' events and attempts",
    "keys": "finished runs' idempotency keys",
    "requests": "idempotency keys of what was no run",
    "payloads": "contents that nothing uses",
    "traces": "traces of runs long gone",
}
MAX_BATCH = 5_000
TOO_OLD = (
    f"--older-than is a number of days above 0, up to {retention.MAX_DAYS}. 0 is no age: in a policy it means for ever."
    " For all that has finished give a small part of a day, such as 0.0001."
)


class Command(BaseCommand):
    help = "Let finished runs go that are older than the policy says, and all that nothing uses; in small batches."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--older-than", type=float, metavar="DAYS", help="runs: instead of every policy; above 0")
        parser.add_argument("--workspace", metavar="SLUG", help="only this one")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--batch", type=int, default=BATCH, help=f"runs a transaction; {BATCH} unless given")

    def handle(self, *args: Any, **options: Any) -> None:
        days, size = options["older_than"], options["batch"]
        if days is not None and not 0 < days <= retention.MAX_DAYS:
            raise CommandError(TOO_OLD)
        if not 1 <= size <= MAX_BATCH:
            raise CommandError(f"--batch is a number from 1 to {MAX_BATCH}.")
        terms = Terms(
            retention.policy(),
            older_than=days,
            workspace_id=workspace_id(options["workspace"]),
            heed_pauses=False,
            really=not options["dry_run"],
            batch=size,
        )
        self._report(terms)

    def _report(self, terms: Terms) -> None:
        counts: Counter[str] = Counter()
        for job, taken in retention.prune_all(terms):
            counts[job] += taken
        word = "gone" if terms.really else "would go"
        for job in JOBS:
            self.stdout.write(f"{counts[job]:9,} {TEXTS[job]}: {word}")


def workspace_id(slug: str | None) -> Any:
    """
    Raises:
        CommandError: there is none.
    """
    if slug is None:
        return None
    found = Workspace.objects.filter(slug=slug).values_list("pk", flat=True).first() if slug.isprintable() else None
    if found is None:
        raise CommandError(f"There is no workspace {slug!r}.")
    return found
