"""Use cases of run control: pause, resume, retry, messages.  ``services`` has submit and cancel, ``forks`` fork."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from django.db import IntegrityError

from agentsys.accounts import keys
from agentsys.accounts.models import User
from agentsys.agents import definition
from agentsys.core import db
from agentsys.core.errors import InvalidInput, InvalidTransition
from agentsys.core.ids import uuid7
from agentsys.core.sanitize import clean

from . import dispatch, services
from .models import Run, RunMessage
from .states import RunStatus, StepKind
from .store import budgets, control, derive, families, messages, quota
from .store.change import jsonb
from .store.derive import Derived

MAX_MESSAGE_CHARS = 4_000


def pause(run: Run, *, user: User | None = None) -> Run:
    """No further step of the run starts; those that run end, and their results are kept.

    Its child runs pause with it.  A paused run stays as it is; its deadline still ends it.

    Raises:
        InvalidTransition: the run ends or has ended.
    """
    if not control.pause(run.pk, by=services.name_of(user)):
        raise _refused(run, "The run has finished or is being stopped; it cannot be paused.")
    families.follow(run.pk)
    return services.get(run.workspace_id, run.pk)


def resume(run: Run, *, limits: Any = None, user: User | None = None) -> Run:
    """A paused run goes on where it was, with the child runs that have paused with it; so does what waits for a budget
    that has room again, or for a credential: it is tried again.

    Args:
        limits: ``{steps, tokens, cost_usd, time_s, parallel}``, new values for those that the run has: raised, or
            lowered to no less than is spent and reserved; ``parallel`` for any run.

    Raises:
        InvalidInput: ``errors`` lists what is wrong with the limits, also that the run has no limit of this kind, or
            that more of it is spent and reserved already.
        InvalidTransition: the run has ended, or does not wait for anybody to resume it; or its parent is paused: it
            goes on with that.
    """
    limits = {} if limits is None else limits
    if faults := list(definition.limit_faults(limits)):
        raise InvalidInput("The limits are not valid; see errors.", errors=faults)
    if run.parent_step is not None and Run.objects.filter(children=run.pk, status=RunStatus.PAUSED).exists():
        raise _refused(run, "Its parent run is paused; resume that one.")
    came = db.retrying(lambda: budgets.resume(run.pk, limits, by=services.name_of(user)))
    if not came.moved:
        raise _not_resumed(run)
    dispatch.wake([*came.lanes, *families.follow(run.pk)])
    return services.get(run.workspace_id, run.pk)


def _not_resumed(run: Run) -> InvalidTransition:
    run.refresh_from_db(fields=["status", "reason"])
    if run.reason != "budget":
        return _refused(run, "The run is not paused, nor does it wait for a budget or a credential.")
    return _refused(run, "There is no room in its budgets yet: see runs/{id}/budget, and send higher limits.")


def retry(run: Run, *, user: User | None = None, idempotency_key: str = "") -> tuple[Run, bool]:
    """A new run in which everything that has succeeded is kept and the rest starts anew.

    Returns:
        The new run, and whether it was there before (by the key).

    Raises:
        InvalidTransition: the run has not ended, has succeeded, or nothing of it could be done again.
        InvalidInput, IdempotencyKeyReused: the key is none, or belongs to another request.
    """
    digest = digest_of("retry", run.pk)
    if known := known_by(run, idempotency_key, digest):
        return known, True
    run = services.get(run.workspace_id, run.pk)  # as it is now, with all its columns
    if run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        raise _refused(run, "Only a failed or cancelled run is retried; fork any other.")
    steps = derive.origin_steps(run.pk)
    derived = derive.derive(run.pk, steps, redo=())
    if not derived.again:  # all is well but the result: whatever wrote it writes again
        derived = derive.derive(run.pk, steps, redo=_last_answers(steps))
    if not derived.again:
        raise _refused(run, "Every step has succeeded, so a retry would end the same; fork the run instead.")
    return make(run, derived, user=user, key=idempotency_key, digest=digest, told={"retry_of": str(run.pk)})


def message(
    run: Run, text: str, *, user: User | None = None, replan: bool = False, idempotency_key: str = ""
) -> tuple[RunMessage, bool]:
    """Tell a run something; its next step that asks a model (a plan, an answer) takes it into account.

    With ``replan`` it plans anew at once: what has not started waits for the new plan, and is replaced by it.

    Returns:
        The message, and whether it was there before (by the key).

    Raises:
        InvalidInput: the text is empty, too long or cannot be stored, or the key is none.
        IdempotencyKeyReused: the key belongs to another request.
        InvalidTransition: the run ends or has ended.
        TooManyMessages: it has had as many as it may.
        PlanFixed, TooManyPlans: it cannot plan anew.
    """
    if not text.strip() or len(text) > MAX_MESSAGE_CHARS or clean(text) != text:
        said = f"A message has 1 to {MAX_MESSAGE_CHARS:,} characters, and no NUL or half a surrogate pair."
        raise InvalidInput(said, errors=[{"path": "text", "code": "bad_value", "message": said}])
    key = services.free_key(run.workspace_id, idempotency_key, "message", run.pk, text, replan)
    sent = db.retrying(lambda: messages.send(run.pk, text, by=services.name_of(user), replan=replan, key=key))
    dispatch.wake(sent.lanes)
    return RunMessage.objects.get(pk=sent.id), sent.replayed


def _last_answers(steps: Sequence[db.Row]) -> list[str]:
    needed = {parent for step in steps for parent in step["depends_on"]}
    return [step["key"] for step in steps if step["kind"] == StepKind.ANSWER and step["key"] not in needed]


def _refused(run: Run, message: str) -> InvalidTransition:
    run.refresh_from_db(fields=["status"])
    return InvalidTransition(message, run_id=str(run.pk), status=run.status)


# --- Runs made from runs -----------------------------------------------------------------
def digest_of(*request: Any) -> str:
    """SHA-256 of what a derived run was asked for with."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()


def known_by(origin: Run, key: str, digest: str) -> Run | None:
    """The run that the same request has made under this Idempotency-Key.

    Raises:
        InvalidInput, IdempotencyKeyReused: the key is none, or belongs to another request.
    """
    keys.check(key)
    return services.replayed(origin.workspace_id, key, digest) if key else None


def make(
    origin: Run, derived: Derived, *, user: User | None, key: str, digest: str, told: Mapping[str, Any], **other: Any
) -> tuple[Run, bool]:
    """Write the new run and ring for it; ``other`` overrides what it has of its origin (column: value).

    It has the limits that its origin has by now, and has used nothing of them.

    Raises:
        NotFound: the origin has left with its history in this moment.
        InvalidTransition: it would begin with more steps than it may have.
    """
    if derived.counted > origin.limits.get("steps", math.inf):
        raise InvalidTransition("The run's limit of steps has no room for those that would run again.", limit="steps")
    values = {**_values(origin), "forked_from_step": derived.first, **other}
    values |= {"created_by_id": user.pk if user else None, "idempotency_key": key or None, "request_digest": digest}
    insert = partial(derive.insert, values, derived, **told)
    try:
        run = db.retrying(lambda: quota.within(origin.workspace_id, 1, insert))
    except IntegrityError:
        services.get(origin.workspace_id, origin.pk)
        raise
    if run is None:  # somebody was faster with the same key
        return cast(Run, services.replayed(origin.workspace_id, key, digest)), True
    dispatch.wake(derived.lanes())
    run.agent_version = origin.agent_version
    return run, False


def _values(origin: Run) -> dict[str, Any]:
    asked_s = (origin.deadline_at - origin.created_at).total_seconds() if origin.deadline_at else None
    same = ("workspace_id", "agent_version_id", "depth", "goal", "model", "effects", "priority")
    documents = ("plan", "input", "output_schema", "labels", "limits")
    return {
        **{name: getattr(origin, name) for name in same},
        **{name: jsonb(getattr(origin, name)) for name in documents},
        "id": uuid7(),
        "parent_run_id": origin.pk,
        "parent_step": None,
        "deadline_at": None,
        "deadline_s": asked_s,
    }
