"""The states of runs and steps, and the only moves between them.

The tables' triggers (migrations 0002 and later) hold the same pairs; a test compares the two pair by pair.
"""

from django.db.models import TextChoices


class Lane(TextChoices):
    """A kind of capacity; a Celery queue has the same name."""

    MODEL = "model"
    NETWORK = "network"
    COMPUTE = "compute"
    SYSTEM = "system"


class StepKind(TextChoices):
    PLAN = "plan"
    ACT = "act"
    TOOL = "tool"
    ANSWER = "answer"
    ASK = "ask"
    WAIT = "wait"
    DELEGATE = "delegate"
    CHAT = "chat"


class RunStatus(TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(TextChoices):
    BLOCKED = "blocked"
    QUEUED = "queued"
    READY = "ready"
    RUNNING = "running"
    SLEEPING = "sleeping"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class ApprovalKind(TextChoices):
    """What a person is asked for; the reason with which the step waits."""

    APPROVAL = "approval"
    INPUT = "input"


class BudgetKind(TextChoices):
    """What a budget counts; costs are in millionths of a dollar."""

    STEPS = "steps"
    TOKENS = "tokens"
    COST = "cost_micros"


class Decision(TextChoices):
    """How a question to a person ended; the last two without one."""

    APPROVE = "approve"
    EDIT = "edit"
    DENY = "deny"
    ANSWER = "answer"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


RUN_FINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
#: What can be paused; a paused run stays as it is.
RUN_PAUSABLE = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING)
STEP_FINAL = (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED)
#: A run with a step in one of these moves by itself.
STEP_ACTIVE = (StepStatus.QUEUED, StepStatus.READY, StepStatus.RUNNING, StepStatus.SLEEPING)
#: A step in one of these holds a slot of its workspace and lane.
STEP_SLOTTED = (StepStatus.READY, StepStatus.RUNNING)

#: Kinds whose steps ask a model: their attempts may hold reservations.
MODEL_KINDS = (StepKind.PLAN, StepKind.ACT, StepKind.ANSWER, StepKind.CHAT)

STEP_MOVES: dict[str, frozenset[str]] = {
    "blocked": frozenset({"queued", "ready", "running", "skipped", "cancelled"}),
    "queued": frozenset({"blocked", "ready", "running", "skipped", "cancelled"}),
    "ready": frozenset({"blocked", "queued", "running", "skipped", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "sleeping", "waiting", "cancelled", "queued", "ready", "blocked"}),
    "sleeping": frozenset({"blocked", "queued", "ready", "cancelled", "failed"}),
    "waiting": frozenset({"queued", "ready", "succeeded", "failed", "cancelled", "blocked"}),
}
_STOPS = frozenset({"cancelling", "cancelled", "failed"})
RUN_MOVES: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "paused"}) | _STOPS,
    "running": frozenset({"waiting", "paused", "succeeded"}) | _STOPS,
    "waiting": frozenset({"running", "paused", "succeeded"}) | _STOPS,
    "paused": frozenset({"queued", "running", "waiting", "succeeded"}) | _STOPS,
    "cancelling": frozenset({"cancelled", "failed"}),
}
