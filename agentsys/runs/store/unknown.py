"""A call that may have happened: what is believed of it, and whether its check is asked before a person.

Only the calls of ``verifiable`` tools have a check.  That one is due is remembered by the step itself: its reason
is ``verify`` from the moment nobody knows until the check has answered, and ``effect_started_at`` stays that of
the call in the dark, so that the gate is shut for another.
"""

from typing import Any

from agentsys.core import db
from agentsys.core.errors import AgentSysError, OutcomeUnknown

from .crashes import is_last

VERIFY = "verify"
#: So often a check may give no answer, in a row, before a person is asked.
MAX_CHECKS = 5
#: With the longest pauses between them these take days.
MAX_FREE_ATTEMPTS = 1000
#: A worker that is alive and cut off ends its call by the step's time and this.
GRACE_S = 2.0


def judged(held: db.Row, error: AgentSysError) -> AgentSysError:
    """The error as it counts, by what the row says under the lock: a call may have started meanwhile.

    After that only a plain no is believed: "try again" is not ours to say, and an exception that nobody
    expected does not tell whether the call had been made before it.  While a check is due every error is its own.
    """
    unexpected = type(error) is AgentSysError or "exception" in error.data
    if is_checking(held):
        return OutcomeUnknown(error.message, **error.data)
    started = held["effect_started_at"] is not None
    if started and (error.retryable or unexpected) and error.data.get("sent") is not False:
        return OutcomeUnknown(error.message, **error.data)
    return error


def is_checking(held: db.Row) -> bool:
    """Whether the attempt has come no further than its check."""
    return bool(held["reason"] == VERIFY)


def may_check(held: db.Row, cause: AgentSysError) -> bool:
    """Whether the check is asked (again) after ``cause``; else a person is."""
    if held["effect"] != "verifiable" or held["attempt"] >= MAX_FREE_ATTEMPTS:
        return False
    if not is_checking(held):
        return True
    again = cause.retryable or isinstance(cause, OutcomeUnknown)
    return again and held["checks"] + cause.uses_attempt < MAX_CHECKS


def may_check_after(held: db.Row, *, crashed: bool) -> bool:
    """The same after a worker's end: a step that has ended several is a person's."""
    return held["effect"] == "verifiable" and not (crashed and is_last(held))


def how_to_check(held: db.Row, why: str) -> dict[str, Any]:
    """When, and as what, a step goes back whose check is due, for :func:`moves.give_back`.

    A process that is not known to be dead may still be calling: the check waits until the call must have ended.
    """
    over_at = held["call_over_at"]
    outcome = {} if is_checking(held) else {"outcome": "unknown"}
    waits = why != "dead" and over_at is not None and over_at > held["now"]
    return {**outcome, "reason": VERIFY, "at": over_at if waits else None}
