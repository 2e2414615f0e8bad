"""One call of one tool: what the caller gets whatever the tool does."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from agentsys.core.errors import (
    LeaseLost,
    OutcomeUnknown,
    StepTimeout,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolOutputTooLarge,
    ToolUnavailable,
)
from agentsys.tools import ToolContext, registry, runner, tool
from agentsys.tools.testing import MemoryFiles, context


@pytest.fixture
def make(monkeypatch):
    """Declare a tool for this test only and return its entry."""
    registry.load()
    monkeypatch.setattr(registry, "_tools", dict(registry._tools))

    def declare(function, **options):
        tool(**{"effect": "pure", "name": "mine", **options})(function)
        return registry.get("mine")

    return declare


def test_arguments_go_in_and_the_output_comes_out_as_plain_json(make):
    def join(a: str, b: int = 2) -> Any:
        """Join."""
        return {"joined": (a, b), 1: "\0"}

    assert runner.run(make(join), {"a": "x"}, context()) == {"joined": ["x", 2], "1": "\ufffd"}


def test_a_tool_gets_its_context_only_when_it_asks(make):
    def who(ctx: ToolContext) -> Any:
        """Tell."""
        ctx.files.write("new.txt", "text")
        return [ctx.run_id, ctx.step_key, ctx.idempotency_key, ctx.secret("token"), ctx.files.list()]

    files = MemoryFiles()
    ctx = context(files=files, secrets={"token": "t"}, run_id="r", step_key="s", idempotency_key="k")
    assert runner.run(make(who), {}, ctx) == ["r", "s", "k", "t", [{"name": "new.txt", "size": 4}]]


def test_wrong_arguments_never_reach_the_tool(make):
    called = []

    def never(n: int, ctx: ToolContext) -> None:
        """Never."""
        called.append(n)

    spec = make(never, effect="unsafe")
    held = []
    for arguments in ({}, {"n": "1"}, {"n": 1, "x": 2}, {"n": 1, "ctx": None}, {"n": float("nan")}):
        with pytest.raises(ToolArgumentsInvalid) as caught:
            runner.run(spec, arguments, context(ensure_lease=lambda: held.append(1)))
        assert caught.value.data["errors"]
    assert (called, held) == ([], [])


def test_an_asynchronous_tool_runs_on_the_processs_loop(make):
    async def where(n: int) -> list[Any]:
        """Where."""
        await asyncio.sleep(0)
        return [n, threading.current_thread().name]

    assert runner.run(make(where), {"n": 1}, context()) == [1, "agentsys-loop"]


def test_a_plain_tool_runs_on_the_callers_thread(make):
    def where() -> str:
        """Where."""
        return threading.current_thread().name

    assert runner.run(make(where), {}, context()) == threading.current_thread().name


async def forever() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


def test_an_asynchronous_tool_ends_after_its_own_time(make):
    with pytest.raises(StepTimeout):
        runner.run(make(forever, timeout_s=0.05), {}, context())


def test_the_steps_deadline_decides_where_there_is_one(make):
    async def slow() -> str:
        """Slow."""
        await asyncio.sleep(0.2)
        return "done"

    spec = make(slow, timeout_s=0.01)
    assert runner.run(spec, {}, context(deadline_at=time.monotonic() + 30)) == "done"
    with pytest.raises(StepTimeout):
        runner.run(spec, {}, context(deadline_at=time.monotonic() + 0.05))
    with pytest.raises(StepTimeout):
        runner.run(spec, {}, context(deadline_at=time.monotonic() - 1))


ONCE = pytest.mark.parametrize("once", [{"effect": "unsafe"}, {"effect": "verifiable", "verify": "look"}], ids=str)


@ONCE
def test_a_call_that_must_not_be_repeated_asks_for_its_lease_right_before(make, once):
    order = []

    def charge() -> None:
        """Charge."""
        order.append("charge")

    runner.run(make(charge, **once), {}, context(ensure_lease=lambda: order.append("lease")))
    assert order == ["lease", "charge"]


@ONCE
def test_without_its_lease_such_a_call_does_not_happen(make, once):
    called = []

    def charge() -> None:
        """Charge."""
        called.append(1)

    def lost():
        raise LeaseLost()

    with pytest.raises(LeaseLost):
        runner.run(make(charge, **once), {}, context(ensure_lease=lost))
    assert called == []


@ONCE
def test_such_a_call_that_was_cut_off_is_unknown_and_not_to_be_repeated(make, once):
    with pytest.raises(OutcomeUnknown) as caught:
        runner.run(make(forever, timeout_s=0.05, **once), {}, context())
    assert not caught.value.retryable


@pytest.mark.parametrize("error", [ToolFailed("no", a=1), ToolUnavailable("later", retry_after_s=3)])
def test_what_a_tool_says_on_purpose_passes_through(make, error):
    def fails() -> None:
        """Fail."""
        raise error

    with pytest.raises(type(error)) as caught:
        runner.run(make(fails), {}, context())
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError("token=secret"), RecursionError(), MemoryError()),
        *(SystemExit("secret"), TimeoutError("secret"), asyncio.CancelledError("secret")),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_nobody_expected_is_a_failure_without_its_text(make, error, is_async, caplog):
    def fails() -> None:
        """Fail."""
        raise error

    async def fails_later() -> None:
        """Fail."""
        await asyncio.sleep(0)
        raise error

    spec = make(fails_later if is_async else fails)
    with caplog.at_level(logging.ERROR), pytest.raises(ToolFailed) as caught:
        runner.run(spec, {}, context())

    assert caught.value.as_dict()["message"] == f"mine failed with {type(error).__name__}."
    assert "secret" not in str(caught.value.as_dict())
    assert any(record.exc_info for record in caplog.records)


def test_an_output_larger_than_allowed_is_refused(make, settings):
    settings.MAX_OUTPUT_BYTES = 1_000

    def large(n: int) -> str:
        """Much."""
        return "x" * n

    spec = make(large)
    assert len(runner.run(spec, {"n": 900}, context())) == 900
    with pytest.raises(ToolOutputTooLarge):
        runner.run(spec, {"n": 1_001}, context())


def test_an_output_that_breaks_the_sanitiser_is_a_failure(make):
    class Bomb(dict):
        def items(self):
            raise ValueError("boom")

    def bomb() -> Any:
        """Explode."""
        return [Bomb(a=1).items]

    assert runner.run(make(bomb), {}, context()) == ["<method>"]


def test_a_context_without_secrets_says_so(make):
    def reads(ctx: ToolContext) -> str:
        """Read."""
        return ctx.secret("token")

    with pytest.raises(ToolFailed, match="no secret named 'token'"):
        runner.run(make(reads), {}, context())


def test_a_hundred_slow_calls_share_their_time(make):
    together = threading.Barrier(100)
    arrived = []

    async def slow() -> None:
        """Wait for the others."""
        arrived.append(1)
        while len(arrived) < 100:
            await asyncio.sleep(0.005)

    spec = make(slow, timeout_s=20)

    def call() -> None:
        together.wait(20)
        runner.run(spec, {}, context())

    threads = [threading.Thread(target=call) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(arrived) == 100
