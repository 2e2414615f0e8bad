"""Thirty goals and what a model makes of them: which tools are called with what, and what comes out.

The model is a script on a real server; between it and the tools is all of the product: prompts, plans and their faults,
turns, corrections, approvals, limits.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentsys.agents.models import AgentVersion
from agentsys.llm import scripted
from agentsys.llm.scripted import ModelServer, Reply
from tests.support import tools

MODEL = "openai-chat:scripted"
CSV = "name,age\nAda,36\nBob,27\n"


def plan(*steps: dict[str, Any], answer: Any = None) -> Reply:
    return scripted.submit({"steps": list(steps)} | ({} if answer is None else {"answer": answer}))


def step(key: str, tool: str, **arguments: Any) -> dict[str, Any]:
    return {"key": key, "tool": tool, "arguments": arguments}


def calls(*wanted: tuple[str, dict[str, Any]]) -> Reply:
    return scripted.calls([(name.replace(".", "__"), arguments) for name, arguments in wanted])


def said(key: str, objective: str = "Say it.", **fields: Any) -> dict[str, Any]:
    return {"key": key, "kind": "answer", "objective": objective, **fields}


@dataclass(frozen=True)
class Goal:
    """``made`` are the steps with a tool, in plan order: key, tool, status.  ``asked`` is how often the model is."""

    goal: str
    script: list[Reply]
    made: list[tuple[str, str, str]]
    result: Any = None
    status: str = "succeeded"
    code: str = ""
    asked: int = 0
    version: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


ECHO = ("test.echo", {"value": "x"})
OK, FAILED = "succeeded", "failed"
REACT = {"mode": "react"}
SHAPE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}

GOALS = [
    # --- Plans ---
    Goal(
        "What is 6 times 7?",
        [plan(step("a", "math.evaluate", expression="6*7"), answer="${a.value}")],
        [("a", "math.evaluate", OK)],
        42,
    ),
    Goal(
        "Count the words of a b c.",
        [plan(step("a", "text.count", text="a b c"), answer={"words": "${a.words}"})],
        [("a", "text.count", OK)],
        {"words": 3},
    ),
    Goal(
        "Two sums at once.",
        [
            plan(
                step("a", "math.evaluate", expression="1+1"),
                step("b", "math.evaluate", expression="2+2"),
                answer=["${a.value}", "${b.value}"],
            )
        ],
        [("a", "math.evaluate", OK), ("b", "math.evaluate", OK)],
        [2, 4],
    ),
    Goal(
        "One after the other.",
        [plan(step("a", "math.evaluate", expression="2+3"), step("b", "test.echo", value="${a.value}"), answer="${b}")],
        [("a", "math.evaluate", OK), ("b", "test.echo", OK)],
        5,
    ),
    Goal(
        "Take the input's name.",
        [plan(step("a", "json.query", data="${input}", expression="name"), answer="${a.value}")],
        [("a", "json.query", OK)],
        "Ada",
        run={"input": {"name": "Ada"}},
    ),
    Goal(
        "Write a file and read it.",
        [
            plan(
                step("w", "files.write", name="f.txt", text="hello"),
                {**step("r", "files.read", name="f.txt"), "depends_on": ["w"]},
                answer="${r.text}",
            )
        ],
        [("w", "files.write", OK), ("r", "files.read", OK)],
        "hello",
    ),
    Goal(
        "How old are they together?",
        [plan(step("a", "table.query", sql='SELECT sum(age) AS s FROM "p.csv"'), answer="${a.rows[0]}")],
        [("a", "table.query", OK)],
        {"s": 63},
        run={"files": {"p.csv": CSV.encode()}},
    ),
    Goal(
        "Say something about it.",
        [
            plan(step("a", "test.echo", value="bees"), said("s", "Say what ${a} do."), answer="${s}"),
            scripted.text("They fly."),
        ],
        [("a", "test.echo", OK)],
        "They fly.",
        asked=2,
    ),
    Goal("Nothing is to be done.", [plan(said("s"), answer="${s}"), scripted.text("Done.")], [], "Done.", asked=2),
    # --- Plans that were wrong at first ---
    Goal(
        "An unknown tool is corrected.",
        [plan(step("a", "test.ecco", value=1)), plan(step("a", "test.echo", value=1), answer="${a}")],
        [("a", "test.echo", OK)],
        1,
        asked=2,
    ),
    Goal(
        "A wrong argument is corrected.",
        [plan(step("a", "text.count", words="x")), plan(step("a", "text.count", text="x"), answer="${a.words}")],
        [("a", "text.count", OK)],
        1,
        asked=2,
    ),
    Goal(
        "A reference to nothing is corrected.",
        [plan(step("a", "test.echo", value="${b}")), plan(step("a", "test.echo", value=2), answer="${a}")],
        [("a", "test.echo", OK)],
        2,
        asked=2,
    ),
    Goal(
        "No JSON at all is corrected.",
        [scripted.text("I would first…"), plan(step("a", "test.echo", value=3), answer="${a}")],
        [("a", "test.echo", OK)],
        3,
        asked=2,
    ),
    Goal("A plan that stays wrong fails.", [plan(step("a", "test.ecco"))] * 3, [], None, FAILED, "plan_invalid", 3),
    Goal(
        "What no tool can do fails with its reason.",
        [scripted.submit({"cannot": [{"clause": "fly", "reason": "no wings"}]})] * 3,
        [],
        None,
        FAILED,
        "goal_not_plannable",
        1,
    ),
    Goal(
        "A circle is corrected.",
        [
            plan(
                {**step("a", "test.echo", value=1), "depends_on": ["b"]},
                {**step("b", "test.echo", value=1), "depends_on": ["a"]},
            ),
            plan(step("a", "test.echo", value=4), answer="${a}"),
        ],
        [("a", "test.echo", OK)],
        4,
        asked=2,
    ),
    # --- Planning anew ---
    Goal(
        "A failure is gone round.",
        [plan(step("a", "test.fail")), plan(step("b", "test.echo", value="else"), answer="${b}")],
        [("a", "test.fail", FAILED), ("b", "test.echo", OK)],
        "else",
        asked=2,
        version={"planning": {"replan_on_failure": 1}},
    ),
    Goal(
        "A second failure ends it.",
        [plan(step("a", "test.fail")), plan(step("b", "test.fail"))],
        [("a", "test.fail", FAILED), ("b", "test.fail", FAILED)],
        None,
        FAILED,
        "tool_failed",
        2,
        version={"planning": {"replan_on_failure": 1}},
    ),
    # --- Acting ---
    Goal("React: nothing to call.", [scripted.text("I know that.")], [], "I know that.", version=REACT),
    Goal(
        "React: one call, then the answer.",
        [calls(ECHO), scripted.text("x it is")],
        [("act.1.1", "test.echo", OK)],
        "x it is",
        asked=2,
        version=REACT,
    ),
    Goal(
        "React: two at once.",
        [calls(ECHO, ("math.evaluate", {"expression": "1+1"})), scripted.text("both")],
        [("act.1.1", "test.echo", OK), ("act.1.2", "math.evaluate", OK)],
        "both",
        asked=2,
        version=REACT,
    ),
    Goal(
        "React: turn by turn.",
        [calls(ECHO), calls(("math.evaluate", {"expression": "2+2"})), scripted.text("4")],
        [("act.1.1", "test.echo", OK), ("act.2.1", "math.evaluate", OK)],
        "4",
        asked=3,
        version=REACT,
    ),
    Goal(
        "React: a failing tool is seen.",
        [calls(("test.fail", {"message": "no"})), calls(ECHO), scripted.text("went on")],
        [("act.1.1", "test.fail", FAILED), ("act.2.1", "test.echo", OK)],
        "went on",
        asked=3,
        version=REACT,
    ),
    Goal(
        "React: an unknown tool is corrected in its turn.",
        [calls(("test.ecco", {})), calls(ECHO), scripted.text("x")],
        [("act.1.1", "test.echo", OK)],
        "x",
        asked=3,
        version=REACT,
    ),
    Goal(
        "React: wrong arguments are corrected.",
        [calls(("text.count", {"n": 1})), calls(("text.count", {"text": "a b"})), scripted.text("2")],
        [("act.1.1", "text.count", OK)],
        "2",
        asked=3,
        version=REACT,
    ),
    Goal(
        "React: what looks like a reference is text.",
        [calls(("test.echo", {"value": "${input.secret}"})), scripted.text("done")],
        [("act.1.1", "test.echo", OK)],
        "done",
        asked=2,
        version=REACT,
        run={"input": {"secret": "s3cret"}},
    ),
    Goal(
        "React: the answer has its shape.",
        [scripted.submit({"n": 4})],
        [],
        {"n": 4},
        version=REACT | {"output_schema": SHAPE},
    ),
    Goal(
        "React: a wrong shape is repaired.",
        [scripted.submit({"n": "four"}), scripted.submit({"n": 4})],
        [],
        {"n": 4},
        asked=2,
        version=REACT | {"output_schema": SHAPE},
    ),
    Goal(
        "React: a shape that stays wrong fails.",
        [scripted.submit({"n": "four"})] * 3,
        [],
        None,
        FAILED,
        "output_invalid",
        3,
        version=REACT | {"output_schema": SHAPE},
    ),
    Goal(
        "React: at the last turn it has to answer.",
        [calls(ECHO), scripted.text("as far as I came")],
        [("act.1.1", "test.echo", OK)],
        "as far as I came",
        asked=2,
        version=REACT | {"planning": {"max_turns": 1}},
    ),
    Goal(
        "React: a refusal ends it.",
        [scripted.ended("content_filter")],
        [],
        None,
        FAILED,
        "model_refused",
        1,
        version=REACT,
    ),
    Goal(
        "React: a tool that is not listed is none.",
        [calls(ECHO)] * 3,
        [],
        None,
        FAILED,
        "calls_invalid",
        3,
        version=REACT | {"tools": ["math.evaluate"]},
    ),
]


@pytest.fixture
def server(settings: Any) -> Iterator[ModelServer]:
    with scripted.serving() as model:
        settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = model.url, "sk-test"
        yield model


def test_there_are_thirty() -> None:
    assert len(GOALS) >= 30
    assert len({goal.goal for goal in GOALS}) == len(GOALS)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.goal)
def test_a_goal_leads_to_these_calls_and_this_result(
    goal: Goal, server: ModelServer, submit: Any, worker: Any, agent: Any
) -> None:
    tools.calls.clear()
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, model=MODEL, **goal.version
    )
    agent.save()
    server.script = list(goal.script)

    run = worker.finish(submit(goal=goal.goal, **goal.run))

    made = [(one.key, one.tool, one.status) for one in run.steps.exclude(tool="").order_by("id")]
    assert (run.status, run.result, made) == (goal.status, goal.result, goal.made), run.error
    assert not goal.code or run.error["code"] == goal.code
    assert len(server.requests) == (goal.asked or len(goal.script))
    assert "s3cret" not in str(tools.calls)
