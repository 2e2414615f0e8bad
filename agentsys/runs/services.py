"""Use cases: what people and programs ask of runs.  REST, admin and command line all call these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from django.db import transaction

from agentsys.accounts import keys
from agentsys.accounts.models import User
from agentsys.agents.models import AgentVersion
from agentsys.core import db
from agentsys.core.errors import (
    IdempotencyKeyReused,
    InvalidInput,
    InvalidTransition,
    NotFound,
)
from agentsys.core.sanitize import clean

from . import dispatch, files, intake, submission
from .models import Run, Step
from .store import moves, payloads, quota, slots, verdicts
from .store.create import insert_runs
from .store.payloads import Owner
from .submission import Submission

OUTCOMES = ("done", "not_done", "failed")


def submit(
    *, workspace_id: UUID, user: User | None, request: Submission, idempotency_key: str = ""
) -> tuple[Run, bool]:
    """Record a run and its first steps, then ring for them.  At most 8 queries.

    The same ``idempotency_key`` and request give the same run again.

    Returns:
        The run, and whether it was there before.

    Raises:
        InvalidInput, PlanInvalid, PayloadTooLarge: the request is refused; nothing was stored.
        NotFound: the workspace has no such agent.
        IdempotencyKeyReused: the key belongs to another request.
        QuotaExceeded: the workspace has submitted as much as it may for now; nothing was stored.
    """
    keys.check(idempotency_key)
    submission.check(request)
    digest = request.digest() if idempotency_key else ""
    if idempotency_key and (known := replayed(workspace_id, idempotency_key, digest)):
        return known, True  # first of all: the plan may name tools that are gone by now
    asked = _Asked(workspace_id, user, request, idempotency_key or None, digest)
    run = asked.recorded_by_memory() or asked.recorded()
    if run is None:  # somebody was faster with the same key
        return cast(Run, replayed(workspace_id, idempotency_key, digest)), True
    return run, False


@dataclass(frozen=True, slots=True)
class _Asked:
    """A checked submission, and whose it is."""

    workspace_id: UUID
    user: User | None
    request: Submission
    key: str | None
    digest: str

    def recorded(self) -> Run | None:
        """The run; None when its key is taken.  Costs two queries."""
        return self._record(intake.current_versions(self.workspace_id, [self.request.agent]))

    def recorded_by_memory(self) -> Run | None:
        """The run, in one query, if the agent's version is the one that this process remembers; else None."""
        known = intake.remembered_versions(self.workspace_id, [self.request.agent])
        try:
            return self._record(known, only_if_current=True) if known else None
        except InvalidInput:  # perhaps by a version that is the agent's no more
            if intake.current_versions(self.workspace_id, [self.request.agent]) == known:
                raise
            return None

    def _record(self, versions: Mapping[str, AgentVersion], *, only_if_current: bool = False) -> Run | None:
        new = intake.new_run(self.request, versions, key=self.key, digest=self.digest)
        by = self.user.pk if self.user else None

        def insert() -> Run | None:
            made = insert_runs([new], workspace_id=self.workspace_id, created_by_id=by, only_if_current=only_if_current)
            return made[0] if made else None

        def insert_with_files() -> Run | None:
            with transaction.atomic():
                if (run := insert()) is not None:
                    files.put_first(self.workspace_id, [(run.pk, *file) for file in self.request.files.items()])
            return run

        slots.make(self.workspace_id, new.steps.roots)
        work = insert_with_files if self.request.files else insert
        run = db.retrying(lambda: quota.within(self.workspace_id, 1, work))
        if run is not None:
            dispatch.wake(new.steps.roots)
        return run


def get(workspace_id: UUID, run_id: UUID) -> Run:
    """One run with its agent, in one query.

    Raises:
        NotFound: not in this workspace.
    """
    run = Run.objects.select_related("agent_version__agent").filter(workspace_id=workspace_id, pk=run_id).first()
    if run is None:
        raise NotFound("There is no such run.")
    return run


def replayed(workspace_id: UUID, key: str, digest: str) -> Run | None:
    """The run that was made under this key, if there is one.

    Raises:
        IdempotencyKeyReused: it was made for another request, or something else was made under it.
    """
    found = Run.objects.select_related("agent_version__agent").filter(workspace_id=workspace_id, idempotency_key=key)
    run = found.first()
    if run is None and keys.is_taken(workspace_id, key):
        raise IdempotencyKeyReused
    if run is not None and run.request_digest != digest:
        raise IdempotencyKeyReused
    return run


def free_key(workspace_id: UUID, value: str, *request: Any) -> keys.Key | None:
    """A key for something that is no run; None without one.  One query for one.

    Raises:
        InvalidInput: it is none.
        IdempotencyKeyReused: a run was made under it.
    """
    key = keys.Key.of(workspace_id, value, *request)
    if key is not None and Run.objects.filter(workspace_id=workspace_id, idempotency_key=value).exists():
        raise IdempotencyKeyReused
    return key


def cancel(run: Run, *, user: User | None = None) -> Run:
    """Stop a run: what has not started never starts; what runs drains, then the run is cancelled.

    Raises:
        InvalidTransition: the run has already finished.
    """
    if not moves.stop(run.pk, reason="user", by=name_of(user)):
        run.refresh_from_db()
        raise InvalidTransition("The run has already finished.", run_id=str(run.pk), status=run.status)
    return get(run.workspace_id, run.pk)


def resolve(run: Run, key: str, *, outcome: str, result: Any = None, user: User | None = None) -> Step:
    """Say what became of an unsafe call that nobody saw the end of: done, not_done or failed.

    Raises:
        InvalidInput: no such outcome.
        NotFound: no such step.
        InvalidTransition: the step does not wait for this.
    """
    if outcome not in OUTCOMES:
        raise InvalidInput(f"outcome is one of {', '.join(OUTCOMES)}.", outcome=str(outcome)[:50])
    if not key.isprintable():  # NUL and lone surrogates: PostgreSQL would not even look
        raise NotFound("The run has no such step.")
    told = payloads.packed(clean(result), Owner(run.workspace_id, run.pk)) if outcome == "done" else None
    lanes = verdicts.resolve(run.pk, key, outcome=outcome, result=told, by=name_of(user))
    step = Step.objects.filter(run_id=run.pk, workspace_id=run.workspace_id, key=key).first()
    if step is None:
        raise NotFound(f"The run has no step {key[:64]!r}.")
    if lanes is None:
        raise InvalidTransition("The step does not wait for somebody's word.", step=key, status=step.status)
    dispatch.wake(lanes)
    return step


def name_of(user: User | None) -> str | None:
    return user.get_username() if user else None
