"""The run that a delegate step starts: made once whatever happens to the step's worker, within what is left.

Its depth and number are bounded by the installation, its deadline is its parent's, and its steps are what its
parent's limit has left when it starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.agents.plans import parse_plan
from agentsys.core import db
from agentsys.core.errors import (
    DepthExceeded,
    InvalidInput,
    LeaseLost,
    NotFound,
    PlanInvalid,
    StepLimitReached,
    TooManyChildren,
)
from agentsys.core.ids import uuid7

from . import dispatch, submission
from .models import Run
from .pinned import allowed_tools, max_steps, tighter
from .states import RunStatus
from .store import derive, families
from .store.change import jsonb
from .store.claims import Claim
from .store.create import NewSteps, planning_step, steps_of
from .store.sql import SQL
from .submission import Submission


@dataclass(frozen=True, slots=True)
class Delegated:
    """The step waits for a child run that is there, and may have ended already."""


def start(claim: Claim, request: Submission) -> Delegated:
    """Make the child of this step, unless an earlier attempt has; ``request.agent`` may be empty: the same agent.

    Raises:
        LeaseLost: the step is no longer ours, or its run stops; nothing was started.
        DepthExceeded, TooManyChildren, StepLimitReached: nothing is left to delegate with.
        NotFound, PlanInvalid, InvalidInput, PayloadTooLarge: nobody can run this.
    """
    if Run.objects.filter(parent_step=claim.id).exists():
        return Delegated()
    submission.check(request)
    parent = Run.objects.select_related("agent_version").get(pk=claim.run_id)
    limits = _limits_left(claim, parent)
    version = current_version(parent, request.agent) if request.agent else parent.agent_version
    limits = tighter(version.limits, limits)
    child = derive.anew(_first_steps(request, version, limits))
    values = _values(parent, version, request, limits)
    told = {"child_of": str(parent.pk), "step": claim.key}
    if db.retrying(lambda: derive.insert({**values, "parent_step": claim.id}, child, **told)):
        dispatch.wake(families.follow(parent.pk) if parent.status == RunStatus.PAUSED else child.lanes())
    return Delegated()


def _limits_left(claim: Claim, parent: Run) -> dict[str, float]:
    if parent.depth >= settings.RUN_MAX_DEPTH:
        raise DepthExceeded(depth=parent.depth)
    (used,) = db.rows(SQL["delegation_used"], run_id=parent.pk, step_id=claim.id, token=claim.claim_token)
    if not used["may"]:
        raise LeaseLost(step=claim.key, attempt=claim.attempt)
    if used["children"] > settings.RUN_MAX_CHILDREN:
        raise TooManyChildren(f"A run may delegate {settings.RUN_MAX_CHILDREN} times.")
    limits = {name: value for name, value in parent.limits.items() if name != "time_s"}  # the deadline says that
    if "steps" in limits:
        limits["steps"] -= used["steps"]
        if limits["steps"] < 1:
            raise StepLimitReached(limit=parent.limits["steps"])
    return limits


def current_version(parent: Run, slug: str) -> AgentVersion:
    """What new runs of another agent of the same workspace pin."""
    found = Agent.objects.select_related("current_version").filter(workspace_id=parent.workspace_id, slug=slug).first()
    if found is None or found.current_version is None:
        raise NotFound(f"This workspace has no agent {slug!r} with a current version.", agent=slug)
    return found.current_version


def _first_steps(request: Submission, version: AgentVersion, limits: Mapping[str, float]) -> NewSteps:
    if request.plan is not None:
        tools = allowed_tools(version)
        return steps_of(parse_plan(request.plan, tools=tools, max_steps=max_steps(limits)), tools)
    if version.mode == Mode.FIXED:
        raise PlanInvalid("This agent runs only fixed plans; delegate a plan to it.", errors=[])
    return planning_step()


def _values(parent: Run, version: AgentVersion, request: Submission, limits: Mapping[str, float]) -> dict[str, Any]:
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
        "limits": jsonb(dict(limits)),
        "priority": parent.priority,
        "idempotency_key": None,
        "request_digest": "",
        "deadline_at": parent.deadline_at,
        "deadline_s": limits.get("time_s"),
    }


def request_of(*, goal: Any, input: Any, plan: Any, agent: str | None) -> Submission:
    """What a step asks for, rendered.

    Raises:
        InvalidInput: the goal is no text.
    """
    if not isinstance(goal, str):
        raise InvalidInput("The goal of a delegate step must be a text.", goal=repr(goal)[:100])
    return Submission(agent=agent or "", goal=goal, plan=plan, input=input)
