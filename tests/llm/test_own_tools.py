"""Tools of one's own: the offline model knows them by their names, docstrings, examples and types alone."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from agentsys.core.errors import GoalNotPlannable
from agentsys.tools import registry, tool
from agentsys.tools.registry import ToolSpec
from tests.support import offline


@pytest.fixture(scope="module")
def tools() -> Iterator[list[ToolSpec]]:
    known = dict(registry._tools)

    @tool(effect="pure", name="own.shout")
    def shout(text: str) -> str:
        """Make a text loud."""
        return text.upper()

    @tool(effect="pure", name="own.word_count")
    def word_count(text: str) -> dict[str, int]:
        """Count the words of a text."""
        return {"words": len(text.split())}

    @tool(effect="pure", name="weather.forecast")
    def forecast(city: str, days: int = 1) -> dict[str, Any]:
        """Returns the weather forecast for a city."""
        return {"city": city, "days": days}

    @tool(effect="pure", name="convert_currency")
    def convert(amount: float, source: Literal["EUR", "USD"], target: Literal["EUR", "USD"]) -> float:
        """Convert an amount of money between currencies."""
        return amount

    @tool(effect="idempotent", name="crm.create_ticket")
    def create(title: str, body: str, priority: Literal["low", "high"] = "low") -> dict[str, Any]:
        """Create a support ticket with a title and a body."""
        return {}

    @tool(effect="pure", name="texts.compare")
    def compare(left: str, right: str) -> float:
        """Compare two texts."""
        return 1.0

    @tool(effect="pure", name="texts.join", examples=("join 'a', 'b' and 'c'",))
    def join(parts: list[str]) -> str:
        """Join texts into one."""
        return "".join(parts)

    _tools_that_do_what_cannot_be_taken_back()
    specs = [*offline.built_in(), *(spec for name, spec in registry._tools.items() if name not in known)]
    yield specs
    registry._tools.clear()
    registry._tools.update(known)


def _tools_that_do_what_cannot_be_taken_back() -> None:
    @tool(effect="unsafe", name="own.record")
    def record(value: int, label: str = "") -> str:
        """Record a value in the ledger."""
        return label

    @tool(effect="unsafe", name="own.compute")
    def compute(n: int) -> int:
        """Unsafe witness."""
        return n

    @tool(effect="unsafe", name="own.ping")
    def ping() -> str:
        """Ping."""
        return "pong"


@pytest.mark.parametrize(
    ("goal", "calls"),
    [
        ("Shout 'hello'", [("own.shout", {"text": "hello"})]),
        (
            "Read notes.txt and shout it",
            [("files.read", {"name": "notes.txt"}), ("own.shout", {"text": "${read.text}"})],
        ),
        ("Get the weather forecast for 'Paris' for 3 days", [("weather.forecast", {"city": "Paris", "days": 3})]),
        ("Convert 10 EUR to USD", [("convert_currency", {"amount": 10, "source": "EUR", "target": "USD"})]),
        (
            "Create a high priority ticket titled 'Broken' with the body 'It is.'",
            [("crm.create_ticket", {"title": "Broken", "body": "It is.", "priority": "high"})],
        ),
        ("Compare 'a' and 'b'", [("texts.compare", {"left": "a", "right": "b"})]),
        ("Join 'a', 'b' and 'c'", [("texts.join", {"parts": ["a", "b", "c"]})]),
        (
            "Compute 2 + 3 and record the result",
            [("math.evaluate", {"expression": "2 + 3"}), ("own.record", {"value": "${compute.value}"})],
        ),
        ("Ping, then record 5", [("own.ping", {}), ("own.record", {"value": 5})]),
        ("Call own.ping", [("own.ping", {})]),
        ("Run own.shout on 'abc'", [("own.shout", {"text": "abc"})]),
        ("Count the words in 'a b'", [("own.word_count", {"text": "a b"})]),
        (
            "Read a.txt. Read b.txt. Compare them.",
            [
                ("files.read", {"name": "a.txt"}),
                ("files.read", {"name": "b.txt"}),
                ("texts.compare", {"left": "${read.text}", "right": "${read_2.text}"}),
            ],
        ),
    ],
)
def test_a_goal_calls_ones_own_tool(tools: list[ToolSpec], goal: str, calls: list[Any]) -> None:
    made = offline.plan(goal, tools=tools)
    assert [(step["tool"], step["arguments"]) for step in made["steps"]] == calls
    assert offline.checked(made, tools)


@pytest.mark.parametrize(
    "goal",
    [
        "Add 2 and 3, then multiply the result by 10, then subtract 7.",
        "Compute 2 + 3, then evaluate 7",
        "What is 7?",
        "Tell me 7",
        "How many computes are 7?",
        "Save the compute of 7 to a.txt",
        "What does own.compute make of 7?",
        "Describe own.compute 7",
        "Compute the result 7",
        "Compute 7 apples",
        "Note 7",
        "Enter the value 7",
        "Record 7 quickly as a request",
        "Pinging sounds",
    ],
)
def test_what_cannot_be_taken_back_is_called_by_its_own_words_alone(tools: list[ToolSpec], goal: str) -> None:
    """A tool that is neither pure nor idempotent; pure ones may still do what was asked."""
    try:
        made = offline.plan(goal, tools=tools)
    except GoalNotPlannable:
        return
    assert not {step["tool"] for step in made["steps"]} & {"own.compute", "own.record", "own.ping"}


@pytest.mark.parametrize("goal", ["Call own.compute with 7", "Use own.compute on 7", "own.compute 7"])
def test_what_cannot_be_taken_back_is_called_by_its_name(tools: list[ToolSpec], goal: str) -> None:
    (step,) = offline.plan(goal, tools=tools)["steps"]
    assert (step["tool"], step["arguments"]) == ("own.compute", {"n": 7})


def test_order_that_was_asked_for_is_kept(tools: list[ToolSpec]) -> None:
    made = offline.plan("Ping, then record 5", tools=tools)
    assert made["steps"][1]["depends_on"] == ["ping"]


@pytest.mark.parametrize(
    "clause", ["Convert 10 EUR", "Create a ticket titled 'Broken'", "Compare 'a'", "Record 2.5", "Record", "Compare"]
)
def test_a_missing_argument_is_not_made_up(tools: list[ToolSpec], clause: str) -> None:
    with pytest.raises(GoalNotPlannable) as caught:
        offline.plan(f"Ping, then {clause}", tools=tools)
    assert caught.value.data["clause"] == clause


def test_a_tie_is_refused_by_both_names(tools: list[ToolSpec]) -> None:
    def spec(name: str) -> ToolSpec:
        return next(one for one in tools if one.name == name)

    @tool(effect="pure", name="other.shout")
    def shout(text: str) -> str:
        """Make a text loud."""
        return text

    twins = [spec("own.shout"), registry._tools["other.shout"]]
    with pytest.raises(GoalNotPlannable, match=r"own\.shout or other\.shout"):
        offline.plan("Shout 'a'", tools=twins)
    assert offline.plan("Use other.shout on 'a'", tools=twins)["steps"][0]["tool"] == "other.shout"


def test_an_objective_is_one_tool_call(tools: list[ToolSpec]) -> None:
    assert offline.ask("act", tools, objective="Shout 'a'") == {
        "calls": [{"tool": "own.shout", "arguments": {"text": "a"}}],
        "text": "",
    }
    with pytest.raises(GoalNotPlannable, match="2 steps"):
        offline.ask("act", tools, objective="Read a.txt and shout it")


def test_an_answer_is_what_the_steps_gave() -> None:
    assert offline.ask("answer", outputs={"count": {"words": 3}}) == {"words": 3}
    assert offline.ask("answer", outputs={"a": 1, "b": 2}) == {"a": 1, "b": 2}
