"""Running totals of what ended, so that no metric ever counts history.

One process at a time reads the events that are new since its last look and adds them to ``Outcome``.
Nothing is counted in a process's memory, so nothing is lost with one, and a step costs nothing more.
"""

from collections.abc import Iterable
from pathlib import Path

from django.db import transaction
from django.db.models import QuerySet

from agentsys.core import db

from .models import Outcome

SQL = db.load(Path(__file__).with_name("sql"))
#: Upper bounds of the buckets of durations, in seconds; one more bucket takes the rest.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
#: An event is counted when it is this old.  A transaction longer than that goes uncounted.
MARGIN_S = 5.0
BATCH = 20_000
MAX_BATCHES = 20
#: The row that keeps the id of the last event counted.
CURSOR = ("cursor", "event")


def roll_up(*, margin_s: float = MARGIN_S) -> int:
    """Count what is new.  Safe to call anywhere at any time; one caller at a time does it.

    Returns:
        How many runs and steps were counted; 0 too when somebody else is counting.
    """
    total = 0
    for _ in range(MAX_BATCHES):
        counted, full = _batch(margin_s)
        total += counted
        if not full:
            break
    return total


@transaction.atomic
def _batch(margin_s: float) -> tuple[int, bool]:
    """One batch: how many were counted, and whether there may be more."""
    lock = db.row(SQL["rollup_lock"])
    if not lock or not lock["mine"]:
        return 0, False
    cursor, _ = Outcome.objects.get_or_create(kind=CURSOR[0], outcome=CURSOR[1])
    rows = db.rows(SQL["rollup_batch"], cursor=cursor.count, limit=BATCH, margin_s=margin_s, bounds_s=list(BOUNDS_S))
    horizon = rows[0]["horizon"]
    if horizon is None or horizon <= cursor.count:
        return 0, False
    counted = _add(row for row in rows if row["kind"] is not None)
    full = horizon - cursor.count >= BATCH
    Outcome.objects.filter(pk=cursor.pk).update(count=horizon)
    return counted, full


def _add(rows: Iterable[db.Row]) -> int:
    known = {(o.kind, o.outcome): o for o in Outcome.objects.all()}
    total = 0
    for row in rows:
        key = (row["kind"], row["outcome"])
        outcome = known.setdefault(key, Outcome(kind=key[0], outcome=key[1]))
        outcome.count += row["count"]
        outcome.seconds += row["seconds"]
        outcome.buckets = outcome.buckets or [0] * (len(BOUNDS_S) + 1)
        if row["bucket"] is not None:
            outcome.buckets[row["bucket"]] += row["count"]
        total += row["count"]
    Outcome.objects.bulk_create(
        [outcome for key, outcome in known.items() if key != CURSOR],
        update_conflicts=True,
        unique_fields=["kind", "outcome"],
        update_fields=["count", "seconds", "buckets"],
    )
    return total


def outcomes() -> QuerySet[Outcome]:
    """The totals, without the cursor."""
    return Outcome.objects.exclude(kind=CURSOR[0]).order_by("kind", "outcome")
