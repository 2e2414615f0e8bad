"""Who there is, and in which workspace they may do what."""

from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from agentsys.core.ids import uuid7


class User(AbstractUser):
    """A person.  A superuser crosses workspaces; everybody else needs a membership."""


class Role(models.TextChoices):
    """Each role may do what the ones above it may; policy.py has the table."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    AUTHOR = "author"
    ADMIN = "admin"


class Workspace(models.Model):
    """A tenant: every row that belongs to somebody belongs to one of these."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """What a user is in a workspace."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role, default=Role.VIEWER)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.workspace}"


class RequestKey(models.Model):
    """An Idempotency-Key under which something other than a run was ``made`` (its id), once; see keys.py."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    made = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "workspace"], name="requestkey_once")]

    def __str__(self) -> str:
        return self.key


class Credential(models.Model):
    """A secret by name, and where it may go.  Written by agentsys.accounts.credentials only."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="credentials")
    name = models.CharField(max_length=64)
    ciphertext = models.BinaryField()  # see core.crypto; bound to the row
    #: Tools that it may be given to; none: nobody.
    tools = ArrayField(models.CharField(max_length=100), default=list)
    #: Slugs of the agents whose runs may use it; none: all of the workspace.
    agents = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    #: ``host`` (https) or ``host:port`` that a tool with an address may take it to; none: such a tool may not have it.
    hosts = ArrayField(models.CharField(max_length=300), default=list, blank=True)
    #: Another at each change: who waits for a credential waits for another revision than the one that did not do.
    revision = models.UUIDField(default=uuid4, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    used_at = models.DateTimeField(null=True, editable=False)  # about: told at most once a minute
    used_by = models.CharField(max_length=100, blank=True, editable=False)  # the tool

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="credential_name_once")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
