"""The invariants of the engine, checked on the live database in one read-only snapshot."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import connection, transaction

from agentsys.core import db

from .models import Pruned, Run
from .store.sql import SQL

CHECKS = {
    "I2": "one result a step, by an approved call",
    "I3": "events are 1..n",
    "I4": "deps_left = open parents",
    "I5": "lease iff running",
    "I6": "slots are what holds them, within their limits",
    "I7": "spent + reserved within the limit, spent is what was settled, nothing reserved for the dead",
    "I8": "finished runs are closed, counters are true",
    "I9": "every live run has a live step, a time or a counterpart",
    "I11": "failures and crashes are bounded",
    "I13": "no step starts after a cancel",
    "I14": "no step waits for a child that has ended, no child for nobody",
    "I15": "what a row refers to is there, and kept by its run",
}
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant: ``violations`` is None when it was not checked."""

    name: str
    text: str
    violations: int | None
    examples: tuple[str, ...] = ()


def check(acknowledged: Iterable[str] | None = None) -> list[Finding]:
    """Check them all in one snapshot; reads whole tables, so it costs seconds on a large database.

    Args:
        acknowledged: ids of runs that submitters were told of; None leaves I1 unchecked.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL enable_seqscan = on")  # whole tables are read here, and only here
        return [_acknowledged(acknowledged), *(_one(name, text) for name, text in CHECKS.items())]


def _acknowledged(ids: Iterable[str] | None) -> Finding:
    text = "acknowledged runs exist, or were pruned"
    if ids is None:
        return Finding("I1", text, None)
    asked = {line.strip() for line in ids if line.strip()}
    known = {line: pk for line in asked if (pk := _uuid(line))}
    there = set(Run.objects.filter(pk__in=known.values()).values_list("pk", flat=True))
    there |= set(Pruned.objects.filter(pk__in=known.values(), gone_at__isnull=False).values_list("pk", flat=True))
    return _finding("I1", text, sorted(line for line in asked if known.get(line) not in there))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _one(name: str, text: str) -> Finding:
    return _finding(name, text, [row["what"] for row in db.rows(SQL[name])])


def _finding(name: str, text: str, wrong: list[str]) -> Finding:
    return Finding(name, text, len(wrong), tuple(wrong[:SHOWN]))
