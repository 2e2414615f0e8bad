"""Time: what it is, and waiting for it."""

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import ToolFailed
from agentsys.tools.registry import tool


class Now(TypedDict):
    iso: str
    date: str
    time: str
    weekday: str
    zone: str
    unix: int


@tool(
    name="time.now",
    effect="pure",
    lane="compute",
    timeout_s=5.0,
    result_path="iso",
    examples=(
        "tell the time",
        "what time is it in Europe/Berlin",
        "get the current time",
        "get today's date",
        "get the time in UTC",
    ),
)
def now(
    zone: Annotated[
        str,
        Field(max_length=64, pattern=r"^[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*$", description="An IANA time zone."),
    ] = "UTC",
) -> Now:
    """Tell the current date and time, in UTC or in an IANA time zone such as Europe/Berlin."""
    try:
        moment = datetime.now(UTC).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError) as error:  # ZoneInfo raises each of them for names that are none
        raise ToolFailed(f"There is no time zone named {zone!r}; use an IANA name.", zone=zone) from error
    return Now(
        iso=moment.isoformat(timespec="seconds"),
        date=moment.date().isoformat(),
        time=moment.strftime("%H:%M:%S"),
        weekday=moment.strftime("%A"),
        zone=zone,
        unix=int(moment.timestamp()),
    )


@tool(
    name="wait",
    effect="pure",
    lane="network",
    timeout_s=5.0,
    examples=(
        "wait 5 seconds",
        "wait for 2 minutes",
        "pause for 1 hour",
        "sleep 10 seconds",
        "wait until 2030-01-01T12:00:00Z",
    ),
)
def wait(
    seconds: Annotated[
        float | None, Field(ge=0, le=31_536_000, description="How long to wait, in seconds; at most a year.")
    ] = None,
    until: Annotated[
        str | None,
        Field(max_length=40, description="ISO 8601 time with its offset, such as 2030-01-01T12:00:00Z."),
    ] = None,
) -> dict[str, str]:
    """Wait before the steps that depend on this one: some seconds, or until a time.  Give exactly one.

    The wait survives restarts and holds no worker.
    """
    # A plan makes this a durable step of kind wait: a sleeping thread would hold a worker and die with it.
    asked = {"seconds": seconds, "until": until}
    raise ToolFailed("wait is a step of the plan, it is never called as a tool.", **asked)
