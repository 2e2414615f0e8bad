"""What all errors of the catalogue (``errors.py``) have in common."""

from typing import Any, ClassVar


class AgentSysError(Exception):
    """Unexpected system error."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    #: Whether doing the same thing again, later, may succeed.  Read by the retry policy.
    retryable: ClassVar[bool] = False
    #: Whether such a failure counts against ``max_attempts``; being told to wait does not.
    uses_attempt: ClassVar[bool] = True

    def __init__(self, message: str | None = None, /, **data: Any) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.data = data
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "data": self.data}
