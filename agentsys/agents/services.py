"""Use cases of agents.  A version never changes: a change is the next version, made the current one."""

from dataclasses import asdict
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max, ProtectedError, RestrictedError

from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, AgentVersion
from agentsys.core.errors import InvalidInput, InvalidTransition, NotFound

DEFAULT_SLUG = "assistant"


def create_agent(*, workspace_id: UUID, slug: str, name: str, description: str = "", definition: Definition) -> Agent:
    """A new agent with its version 1.

    Raises:
        InvalidInput: the definition has faults, or the slug is taken.
    """
    definition.check(workspace_id)
    try:
        with transaction.atomic():
            agent = Agent.objects.create(workspace_id=workspace_id, slug=slug, name=name, description=description)
            _add_version(agent, definition)
    except IntegrityError as error:
        if "agent_slug_unique" not in str(error):
            raise
        message = f"There is an agent {slug!r} already; add a version to it, or use another slug."
        raise InvalidInput(message, errors=[{"path": "slug", "code": "taken", "message": message}]) from None
    return agent


@transaction.atomic
def add_version(agent: Agent, *, definition: Definition) -> AgentVersion:
    """The next version, which new runs use from now on.  Writers of one agent wait for each other.

    Raises:
        InvalidInput: the definition has faults.
    """
    definition.check(agent.workspace_id)
    return _add_version(_locked(agent), definition)


@transaction.atomic
def change_agent(
    agent: Agent,
    *,
    name: str | None = None,
    description: str | None = None,
    current_version: int | None = None,
) -> Agent:
    """Change what is not part of a version, or which version new runs use.

    Raises:
        InvalidInput: the agent has no such version.
    """
    locked = _locked(agent)
    if current_version is not None:
        locked.current_version = _version(locked, current_version)
    locked.name = locked.name if name is None else name
    locked.description = locked.description if description is None else description
    locked.save(update_fields=["name", "description", "current_version"])
    return locked


@transaction.atomic
def delete_agent(agent: Agent) -> None:
    """Delete an agent that has never had a run.

    Raises:
        InvalidTransition: there are runs of it; they pin its versions.
    """
    locked = _locked(agent)
    try:
        with transaction.atomic():
            Agent.objects.filter(pk=locked.pk).update(current_version=None)
            locked.delete()
    except (ProtectedError, RestrictedError, IntegrityError):
        raise InvalidTransition("The agent has runs, which keep its versions; it cannot be deleted.") from None


def ensure_default(*, workspace_id: UUID) -> Agent:
    """The agent that plans with every tool; made if the workspace has none, else left as it is."""
    found = Agent.objects.filter(workspace_id=workspace_id, slug=DEFAULT_SLUG).first()
    if found is not None:
        return found
    try:
        return create_agent(
            workspace_id=workspace_id,
            slug=DEFAULT_SLUG,
            name="Assistant",
            description="Plans a goal with every tool there is, or runs the plan it is given.",
            definition=Definition(),
        )
    except InvalidInput:  # another process was faster
        return Agent.objects.get(workspace_id=workspace_id, slug=DEFAULT_SLUG)


def _locked(agent: Agent) -> Agent:
    found = Agent.objects.select_for_update(no_key=True).filter(pk=agent.pk).first()
    if found is None:
        raise NotFound
    return found


def _add_version(agent: Agent, definition: Definition) -> AgentVersion:
    last = agent.versions.aggregate(last=Max("number"))["last"] or 0
    version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=last + 1, **asdict(definition)
    )
    agent.current_version = version
    agent.save(update_fields=["current_version"])
    return version


def _version(agent: Agent, number: int) -> AgentVersion:
    found = agent.versions.filter(number=number).first()
    if found is None:
        message = f"The agent has no version {number}."
        faults = [{"path": "current_version", "code": "unknown_version", "message": message}]
        raise InvalidInput(message, errors=faults)
    return found
