"""The catalogue's errors of single tools; import them from ``errors``."""

from agentsys.core.error_base import AgentSysError


class NotConfigured(AgentSysError):
    """This is not set up here; its message names the setting."""

    code, http_status = "not_configured", 503


class SandboxUnavailable(AgentSysError):
    """Commands cannot be run in a sandbox on this machine."""

    code, http_status = "sandbox_unavailable", 503


class RecipientDenied(AgentSysError):
    """Mail may not be sent to this address."""

    code, http_status = "recipient_denied", 403
