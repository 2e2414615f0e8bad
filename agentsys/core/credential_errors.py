"""The catalogue's errors of credentials; import them from ``errors``."""

from agentsys.core.error_base import AgentSysError


class CredentialUnavailable(AgentSysError):
    """A credential is missing or may not be used here; the step waits until an admin changes that."""

    code, http_status, uses_attempt = "credential_unavailable", 409, False


class CredentialExists(AgentSysError):
    """There is a credential of this name; PUT changes it."""

    code, http_status = "credential_exists", 409


class SecretUnreadable(AgentSysError):
    """None of the installation's keys opens this secret; bring the key back, or enter the secret anew."""

    code, http_status = "secret_unreadable", 500
