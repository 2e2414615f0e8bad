"""The run that a delegate step starts: made once whatever happens to the step's worker, within what is left.

Its depth and number are bounded by the installation, and its deadline is its parent's.  It has the limits of its own
agent's version; beside those its steps and its calls count on the budgets of its parent, and of that one's parent, as
they happen: it may use whatever these have left at that moment, and so may its parent's other steps (2026-11: a share
set apart when it starts would let children that run side by side wait for each other).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, OuterRef, QuerySet, Subquery, When

from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.agents.plans import parse_plan
from agentsys.core import db
from agentsys.core.errors import DepthExceeded, InvalidInput, LeaseLost, NotFound, PlanInvalid, TooManyChildren
from agentsys.core.ids import uuid7

from . import dispatch, submission
from .models import Run, Step
from .pinned import allowed_tools, max_steps
from .states import RunStatus, StepKind
from .store import derive, families, reservations
from .store.change import jsonb
from .store.claims import Claim
from .store.create import NewSteps, acting_step, planning_step, steps_of
from .store.derive import Derived
from .store.sql import SQL
from .submission import Submission


@dataclass(frozen=True, slots=True)
class Delegated:
    """The step waits for a child run that is there, and may have ended already."""

    child_run_id: UUID | None  #: None: another worker's with the same claim, made this very moment


def start(claim: Claim, request: Submission) -> Delegated:
    """Make the child of this step, unless an earlier attempt has; ``request.agent`` may be empty: the same agent.

    Raises:
        LeaseLost: the step is no longer ours, or its run stops; nothing was started.
        DepthExceeded, TooManyChildren: nothing is left to delegate with.
        BudgetExhausted: the budgets above have no room for its first steps; nothing was made.
        NotFound, PlanInvalid, InvalidInput, PayloadTooLarge: nobody can run this.
    """
    if (there := Run.objects.filter(parent_step=claim.id).values_list("pk", flat=True).first()) is not None:
        return Delegated(there)
    submission.check(request)
    parent = Run.objects.select_related("agent_version").get(pk=claim.run_id)
    _check_left(claim, parent)
    version = current_version(parent, request.agent) if request.agent else parent.agent_version
    child = derive.anew(_first_steps(request, version))
    values = {**_values(parent, version, request), "parent_step": claim.id}
    told = {"child_of": str(parent.pk), "step": claim.key}
    if (made := db.retrying(lambda: _insert(values, child, told))) is not None:
        dispatch.wake(families.follow(parent.pk) if parent.status == RunStatus.PAUSED else child.lanes())
    return Delegated(made.pk if made else None)


def with_child(steps: "QuerySet[Step]") -> "QuerySet[Step, Any]":
    """Steps, each with ``child_run_id``: the run that a delegate step has started, else None."""
    child = Run.objects.filter(parent_step=OuterRef("pk")).values("pk")[:1]
    return steps.annotate(child_run_id=Case(When(kind=StepKind.DELEGATE, then=Subquery(child))))


def _insert(values: Mapping[str, Any], child: Derived, told: Mapping[str, Any]) -> Run | None:
    with transaction.atomic():
        made = derive.insert(values, child, **told)
        if made is not None:
            reservations.charge_steps(made.pk, child.counted, above_only=True)
    return made


def _check_left(claim: Claim, parent: Run) -> None:
    if parent.depth >= settings.RUN_MAX_DEPTH:
        raise DepthExceeded(depth=parent.depth)
    (used,) = db.rows(SQL["delegation_used"], run_id=parent.pk, step_id=claim.id, token=claim.claim_token)
    if not used["may"]:
        raise LeaseLost(step=claim.key, attempt=claim.attempt)
    if used["children"] > settings.RUN_MAX_CHILDREN:
        raise TooManyChildren(f"A run may delegate {settings.RUN_MAX_CHILDREN} times.")


def current_version(parent: Run, slug: str) -> AgentVersion:
    """What new runs of another agent of the same workspace pin."""
    found = Agent.objects.select_related("current_version").filter(workspace_id=parent.workspace_id, slug=slug).first()
    if found is None or found.current_version is None:
        raise NotFound(f"This workspace has no agent {slug!r} with a current version.", agent=slug)
    return found.current_version


def _first_steps(request: Submission, version: AgentVersion) -> NewSteps:
    if request.plan is not None:
        tools = allowed_tools(version)
        return steps_of(parse_plan(request.plan, tools=tools, max_steps=max_steps(version.limits)), tools)
    if version.mode == Mode.FIXED:
        raise PlanInvalid("This agent runs only fixed plans; delegate a plan to it.", errors=[])
    return acting_step(version.output_schema) if version.mode == Mode.REACT else planning_step()


def _values(parent: Run, version: AgentVersion, request: Submission) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "workspace_id": parent.workspace_id,
        "agent_version_id": version.pk,
        "created_by_id": parent.created_by_id,
        "parent_run_id": parent.pk,
        "forked_from_step": "",
        "depth": parent.depth + 1,
        "goal": request.goal,
        "plan": jsonb(request.plan),
        "input": jsonb(request.input),
        "model": parent.model,
        "output_schema": jsonb(version.output_schema),
        "effects": "live",
        "labels": jsonb({}),
        "limits": jsonb(version.limits),
        "priority": parent.priority,
        "idempotency_key": None,
        "request_digest": "",
        "deadline_at": parent.deadline_at,
        "deadline_s": None,
    }


def request_of(*, goal: Any, input: Any, plan: Any, agent: str | None) -> Submission:
    """What a step asks for, rendered.

    Raises:
        InvalidInput: the goal is no text.
    """
    if not isinstance(goal, str):
        raise InvalidInput("The goal of a delegate step must be a text.", goal=repr(goal)[:100])
    return Submission(agent=agent or "", goal=goal, plan=plan, input=input)
