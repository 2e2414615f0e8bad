"""The catalogue's errors of language models; import them from ``errors``."""

from agentsys.core.error_base import AgentSysError


class ModelFailed(AgentSysError):
    """The model answered with an error."""

    code, http_status = "model_failed", 502


class ModelUnavailable(AgentSysError):
    """The model could not be reached or is overloaded; trying again may help."""

    code, http_status, retryable = "model_unavailable", 503, True


class ModelRateLimited(ModelUnavailable):
    """The model's provider asks to wait; the wait uses up no try."""

    code, http_status, uses_attempt = "model_rate_limited", 429, False


class ModelPaused(ModelUnavailable):
    """The model has failed again and again; nobody asks it for a while, which uses up no try."""

    code, uses_attempt = "model_paused", False
