"""A run: one goal given to one agent version, and the files it works on."""

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from agentsys.accounts.models import Workspace
from agentsys.agents.models import AgentVersion
from agentsys.core.ids import uuid7

from ..states import RunStatus
from .rules import rule
from .stored import StoredJSON


class Run(models.Model):
    """One goal.  ``event_seq``, ``open_steps`` and ``active_steps`` change only under this row's lock.

    ``open_steps`` counts the steps that are not final, ``active_steps`` those of them that move by
    themselves (ready, running, sleeping), so that a completion decides from this row alone.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="runs", db_index=False)
    agent_version = models.ForeignKey(AgentVersion, on_delete=models.PROTECT, related_name="runs")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    parent_run = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="children")
    forked_from_step = models.CharField(max_length=64, blank=True)
    parent_step = models.BigIntegerField(null=True)  # the step of parent_run that waits for this one
    depth = models.SmallIntegerField(default=0)

    goal = models.TextField(blank=True)
    plan = StoredJSON(null=True)  # as submitted
    answer = models.JSONField(null=True)  # {"template": …, "keys": […]} of the current plan; null: none
    plan_version = models.SmallIntegerField(default=0)  # grows whenever steps are added
    input = StoredJSON(null=True)
    model = models.CharField(max_length=200, blank=True)
    output_schema = models.JSONField(null=True)
    effects = models.CharField(max_length=8, default="live")
    labels = models.JSONField(default=dict)
    limits = models.JSONField(default=dict)
    priority = models.SmallIntegerField(default=0)

    status = models.CharField(max_length=10, choices=RunStatus, default=RunStatus.QUEUED)
    reason = models.CharField(max_length=16, blank=True)
    stop_reason = models.CharField(max_length=16, blank=True)  # the reason it ends with once it has drained
    parked_reason = models.CharField(max_length=16, blank=True)  # the reason it waits with once nothing moves
    result = StoredJSON(null=True)
    error = models.JSONField(null=True)
    retryable = models.BooleanField(default=False)

    event_seq = models.IntegerField(default=0)
    open_steps = models.IntegerField(default=0)
    active_steps = models.IntegerField(default=0)
    steps_done = models.IntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=6, default=0)
    model_calls = models.IntegerField(default=0)
    tool_calls = models.IntegerField(default=0)

    idempotency_key = models.CharField(max_length=200, null=True)
    request_digest = models.CharField(max_length=64, blank=True)
    start_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)
    time_up_at = models.DateTimeField(null=True)  # limits.time_s is used up then, or later if it started later
    over_cap = models.BooleanField(
        default=False, db_default=False
    )  # more runs than its lowered limit of parallel steps
    held_at = models.DateTimeField(null=True)  # since then it is used up, and nothing starts
    cancel_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "id"], name="run_workspace_id"),
            models.UniqueConstraint(fields=["idempotency_key", "workspace"], name="run_idempotency_key"),
            models.UniqueConstraint(
                fields=["parent_step"], name="run_once_a_step", condition=Q(parent_step__isnull=False)
            ),
            rule("run_counters_agree", "active_steps BETWEEN 0 AND open_steps"),
            rule(
                "run_final_has_no_open_step",
                "(finished_at IS NULL) = (status NOT IN ('succeeded', 'failed', 'cancelled'))"
                " AND (finished_at IS NULL OR open_steps = 0)",
            ),
        ]
        # Of all indexes only the unique one begins with the workspace: ids sort by time, so it also serves
        # the lists, and a plan made while the table was still empty can find a run by nothing slower.
        indexes = [
            models.Index(fields=["status", "workspace", "id"], name="run_list_by_status"),
            GinIndex(fields=["labels"], opclasses=["jsonb_path_ops"], name="run_list_by_label"),
            models.Index(fields=["deadline_at"], name="run_deadlines", condition=Q(finished_at__isnull=True)),
            models.Index(
                fields=["time_up_at"],
                name="run_timed",
                condition=Q(finished_at__isnull=True, time_up_at__isnull=False, held_at__isnull=True),
            ),
            models.Index(
                fields=["held_at"], name="run_held", condition=Q(finished_at__isnull=True, held_at__isnull=False)
            ),
            models.Index(fields=["created_at"], name="run_live", condition=Q(finished_at__isnull=True)),
            models.Index(
                fields=["parent_step"],
                name="run_live_children",
                condition=Q(finished_at__isnull=True, parent_step__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Payload(models.Model):
    """Content, stored once a workspace: of files, and of values that are too large for their rows."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+", db_index=False)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    content = models.BinaryField()
    touched_at = models.DateTimeField(db_default=Now())  # when somebody last meant to use it

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "sha256"], name="payload_once")]


class PayloadUse(models.Model):
    """A run has a value that is kept as a payload; see store.payloads."""

    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    payload = models.ForeignKey(Payload, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "payload"], name="payloaduse_once")]


class RunFile(models.Model):
    """A file of a run; a rewrite points the name to other content.

    ``before`` is what it was before the step of ``written_by`` wrote it first, None if there was no such file.
    """

    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="files", db_constraint=False, db_index=False)
    name = models.CharField(max_length=255)
    payload = models.ForeignKey(Payload, on_delete=models.PROTECT, related_name="+")
    before = models.ForeignKey(
        Payload, on_delete=models.PROTECT, related_name="+", null=True, db_constraint=False, db_index=False
    )
    written_by = models.CharField(max_length=64, blank=True)  # a step's key; empty: came with the run
    written_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="runfile_name_unique")]
        # For prune_payloads.  No foreign key: what is named here was named by ``payload`` until this very statement.
        indexes = [models.Index(fields=["before"], condition=Q(before__isnull=False), name="runfile_before")]
        ordering = ["name"]
