"""An agent is a name; what it is at a time is an immutable version, which a run pins."""

from django.db import models
from django.db.models.functions import Now

from agentsys.accounts.models import Workspace
from agentsys.agents.prompts import CURRENT as PROMPTS
from agentsys.core.ids import uuid7


class Mode(models.TextChoices):
    """How a run gets its steps."""

    PLAN = "plan"  # a planner writes them
    FIXED = "fixed"  # the submission must bring them
    REACT = "react"  # a selector decides step by step


class VersionStatus(models.TextChoices):
    """What a version may be used for."""

    DRAFT = "draft"  # may still change; no run uses it
    PUBLISHED = "published"  # never changes; an agent names one of these for its new runs
    RETIRED = "retired"  # never changes; no new run uses it, those that do go on


class Agent(models.Model):
    """A named definition of a workspace."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="agents")
    slug = models.SlugField()
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True, max_length=2000)
    current_version = models.ForeignKey(
        "AgentVersion", on_delete=models.PROTECT, null=True, blank=True, related_name="current_of"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "slug"], name="agent_slug_unique"),
            models.UniqueConstraint(fields=["workspace", "id"], name="agent_workspace_id"),
        ]
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class AgentVersion(models.Model):
    """What an agent is from this version on; the database refuses to change one that is no draft."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(editable=False)
    status = models.CharField(
        max_length=9, choices=VersionStatus, default=VersionStatus.PUBLISHED, db_default=VersionStatus.PUBLISHED.value
    )
    mode = models.CharField(max_length=5, choices=Mode, default=Mode.PLAN)
    model = models.CharField(max_length=200, blank=True, help_text="Empty: the installation's AGENTSYS_MODEL.")
    fallback_models = models.JSONField(
        default=list, db_default=[], blank=True, help_text="Asked in this order when the model cannot answer."
    )
    instructions = models.TextField(blank=True, max_length=20_000)
    tools = models.JSONField(default=list, blank=True, help_text="Names of allowed tools; empty: all.")
    output_schema = models.JSONField(null=True, blank=True)
    limits = models.JSONField(default=dict, blank=True)
    approvals = models.JSONField(
        default=dict, db_default={}, blank=True, help_text="What a person must approve: tools, expires_s, on_denied."
    )
    planning = models.JSONField(
        default=dict,
        db_default={},
        blank=True,
        help_text="How runs plan and act: replan_on_failure, max_plans, max_fan_out, max_repeats, max_turns.",
    )
    prompts = models.PositiveSmallIntegerField(
        default=PROMPTS, db_default=1, editable=False, help_text="The edition of agentsys's own prompts."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["agent", "number"], name="agentversion_number_unique"),
            models.UniqueConstraint(fields=["workspace", "id"], name="agentversion_workspace_id"),
        ]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"version {self.number}"
