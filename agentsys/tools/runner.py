"""One call of one tool: arguments checked, time and size bounded, every fault an error of ours."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from pydantic import ValidationError

from agentsys.core import loop
from agentsys.core.errors import (
    AgentSysError,
    OutcomeUnknown,
    StepCancelled,
    StepTimeout,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolOutputTooLarge,
)
from agentsys.core.hidden import NOTHING, Hidden
from agentsys.core.sanitize import clean
from agentsys.tools import registry
from agentsys.tools.arguments import from_pydantic
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import ToolSpec

logger = logging.getLogger(__name__)


class Call:
    """A tool that has been called: a ``def`` has returned by then, an ``async def`` may be under way."""

    def __init__(
        self, spec: ToolSpec, hidden: Hidden, output: Any = None, waiting: loop.Waiting[Any] | None = None
    ) -> None:
        self._spec, self._hidden, self._output, self._waiting = spec, hidden, output, waiting

    def is_over(self, *, within_s: float) -> bool:
        """Wait for its end, but no longer than this."""
        return self._waiting is None or self._waiting.is_over(within_s=within_s)

    def then(self, do: Callable[[], object]) -> None:
        """Have ``do`` called once it is over, on any thread; it must be quick."""
        if self._waiting is None:
            do()
        else:
            self._waiting.then(do)

    def result(self) -> Any:
        """Wait for the output, as plain JSON values; raises as :func:`run`."""
        with masked(self._hidden), _told(self._spec):
            output = self._output if self._waiting is None else self._waiting.result()
            return self._hidden.value(clean(output, max_bytes=settings.MAX_OUTPUT_BYTES))


def run(spec: ToolSpec, arguments: Mapping[str, Any], ctx: ToolContext, *, hidden: Hidden = NOTHING) -> Any:
    """Call a tool and return its output as plain JSON values.

    A ``def`` runs on the calling thread, whose deadline the caller watches; an ``async def`` on the
    process's loop, cancelled at the deadline or when the run is stopped.  The lease of a tool whose call
    must not be repeated (unsafe, verifiable) is asked for right before.

    Args:
        hidden: What neither the output nor an error may show.

    Raises:
        ToolArgumentsInvalid: the arguments do not fit; ``errors`` in its data lists every fault.
        StepTimeout: an asynchronous tool took longer than its time.
        StepCancelled: it was ended because the run was stopped.
        OutcomeUnknown: such a call was cut off; it may have happened and must not be repeated.
        ToolOutputTooLarge: more than settings.MAX_OUTPUT_BYTES.
        ToolFailed: the tool raised something unexpected; the log has it, the message has no details.
        AgentSysError: whatever else the tool or the context raised on purpose.
    """
    return start(spec, arguments, ctx, hidden=hidden).result()


def start(spec: ToolSpec, arguments: Mapping[str, Any], ctx: ToolContext, *, hidden: Hidden = NOTHING) -> Call:
    """As :func:`run`, but wait for no ``async def``."""
    with masked(hidden):
        checked = _checked(spec, arguments, ctx)
        if not spec.repeatable:
            ctx.ensure_lease()
        with _told(spec):
            if not spec.is_async:
                return Call(spec, hidden, spec.function(**checked))
            waiting = loop.Waiting(spec.function(**checked), _time_left_s(spec, ctx))
            return Call(spec, hidden, waiting=waiting)


@contextmanager
def masked(hidden: Hidden) -> Iterator[None]:
    """Errors of ours without what is hidden."""
    try:
        yield
    except AgentSysError as error:
        if hidden:
            hidden.error(error, data=_plain(error.data))
        raise


def _plain(data: dict[str, Any]) -> Any:
    try:
        return clean(data)
    except ToolOutputTooLarge:
        return {}


@contextmanager
def _told(spec: ToolSpec) -> Iterator[None]:
    """Whatever a tool raises, as an error of ours."""
    try:
        yield
    except (StepTimeout, StepCancelled) as error:
        if not spec.repeatable:
            when = "after its time" if isinstance(error, StepTimeout) else "because the run was stopped"
            raise OutcomeUnknown(f"{spec.name} was cut off {when}.", tool=spec.name) from error
        raise
    except AgentSysError:
        raise
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # the boundary to code that is not ours
        logger.exception("tool %s failed unexpectedly", spec.name)
        raise ToolFailed(
            f"{spec.name} failed with {type(error).__name__}.", tool=spec.name, exception=type(error).__name__
        ) from error


def check(spec: ToolSpec, arguments: Mapping[str, Any], *, skip: Callable[[Any], bool] | None = None) -> None:
    """
    Args:
        skip: See arguments.faults.

    Raises:
        ToolArgumentsInvalid: a call with these arguments would be refused; ``errors`` lists every fault.
    """
    if faults := registry.faults(spec, arguments, skip=skip):
        raise _invalid(spec, faults)


def _checked(spec: ToolSpec, arguments: Mapping[str, Any], ctx: ToolContext) -> dict[str, Any]:
    try:
        checked = spec.signature.check(arguments)
    except ValidationError as error:
        raise _invalid(spec, from_pydantic(error, arguments)) from None
    except (TypeError, ValueError, RecursionError):
        raise _invalid(spec, registry.faults(spec, arguments)) from None
    if spec.signature.context:
        checked[spec.signature.context] = ctx
    return checked


def _invalid(spec: ToolSpec, faults: list[Any]) -> ToolArgumentsInvalid:
    listed = "; ".join(f"{fault['path'] or 'arguments'}: {fault['message']}" for fault in faults[:5])
    return ToolArgumentsInvalid(f"{spec.name}: {listed}"[:1_000], tool=spec.name, errors=faults[:100])


def _time_left_s(spec: ToolSpec, ctx: ToolContext) -> float:
    """The step's deadline decides where there is one: a step may allow more than its tool asks for."""
    if math.isinf(ctx.deadline_at):
        return spec.timeout_s
    return max(0.0, ctx.deadline_at - time.monotonic())
