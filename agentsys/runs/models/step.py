"""Steps and what belongs to them: edges, attempts, events."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from ..states import Lane, StepKind, StepStatus
from .rules import rule
from .run import Run
from .stored import StoredJSON


class Step(models.Model):
    """One durable unit of work; the only thing a worker ever claims.  Ids grow in plan order."""

    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="steps", db_constraint=False, db_index=False)
    key = models.CharField(max_length=72)  # a plan's, or with a dot: the engine's
    kind = models.CharField(max_length=8, choices=StepKind)
    tool = models.CharField(max_length=100, blank=True)
    title = models.CharField(max_length=200, blank=True)
    objective = models.TextField(blank=True)
    arguments = StoredJSON(null=True)  # with references, as planned
    depends_on = ArrayField(models.CharField(), default=list)
    caller = models.CharField(max_length=72, blank=True, default="", db_default="")  # the acting step's key
    lane = models.CharField(max_length=10, choices=Lane)
    effect = models.CharField(max_length=10, default="pure")
    on_error = models.CharField(max_length=8, default="fail")
    if_failed = models.CharField(max_length=8, default="skip")
    approval = models.BooleanField(default=False)
    expires_s = models.FloatField(null=True)  # how long a person has to decide; null: the agent's or ours
    plan_version = models.SmallIntegerField(default=0)
    timeout_s = models.FloatField()
    max_attempts = models.SmallIntegerField()

    status = models.CharField(max_length=10, choices=StepStatus, default=StepStatus.BLOCKED)
    reason = models.CharField(max_length=16, blank=True)
    deps_left = models.IntegerField(default=0)
    fair_key = models.BigIntegerField(default=0)  # smallest runs first; see ENGINE, fairness
    held = models.CharField(max_length=8, blank=True, default="", db_default="")  # from a slot by: paused, parallel
    available_at = models.DateTimeField(null=True)  # sleeping or waiting: when time alone moves it

    attempt = models.IntegerField(default=0)  # counts claims; with claim_token it is the fence
    failures = models.SmallIntegerField(default=0)
    crashes = models.SmallIntegerField(default=0)
    checks = models.SmallIntegerField(default=0, db_default=0)  # in a row without an answer, see store.unknown
    claim_token = models.UUIDField(null=True)  # random per claim, and the id of the attempt
    lease_owner = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    effect_started_at = models.DateTimeField(null=True)

    kept = models.JSONField(null=True)  # waiting(budget): the steps that it has planned and that find no room
    output = StoredJSON(null=True)
    error = models.JSONField(null=True)
    usage = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    ready_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "key"], name="step_key_unique"),
            # Checked at every update, so stated as shortly as SQL can.
            rule("step_leased_iff_running", "(status = 'running') = (lease_expires_at IS NOT NULL)"),
            rule("step_running_has_token", "status <> 'running' OR claim_token IS NOT NULL"),
            rule("step_sleeping_has_time", "status <> 'sleeping' OR available_at IS NOT NULL"),
            rule("step_failures_bounded", "failures BETWEEN 0 AND least(max_attempts, attempt)"),
            rule("step_crashes_bounded", "crashes BETWEEN 0 AND 3"),
            rule("step_blocked_has_parents", "deps_left >= 0 AND (status <> 'blocked' OR deps_left > 0)"),
            rule("step_tool_named_iff_tool_kind", "(kind = 'tool') = (tool <> '')"),
            rule("step_held_is_queued", "held = '' OR status = 'queued'"),
        ]
        indexes = [
            models.Index(fields=["lane", "fair_key"], name="step_claimable", condition=Q(status=StepStatus.READY)),
            models.Index(
                fields=["workspace_id", "lane", "fair_key"],
                name="step_admissible",
                condition=Q(status=StepStatus.QUEUED, held=""),
            ),
            models.Index(fields=["run"], name="step_capped", condition=Q(status=StepStatus.QUEUED, held="parallel")),
            models.Index(fields=["lease_expires_at"], name="step_leases", condition=Q(lease_expires_at__isnull=False)),
            models.Index(
                fields=["available_at"],
                name="step_timers",
                condition=Q(status__in=(StepStatus.SLEEPING, StepStatus.WAITING)),
            ),
            models.Index(fields=["id"], name="step_joinable", condition=Q(status=StepStatus.WAITING, reason="child")),
            models.Index(
                fields=["id"], name="step_uncredited", condition=Q(status=StepStatus.WAITING, reason="credential")
            ),
        ]
        ordering = ["id"]

    def __str__(self) -> str:
        return self.key

    @property
    def idempotency_key(self) -> str:
        """The key that every attempt of this step sends to the outside."""
        return f"{self.run_id}:{self.key}"


class StepEdge(models.Model):
    """``child`` waits for ``parent``; both of one run."""

    workspace_id = models.UUIDField()
    # Steps leave only with their run, so the tie to the run is the only one that needs a constraint.
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="edges", db_constraint=False)
    parent = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    child = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["parent", "child"], name="stepedge_once")]


class Attempt(models.Model):
    """One ended execution of a step: written once, when it ends.  Its id was the claim's token."""

    id = models.UUIDField(primary_key=True)
    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts", db_constraint=False)
    step = models.ForeignKey(
        Step, on_delete=models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    number = models.IntegerField()
    worker = models.CharField(max_length=200)
    outcome = models.CharField(max_length=10)  # the state it left the step in, or see OutcomeFilter
    error = models.JSONField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["number"]


class Event(models.Model):
    """What happened, in order: ``seq`` counts 1, 2, 3… a run without gaps."""

    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events", db_constraint=False, db_index=False)
    seq = models.IntegerField()
    type = models.CharField(max_length=40)
    step = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(db_default=Now())
    data = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="event_seq_unique")]
        ordering = ["seq"]
