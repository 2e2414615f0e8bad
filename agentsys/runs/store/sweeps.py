"""What a crash, a race or a lost bell left behind, found by time.  Each sweep is safe to repeat and to race."""

import logging
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction

from agentsys.core import db, outage
from agentsys.core.errors import AgentSysError, DeadlineExceeded

from ..states import Lane, RunStatus
from . import budgets, children, decisions, families, moves, parallel, slots, waiting
from .change import locked
from .sql import SQL

logger = logging.getLogger(__name__)
BATCH = 500
MAX_BATCHES = 20


def wake_sleepers() -> list[str]:
    """sleeping -> queued where the time has come, up to 10,000, and on to ready where slots are free.

    Returns:
        The lanes to ring.
    """
    pairs: set[slots.Pair] = set()
    capped: set[UUID] = set()
    for _ in range(MAX_BATCHES):
        if not _wake_batch(pairs, capped):
            break
    return [*slots.admit_all(pairs), *parallel.fit_all(capped)]


def _wake_batch(pairs: set[slots.Pair], capped: set[UUID]) -> bool:
    """Add where steps have been woken, and the runs with a cap among theirs; whether there may be more that are due."""
    with transaction.atomic():
        if not _mine("sleepers"):
            return False
        woken = {row["id"]: (row["workspace_id"], row["lane"]) for row in db.rows(SQL["due_sleepers"], limit=BATCH)}
        more = len(woken) == BATCH
        for row in db.rows(SQL["hold_woken"], ids=list(woken)) if woken else ():
            del woken[row["id"]]
            capped.add(row["run_id"])  # a paused one has nothing to fit
        pairs.update(woken.values())
        return more


def reap_expired(*, lost: moves.Lost | None = None) -> list[str]:
    """Take steps from workers whose lease has run out; the lanes to ring."""
    return _give_back(db.rows(SQL["expired_leases"], lease_s=settings.LEASE_S, limit=BATCH), "lease", lost)


def reap_dead(is_dead: Callable[[str], bool], *, lost: moves.Lost | None = None) -> list[str]:
    """Take steps from processes that are known to have ended, without waiting for their leases."""
    owners = [row["lease_owner"] for row in db.rows(SQL["lease_owners"])]
    held = [row for owner in owners if is_dead(owner) for row in db.rows(SQL["leases_of"], owner=owner)]
    return _give_back(held, "dead", lost)


def _give_back(held: list[db.Row], why: str, lost: moves.Lost | None) -> list[str]:
    lanes: list[str] = []

    def give_back(row: db.Row) -> None:
        lanes.extend(moves.give_back(row["id"], row["run_id"], row["claim_token"], why=why, lost=lost))

    _each(held, give_back)
    return lanes


def _each(rows: list[db.Row], work: Callable[[db.Row], object]) -> None:
    """Do ``work`` for every row, so that one that cannot be moved does not keep the others from it."""
    for row in rows:
        try:
            db.retrying(partial(work, row))
        except Exception as error:  # upkeep must go on whatever one row meets
            if outage.is_lost(error):  # the database is away: so it is for all
                raise
            logger.exception("could not move %s", row)


def end_past_deadline() -> None:
    """Fail the runs whose deadline has passed."""
    late = db.rows(SQL["past_deadline"], limit=BATCH)
    _each(late, lambda row: moves.stop(row["id"], reason="deadline", error=DeadlineExceeded()))


def expire_questions() -> list[str]:
    """Fail the steps whose person had a time to decide and did not; the lanes to ring."""
    lanes: list[str] = []
    due = db.rows(SQL["expired_questions"], limit=BATCH)
    _each(due, lambda row: lanes.extend(decisions.expire(row["id"], row["run_id"])))
    return lanes


def join_children() -> list[str]:
    """Let steps whose child has ended end with it; the lanes to ring."""
    lanes: list[str] = []
    ended = db.rows(SQL["joinable_parents"], limit=BATCH)
    _each(ended, lambda row: lanes.extend(children.join(row["id"])))
    return lanes


def cancel_orphans() -> None:
    """Stop the children of steps that wait for them no more."""
    _each(db.rows(SQL["orphans"], limit=BATCH), lambda row: moves.stop(row["id"], reason="parent"))


def follow_parents() -> list[str]:
    """Pause the children of paused runs, and let those go on whose parent does; the lanes to ring."""
    lanes: list[str] = []
    _each(db.rows(SQL["all_children_unlike"], limit=BATCH), lambda row: lanes.extend(families.move(row)))
    return lanes


class _Rounds:
    """Where this process's looks at the steps that wait for budgets, and at the runs with a cap, have come; any place
    would do."""

    step = 0
    run = UUID(int=0)


def mind_budgets() -> list[str]:
    """Hold the runs whose time is used up, and let go on what waits for budgets with room again; the lanes to ring.

    Of many that wait it looks at some, and at the next ones the next time, so that none hides others for ever.
    """
    lanes: list[str] = []
    found = budgets.work(after=_Rounds.step)
    _Rounds.step = next((row["step_id"] for row in found if row["what"] == "looked"), 0)

    def mind(row: db.Row) -> None:
        if row["what"] == "hold":
            budgets.hold(row["run_id"])
        elif row["what"] == "release":
            lanes.extend(budgets.release(row["run_id"]))
        else:
            lanes.extend(budgets.fund(row["step_id"], row["run_id"]))

    _each([row for row in found if row["what"] != "looked"], mind)
    return lanes


def release_credentials() -> list[str]:
    """Let steps go on for whose sake a credential was added or changed; the lanes to ring."""
    lanes: list[str] = []
    changed = db.rows(SQL["credentials_changed"], workspace_id=None, limit=BATCH)
    _each(changed, lambda row: lanes.extend(waiting.go_on(row["run_id"], row["key"], "credential")))
    return lanes


def fold_settled() -> None:
    """Keep the history of agents' and workspaces' budgets short."""
    db.retrying(lambda: db.rows(SQL["fold_settled"], limit=10_000))


def due_lanes(*, older_than_s: float) -> list[str]:
    """Lanes with a step that has been ready for so long that its bell must be lost."""
    return [row["lane"] for row in db.rows(SQL["due_lanes"], lanes=Lane.values, older_than_s=older_than_s)]


def repair_stuck() -> int:
    """Count the steps of runs that nothing moves, and let their status follow; an error in the log each.

    Returns:
        How many there were; any but 0 is a defect of the engine.
    """
    stuck = db.rows(SQL["stuck_runs"], limit=BATCH)
    _each(stuck, lambda row: _repair(row["id"]))
    return len(stuck)


def _repair(run_id: UUID) -> None:
    with locked(run_id) as change:
        counts = db.rows(SQL["recount"], run_id=run_id)[0]
        if change.release_what_is_held():
            logger.error("run %s had held steps, and was not held; repaired", run_id)
        if counts["active_steps"]:
            return
        logger.error("run %s had no live step; repaired", run_id)
        change.run |= {name: counts[name] for name in ("open_steps", "active_steps")}
        if change.run["status"] == RunStatus.CANCELLING:
            change.cancel_open("run")
        elif counts["open_steps"] and not counts["waiting_steps"]:
            change.stop(reason="error", error=AgentSysError("The run could not go on; retry it."))


def admit() -> list[str]:
    """Let queued steps have the slots that are free, and take those over a lowered limit from what has not started.

    Returns:
        The lanes to ring.
    """
    for row in db.rows(SQL["lanes_over"]):
        slots.demote(row["workspace_id"], row["lane"])
    waiting = db.rows(SQL["lanes_to_admit"], limit=BATCH)
    return slots.admit_all((row["workspace_id"], row["lane"]) for row in waiting)


def fit() -> list[str]:
    """Places among the parallel steps of runs with a cap, where a crash has left some; the lanes to ring."""
    found = [row["run_id"] for row in db.rows(SQL["runs_to_fit"], after=_Rounds.run, limit=BATCH)]
    _Rounds.run = found[-1] if len(found) == BATCH else UUID(int=0)
    return parallel.fit_all(found)


def recount_slots() -> int:
    """Put right what a slot counts that is not so; an error in the log each.

    Returns:
        How many there were; any but 0 is a defect of the engine, or the work of a version that knew no slots.
    """
    wrong = [row for row in db.rows(SQL["slots_off"], limit=BATCH) if slots.recount(row["workspace_id"], row["lane"])]
    for row in wrong:
        logger.error("the slots of %s in workspace %s were miscounted; put right", row["lane"], row["workspace_id"])
    return len(wrong)


def _mine(job: str) -> bool:
    row = db.row(SQL["lock_job"], job=job)
    return bool(row and row["mine"])
