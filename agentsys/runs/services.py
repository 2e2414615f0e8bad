"""Use cases: what people and programs ask of runs.  REST, admin and command line all call these."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from django.db import transaction

from agentsys.accounts.models import User
from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.agents.plans import parse_plan
from agentsys.core import db
from agentsys.core.errors import (
    IdempotencyKeyReused,
    InvalidInput,
    InvalidTransition,
    NotFound,
    PlanInvalid,
)
from agentsys.core.ids import uuid7
from agentsys.core.sanitize import clean
from agentsys.tools.registry import ToolSpec

from . import dispatch, files, submission
from .models import Run, Step
from .pinned import allowed_tools, max_steps, tighter
from .store import moves, verdicts
from .store.change import jsonb
from .store.create import NewSteps, insert_run, planning_step, steps_of
from .store.sql import SQL
from .submission import Submission

OUTCOMES = ("done", "not_done", "failed")
MAX_KEY = 200


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
    """
    check_key(idempotency_key)
    submission.check(request)
    if idempotency_key and (known := replayed(workspace_id, idempotency_key, request.digest())):
        return known, True  # first of all: the plan may name tools that are gone by now
    version = _current_version(workspace_id, request.agent)
    steps = _first_steps(request, version)
    values = _values(request, version, user, idempotency_key)
    run = _insert(values, steps, request.files)
    if run is None:  # somebody was faster with the same key
        return cast(Run, replayed(workspace_id, idempotency_key, request.digest())), True
    dispatch.wake(steps.roots)
    run.agent_version = version
    return run, False


def _insert(values: Mapping[str, Any], steps: NewSteps, contents: Mapping[str, bytes]) -> Run | None:
    """One statement and one commit; with files, one transaction."""
    if not contents:
        return db.retrying(lambda: insert_run(values, steps))
    return db.retrying(lambda: _insert_with_files(values, steps, contents))


def _insert_with_files(values: Mapping[str, Any], steps: NewSteps, contents: Mapping[str, bytes]) -> Run | None:
    # In the order of their content, whose rows are shared: another order would lock them crosswise.
    in_order = sorted(contents.items(), key=lambda named: hashlib.sha256(named[1]).digest())
    with transaction.atomic():
        run = insert_run(values, steps)
        if run is not None:
            for name, content in in_order:
                files.put(workspace_id=run.workspace_id, run_id=run.pk, name=name, content=content)
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


def _current_version(workspace_id: UUID, slug: str) -> AgentVersion:
    # NUL and half a surrogate pair are in no slug, and PostgreSQL would not even look.
    row = db.row(SQL["current_version"], workspace_id=workspace_id, slug=slug) if slug.isprintable() else None
    if row is None:
        raise NotFound(f"This workspace has no agent {slug[:50]!r} with a current version.", agent=slug[:50])
    agent = Agent(id=row["agent_id"], workspace_id=workspace_id, slug=slug)
    version = db.instance(AgentVersion, row)
    version.agent = agent
    return version


def _first_steps(request: Submission, version: AgentVersion) -> NewSteps:
    if request.plan is not None:
        tools: Mapping[str, ToolSpec] = allowed_tools(version)
        most = max_steps(tighter(version.limits, request.limits))
        plan = parse_plan(request.plan, tools=tools, max_steps=most)
        return steps_of(plan, tools)
    if version.mode == Mode.FIXED:
        fault = {"path": "plan", "code": "missing", "message": f"The agent {request.agent!r} runs only fixed plans."}
        raise PlanInvalid("This agent needs a plan.", errors=[fault])
    return planning_step()


def _values(request: Submission, version: AgentVersion, user: User | None, key: str) -> dict[str, Any]:
    limits = tighter(version.limits, request.limits)
    return {
        "id": uuid7(),
        "workspace_id": version.workspace_id,
        "agent_version_id": version.pk,
        "created_by_id": user.pk if user else None,
        "goal": request.goal,
        "plan": jsonb(request.plan),
        "input": jsonb(clean(request.input)),
        "model": request.model,
        "output_schema": jsonb(version.output_schema if request.output_schema is None else request.output_schema),
        "labels": jsonb(dict(request.labels)),
        "limits": jsonb(limits),
        "priority": request.priority,
        "idempotency_key": key or None,
        "request_digest": request.digest(),
        "start_at": request.start_at,
        "deadline_s": _soonest(request.deadline_s, limits.get("time_s")),
    }


def _soonest(*seconds: float | None) -> float | None:
    least = min((s for s in seconds if s is not None), default=math.inf)
    return None if math.isinf(least) else float(least)


def check_key(key: str) -> None:
    """
    Raises:
        InvalidInput: it is no Idempotency-Key.
    """
    if len(key) > MAX_KEY or not key.isprintable():
        raise InvalidInput(f"An Idempotency-Key has at most {MAX_KEY} visible characters.")


def replayed(workspace_id: UUID, key: str, digest: str) -> Run | None:
    """The run that was made under this key, if there is one.

    Raises:
        IdempotencyKeyReused: it was made for another request.
    """
    found = Run.objects.select_related("agent_version__agent").filter(workspace_id=workspace_id, idempotency_key=key)
    run = found.first()
    if run is not None and run.request_digest != digest:
        raise IdempotencyKeyReused
    return run


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
    told = clean(result) if outcome == "done" else None
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
