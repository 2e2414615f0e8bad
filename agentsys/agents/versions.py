"""Use cases of versions: draft, published, retired.  Only a draft changes; runs keep theirs whatever becomes of it.

Writers of one agent wait for each other at its row; triggers refuse what gets past.
"""

from dataclasses import asdict

from django.db import transaction
from django.db.models import Max

from agentsys.agents.definition import Definition
from agentsys.agents.models import Agent, AgentVersion, VersionStatus
from agentsys.core.errors import InvalidInput, InvalidTransition, NotFound


@transaction.atomic
def add_version(agent: Agent, *, definition: Definition, status: str = VersionStatus.PUBLISHED) -> AgentVersion:
    """The next version; new runs use it from now on unless it is a draft.

    Raises:
        InvalidInput: the definition has faults.
    """
    definition.check(agent.workspace_id)
    return append(locked(agent), definition, status)


@transaction.atomic
def change_draft(agent: Agent, number: int, **changes: object) -> AgentVersion:
    """Change fields of a version's definition while it is a draft.

    Raises:
        NotFound: there is no such version.
        InvalidTransition: it is no draft any more.
        InvalidInput: the definition would have faults.
    """
    version = _draft(locked(agent), number, "changed; add a version instead")
    definition = Definition.of(version, **changes)
    definition.check(agent.workspace_id)
    for name, value in asdict(definition).items():
        setattr(version, name, value)
    version.save()
    return version


@transaction.atomic
def publish(agent: Agent, number: int, *, current: bool = True) -> AgentVersion:
    """A draft changes no more; new runs use it from now on unless ``current`` is false.

    Raises:
        NotFound: there is no such version.
        InvalidTransition: it is no draft.
        InvalidInput: something that it names is not there any more.
    """
    owner = locked(agent)
    version = _draft(owner, number, "published")
    Definition.of(version).check(agent.workspace_id)
    version.status = VersionStatus.PUBLISHED
    version.save(update_fields=["status"])
    if current:
        use(owner, version)
    return version


@transaction.atomic
def retire(agent: Agent, number: int) -> AgentVersion:
    """No new run uses a version any more.

    Raises:
        NotFound: there is no such version.
        InvalidTransition: it is a draft, retired already, or what new runs use.
    """
    owner = locked(agent)
    version = find(owner, number)
    if version.status != VersionStatus.PUBLISHED:
        raise InvalidTransition(f"Version {number} is {version.status}; only a published one can be retired.")
    if owner.current_version_id == version.pk:
        raise InvalidTransition(f"New runs use version {number}; make another one the current version first.")
    version.status = VersionStatus.RETIRED
    version.save(update_fields=["status"])
    return version


@transaction.atomic
def discard(agent: Agent, number: int) -> None:
    """Delete a draft.

    Raises:
        NotFound: there is no such version.
        InvalidTransition: it is no draft.
    """
    _draft(locked(agent), number, "deleted").delete()


def locked(agent: Agent) -> Agent:
    """The agent's row, kept from others' writes until the transaction ends.

    Raises:
        NotFound: it is gone.
    """
    found = Agent.objects.select_for_update(no_key=True).filter(pk=agent.pk).first()
    if found is None:
        raise NotFound
    return found


def append(agent: Agent, definition: Definition, status: str = VersionStatus.PUBLISHED) -> AgentVersion:
    """The next version of a locked agent, of a definition that has been checked."""
    last = agent.versions.aggregate(last=Max("number"))["last"] or 0
    version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=last + 1, status=status, **asdict(definition)
    )
    if status == VersionStatus.PUBLISHED:
        use(agent, version)
    return version


def use(agent: Agent, version: AgentVersion) -> None:
    """New runs of a locked agent use this version."""
    agent.current_version = version
    agent.save(update_fields=["current_version"])


def find(agent: Agent, number: int) -> AgentVersion:
    """
    Raises:
        NotFound: there is no such version.
    """
    found = agent.versions.filter(number=number).first()
    if found is None:
        raise NotFound
    return found


def usable(agent: Agent, number: int) -> AgentVersion:
    """The version that new runs are to use.

    Raises:
        InvalidInput: the agent has no such version, or it is not a published one.
    """
    found = agent.versions.filter(number=number).first()
    if found is not None and found.status == VersionStatus.PUBLISHED:
        return found
    code, message = "unknown_version", f"The agent has no version {number}."
    if found is not None:
        code, message = "not_published", f"Version {number} is {found.status}; new runs use a published one."
    raise InvalidInput(message, errors=[{"path": "current_version", "code": code, "message": message}])


def _draft(agent: Agent, number: int, what: str) -> AgentVersion:
    version = find(agent, number)
    if version.status != VersionStatus.DRAFT:
        raise InvalidTransition(f"Version {number} is {version.status}; only a draft can be {what}.")
    return version
