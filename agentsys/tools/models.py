"""Tools that a workspace gets from elsewhere: its MCP servers, and each of their tools as it was approved."""

from typing import Any

from django.db import models
from django.db.models.functions import Now

from agentsys.accounts.models import User, Workspace
from agentsys.core.ids import uuid7


class Transport(models.TextChoices):
    STDIO = "stdio"  # a command of settings.MCP_COMMANDS
    HTTP = "http"  # streamable HTTP


class ToolState(models.TextChoices):
    """Of these, only an active one can be called."""

    ACTIVE = "active"  # the server describes it as it was approved
    CHANGED = "changed"  # the server describes it otherwise; somebody must approve that
    GONE = "gone"  # the server lists it no more


class McpServer(models.Model):
    """A server whose tools the workspace may use.  ``trusted``: a person believes its word on its tools' effects."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="mcp_servers")
    name = models.CharField(max_length=40)
    transport = models.CharField(max_length=5, choices=Transport)
    command = models.CharField(max_length=100, blank=True, help_text="A name of AGENTSYS_MCP_COMMANDS.")
    args = models.JSONField(default=list, blank=True, help_text="What the command gets, where it takes any.")
    url = models.CharField(max_length=2000, blank=True)
    headers = models.JSONField(default=dict, blank=True, help_text="Name and value; no secrets.")
    timeout_s = models.FloatField(default=60.0, help_text="Of one call, unless its step says otherwise.")
    enabled = models.BooleanField(default=True)
    trusted = models.BooleanField(default=False)
    trusted_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    protocol_version = models.CharField(max_length=20, blank=True, editable=False)
    refused = models.JSONField(default=list, blank=True, editable=False)
    error = models.TextField(blank=True, editable=False, help_text="Why the last refresh failed.")
    refreshed_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "name"], name="mcpserver_name_unique"),
            models.CheckConstraint(
                condition=(models.Q(transport="stdio") & ~models.Q(command="") & models.Q(url=""))
                | (models.Q(transport="http") & models.Q(command="") & ~models.Q(url="")),
                name="mcpserver_one_address",
            ),
        ]
        ordering = ["name"]
        verbose_name = "MCP server"

    def __str__(self) -> str:
        return self.name


class McpTool(models.Model):
    """One tool: its definition as it was approved, by whose hash it is known, and what the server says now."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="tools")
    name = models.CharField(max_length=100, help_text="As the server calls it.")
    definition = models.JSONField()
    digest = models.CharField(max_length=64)
    proposed = models.JSONField(null=True, blank=True)
    proposed_digest = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=7, choices=ToolState, default=ToolState.ACTIVE)
    approved_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    approved_at = models.DateTimeField(db_default=Now(), editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["server", "name"], name="mcptool_name_unique"),
            models.CheckConstraint(
                condition=models.Q(state="changed", proposed__isnull=False) & ~models.Q(proposed_digest="")
                | ~models.Q(state="changed") & models.Q(proposed__isnull=True, proposed_digest=""),
                name="mcptool_changed_has_proposal",
            ),
        ]
        ordering = ["name"]
        verbose_name = "MCP tool"

    def __str__(self) -> str:
        return self.full_name

    @property
    def full_name(self) -> str:
        """As plans and models call it."""
        return f"{self.server.name}.{self.name}"

    @property
    def described(self) -> dict[str, Any]:
        """The approved definition."""
        found: dict[str, Any] = self.definition
        return found
