"""Whatever is submitted is refused with an error of ours and nothing stored, or is safe in the database."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsys.core.errors import AgentSysError, InvalidInput
from agentsys.runs import services
from agentsys.runs.models import Run
from agentsys.runs.submission import Submission
from tests.support.rows import photograph, value

NUL, LONE = "a\0b", "\ud800"
DEEP = json.loads("[" * 300 + "]" * 300)
ECHO = {"key": "a", "tool": "test.echo"}
PLAN = {"steps": [ECHO]}


def send(house, key="", **fields):
    request = Submission(**{"agent": house.slug, "plan": PLAN, **fields})
    return services.submit(workspace_id=house.workspace_id, user=None, request=request, idempotency_key=key)[0]


def taken(house, **fields):
    """(the run, None) or (None, the refusal)."""
    try:
        return send(house, **fields), None
    except AgentSysError as error:
        return None, error


@pytest.fixture(autouse=True)
def _nobody_hears(no_bell):
    """Bells reach nobody."""


REFUSED = [
    *({"goal": goal, "plan": None} for goal in ("", " \n", NUL, "x" * 20_001)),
    {"goal": NUL},
    {"goal": LONE},
    *({"agent": slug} for slug in ("", NUL, LONE, "x" * 10_000, "no-such")),
    *({"plan": plan} for plan in ([], {}, "x", 5, {"steps": []}, {"steps": [1]}, {"steps": [ECHO, ECHO]}, DEEP)),
    {"plan": {"steps": [ECHO | {"arguments": {"value": DEEP}}]}},
    {"plan": {"steps": [ECHO | {"arguments": {"value": "x" * 3_000_000}}]}},
    {"plan": {"steps": [ECHO | {"key": NUL}]}},
    {"plan": {"steps": [ECHO | {"tool": LONE}]}},
    {"plan": {"steps": [ECHO | {"key": f"k{n}"} for n in range(1_001)]}},
    {"input": DEEP},
    {"input": "x" * 1_000_001},
    *({"priority": priority} for priority in (11, -11, math.nan, math.inf, 2.5, True, "1", None)),
    *({"deadline_s": seconds} for seconds in (0, -1, math.nan, math.inf, 1e12, 10**400, "60", True)),
    *({"limits": limits} for limits in ({"steps": 0}, {"steps": math.nan}, {"steps": True}, {"steps": "1"}, {"x": 1})),
    *({"limits": limits} for limits in ({"time_s": math.inf}, {"time_s": -1}, {NUL: 1})),
    *({"limits": limits} for limits in ({"tokens": 5.5}, {"tokens": -1}, {"cost_usd": math.nan}, {"cost_usd": "1"})),
    *({"labels": labels} for labels in ({NUL: ""}, {"a": NUL}, {"a": 1}, {1: "a"}, {"a": "x" * 201}, {LONE: ""})),
    {"labels": {"a": LONE}},
    {"labels": {str(n): "" for n in range(51)}},
    *({"model": model} for model in (NUL, LONE, "x" * 201, "no-such-provider:x", "offline:" + NUL)),
    *({"output_schema": schema} for schema in ([], "x", {"type": "no"}, {"pattern": "("}, {"$ref": "http://x/"})),
    {"output_schema": {"const": NUL}},
    {"output_schema": {"const": LONE}},
    {"output_schema": DEEP},
    {"output_schema": {"const": math.nan}},
    {"output_schema": {"description": "x" * 1_000_001}},
    {"effects": "dry"},
    *({"files": {name: b""}} for name in ("", ".", "..", "a/b", "a\\b", NUL, LONE, "x" * 256, "a\nb", "\u202e")),
    {"files": {"big": b"x" * 10_000_001}},
    {"files": {f"f{n}": b"" for n in range(1_001)}},
    {"files": {f"f{n}": bytes(9_000_000) for n in range(3)}},
    *({"start_at": moment} for moment in (datetime(2100, 1, 1), datetime.max, datetime.min)),
    {"start_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))},
    {"start_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))},
    {"start_at": datetime(2150, 1, 1, tzinfo=UTC)},
    *({"key": key} for key in (NUL, LONE, "x" * 201, "a\nb", "\x7f")),
]  # fmt: skip


@pytest.mark.parametrize("fields", REFUSED, ids=lambda fields: ", ".join(fields) if isinstance(fields, dict) else None)
def test_it_is_refused_and_nothing_is_stored(agent, fields):
    before = photograph()

    with pytest.raises(AgentSysError) as caught:
        send(agent, **fields)

    assert caught.value.http_status < 500, caught.value.code
    assert photograph() == before
    assert value("SELECT count(*) FROM runs_payload") == 0


TAMED = [
    {"goal": "\U0001f600 \u202e"},
    {"goal": "x" * 20_000},
    {"input": NUL},
    {"input": {LONE: [math.nan, -math.inf, 10**2_000, b"\xff", {1, 2}, datetime(2000, 1, 1, tzinfo=UTC)]}},
    {"input": json.loads("[" * 60 + "]" * 60)},
    {"input": "x" * 999_990},
    {"labels": {"": "\u202e", "\U0001f600": ""}},
    {"labels": {str(n): "x" * 200 for n in range(50)}},
    {"files": {"a b.txt": b"", "\xe4\u4e2d": bytes(range(256)), "-rf": b"x", "~": b"y"}},
    {"priority": -10},
    {"deadline_s": 0.001},
    {"deadline_s": 366 * 86_400},
    {"limits": {"time_s": 0.5, "steps": 1}},
    {"start_at": datetime(1970, 1, 1, tzinfo=UTC)},
    {"start_at": datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
    {"output_schema": {}},
    {"key": "x" * 200},
    {"key": "\xe4\u4e2d \U0001f600"},
    {"plan": {"steps": [ECHO | {"arguments": {"value": {"a": [1.5, None, True, 10**30]}}, "title": "\U0001f600"}]}},
]


@pytest.mark.parametrize("fields", TAMED, ids=lambda fields: ", ".join(fields) if isinstance(fields, dict) else None)
def test_it_is_taken_and_runs(agent, worker, fields):
    run = worker.finish(send(agent, **fields))

    assert run.status == "succeeded"
    assert "\0" not in json.dumps([run.input, run.result, run.goal, run.labels])


HOSTILE_PLANS = [
    {"steps": [ECHO | {"arguments": {"value": text}}]} for text in (NUL, LONE, math.nan, {NUL: 1}, {LONE: 1}, 10**5_000)
] + [
    {"steps": [ECHO | {"title": NUL}]},
    {"steps": [ECHO | {"title": LONE}]},
    {"steps": [ECHO], "answer": NUL},
    {"steps": [ECHO], "answer": [LONE, math.inf]},
    {"steps": [ECHO], "answer": {"a": 10**5_000}},
    {"steps": [{"key": "a", "kind": "wait", "arguments": {"seconds": 10**400}}]},
    {"steps": [{"key": "a", "kind": "wait", "arguments": {"until": NUL}}]},
    {"steps": [ECHO | {"timeout_s": math.nan}]},
    {"steps": [ECHO | {"timeout_s": 1e300}]},
    {"steps": [ECHO | {"max_attempts": 10**9}]},
    {"steps": [ECHO | {"depends_on": ["a"]}]},
    {"steps": [ECHO | {"arguments": {"value": "${a}"}}]},
    {"steps": [ECHO | {"arguments": {"value": "${input." + "x" * 30_000 + "}"}}]},
]  # fmt: skip


@pytest.mark.parametrize("plan", HOSTILE_PLANS, ids=range(len(HOSTILE_PLANS)))
def test_a_plan_with_what_the_database_cannot_hold_is_refused_or_made_safe(agent, worker, plan):
    before = photograph()
    run, error = taken(agent, plan=plan)
    if run is None:
        assert isinstance(error, InvalidInput)
        assert error.message
        assert photograph() == before
    else:
        worker.finish(run)
        assert "\0" not in json.dumps([run.plan, run.result])


_text = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    [NUL, LONE, "${a}", "${", "$${", "${input.x}"]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _text,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(_text, parts, max_size=4),
    max_leaves=8,
)
_step = st.fixed_dictionaries(
    {"key": st.sampled_from(["a", "b", NUL]), "tool": st.sampled_from(["test.echo", "time.now", NUL])},
    optional={
        "arguments": st.dictionaries(st.sampled_from(["value", NUL]), _json, max_size=2),
        "depends_on": st.lists(st.sampled_from(["a", "b", "c"]), max_size=2) | _json,
        "on_error": st.sampled_from(["fail", "continue"]) | _json,
        "title": _text,
        "timeout_s": st.integers(1, 9) | _json,
    },
)
_plan = st.fixed_dictionaries({"steps": st.lists(_step, max_size=3) | _json}, optional={"answer": _json}) | _json


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.fixed_dictionaries(
        {"plan": _plan},
        optional={
            "goal": _text,
            "input": _json,
            "labels": st.dictionaries(_text, _text, max_size=3),
            "limits": st.dictionaries(
                st.sampled_from(["steps", "time_s", "x"]), st.integers() | st.floats(), max_size=2
            ),
            "model": _text,
            "output_schema": _json,
            "priority": st.integers(-12, 12) | st.floats(),
            "deadline_s": st.floats() | st.integers(),
            "files": st.dictionaries(_text, st.binary(max_size=9), max_size=2),
            "key": _text,
        },
    )
)
def test_no_submission_at_all_raises_what_is_not_ours_or_stores_what_it_refuses(agent, fields):
    runs = Run.objects.count()
    run, error = taken(agent, **fields)
    if run is None:
        assert error.http_status < 500
        assert Run.objects.count() == runs
