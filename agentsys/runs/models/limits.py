"""What bounds a run from outside it: approvals, budgets, tenants' slots."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from agentsys.accounts.models import Workspace
from agentsys.core.ids import uuid7

from ..states import ApprovalKind, BudgetKind, Decision, Lane
from .rules import rule
from .run import Run
from .step import Step


class Approval(models.Model):
    """One question to a person, bound to the SHA-256 of the exact arguments shown; decided once.

    ``kind`` is the reason with which its step waits: ``approval`` (of a call; ``arguments`` are the call's) or
    ``input`` (``arguments`` are ``{question, schema}``).  ``answer`` is what was answered, or why it was denied.
    ``claim_token`` is the claim that last ran on an approval, ``replaces`` the one that this one is an edit of.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace_id = models.UUIDField()
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="approvals", db_constraint=False, db_index=False
    )
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="approvals")
    kind = models.CharField(max_length=16, choices=ApprovalKind)
    arguments = models.JSONField(null=True)
    digest = models.CharField(max_length=64)
    tainted = models.JSONField(default=dict, db_default={})  # argument -> sources, see runs.trust
    decision = models.CharField(max_length=10, choices=Decision, blank=True)  # "" while it is open
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    claim_token = models.UUIDField(null=True)
    replaces = models.ForeignKey(
        "self", on_delete=models.CASCADE, null=True, related_name="+", db_constraint=False, db_index=False
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["step", "digest"], name="approval_once_a_call"),
            models.UniqueConstraint(fields=["step"], name="approval_one_open_a_step", condition=Q(decision="")),
            models.CheckConstraint(condition=Q(kind__in=ApprovalKind.values), name="approval_kind_known"),
            models.CheckConstraint(condition=Q(decision__in=["", *Decision.values]), name="approval_decision_known"),
            models.CheckConstraint(
                condition=Q(decision="", decided_at__isnull=True) | (~Q(decision="") & Q(decided_at__isnull=False)),
                name="approval_decided_has_time",
            ),
        ]
        indexes = [
            models.Index(fields=["workspace_id", "id"], name="approval_open_listed", condition=Q(decision="")),
            models.Index(fields=["workspace_id", "id"], name="approval_listed"),
            models.Index(fields=["run"], name="approval_of_run"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {str(self.pk)[-12:]}"


class Budget(models.Model):
    """A limit of one kind for a workspace, an agent or a run; the row is the lock.

    ``spent`` and ``reserved`` are in the unit of ``kind``.  Of tokens and cost, ``spent`` is ``folded`` and what its
    reservations have settled, ``reserved`` what they hold.  Of steps, ``spent`` counts those of the run and of the
    runs below it that it waits for: open or done, not those that were dropped; nothing is reserved.
    ``over`` is what calls have used beyond the limit: known only when they were over, and never a part of ``spent``.
    """

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+", db_index=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, related_name="budgets", db_constraint=False)
    agent = models.ForeignKey("agents.Agent", on_delete=models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=16, choices=BudgetKind)
    lim = models.BigIntegerField()
    spent = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)
    folded = models.BigIntegerField(default=0, db_default=0)
    over = models.BigIntegerField(default=0, db_default=0)
    warned = models.BooleanField(default=False, db_default=False)  # of four fifths of it; once

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "run", "agent", "kind"], name="budget_once", nulls_distinct=False
            ),
            rule("budget_never_negative", "spent >= 0 AND reserved >= 0 AND folded >= 0 AND over >= 0"),
            rule("budget_within_limit", "spent + reserved <= lim"),
            rule("budget_of_one", "(run_id IS NULL OR agent_id IS NULL) AND (kind <> 'steps' OR run_id IS NOT NULL)"),
            rule("budget_kind_known", "kind IN ('steps', 'tokens', 'cost_micros')"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Reservation(models.Model):
    """What one attempt holds of a budget (``amount``, for its ``call``-th call), and what it has spent of it
    (``settled``).

    Kept when it is settled, so that a budget can be checked; those of agents and workspaces are folded into
    their budget after a day.  The run and the step are named, not tied: either may be gone before the budget is.
    """

    budget = models.ForeignKey(
        Budget, on_delete=models.CASCADE, related_name="reservations", db_constraint=False, db_index=False
    )
    run_id = models.UUIDField()
    step_id = models.BigIntegerField()
    claim_token = models.UUIDField()
    call = models.IntegerField(default=0, db_default=0)
    amount = models.BigIntegerField()
    settled = models.BigIntegerField(default=0)
    at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["claim_token", "budget"], name="reservation_once"),
            rule("reservation_never_negative", "amount >= 0 AND settled >= 0"),
            rule("reservation_settled_holds_nothing", "settled_at IS NULL OR amount = 0"),
        ]
        indexes = [models.Index(fields=["budget", "settled_at"], name="reservation_of_budget")]


class Breaker(models.Model):
    """A model that has failed lately, whoever asked it: no row once it has answered.

    From ``open_until`` on (null: it is still asked) one call at a time asks again, until ``probe_until``.
    """

    model = models.CharField(max_length=200, primary_key=True)
    failures = models.IntegerField()  # in a row
    open_until = models.DateTimeField(null=True)
    probe_until = models.DateTimeField(null=True)
    error = models.CharField(max_length=500)
    failed_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.model


class ModelRate(models.Model):
    """A call of a provider's account in the last minute, or one that has its place in a minute to come (``step_id``).

    ``tokens`` are what it may use, and once it has been answered, what it has used.
    """

    account = models.CharField(max_length=100)
    at = models.DateTimeField()
    tokens = models.BigIntegerField()
    step_id = models.BigIntegerField(null=True)

    class Meta:
        db_table = "runs_modelrate"
        indexes = [models.Index(fields=["account", "at"], name="modelrate_at")]


class SubmissionQuota(models.Model):
    """How many runs a workspace may still submit: ``left_over`` at the time ``at``, more with every second since."""

    workspace = models.OneToOneField(Workspace, on_delete=models.CASCADE, primary_key=True, related_name="+")
    left_over = models.FloatField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(left_over__gte=0), name="submissionquota_never_negative")]


class LaneSlot(models.Model):
    """How many steps of a lane a workspace may have ready or running, and its place in the virtual clock.

    ``used`` counts them.  ``over`` is what was running when the limit was lowered, beyond it; it only falls.
    ``hungry``: the last look at what is queued found more than there was room for.  ``custom``: somebody has set
    the limit or the weight; else they are the installation's.
    """

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+", db_index=False)
    lane = models.CharField(max_length=10, choices=Lane)
    lim = models.IntegerField()
    used = models.IntegerField(default=0)
    over = models.IntegerField(default=0, db_default=0)
    weight = models.FloatField(default=1.0)
    next_key = models.BigIntegerField(default=0)
    hungry = models.BooleanField(default=False, db_default=False)
    custom = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name = "lane"
        constraints = [
            models.UniqueConstraint(fields=["workspace", "lane"], name="laneslot_once"),
            models.CheckConstraint(condition=Q(used__gte=0, used__lte=F("lim") + F("over")), name="laneslot_in_limit"),
            models.CheckConstraint(condition=Q(lim__gte=0, over__gte=0, weight__gt=0), name="laneslot_sane"),
        ]

    def __str__(self) -> str:
        return f"lane {self.lane}"
