"""From a checked submission to a run as the tables take it: its agent's version, its plan, its limits."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from agentsys.agents.models import Agent, AgentVersion, Mode
from agentsys.agents.plans import parse_plan
from agentsys.core import db
from agentsys.core.errors import NotFound, PlanInvalid
from agentsys.core.ids import uuid7
from agentsys.core.sanitize import clean
from agentsys.tools.registry import ToolSpec

from .pinned import allowed_tools, max_steps, tighter
from .store.create import NewRun, NewSteps, acting_step, planning_step, steps_of
from .store.sql import SQL
from .submission import Submission

MAX_REMEMBERED = 1_000
_remembered: dict[tuple[UUID, str], AgentVersion] = {}


def current_versions(workspace_id: UUID, slugs: Collection[str]) -> dict[str, AgentVersion]:
    """What new runs of these agents pin, by slug, each with its agent; one query.

    A slug that is no agent's, or whose agent has no current version, is left out.
    """
    # NUL and half a surrogate pair are in no slug, and PostgreSQL would not even look.
    asked = [slug for slug in slugs if slug.isprintable()]
    found = db.rows(SQL["current_versions"], workspace_id=workspace_id, slugs=asked) if asked else []
    versions = {row["slug"]: _version(workspace_id, row.pop("slug"), row) for row in found}
    _remember(workspace_id, versions)
    return versions


def remembered_versions(workspace_id: UUID, slugs: Collection[str]) -> dict[str, AgentVersion]:
    """What was current when this process last asked.  Costs no query; whoever uses it lets the database check it.

    A version never changes, only which one is an agent's current one.
    """
    known = {slug: _remembered.get((workspace_id, slug)) for slug in slugs}
    return {slug: version for slug, version in known.items() if version is not None}


def _remember(workspace_id: UUID, versions: Mapping[str, AgentVersion]) -> None:
    if len(_remembered) + len(versions) > MAX_REMEMBERED:
        _remembered.clear()
    _remembered.update({(workspace_id, slug): version for slug, version in versions.items()})


def _version(workspace_id: UUID, slug: str, row: db.Row) -> AgentVersion:
    version = db.instance(AgentVersion, row)
    version.agent = Agent(id=row["agent_id"], workspace_id=workspace_id, slug=slug)
    return version


def new_run(
    request: Submission, versions: Mapping[str, AgentVersion], *, key: str | None = None, digest: str = ""
) -> NewRun:
    """The run to be.

    Args:
        request: Checked by :func:`submission.check`.
        versions: See :func:`current_versions`.
        key: The idempotency key to keep with it, and ``digest`` what the key stands for.

    Raises:
        NotFound: the agent is not among ``versions``.
        PlanInvalid: the plan is not one, or the agent needs one.
    """
    slug = request.agent
    if slug not in versions:
        raise NotFound(f"This workspace has no agent {slug[:50]!r} with a current version.", agent=slug[:50])
    version = versions[slug]
    steps = _first_steps(request, version)
    return NewRun(version, _values(request, version) | {"idempotency_key": key, "request_digest": digest}, steps)


def _first_steps(request: Submission, version: AgentVersion) -> NewSteps:
    if request.plan is not None:
        tools: Mapping[str, ToolSpec] = allowed_tools(version)
        most = max_steps(tighter(version.limits, request.limits))
        plan = parse_plan(request.plan, tools=tools, max_steps=most)
        return steps_of(plan, tools)
    if version.mode == Mode.FIXED:
        fault = {"path": "plan", "code": "missing", "message": f"The agent {request.agent!r} runs only fixed plans."}
        raise PlanInvalid("This agent needs a plan.", errors=[fault])
    if version.mode == Mode.REACT:
        return acting_step(version.output_schema if request.output_schema is None else request.output_schema)
    return planning_step()


def _values(request: Submission, version: AgentVersion) -> dict[str, Any]:
    return {
        "id": uuid7(),
        "goal": request.goal,
        "plan": request.plan,
        "input": clean(request.input),
        "model": request.model,
        "output_schema": version.output_schema if request.output_schema is None else request.output_schema,
        "labels": dict(request.labels),
        "limits": tighter(version.limits, request.limits),
        "priority": request.priority,
        "start_at": request.start_at,
        "deadline_s": request.deadline_s,
    }
