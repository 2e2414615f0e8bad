"""Plans that are refused: with every fault, where it is and what to do."""

import pytest

from agentsys.agents.plans import parse_plan
from agentsys.core.errors import PlanInvalid
from tests.support.plans import NOW, TOOLS, messages, parse, refused, step


def ask(**arguments):
    return {"key": "a", "kind": "ask", "arguments": arguments}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (None, ("", "type")),
        ([], ("", "type")),
        ("plan", ("", "type")),
        (3, ("", "type")),
        ({}, ("steps", "missing")),
        ({"steps": None}, ("steps", "missing")),
        ({"steps": {}}, ("steps", "type")),
        ({"steps": "a"}, ("steps", "type")),
        ({"steps": []}, ("steps", "empty_plan")),
        ({"steps": [None]}, ("steps[0]", "type")),
        ({"steps": [step()], "name": 1}, ("name", "unknown_field")),
        ({"steps": [NOW]}, ("steps[0].key", "missing")),
        ({"steps": [step(None)]}, ("steps[0].key", "missing")),
        ({"steps": [step(7)]}, ("steps[0].key", "type")),
        ({"steps": [step("")]}, ("steps[0].key", "bad_key")),
        ({"steps": [step("a b")]}, ("steps[0].key", "bad_key")),
        ({"steps": [step("1a")]}, ("steps[0].key", "bad_key")),
        ({"steps": [step("a\n")]}, ("steps[0].key", "bad_key")),
        ({"steps": [step("é")]}, ("steps[0].key", "bad_key")),
        ({"steps": [step("a" * 65)]}, ("steps[0].key", "bad_key")),
        ({"steps": [step("input")]}, ("steps[0].key", "reserved_key")),
        ({"steps": [step("goal")]}, ("steps[0].key", "reserved_key")),
        ({"steps": [step("a"), step("a")]}, ("steps[1].key", "duplicate_key")),
        ({"steps": [step(kind="toll")]}, ("steps[0].kind", "bad_value")),
        ({"steps": [step(kind=["tool"])]}, ("steps[0].kind", "type")),
        ({"steps": [{"key": "a", "kind": "ask"}]}, ("steps[0].objective", "missing")),
        ({"steps": [ask(question=3)]}, ("steps[0].arguments.question", "argument_type")),
        ({"steps": [ask(question=" ")]}, ("steps[0].arguments.question", "argument_missing")),
        ({"steps": [ask(question="x" * 20_001)]}, ("steps[0].arguments.question", "argument_value")),
        ({"steps": [ask(question="${b}")]}, ("steps[0].arguments.question", "unknown_reference")),
        ({"steps": [ask(question="?", to="bob")]}, ("steps[0].arguments.to", "argument_unknown")),
        ({"steps": [ask(question="?") | {"objective": "!"}]}, ("steps[0].arguments.question", "argument_value")),
        ({"steps": [ask(question="?", schema=3)]}, ("steps[0].arguments.schema", "argument_value")),
        ({"steps": [ask(question="?", schema={"type": "x"})]}, ("steps[0].arguments.schema.type", "argument_value")),
        ({"steps": [ask(question="?", schema={"x": "y" * 100_000})]}, ("steps[0].arguments.schema", "argument_value")),
        ({"steps": [ask(question="?") | {"tool": "time.now"}]}, ("steps[0].tool", "field_not_allowed")),
        ({"steps": [ask(question="?") | {"approval": True}]}, ("steps[0].approval", "field_not_allowed")),
        ({"steps": [{"key": "a", "kind": "act"}]}, ("steps[0].objective", "missing")),
        (
            {"steps": [{"key": "a", "kind": "act", "objective": "x", "tool": "time.now"}]},
            ("steps[0].tool", "field_not_allowed"),
        ),
        (
            {"steps": [{"key": "a", "kind": "act", "objective": "x", "arguments": {"n": 1}}]},
            ("steps[0].arguments.n", "argument_unknown"),
        ),
        (
            {"steps": [{"key": "a", "kind": "act", "objective": "x", "arguments": {"tools": "all"}}]},
            ("steps[0].arguments.tools", "argument_type"),
        ),
        (
            {"steps": [{"key": "a", "kind": "act", "objective": "x", "arguments": {"tools": ["no"]}}]},
            ("steps[0].arguments.tools[0]", "unknown_tool"),
        ),
        (
            {"steps": [{"key": "a", "kind": "act", "objective": "x", "arguments": {"schema": {"type": "no"}}}]},
            ("steps[0].arguments.schema.type", "argument_value"),
        ),
        ({"steps": [{"key": "a", "kind": "delegate"}]}, ("steps[0].arguments", "argument_missing")),
        ({"steps": [step(aruments={})]}, ("steps[0].aruments", "unknown_field")),
        ({"steps": [step(objective="x")]}, ("steps[0].objective", "field_not_allowed")),
        (
            {"steps": [{"key": "a", "kind": "answer", "objective": "x", "tool": "t"}]},
            ("steps[0].tool", "field_not_allowed"),
        ),
        ({"steps": [{"key": "a", "kind": "answer", "arguments": {}}]}, ("steps[0].arguments", "field_not_allowed")),
        ({"steps": [{"key": "a", "kind": "answer", "objective": 3}]}, ("steps[0].objective", "type")),
        ({"steps": [{"key": "a", "kind": "answer", "objective": "x" * 20_001}]}, ("steps[0].objective", "bad_value")),
        ({"steps": [{"key": "a"}]}, ("steps[0].tool", "missing")),
        ({"steps": [{"key": "a", "tool": ""}]}, ("steps[0].tool", "missing")),
        ({"steps": [{"key": "a", "tool": 1}]}, ("steps[0].tool", "type")),
        ({"steps": [{"key": "a", "tool": "time.noww"}]}, ("steps[0].tool", "unknown_tool")),
        ({"steps": [step(arguments=[])]}, ("steps[0].arguments", "type")),
        ({"steps": [step(arguments={"zone": 3})]}, ("steps[0].arguments.zone", "argument_type")),
        ({"steps": [step(arguments={"zone": "no such zone"})]}, ("steps[0].arguments.zone", "argument_value")),
        ({"steps": [step(arguments={"zon": "UTC"})]}, ("steps[0].arguments.zon", "argument_unknown")),
        ({"steps": [{"key": "a", "tool": "math.evaluate"}]}, ("steps[0].arguments.expression", "argument_missing")),
        ({"steps": [step(title=1)]}, ("steps[0].title", "type")),
        ({"steps": [step(title="x" * 201)]}, ("steps[0].title", "bad_value")),
        ({"steps": [step(timeout_s=0)]}, ("steps[0].timeout_s", "bad_value")),
        ({"steps": [step(timeout_s=86_401)]}, ("steps[0].timeout_s", "bad_value")),
        ({"steps": [step(timeout_s=10**400)]}, ("steps[0].timeout_s", "bad_value")),
        ({"steps": [step(timeout_s=True)]}, ("steps[0].timeout_s", "type")),
        ({"steps": [step(timeout_s="5")]}, ("steps[0].timeout_s", "type")),
        ({"steps": [step(max_attempts=0)]}, ("steps[0].max_attempts", "bad_value")),
        ({"steps": [step(max_attempts=21)]}, ("steps[0].max_attempts", "bad_value")),
        ({"steps": [step(max_attempts=2.0)]}, ("steps[0].max_attempts", "type")),
        ({"steps": [step(expires_s=0)]}, ("steps[0].expires_s", "bad_value")),
        ({"steps": [step(expires_s=31_536_001)]}, ("steps[0].expires_s", "bad_value")),
        ({"steps": [step(expires_s="1")]}, ("steps[0].expires_s", "type")),
        ({"steps": [{"key": "a", "kind": "answer", "approval": True}]}, ("steps[0].approval", "field_not_allowed")),
        ({"steps": [{"key": "a", "kind": "answer", "expires_s": 1}]}, ("steps[0].expires_s", "field_not_allowed")),
        ({"steps": [step(approval="yes")]}, ("steps[0].approval", "type")),
        ({"steps": [step(on_error="ignore")]}, ("steps[0].on_error", "bad_value")),
        ({"steps": [step(if_failed=False)]}, ("steps[0].if_failed", "type")),
        ({"steps": [step(depends_on="b")]}, ("steps[0].depends_on", "type")),
        ({"steps": [step(depends_on=[1])]}, ("steps[0].depends_on[0]", "type")),
        ({"steps": [step(depends_on=["b"])]}, ("steps[0].depends_on[0]", "unknown_dependency")),
        ({"steps": [step(depends_on=["input"])]}, ("steps[0].depends_on[0]", "unknown_dependency")),
        ({"steps": [step(depends_on=["a"])]}, ("steps[0].depends_on[0]", "self_dependency")),
        ({"steps": [step(arguments={"zone": "${a.x}"})]}, ("steps[0].arguments.zone", "self_dependency")),
        ({"steps": [step(arguments={"zone": "${b}"})]}, ("steps[0].arguments.zone", "unknown_reference")),
        ({"steps": [step(arguments={"zone": "${a"})]}, ("steps[0].arguments.zone", "reference_syntax")),
        ({"steps": [step()], "answer": ["${b.x}"]}, ("answer[0]", "unknown_reference")),
        ({"steps": [step()], "answer": {"x": "${a | f(@)}"}}, ("answer.x", "reference_syntax")),
        ({"steps": [step("a"), step("b")], "answer": "${a.x || b.y}"}, ("answer", "ambiguous_reference")),
        ({"steps": [step(title="a\0")]}, ("steps[0].title", "bad_value")),
        ({"steps": [step()], "answer": "\ud800"}, ("answer", "bad_value")),
        ({"steps": [step()], "answer": {"a\0": 1}}, ("answer", "bad_value")),
        ({"steps": [step()], "answer": {1: 1}}, ("answer", "bad_value")),
        ({"steps": [step()], "answer": [float("nan")]}, ("answer[0]", "bad_value")),
        ({"steps": [step()], "answer": float("inf")}, ("answer", "bad_value")),
        ({"steps": [step()], "answer": {"x": (1, 2)}}, ("answer.x", "bad_value")),
    ],
)
def test_one_fault_is_reported_where_it_is_and_alone(data, fault):
    assert refused(data) == [fault]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, ("steps[0].arguments", "argument_missing")),
        ({"arguments": {"seconds": 1, "until": "2030-01-01T00:00:00Z"}}, ("steps[0].arguments", "argument_value")),
        ({"arguments": {"seconds": -1}}, ("steps[0].arguments.seconds", "argument_type")),
        ({"arguments": {"seconds": "3"}}, ("steps[0].arguments.seconds", "argument_type")),
        ({"arguments": {"seconds": True}}, ("steps[0].arguments.seconds", "argument_type")),
        ({"arguments": {"seconds": 10**400}}, ("steps[0].arguments.seconds", "argument_type")),
        ({"arguments": {"until": "2030-01-01T00:00:00"}}, ("steps[0].arguments.until", "argument_type")),
        ({"arguments": {"until": "tomorrow"}}, ("steps[0].arguments.until", "argument_type")),
        ({"arguments": {"until": 5}}, ("steps[0].arguments.until", "argument_type")),
        ({"arguments": {"seconds": 1, "x": 1}}, ("steps[0].arguments.x", "argument_unknown")),
        ({"arguments": {"seconds": 1}, "timeout_s": 0}, ("steps[0].timeout_s", "bad_value")),
        ({"arguments": {"seconds": 1}, "max_attempts": 0}, ("steps[0].max_attempts", "bad_value")),
    ],
)
def test_a_wait_is_checked_too(fields, fault):
    assert refused({"steps": [{"key": "w", "tool": "wait", **fields}]}) == [fault]


def test_all_faults_are_reported_at_once():
    data = {
        "steps": [
            {"key": "a", "tool": "time.nov", "depends_on": ["c"]},
            {"key": "a", "tool": "math.evaluate", "arguments": {"expresion": "1"}},
            {"key": "c", "tool": "time.now", "depends_on": ["a"], "colour": "red"},
            {"key": "9", "kind": "act"},
            "step",
        ],
        "answer": "${d} ${",
        "extra": 1,
    }

    assert sorted(refused(data)) == sorted(
        [
            ("extra", "unknown_field"),
            ("steps[0].tool", "unknown_tool"),
            ("steps[0].depends_on", "cycle"),
            ("steps[1].key", "duplicate_key"),
            ("steps[1].arguments.expression", "argument_missing"),
            ("steps[1].arguments.expresion", "argument_unknown"),
            ("steps[2].colour", "unknown_field"),
            ("steps[3].key", "bad_key"),
            ("steps[3].objective", "missing"),
            ("steps[4]", "type"),
            ("answer", "reference_syntax"),
            ("answer", "unknown_reference"),
        ]
    )


def test_a_message_says_what_was_probably_meant():
    data = {
        "steps": [
            {"key": "fetch_page", "tool": "time.nov"},
            {"key": "b", "tool": "math.evaluate", "arguments": {"expresion": "1"}, "dependson": []},
            step("c", arguments={"zone": "${fetchpage.x}"}),
        ]
    }

    found = " ".join(messages(data))

    for meant in ("time.now?", "expression?", "depends_on?", "fetch_page?"):
        assert f"Did you mean {meant}" in found
    assert "math.evaluate needs the argument expression." in found


def test_a_cycle_is_named_in_the_direction_of_its_dependencies():
    steps = [step("x", depends_on=["b"]), step("a", depends_on=["b"]), step("b", arguments={"zone": "${c.zone}"})]
    steps += [step("c", depends_on=["a"]), step("after", depends_on=["c"])]

    (message,) = messages({"steps": steps})

    assert "a → b → c → a." in message
    assert refused({"steps": steps}) == [("steps[1].depends_on", "cycle")]


def test_separate_cycles_are_each_reported():
    steps = [
        step("a", depends_on=["b"]),
        step("b", depends_on=["a"]),
        step("c", depends_on=["d"]),
        step("d", depends_on=["c"]),
    ]

    assert refused({"steps": steps}) == [("steps[0].depends_on", "cycle"), ("steps[2].depends_on", "cycle")]


def test_the_limit_of_steps_is_exact():
    assert len(parse_plan({"steps": [step("a"), step("b")]}, tools=TOOLS, max_steps=2).steps) == 2
    assert refused({"steps": [step("a"), step("b"), step("c")]}, max_steps=2) == [("steps", "too_many_steps")]


def test_a_tool_that_the_agent_may_not_use_is_unknown():
    with pytest.raises(PlanInvalid) as caught:
        parse_plan({"steps": [step()]}, tools={"math.evaluate": TOOLS["math.evaluate"]})

    assert caught.value.data["errors"][0]["code"] == "unknown_tool"


def test_the_error_itself_tells_the_first_fault():
    with pytest.raises(PlanInvalid, match=r"steps\[0\].tool: There is no tool 'x'.*1 more") as caught:
        parse([{"key": "a", "tool": "x", "depends_on": ["b"]}])

    assert (caught.value.code, caught.value.http_status) == ("plan_invalid", 422)
