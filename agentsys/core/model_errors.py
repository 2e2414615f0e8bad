"""The catalogue's errors of language models; import them from ``errors``."""

from agentsys.core.credential_errors import CredentialUnavailable
from agentsys.core.error_base import AgentSysError


class ModelFailed(AgentSysError):
    """The model answered with an error."""

    code, http_status = "model_failed", 502


class ModelUnavailable(AgentSysError):
    """The model could not be reached or is overloaded; trying again may help."""

    code, http_status, retryable = "model_unavailable", 503, True


class ModelOverloaded(ModelUnavailable):
    """The model has too much to do; the wait uses up no try."""

    code, uses_attempt = "model_overloaded", False


class ModelRateLimited(ModelUnavailable):
    """The model's provider asks to wait; the wait uses up no try."""

    code, http_status, uses_attempt = "model_rate_limited", 429, False


class ModelPaused(ModelUnavailable):
    """The model has failed again and again; nobody asks it for a while, which uses up no try."""

    code, uses_attempt = "model_paused", False


class ModelNotFound(ModelFailed):
    """The provider knows no model of this name, or not at this address."""

    code = "model_not_found"


class ContextOverflow(ModelFailed):
    """The request is longer than the model can read."""

    code = "context_overflow"


class ModelRefused(ModelFailed):
    """The model, or the provider's filter, declined to answer; asking the same again gives the same."""

    code = "model_refused"


class AnswerCut(ModelFailed):
    """The model wrote as much as it was allowed to and was not done."""

    code = "answer_cut"


class ModelAccountFailed(CredentialUnavailable):
    """The account a model is asked with is not in order; the step waits until that is mended, and asks now and then."""

    code = "model_account_failed"


class ModelUnauthorized(ModelAccountFailed):
    """The provider does not take the key, or there is none."""

    code = "model_unauthorized"


class ModelQuotaExhausted(ModelAccountFailed):
    """The account has no quota or credit left."""

    code = "model_quota_exhausted"
