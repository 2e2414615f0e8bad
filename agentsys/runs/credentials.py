"""Use cases of credentials: entered, allowed, taken away; and the steps that wait for them go on.

Secrets go in and never come out.  REST and the admin call these.
"""

import logging
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.db import transaction

from agentsys.accounts import credentials
from agentsys.accounts.credential_terms import Terms
from agentsys.accounts.models import Credential, User
from agentsys.core import db
from agentsys.core.errors import AgentSysError, NotFound

from . import dispatch
from .store import sweeps, waiting
from .store.sql import SQL

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """A credential as people see it; ``waiting_steps`` are those that it is missing for, or not allowed."""

    row: Credential
    waiting_steps: int


def listed(workspace_id: UUID) -> list[Told]:
    """The workspace's, by name.  Two queries."""
    counts = _waited_for(workspace_id)
    return [Told(row, counts.get(row.name, 0)) for row in credentials.listed(workspace_id)]


def get(workspace_id: UUID, name: str) -> Told:
    """
    Raises:
        NotFound: the workspace has none of this name.
    """
    row = credentials.get(workspace_id, name)
    return Told(row, _waited_for(workspace_id).get(row.name, 0))


def _waited_for(workspace_id: UUID) -> dict[str, int]:
    return {row["name"]: row["steps"] for row in db.rows(SQL["credentials_waited_for"], workspace_id=workspace_id)}


def create(workspace_id: UUID, name: str, secret: str, terms: Terms, *, user: User | None) -> Told:
    """Enter a secret under a new name.

    Raises:
        InvalidInput, CredentialExists: nothing was kept.
    """
    credentials.create(workspace_id, name, secret, terms, user=user)
    return _released(workspace_id, name)


def change(workspace_id: UUID, name: str, secret: str | None, terms: Terms, *, user: User | None) -> Told:
    """Enter another secret under a name (None: keep it), and say anew where it may go.

    Raises:
        InvalidInput, NotFound: nothing was changed.
    """
    credentials.change(workspace_id, name, secret, terms, user=user)
    return _released(workspace_id, name)


def remove(workspace_id: UUID, name: str, *, user: User | None) -> None:
    """Forget a secret.  Calls under way have it; later ones wait.

    Raises:
        NotFound: the workspace has none of this name.
    """
    credentials.remove(workspace_id, name, user=user)


def _released(workspace_id: UUID, name: str) -> Told:
    """What has waited goes on with the commit; the sweeper does what is left when this fails."""
    transaction.on_commit(partial(_release, workspace_id), robust=True)
    return get(workspace_id, name)


def _release(workspace_id: UUID) -> None:
    found = db.rows(SQL["credentials_changed"], workspace_id=workspace_id, limit=sweeps.BATCH)
    for row in found:
        try:
            dispatch.wake(waiting.go_on(row["run_id"], row["key"], "credential"))
        except NotFound:  # deleted
            continue
        except AgentSysError:
            logger.exception("step %s of run %s goes on a little later", row["key"], row["run_id"])
