"""Runs of every shape, what people do to them, and how they must end whatever happens on the way."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentsys.core.errors import InvalidTransition
from agentsys.runs import control, services
from agentsys.runs.models import RunMessage
from agentsys.runs.store import claims
from tests.support.priced import MODEL

if TYPE_CHECKING:
    from tests.failpoints.play import Play

Act = Callable[["Play"], None]


def nothing(play: "Play") -> None:
    """Nobody interferes."""


@dataclass(frozen=True)
class Shape:
    """``first`` is done once the run is there, ``meanwhile`` during an unsafe call, ``ended`` when it has ended.

    ``points`` is the least number of points that must have been found, or the shape has become empty; ``slots`` how
    many steps of the lane may be under way, if not as many as there are.
    """

    steps: Sequence[dict[str, Any]]
    status: str
    result: Any
    points: int
    first: Act = nothing
    meanwhile: Act = nothing
    ended: Act = nothing
    runs: int = 1
    goal: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    slots: int | None = None


def echo(key: str, value: Any = None, **fields: Any) -> dict[str, Any]:
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def call(key: str, tool: str, after: Sequence[str] = (), **arguments: Any) -> dict[str, Any]:
    return {"key": key, "tool": f"witnessed.{tool}", "depends_on": list(after), "arguments": arguments}


def say(key: str, after: Sequence[str] = ()) -> dict[str, Any]:
    """A call of a model that has a price."""
    return {"key": key, "kind": "answer", "objective": "Say something.", "depends_on": list(after)}


# --- What people do; each may be asked again, for the answer may have been lost -----------------------------------
def cancel(play: "Play") -> None:
    try:
        services.cancel(play.run)
    except InvalidTransition:  # it was heard the first time
        play.run.refresh_from_db()
        assert play.run.status == "cancelled"


def pause(play: "Play") -> None:
    with suppress(InvalidTransition):  # it was paused, resumed and has ended since
        control.pause(play.run)


def replan(play: "Play") -> None:
    """Another plan is wanted, once: a message whose answer was lost is there."""
    if not RunMessage.objects.filter(run_id=play.run.pk).exists():
        with suppress(InvalidTransition):
            control.message(play.run, "Compute 20 * 3", replan=True)


def retry(play: "Play") -> None:
    play.run.refresh_from_db()
    if play.run.status == "failed":
        play.runs.append(control.retry(play.run, idempotency_key=f"{play.key} again")[0])


# --- What became of workers before ------------------------------------------------------------------------------
def lose_a_claim(play: "Play") -> None:
    """A worker that claims a step and is not heard of again."""
    claims.claim("compute", owner="gone")


def lose_a_call(play: "Play") -> None:
    """A worker that begins an unsafe call and is not heard of again."""
    if (claim := claims.claim("compute", owner="gone")) is not None:
        claims.open_gate(claim)


LINEAR = (echo("a", 1), echo("b", ["${a}"]), echo("c", ["${b}"]))
DIAMOND = (echo("a", 1), echo("b", "${a}"), echo("c", "${a}"), echo("d", ["${b}", "${c}"]))
UNSAFE = (echo("a"), call("b", "charge", ["a"]), echo("c", "${b}"))
VERIFIABLE = (echo("a"), call("b", "transfer", ["a"]), echo("c", "${b}"))
CHILD = (
    {"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": [echo("x", 1), echo("y", "${x}")]}}},
    echo("e", "${d.y}"),
)
APPROVAL = (echo("a", "bob"), call("b", "wire", to="${a}"), echo("c", "${b}"))
QUESTION = (
    {"key": "q", "kind": "ask", "arguments": {"question": "Which?"}},
    {"key": "w", "kind": "wait", "arguments": {"seconds": 3600}, "depends_on": ["q"]},
    echo("c", "${q}", depends_on=["w"]),
)
ACTING = ({"key": "a", "kind": "act", "objective": "Compute 20 * 3"}, echo("c", "${a}"))
FAN = (echo("a", 1), echo("b", "${a}"), echo("c", "${a}"), echo("d", "${a}"), echo("e", ["${b}", "${c}", "${d}"]))
ONE_CALL = (say("a"), echo("b", "${a}"))
SPENDING = (say("a"), say("b", ["a"]), echo("c", ["${a}", "${b}"]))
CHILD_SPENDING = (
    {"key": "d", "kind": "delegate", "arguments": {"plan": {"steps": [say("x")]}}},
    echo("e", "${d.x}"),
)
STEP_RETRY = (call("a", "second"), echo("b", "${a}"))
RUN_RETRY = (echo("a", 1), {**call("b", "second", ["a"], how="failed", of="${goal}")}, echo("c", ["${a}", "${b}"]))

ROOM = {"tokens": 100_000, "cost_usd": 1}

SHAPES: dict[str, Shape] = {
    "linear": Shape(LINEAR, "succeeded", {"c": [[1]]}, 10),
    "diamond": Shape(DIAMOND, "succeeded", {"d": [1, 1]}, 12),
    "approval": Shape(APPROVAL, "succeeded", {"c": "bob"}, 30),
    "child run": Shape(CHILD, "succeeded", {"e": 1}, 30),
    "retry of a step": Shape(STEP_RETRY, "succeeded", {"b": "second"}, 25),
    "retry of a run": Shape(RUN_RETRY, "succeeded", {"c": [1, "second"]}, 25, ended=retry),
    "acting": Shape(ACTING, "succeeded", {"c": {"value": 60, "expression": "20 * 3"}}, 25),
    "waiting for slots": Shape(FAN, "succeeded", {"e": [1, 1, 1]}, 15, slots=1),
    "within budgets": Shape(ONE_CALL, "succeeded", {"b": "said"}, 10, limits=ROOM, model=MODEL),
    "cancel": Shape(LINEAR, "cancelled", None, 7, first=cancel),
    "cancel during an unsafe call": Shape(UNSAFE, "cancelled", None, 15, meanwhile=cancel),
    "cancel during a verifiable call": Shape(VERIFIABLE, "cancelled", None, 15, meanwhile=cancel),
}
#: Played too where there is time.
MORE: dict[str, Shape] = {
    "several runs": Shape(LINEAR, "succeeded", {"c": [[1]]}, 20, runs=4),
    "capped": Shape(FAN, "succeeded", {"e": [1, 1, 1]}, 15, limits={"parallel": 1}),
    "two calls within budgets": Shape(SPENDING, "succeeded", {"c": ["said", "said"]}, 15, limits=ROOM, model=MODEL),
    "budget raised": Shape(SPENDING, "succeeded", {"c": ["said", "said"]}, 20, limits={"tokens": 10}, model=MODEL),
    "several runs for one slot": Shape(LINEAR, "succeeded", {"c": [[1]]}, 20, runs=3, slots=1),
    "several capped runs for two slots": Shape(FAN, "succeeded", None, 20, runs=2, slots=2, limits={"parallel": 2}),
    "child within its parent's budget": Shape(CHILD_SPENDING, "succeeded", {"e": "said"}, 25, limits=ROOM, model=MODEL),
    "question and timer": Shape(QUESTION, "succeeded", {"c": "this"}, 40),
    "unsafe call": Shape(UNSAFE, "succeeded", {"c": "charged"}, 10),
    "verifiable call": Shape(VERIFIABLE, "succeeded", {"c": "transferred"}, 10),
    "lost claim": Shape(LINEAR, "succeeded", {"c": [[1]]}, 25, first=lose_a_claim),
    "lost unsafe call": Shape((call("b", "charge"),), "succeeded", {"b": "charged"}, 30, first=lose_a_call),
    "lost verifiable call": Shape((call("b", "transfer"),), "succeeded", {"b": "transferred"}, 30, first=lose_a_call),
    "pause and resume": Shape(LINEAR, "succeeded", {"c": [[1]]}, 20, first=pause),
    "planned anew": Shape(LINEAR, "succeeded", 60, 25, first=replan, goal="do"),
    "planned anew during a call": Shape(UNSAFE, "succeeded", 60, 35, meanwhile=replan, goal="do"),
    "planned": Shape((), "succeeded", None, 15, goal='Count the words in "one two three"'),
    "planned within limits": Shape(
        (), "succeeded", None, 15, goal='Count the words in "one two three"', limits={"tokens": 100_000, "steps": 5}
    ),
}
