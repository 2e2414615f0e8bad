"""The catalogue of errors: a docstring is the default message, ``code`` a public promise, ``retryable`` drives retries.

Raise the most precise class; its message tells the reader what to do next.
"""

from agentsys.core.credential_errors import CredentialExists as CredentialExists
from agentsys.core.credential_errors import CredentialUnavailable as CredentialUnavailable
from agentsys.core.credential_errors import SecretUnreadable as SecretUnreadable
from agentsys.core.error_base import AgentSysError
from agentsys.core.model_errors import AnswerCut as AnswerCut
from agentsys.core.model_errors import ContextOverflow as ContextOverflow
from agentsys.core.model_errors import ModelAccountFailed as ModelAccountFailed
from agentsys.core.model_errors import ModelFailed as ModelFailed
from agentsys.core.model_errors import ModelNotFound as ModelNotFound
from agentsys.core.model_errors import ModelOverloaded as ModelOverloaded
from agentsys.core.model_errors import ModelPaused as ModelPaused
from agentsys.core.model_errors import ModelQuotaExhausted as ModelQuotaExhausted
from agentsys.core.model_errors import ModelRateLimited as ModelRateLimited
from agentsys.core.model_errors import ModelRefused as ModelRefused
from agentsys.core.model_errors import ModelUnauthorized as ModelUnauthorized
from agentsys.core.model_errors import ModelUnavailable as ModelUnavailable
from agentsys.core.tool_errors import NotConfigured as NotConfigured
from agentsys.core.tool_errors import RecipientDenied as RecipientDenied
from agentsys.core.tool_errors import SandboxUnavailable as SandboxUnavailable


# --- Requests -------------------------------------------------------------------------
class InvalidInput(AgentSysError):
    """The request is not valid."""

    code, http_status = "invalid_input", 422


class PlanInvalid(InvalidInput):
    """The plan is not valid; ``errors`` lists every fault."""

    code = "plan_invalid"


class PathInvalid(InvalidInput):
    """The JMESPath expression is not valid."""

    code = "path_invalid"


class PathFailed(InvalidInput):
    """The JMESPath expression does not fit this value."""

    code = "path_failed"


class ReferenceInvalid(InvalidInput):
    """A reference is not written as ${step.path}; write $${ for a literal ${."""

    code = "reference_invalid"


class ReferenceFailed(InvalidInput):
    """A reference could not be worked out over the step's output."""

    code = "reference_failed"


class NotFound(AgentSysError):
    """There is no such thing here."""

    code, http_status = "not_found", 404


class Forbidden(AgentSysError):
    """Your role does not allow this."""

    code, http_status = "forbidden", 403


class InvalidTransition(AgentSysError):
    """This cannot be done in the present state."""

    code, http_status = "invalid_transition", 409


class IdempotencyKeyReused(AgentSysError):
    """This Idempotency-Key was used with another body; send a new key."""

    code, http_status = "idempotency_key_reused", 422


class QuotaExceeded(AgentSysError):
    """The workspace has submitted as much as it may for now; try again when ``retry_after_s`` has passed."""

    code, http_status, retryable = "quota_exceeded", 429, True


class PayloadTooLarge(AgentSysError):
    """The request or value is larger than allowed."""

    code, http_status = "payload_too_large", 413


# --- The engine -----------------------------------------------------------------------
class LeaseLost(AgentSysError):
    """The step is no longer held by this worker; its result is discarded."""

    code, http_status = "lease_lost", 409


class StepTimeout(AgentSysError):
    """The step passed its time limit."""

    code, http_status, retryable = "step_timeout", 504, True


class WorkerLost(AgentSysError):
    """The worker ended while the step ran."""

    code, http_status, retryable = "worker_lost", 500, True


class StepPoisoned(AgentSysError):
    """The step has ended its worker again and again, and is not tried any more."""

    code, http_status = "poison", 500


class StepCancelled(AgentSysError):
    """The run was stopped, and the call under way was ended."""

    code, http_status = "step_cancelled", 409


class DatabaseUnavailable(AgentSysError):
    """PostgreSQL could not be reached; the step goes on when it is back."""

    code, http_status, retryable, uses_attempt = "database_unavailable", 503, True, False


class DeadlineExceeded(AgentSysError):
    """The run did not end before its deadline."""

    code, http_status = "deadline_exceeded", 504


class DepthExceeded(AgentSysError):
    """A run this deep below the first one may not delegate any further."""

    code, http_status = "depth_exceeded", 422


class TooManyChildren(AgentSysError):
    """The run has delegated as often as it may."""

    code, http_status = "too_many_children", 422


class BudgetExhausted(AgentSysError):
    """A budget is used up; the step waits until somebody raises it."""

    code, http_status, uses_attempt = "budget_exhausted", 409, False


class ChildFailed(AgentSysError):
    """The child run did not succeed; ``error`` has its own error."""

    code, http_status = "child_failed", 502


class PlanFixed(AgentSysError):
    """The run has nothing to plan anew; it has no goal, or its agent runs only fixed plans."""

    code, http_status = "plan_fixed", 409


class TooManyPlans(AgentSysError):
    """The run has planned as often as it may."""

    code, http_status = "too_many_plans", 409


class LoopDetected(AgentSysError):
    """The run makes the same call again and again, with the same outcome."""

    code, http_status = "loop_detected", 409


class TooManyMessages(AgentSysError):
    """The run has had as many messages as it may."""

    code, http_status = "too_many_messages", 409


class EffectRecorded(AgentSysError):
    """The run that this one was forked from made this call with other arguments; fork it with effects live."""

    code, http_status = "effect_recorded", 409


class CallsInvalid(AgentSysError):
    """A model asked for calls that cannot be made, and did not mend them; ``errors`` lists every fault."""

    code, http_status = "calls_invalid", 422


class OutputInvalid(AgentSysError):
    """The result does not match the output schema."""

    code, http_status = "output_invalid", 422


# --- People ---------------------------------------------------------------------------
class ApprovalDenied(AgentSysError):
    """A person has denied it."""

    code, http_status = "approval_denied", 403


class ApprovalExpired(AgentSysError):
    """Nobody decided in time."""

    code, http_status = "approval_expired", 409


class ApprovalDecided(AgentSysError):
    """It has been decided already; the first decision stands."""

    code, http_status = "approval_decided", 409


class ApprovalChanged(AgentSysError):
    """The digest is not that of these arguments; look at what you decide on again."""

    code, http_status = "approval_changed", 409


# --- Tools ----------------------------------------------------------------------------
class ToolFailed(AgentSysError):
    """The tool ran and definitively failed."""

    code, http_status = "tool_failed", 502


class ToolUnavailable(AgentSysError):
    """The tool could not be reached; trying again may help."""

    code, http_status, retryable = "tool_unavailable", 503, True


class OutcomeUnknown(AgentSysError):
    """The call may or may not have happened; it is not repeated until a check or a person has decided."""

    code, http_status = "outcome_unknown", 502


class ToolRateLimited(ToolUnavailable):
    """The other side asks to wait; the wait uses up no try."""

    code, http_status, uses_attempt = "tool_rate_limited", 429, False


class ToolArgumentsInvalid(AgentSysError):
    """The arguments do not match the tool's schema."""

    code, http_status = "tool_arguments_invalid", 422


class ToolUnknown(AgentSysError):
    """There is no tool of this name."""

    code, http_status = "tool_unknown", 422


class ToolChanged(AgentSysError):
    """The tool's server describes it otherwise than it was approved; look at the change, and approve it or not."""

    code, http_status = "tool_changed", 409


class ToolOutputTooLarge(AgentSysError):
    """The tool's output is larger than allowed; ask for less."""

    code, http_status = "tool_output_too_large", 502


class AddressDenied(AgentSysError):
    """This address may not be called from here."""

    code, http_status = "address_denied", 403


# --- Models ---------------------------------------------------------------------------
class GoalNotPlannable(AgentSysError):
    """The goal could not be planned with the tools at hand."""

    code, http_status = "goal_not_plannable", 422
