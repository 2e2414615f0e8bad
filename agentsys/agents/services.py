"""Use cases of agents.  A version never changes: a change is the next version, made the current one."""

from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, RestrictedError

from agentsys.agents import versions
from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, VersionStatus
from agentsys.core.errors import InvalidInput, InvalidTransition

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
            versions.append(agent, definition)
    except IntegrityError as error:
        if "agent_slug_unique" not in str(error):
            raise
        message = f"There is an agent {slug!r} already; add a version to it, or use another slug."
        raise InvalidInput(message, errors=[{"path": "slug", "code": "taken", "message": message}]) from None
    return agent


def put_agent(
    *, workspace_id: UUID, slug: str, name: str, description: str, definition: Definition, status: str
) -> tuple[Agent, bool]:
    """Let an agent be as described: a new one, or one with a next version where its newest one says otherwise.

    Returns:
        The agent, and whether it is new.

    Raises:
        InvalidInput: the definition has faults, or a new agent's first version is to be a draft.
    """
    found = Agent.objects.filter(workspace_id=workspace_id, slug=slug).first()
    if found is not None:
        return _renewed(found, name, description, definition, status), False
    if status != VersionStatus.PUBLISHED:
        message = "The first version of an agent is published."
        raise InvalidInput(message, errors=[{"path": "status", "code": "bad_value", "message": message}])
    try:
        made = create_agent(
            workspace_id=workspace_id, slug=slug, name=name, description=description, definition=definition
        )
        return made, True
    except InvalidInput:  # somebody may have put it in this moment
        raced = Agent.objects.filter(workspace_id=workspace_id, slug=slug).first()
        if raced is None:
            raise
        return _renewed(raced, name, description, definition, status), False


@transaction.atomic
def _renewed(agent: Agent, name: str, description: str, definition: Definition, status: str) -> Agent:
    definition.check(agent.workspace_id)
    changed = change_agent(agent, name=name, description=description)
    newest = changed.versions.first()
    if newest is None or (Definition.of(newest), newest.status) != (definition, status):
        versions.append(changed, definition, status)
    return changed


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
        InvalidInput: the agent has no such version, or it is not a published one.
    """
    locked = versions.locked(agent)
    if current_version is not None:
        locked.current_version = versions.usable(locked, current_version)
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
    locked = versions.locked(agent)
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
