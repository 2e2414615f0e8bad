"""running -> succeeded: once, with its joins and events, however often it is told and whoever is told with it."""

from decimal import Decimal

import pytest
from django.db import transaction

from agentsys.agents.plan_types import PlanStep
from agentsys.core.errors import LeaseLost
from agentsys.llm.types import Usage
from agentsys.runs.states import Lane, StepKind
from agentsys.runs.store.change import locked
from agentsys.runs.store.claims import Result, claim
from agentsys.runs.store.complete import complete
from agentsys.runs.store.create import NewSteps, _row, add_steps
from tests.support.rows import photograph, sql, value
from tests.support.threads import background, in_parallel, until, waiting_for_locks
from tests.support.worker import events, statuses

ROUNDS = 20


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


def far(key, **fields):
    return {"key": key, "tool": "test.far", **fields}


@pytest.mark.promise("P2")
def test_completing_records_joins_and_claims_the_child_in_one_go(submit, step_of):
    run = submit([echo("a"), echo("b", depends_on=["a"]), far("c", depends_on=["a"]), echo("d", depends_on=["b", "c"])])
    first = claim("compute", owner="w")

    done = complete(first, Result({"n": 1}))

    assert (done.next.key, done.next.attempt, done.next.lease_owner) == ("b", 1, "w")
    assert list(done.lanes) == ["network"]
    assert statuses(run) == {"a": "succeeded", "b": "running", "c": "ready", "d": "blocked"}
    assert step_of(run, "b").claim_token == done.next.claim_token != first.claim_token
    assert step_of(run, "d").deps_left == 2
    assert events(run)[-2:] == ["step.succeeded a", "step.started b"]
    assert run.attempts.get().pk == first.claim_token


def test_who_wants_no_next_step_gets_none_and_the_child_is_ready(submit):
    run = submit([echo("a"), echo("b", depends_on=["a"])])

    done = complete(claim("compute", owner="w"), Result(1), claim_next=False)

    assert (done.next, list(done.lanes)) == (None, ["compute"])
    assert statuses(run)["b"] == "ready"


def test_every_child_made_ready_gets_its_own_ring(submit):
    submit([echo("a"), *(echo(f"b{n}", depends_on=["a"]) for n in range(4)), far("c", depends_on=["a"])])

    done = complete(claim("compute", owner="w"), Result(1))

    assert sorted(done.lanes) == ["compute"] * 3 + ["network"]
    assert done.next.key == "b0"


@pytest.mark.promise("P10")
def test_told_twice_it_changes_nothing_the_second_time(submit):
    submit([echo("a"), echo("b", depends_on=["a"])])
    first = claim("compute", owner="w")
    complete(first, Result(1))
    before = photograph()

    again = complete(first, Result("something else"))

    assert (again.next, list(again.lanes)) == (None, ["compute"])
    assert photograph() == before


@pytest.mark.promise("P10")
def test_told_twice_while_others_are_open_it_changes_nothing_the_second_time(submit):
    submit([echo("a"), echo("b"), echo("c"), echo("d", depends_on=["a", "b"])])
    first = claim("compute", owner="w")
    complete(first, Result(1), claim_next=False)
    before = photograph()

    for _ in range(2):
        assert complete(first, Result("something else"), claim_next=False).next is None

    assert photograph() == before


@pytest.mark.promise("P2")
def test_told_twice_at_the_same_moment_it_happens_once(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b", depends_on=["a"])])
        first = claim("compute", owner="w")

        done = in_parallel(*[lambda one=first: complete(one, Result(1))] * 4)

        nexts = [one.next for one in done if one.next]
        assert [one.key for one in nexts] == ["b"]
        complete(nexts[0], Result(2))
        assert (events(run).count("step.succeeded a"), run.attempts.count()) == (1, 2)


def test_a_result_of_another_steps_token_is_refused(submit):
    submit([echo("a"), echo("b")])
    first, second = claim("compute", owner="w"), claim("compute", owner="w")
    before = photograph()
    crossed = type(first)(**{n: getattr(first, n) for n in first.__slots__} | {"claim_token": second.claim_token})

    with pytest.raises(LeaseLost):
        complete(crossed, Result(1))

    assert photograph() == before


def test_of_two_parents_that_complete_together_one_makes_the_child_ready(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b"), far("c", depends_on=["a", "b"])])
        both = [claim("compute", owner=name) for name in "xy"]

        done = in_parallel(*(lambda one=one: complete(one, Result(1)) for one in both))

        assert sorted(list(one.lanes) for one in done) == [[], ["network"]]
        assert statuses(run)["c"] == "ready"
        complete(claim("network", owner="z"), Result(1))


def test_of_eight_parents_that_complete_together_one_goes_on_with_the_child(submit):
    for _ in range(ROUNDS // 4):
        keys = [f"p{n}" for n in range(8)]
        run = submit([*map(echo, keys), echo("join", depends_on=keys)])
        held = [claim("compute", owner=key) for key in keys]

        done = in_parallel(*(lambda one=one: complete(one, Result(1)) for one in held))

        (join,) = (one.next for one in done if one.next)
        assert (join.key, statuses(run)["join"]) == ("join", "running")
        complete(join, Result(1))


def test_the_last_two_steps_finishing_together_end_the_run_once_with_both_outputs(submit):
    for _ in range(ROUNDS):
        run = submit([echo("a"), echo("b")])
        both = [claim("compute", owner=name) for name in "xy"]

        in_parallel(*(lambda one=one: complete(one, Result(one.key)) for one in both))

        run.refresh_from_db()
        assert (run.status, run.result) == ("succeeded", {"a": "a", "b": "b"})
        assert events(run).count("run.succeeded") == 1


def test_edges_added_between_claim_and_completion_are_honoured(submit):
    run = submit([echo("a"), echo("z")])
    first = claim("compute", owner="w")
    _add_child(run, "late", of="a")

    done = complete(first, Result(1))

    assert done.next.key == "late"
    assert statuses(run) == {"a": "succeeded", "late": "running", "z": "ready"}


@pytest.mark.parametrize("others", [0, 2])
def test_edges_added_while_a_completion_waits_for_the_run_are_honoured(submit, others):
    """The completion's snapshot is older than the lock that it waits for."""
    run = submit([echo("a"), *(echo(f"z{n}") for n in range(others))])
    first = claim("compute", owner="w")

    with background() as start:
        with transaction.atomic():
            sql("SELECT 1 FROM runs_run WHERE id = %s FOR NO KEY UPDATE", run.pk)
            completed = start(lambda: complete(first, Result(1)))
            until(lambda: waiting_for_locks() == 1)
            _insert_child(run, "late", of="a")
        done = completed.result()

    assert done.next.key == "late"
    assert statuses(run) == {"a": "succeeded", "late": "running"} | {f"z{n}": "ready" for n in range(others)}
    run.refresh_from_db()
    assert (run.status, run.result) == ("running", None)
    complete(done.next, Result(2))
    for _ in range(others):
        complete(claim("compute", owner="w"), Result(3))
    run.refresh_from_db()
    assert run.result == {"late": 2} | {f"z{n}": 3 for n in range(others)}


def _add_child(run, key, *, of):
    with locked(run.pk) as change:
        row = _row(0, PlanStep(key=key, tool="test.echo", depends_on=(of,)), StepKind.TOOL, Lane.COMPUTE, "pure", 5)
        change.run["plan_version"] += 1
        add_steps(change, NewSteps([row]))
        _edge(run, key, of)


def _insert_child(run, key, *, of):
    """What ``_add_child`` does, inside a transaction of the caller."""
    columns = (
        "workspace_id, run_id, kind, tool, title, objective, depends_on, lane, effect, on_error, if_failed, approval"
    )
    columns += ", timeout_s, max_attempts, reason, fair_key, failures, crashes, lease_owner, attempt"
    values = columns.replace(", attempt", ", 0")
    sql(
        f"INSERT INTO runs_step ({columns}, key, status, deps_left, plan_version)"
        f" SELECT {values}, %s, 'blocked', 1, 1 FROM runs_step WHERE run_id = %s AND key = %s",
        key, run.pk, of,
    )  # fmt: skip
    sql("UPDATE runs_step SET lease_owner = '' WHERE run_id = %s AND key = %s", run.pk, key)
    _edge(run, key, of)
    told = "event_seq = event_seq + 1, plan_version = 1, open_steps = open_steps + 1"
    sql(f"UPDATE runs_run SET {told} WHERE id = %s", run.pk)
    sql(
        "INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)"
        " SELECT workspace_id, id, event_seq, 'plan.revised', '', now(), '{}' FROM runs_run WHERE id = %s",
        run.pk,
    )


def _edge(run, key, of):
    sql(
        "INSERT INTO runs_stepedge (workspace_id, run_id, parent_id, child_id)"
        " SELECT p.workspace_id, p.run_id, p.id, c.id FROM runs_step p, runs_step c"
        " WHERE p.run_id = %s AND c.run_id = p.run_id AND p.key = %s AND c.key = %s",
        run.pk, of, key,
    )  # fmt: skip


def test_what_model_calls_cost_adds_up_in_the_run(submit, step_of):
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    usage = Usage(input_tokens=10, output_tokens=5, cost_usd=Decimal("0.000123"), model_calls=2)

    second = complete(claim("compute", owner="w"), Result(1, usage)).next
    complete(second, Result(1, usage))

    run.refresh_from_db()
    assert (run.input_tokens, run.output_tokens, run.model_calls, run.tool_calls) == (20, 10, 4, 2)
    assert run.cost_usd == Decimal("0.000246")
    assert step_of(run, "a").usage["cost_usd"] == 0.000123


def test_a_large_output_and_an_odd_one_are_kept_as_they_are(submit, step_of):
    odd = {"": [None, True, -0.5, 10**300, "\u2028\U0001f600\\u0000"], "a" * 500: {"x": [[]]}}
    run = submit([echo("a"), echo("b")])

    complete(claim("compute", owner="w"), Result("x" * 900_000), claim_next=False)
    complete(claim("compute", owner="w"), Result(odd), claim_next=False)

    assert len(step_of(run, "a").output) == 900_000
    assert step_of(run, "b").output == odd
    assert value("SELECT count(*) FROM runs_event WHERE type = 'run.succeeded'") == 1


@pytest.mark.violates
def test_a_run_whose_counters_are_wrong_does_not_keep_its_worker_for_ever(submit):
    run = submit([echo("a"), echo("b", depends_on=["a"])])
    held = claim("compute", owner="w")
    sql("UPDATE runs_run SET open_steps = 0, active_steps = 0 WHERE id = %s", run.pk)
    before = photograph()

    with pytest.raises(RuntimeError, match="does not fit its run's counters"):
        complete(held, Result(1))

    assert photograph() == before
