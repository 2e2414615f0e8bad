"""The vault: a workspace's secrets by name.  They go in, and come out only for a call that may have them.

Who saves or removes one goes through agentsys.runs.credentials, which also lets the steps go on that wait for it.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from agentsys.accounts.credential_terms import Terms, name_faults, secret_faults
from agentsys.accounts.models import Credential, User
from agentsys.core import crypto
from agentsys.core.errors import CredentialExists, CredentialUnavailable, InvalidInput, NotFound, SecretUnreadable
from agentsys.core.hidden import Hidden, hide
from agentsys.core.ids import uuid7

logger = logging.getLogger(__name__)
BATCH = 100
MAX_CREDENTIALS = 1_000
_SHOWN = ("id", "workspace_id", "name", "tools", "agents", "hosts", "created_at", "updated_at", "used_at", "used_by")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for secrets: a tool in a run of an agent (its slug; None: a person) of a workspace.

    ``server`` is the MCP server whose tool it is: a credential may be given to all of its tools.
    """

    workspace_id: UUID
    tool: str
    agent: str | None
    server: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """Secrets by name, for one call; ``hosts`` of each, and the revisions that they are of."""

    secrets: Mapping[str, str] = field(repr=False)
    hosts: Mapping[str, Sequence[str]]
    seen: Mapping[str, str]
    hidden: Hidden

    def refuse(self, name: str, why: str) -> CredentialUnavailable:
        return _refusal(f"The credential {name} {why}", [name], dict(self.seen))


def listed(workspace_id: UUID) -> Any:
    """The workspace's credentials without what is encrypted."""
    return Credential.objects.filter(workspace_id=workspace_id).only(*_SHOWN).order_by("name")


def get(workspace_id: UUID, name: str) -> Credential:
    """
    Raises:
        NotFound: the workspace has none of this name.
    """
    found = None if list(name_faults(name)) else listed(workspace_id).filter(name=name).first()
    if found is None:
        raise NotFound("There is no such credential.")
    return found


def create(workspace_id: UUID, name: str, secret: str, terms: Terms, *, user: User | None) -> Credential:
    """
    Raises:
        InvalidInput: ``errors`` lists what is wrong; nothing was kept.
        CredentialExists: of this name.
    """
    _check(name_faults(name), secret_faults(secret), terms.faults())
    hide([secret])
    made = Credential(id=uuid7(), workspace_id=workspace_id, name=name, **_lists(terms))
    made.ciphertext = crypto.encrypt(secret, place=str(made.pk))
    if listed(workspace_id).count() >= MAX_CREDENTIALS:
        raise InvalidInput(f"A workspace has at most {MAX_CREDENTIALS:,} credentials.")
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:
        raise CredentialExists from None
    _tell(user, "created", made)
    return get(workspace_id, name)


def change(workspace_id: UUID, name: str, secret: str | None, terms: Terms, *, user: User | None) -> Credential:
    """Another secret (None: the same), and other terms.

    Raises:
        InvalidInput: ``errors`` lists what is wrong; nothing was changed.
        NotFound: the workspace has none of this name.
    """
    found = get(workspace_id, name)
    _check(() if secret is None else secret_faults(secret), terms.faults())
    values: dict[str, Any] = {**_lists(terms), "revision": uuid4(), "updated_at": Now()}
    if secret is not None:
        hide([secret])
        values["ciphertext"] = crypto.encrypt(secret, place=str(found.pk))
    if not Credential.objects.filter(pk=found.pk).update(**values):
        raise NotFound("There is no such credential.")
    _tell(user, "changed" if secret is None else "entered anew", found)
    return get(workspace_id, name)


def remove(workspace_id: UUID, name: str, *, user: User | None) -> None:
    """Forget a secret; what needs it from now on waits.

    Raises:
        NotFound: the workspace has none of this name.
    """
    found = get(workspace_id, name)
    if not Credential.objects.filter(pk=found.pk).delete()[0]:
        raise NotFound("There is no such credential.")
    _tell(user, "removed", found)


def _check(*several: Any) -> None:
    if faults := [one for faults in several for one in faults]:
        raise InvalidInput("The credential is not valid; see errors.", errors=faults)


def _lists(terms: Terms) -> dict[str, list[str]]:
    return {"tools": list(terms.tools), "agents": list(terms.agents), "hosts": list(terms.hosts)}


def _tell(user: User | None, what: str, row: Credential) -> None:
    """For whoever asks later who did it; no secret has a place here."""
    name = user.get_username() if user else "a command"
    logger.info("%s %s credential %s of workspace %s", name, what, row.name, row.workspace_id)


# --- Use ---------------------------------------------------------------------------------
def grant(names: Collection[str], caller: Caller) -> Granted:
    """The secrets of these names, for a call that is about to be made.  One query, and one more about once a minute.

    Raises:
        CredentialUnavailable: one is missing, unreadable, or not for this caller; ``credentials`` are the names of all
            such, ``seen`` the revision of each that was asked for (null: it is missing).
    """
    found = {row.name: row for row in Credential.objects.filter(workspace_id=caller.workspace_id, name__in=names)}
    seen = {name: str(found[name].revision) if name in found else None for name in sorted(names)}
    refused, secrets = {}, {}
    for name in sorted(names):
        refused[name] = _why_not(name, found.get(name), caller)
        if not refused[name]:
            secrets[name], refused[name] = _opened(found[name])
    if any(refused.values()):
        raise _refusal(" ".join(filter(None, refused.values())), [name for name in refused if refused[name]], seen)
    _mark_used([row.pk for row in found.values()], caller.tool)
    hosts = {name: row.hosts for name, row in found.items()}
    return Granted(secrets, hosts, {name: str(row.revision) for name, row in found.items()}, hide(secrets.values()))


def _why_not(name: str, row: Credential | None, caller: Caller) -> str:
    if row is None:
        return f"There is no credential {name}."
    if not {caller.tool, caller.server} & set(row.tools):
        return f"The credential {name} may not be given to {caller.tool}."
    if row.agents and caller.agent is not None and caller.agent not in row.agents:
        return f"The credential {name} may not be used by the agent {caller.agent}."
    return ""


def _opened(row: Credential) -> tuple[str, str]:
    try:
        return crypto.decrypt(bytes(row.ciphertext), place=str(row.pk)), ""
    except SecretUnreadable:
        logger.error("credential %s of workspace %s is opened by none of our keys", row.name, row.workspace_id)
        return "", f"The credential {row.name} cannot be read with the installation's keys; enter it anew."


def _refusal(message: str, names: list[str], seen: dict[str, Any]) -> CredentialUnavailable:
    return CredentialUnavailable(message[:1_000], credentials=names, seen=seen)


def _mark_used(ids: Sequence[UUID], tool: str) -> None:
    """At most once a minute each: many calls at a time would else wait for the row."""
    old = Q(used_at=None) | Q(used_at__lt=Now() - timedelta(minutes=1))
    Credential.objects.filter(old, pk__in=ids).update(used_at=Now(), used_by=tool)


# --- Keys ----------------------------------------------------------------------------------
def rotate() -> Iterator[tuple[int, list[str]]]:
    """Encrypt all anew by the first key, batch by batch, while others read and write.

    Yields:
        After each batch: how many it has done, and what no key opens, as ``workspace id/name``; those stay as they are.
    """
    after = UUID(int=0)
    while batch := list(Credential.objects.filter(pk__gt=after).order_by("pk")[:BATCH]):
        unreadable = [f"{row.workspace_id}/{row.name}" for row in batch if not _rotated(row)]
        after = batch[-1].pk
        yield len(batch) - len(unreadable), unreadable


def _rotated(row: Credential | None) -> bool:
    """Whether it is by the first key now, or gone.

    With another revision: what waits because it could not be read tries again.
    """
    while row is not None:
        was = bytes(row.ciphertext)
        try:
            fresh = crypto.reencrypt(was)
        except SecretUnreadable:
            return False
        if Credential.objects.filter(pk=row.pk, ciphertext=was).update(ciphertext=fresh, revision=uuid4()):
            return True
        row = Credential.objects.filter(pk=row.pk).first()  # somebody has entered another secret meanwhile
    return True
