"""Plans that are accepted, and what becomes of them."""

import json

import pytest

from agentsys.agents.plans import NO_ANSWER, PlanStep, layers, parse_plan, terminal_keys, to_json
from tests.support.plans import TOOLS, parse, step


def test_a_step_has_the_defaults_of_the_contract():
    plan = parse([step()])

    assert plan.answer is NO_ANSWER
    assert plan.steps == (PlanStep(key="a", kind="tool", tool="time.now"),)
    assert (plan.steps[0].on_error, plan.steps[0].if_failed) == ("fail", "skip")
    assert (plan.steps[0].timeout_s, plan.steps[0].max_attempts, plan.steps[0].approval) == (None, None, False)


def test_every_field_is_kept():
    full = step(
        "b",
        kind="tool",
        arguments={"zone": "Europe/Berlin"},
        depends_on=["a"],
        title="The time",
        timeout_s=2.5,
        max_attempts=3,
        approval=False,
        on_error="continue",
        if_failed="null",
    )

    assert parse([step("a"), full]).steps[1] == PlanStep(
        key="b",
        tool="time.now",
        arguments={"zone": "Europe/Berlin"},
        depends_on=("a",),
        title="The time",
        timeout_s=2.5,
        max_attempts=3,
        on_error="continue",
        if_failed="null",
    )


def test_a_reference_makes_a_dependency_after_the_explicit_ones():
    plan = parse(
        [
            step("a"),
            step("b"),
            step("c"),
            {
                "key": "d",
                "tool": "python.run",
                "arguments": {"code": "${c.code} $${a}", "inputs": {"x": ["${a.x} ${c}"], "y": "${input.y} ${goal}"}},
                "depends_on": ["b", "a", "b"],
            },
        ]
    )

    assert plan.steps[3].depends_on == ("b", "a", "c")


def test_a_step_may_refer_to_a_later_one():
    assert parse([step("a", arguments={"zone": "${b.zone}"}), step("b")]).steps[0].depends_on == ("b",)


def test_an_objective_may_refer_to_steps():
    plan = parse(
        [step("a"), {"key": "b", "kind": "answer", "objective": "Look at ${a.iso}"}, {"key": "c", "kind": "answer"}]
    )

    assert [s.kind for s in plan.steps] == ["tool", "answer", "answer"]
    assert plan.steps[1].depends_on == ("a",)


def test_the_answer_is_any_json_and_null_is_an_answer():
    assert parse([step()], answer={"at": ["${a.iso}", "${files}", 1]}).answer == {"at": ["${a.iso}", "${files}", 1]}
    assert parse([step()], answer=None).answer is None


@pytest.mark.parametrize(
    "how", [{"tool": "wait"}, {"kind": "wait"}, {"kind": "wait", "tool": "wait"}, {"kind": "tool", "tool": "wait"}]
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"seconds": 0},
        {"seconds": 1.5},
        {"seconds": "${a.unix}"},
        {"seconds": 5, "until": None},
        {"until": "2030-01-01T12:00:00Z"},
        {"until": "2030-01-01T12:00:00+02:00"},
        {"until": "${a.date}T12:00:00Z"},
    ],
)
def test_the_tool_wait_becomes_a_step_of_kind_wait(how, arguments):
    waiting = parse([step(), {"key": "w", "arguments": arguments, **how}]).steps[1]

    assert (waiting.kind, waiting.tool, waiting.arguments) == ("wait", "", arguments)


def test_optional_fields_may_be_null():
    nulls = dict.fromkeys(["kind", "arguments", "objective", "depends_on", "title", "timeout_s", "max_attempts"])

    assert parse([step(**nulls, approval=None, on_error=None)]) == parse([step()])
    assert parse([step("a"), step("b", depends_on=["a"], if_failed=None)]).steps[1].if_failed == "null"


def test_arguments_with_references_are_checked_when_they_are_known():
    arguments = {"text": "${a.iso}", "by": "${input.by}", "separator": "-"}

    assert parse([step(), {"key": "b", "tool": "text.split", "arguments": arguments}]).steps[1].arguments == arguments


def test_a_literal_dollar_brace_is_checked_as_the_tool_will_see_it():
    assert parse([{"key": "b", "tool": "text.split", "arguments": {"text": "x", "separator": "$${" * 50}}])


def test_the_same_plan_comes_back_from_its_json():
    plan = parse(
        [
            step("a", on_error="continue", timeout_s=1),
            {
                "key": "w",
                "tool": "wait",
                "arguments": {"seconds": 1},
                "depends_on": ["a"],
                "timeout_s": 5,
                "max_attempts": 3,
            },
            {"key": "b", "kind": "answer", "objective": "go ${w}", "if_failed": "null", "max_attempts": 2},
        ],
        answer=["${b}"],
    )

    assert parse_plan(json.loads(json.dumps(to_json(plan))), tools=TOOLS) == plan
    assert "answer" not in to_json(parse([step()]))


def test_the_plan_that_was_sent_is_not_changed():
    data = {"steps": [step("a"), step("b", arguments={"zone": "${a.x}"})], "answer": "${b}"}
    before = json.dumps(data)

    parse_plan(data, tools=TOOLS)

    assert json.dumps(data) == before


def test_ends_and_layers_of_a_diamond():
    plan = parse(
        [
            step("d", depends_on=["b", "c"]),
            step("a"),
            step("b", depends_on=["a"]),
            step("c", depends_on=["a"]),
            step("e"),
        ]
    )

    assert terminal_keys(plan) == ("d", "e")
    assert layers(plan) == [["a", "e"], ["b", "c"], ["d"]]
