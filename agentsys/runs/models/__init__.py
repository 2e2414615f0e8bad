"""The tables of the engine.  Reading is the ORM's; every write of state goes through ``runs.store``."""

from .limits import Approval, Breaker, Budget, LaneSlot, ModelRate, Reservation, SubmissionQuota
from .message import RunMessage
from .model_call import ModelCall
from .retention import Pruned, Retention
from .run import Payload, PayloadUse, Run, RunFile
from .step import Attempt, Event, Step, StepEdge

__all__ = [
    "Approval",
    "Attempt",
    "Breaker",
    "Budget",
    "Event",
    "LaneSlot",
    "ModelCall",
    "ModelRate",
    "Payload",
    "PayloadUse",
    "Pruned",
    "Reservation",
    "Retention",
    "Run",
    "RunFile",
    "RunMessage",
    "Step",
    "StepEdge",
    "SubmissionQuota",
]
