"""What a tool may know of the run it works for.  Tools know no runs: all they need comes in here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed

MAX_FILE_NAME = 255


def is_file_name(name: str) -> bool:
    """Whether a run's file may have this name: no path, nothing invisible."""
    is_name = bool(name.strip()) and len(name) <= MAX_FILE_NAME and name.isprintable()
    return is_name and name not in {".", ".."} and not set(name) & set("/\\")


class FileInfo(TypedDict):
    """A file of the run."""

    name: str
    size: int  # bytes


Listing = list[FileInfo]


class FileStore(Protocol):
    """A run's files: rows of the database, never a local disk."""

    def read(self, name: str) -> bytes:
        """The whole content.

        Raises:
            NotFound: the run has no file of this name.
        """
        ...

    def write(self, name: str, content: bytes | str) -> None:
        """Create or replace a file; text is stored as UTF-8."""
        ...

    def list(self) -> Listing:
        """The run's files, by name."""
        ...


def _always_held() -> None:
    """The default of a context without a lease."""


def _no_outputs(step: str) -> Any:
    raise ToolFailed(f"There is no step {step!r} whose output could be read.", step=step)


def _no_secrets(name: str) -> str:
    raise ToolFailed(f"The tool has not declared the secret {name!r}: @tool(secrets=({name!r},)).", secret=name)


@dataclass(slots=True)
class ToolContext:
    """One call's surroundings.

    ``idempotency_key`` is the same in all attempts of a step: send it with every effect.
    ``ensure_lease()`` raises LeaseLost when another worker owns the step: call it right before an
    effect that comes late in a long tool.  ``output_of(key)`` is the output of another step of the run, which raises
    ToolFailed if it has none.  ``cancelled`` turns true when the run is to stop.
    ``secret(name)`` gives a credential that the tool declares (``secrets=``); what the call gives back, its errors and
    its files are masked where it appears.
    """

    run_id: str
    step_key: str
    idempotency_key: str
    files: FileStore
    deadline_at: float  # time.monotonic() seconds; math.inf: the tool's own time-out holds
    ensure_lease: Callable[[], None] = _always_held
    secret: Callable[[str], str] = field(default=_no_secrets, repr=False)
    output_of: Callable[[str], Any] = _no_outputs
    cancelled: bool = False
