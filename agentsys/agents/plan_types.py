"""What a parsed plan is.  Made by :func:`agentsys.agents.plans.parse_plan`, then only read."""

import enum
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Kind = Literal["tool", "answer", "wait", "ask", "delegate", "act"]
OnError = Literal["fail", "continue"]
IfFailed = Literal["skip", "null"]


class NoAnswer(enum.Enum):
    """A plan without an answer template, which is not the same as the answer null."""

    NO_ANSWER = "no answer"


NO_ANSWER: Final = NoAnswer.NO_ANSWER


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step, checked; templates (``arguments``, ``objective``) are not rendered yet."""

    key: str
    kind: Kind = "tool"
    tool: str = ""  #: only of kind tool
    arguments: dict[str, Any] = field(
        default_factory=dict
    )  #: of tool; of wait: seconds or until; of ask: question, schema;
    #: of delegate: agent, goal, plan, input; of act: tools, schema
    objective: str = ""  #: of answer, if it has one; of ask, the question; of delegate, the goal; of act
    #: Keys of steps: the explicit ones first, then those that references name; each once.
    depends_on: tuple[str, ...] = ()
    title: str = ""
    timeout_s: float | None = None  #: of one attempt; None: the tool's own, or the default of the kind
    max_attempts: int | None = None
    approval: bool = False
    expires_s: float | None = None  #: of tool and ask: how long a person has to decide
    on_error: OnError = "fail"
    if_failed: IfFailed = "skip"


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they were written; a key is taken once and nothing goes in circles."""

    steps: tuple[PlanStep, ...]
    answer: Any | NoAnswer = NO_ANSWER


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run has already when a plan is added to it."""

    known: frozenset[str] = frozenset()  #: keys that the plan may refer to
    taken: frozenset[str] = frozenset()  #: other keys that are not free


NOTHING: Final = Standing()

_DEFAULTS = PlanStep(key="")
_ALWAYS = ("key", "kind")


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as CONTRACT's JSON, defaults left out; parsed again it is the same plan."""
    data: dict[str, Any] = {"steps": [_step_json(step) for step in plan.steps]}
    if plan.answer is not NO_ANSWER:
        data["answer"] = plan.answer
    return data


def _step_json(step: PlanStep) -> dict[str, Any]:
    values = {name: getattr(step, name) for name in PlanStep.__slots__}
    kept = {k: v for k, v in values.items() if k in _ALWAYS or v != getattr(_DEFAULTS, k)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
