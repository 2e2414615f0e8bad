"""Any plan at all: large, deep, tangled, nonsense."""

import contextlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentsys.agents.plans import layers, parse_plan, terminal_keys, to_json
from agentsys.core.errors import PlanInvalid
from tests.support.plans import TOOLS, parse, refused, step


def cpu_s(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def test_a_hundred_thousand_steps_are_refused_without_a_look_at_them():
    assert refused({"steps": [step()] * 100_000}) == [("steps", "too_many_steps")]


def test_a_large_or_deep_plan_is_refused():
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    endless: dict = {}
    endless["again"] = endless

    assert refused({"steps": [step()], "answer": deep}) == [("answer" + "[0]" * 64, "too_deep")]
    assert refused({"steps": [step()], "answer": endless})[0][1] in ("too_deep", "too_large")
    assert refused({"steps": [step()], "answer": "x" * 3_000_000}) == [("", "too_large")]
    assert refused({"steps": [step()], "answer": "${a.x}" * 30_000}) == [("answer", "too_many_references")]
    assert refused({"steps": [step(depends_on=["b"] * 60_000)]}) == [("steps", "too_many_dependencies")]


def test_faults_without_end_are_cut():
    found = refused({"steps": [{"tool": "x" * 99}] * 1_000})

    assert len(found) == 101
    assert found[-1] == ("", "too_many_faults")


def chain(length):
    return [step(f"s{i}", depends_on=[f"s{i - 1}"] if i else []) for i in range(length)]


def circle(length):
    return [step(f"s{i}", depends_on=[f"s{(i + 1) % length}"]) for i in range(length)]


@pytest.mark.parametrize(("make", "read"), [(chain, parse), (circle, lambda steps: refused({"steps": steps}))])
def test_the_cost_is_in_proportion_to_the_steps(make, read):
    ten_short, long = [make(100) for _ in range(10)], make(1_000)

    short_s = min(cpu_s(lambda: [read(steps) for steps in ten_short]) for _ in range(3))
    long_s = min(cpu_s(lambda: read(long)) for _ in range(3))

    assert long_s < 4 * short_s  # measured 1.0; a search for circles from each step is 10


def test_a_dense_graph_of_a_thousand_steps_is_sorted():
    steps = [step(f"s{i}", depends_on=[f"s{j}" for j in range(max(0, i - 40), i)]) for i in range(1_000)]

    plan = parse(steps)

    assert len(layers(plan)) == 1_000
    assert terminal_keys(plan) == ("s999",)


@st.composite
def dags(draw):
    count = draw(st.integers(1, 12))
    steps = []
    for number in range(count):
        earlier = st.lists(st.integers(0, max(0, number - 1)), max_size=3) if number else st.just([])
        explicit, referred = draw(earlier), draw(earlier)
        arguments = {"code": "x", "inputs": {f"v{k}": f"${{s{k}.a}}" for k in referred}}
        steps.append(
            {
                "key": f"s{number}",
                "tool": "python.run",
                "arguments": arguments,
                "depends_on": [f"s{k}" for k in explicit],
            }
        )
    random.Random(draw(st.integers())).shuffle(steps)
    return {"steps": steps, "answer": draw(st.none() | st.just({"all": "${s0}"}))}


@settings(deadline=None)
@given(dags())
def test_every_graph_without_circles_is_a_plan(data):
    plan = parse_plan(data, tools=TOOLS)

    order = {key: depth for depth, layer in enumerate(layers(plan)) for key in layer}
    assert len(order) == len(plan.steps)
    assert all(order[need] < order[s.key] for s in plan.steps for need in s.depends_on)
    assert parse_plan(to_json(plan), tools=TOOLS) == plan


def check(data):
    """A plan that comes back from its JSON, or a refusal that can be sent."""
    with contextlib.suppress(PlanInvalid):
        plan = parse_plan(data, tools=TOOLS)
        assert parse_plan(to_json(plan), tools=TOOLS) == plan
        return
    assert refused(data)


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a", "b", "tool", "wait", "act", "time.now", "${a}", "${b.x}", "${", "\0", "\ud800", "null"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["seconds", "zone", "x"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ["key", "kind", "tool", "arguments", "objective", "depends_on", "title", "timeout_s", "max_attempts"]
STEPS = st.dictionaries(st.sampled_from([*FIELDS, "approval", "on_error", "if_failed", "?"]), ANY, max_size=8)


@settings(deadline=None, max_examples=300)
@given(ANY | st.fixed_dictionaries({"steps": st.lists(STEPS | ANY, max_size=4)}, optional={"answer": ANY, "x": ANY}))
def test_nothing_but_plan_invalid_is_ever_raised(data):
    check(data)


@settings(deadline=None, max_examples=200)
@given(dags(), st.data())
def test_a_good_plan_with_one_part_replaced_is_a_plan_or_refused(good, data):
    number = data.draw(st.integers(0, len(good["steps"]) - 1))
    good["steps"][number][data.draw(st.sampled_from(FIELDS))] = data.draw(ANY)

    check(good)
