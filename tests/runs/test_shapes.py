"""Plans of every shape come through whole: wide, long, tangled; by one worker or by several at once."""

import pytest

from tests.support.rows import value
from tests.support.threads import in_parallel
from tests.support.wire import requests
from tests.support.worker import Worker, events, statuses


def echo(key, value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def chain(length):
    return [echo("s0", 0), *(echo(f"s{n}", f"${{s{n - 1}}}") for n in range(1, length))]


def fan(width):
    outs = [echo(f"m{n}", ["${start}", n]) for n in range(width)]
    return [echo("start", "x"), *outs, echo("end", [f"${{m{n}}}" for n in range(width)])]


@pytest.fixture
def crew():
    """Several workers that do all that is due, at once."""

    def work(run, hands=4):
        while not run.finished_at:
            in_parallel(*(lambda name=f"w{n}": Worker(name).work() for n in range(hands)))
            run.refresh_from_db()
        return run

    return work


def test_a_chain_of_300_steps(submit, worker):
    run = worker.finish(submit(chain(300)))

    assert (run.status, run.result, run.steps_done) == ("succeeded", {"s299": 0}, 300)
    assert events(run) == [
        "run.queued",
        "run.running",
        *(f"step.{what} s{n}" for n in range(300) for what in ("started", "succeeded")),
        "run.succeeded",
    ]


def test_a_plan_of_1000_parallel_steps(submit, worker):
    run = worker.finish(submit([echo(f"s{n}", n) for n in range(1000)]))

    assert (run.status, run.steps_done) == ("succeeded", 1000)
    assert run.result == {f"s{n}": n for n in range(1000)}
    assert value("SELECT max(attempt) FROM runs_step") == 1


@pytest.mark.parametrize("hands", [1, 4])
def test_one_to_fifty_to_one(submit, crew, hands):
    run = crew(submit(fan(50)), hands)

    assert (run.status, run.result) == ("succeeded", {"end": [["x", n] for n in range(50)]})
    assert run.attempts.count() == 52


def test_fifty_to_one_where_the_end_waits_for_another_lane(submit, crew):
    steps = [echo(f"m{n}", n) for n in range(50)]
    far = {"key": "end", "tool": "test.far", "arguments": {"value": [f"${{m{n}}}" for n in range(50)]}}

    run = crew(submit([*steps, far]))

    assert run.result == {"end": list(range(50))}


def test_layers_where_each_step_needs_all_of_the_layer_before(submit, crew):
    steps = [echo(f"l0_{n}", 1) for n in range(6)]
    for layer in range(1, 6):
        before = [f"l{layer - 1}_{n}" for n in range(6)]
        steps += [echo(f"l{layer}_{n}", len(before), depends_on=before) for n in range(6)]

    run = crew(submit(steps))

    assert run.result == {f"l5_{n}": 6 for n in range(6)}
    told = events(run)
    for layer in range(5):
        last = max(told.index(f"step.succeeded l{layer}_{n}") for n in range(6))
        first = min(told.index(f"step.started l{layer + 1}_{n}") for n in range(6))
        assert last < first


def test_many_runs_by_many_workers(submit):
    runs = [submit([*chain(6), *[echo(f"p{n}", f"${{s{n}}}") for n in range(6)]]) for _ in range(20)]

    in_parallel(*(lambda name=f"w{n}": Worker(name).work() for n in range(4)))
    Worker("last").work()

    for run in runs:
        run.refresh_from_db()
        assert (run.status, run.result) == ("succeeded", {f"p{n}": 0 for n in range(6)})
        assert run.attempts.count() == 12
        assert set(statuses(run).values()) == {"succeeded"}


def test_a_step_in_the_middle_of_a_chain_costs_one_round_trip(submit, worker):
    submit([echo(f"s{n}", n, **({"depends_on": [f"s{n - 1}"]} if n else {})) for n in range(20)])

    with requests() as sent:
        worker.drain("compute")

    assert len(sent) <= 20 + 6  # the first claim, the end's three, and the claim that finds nothing


def test_a_referring_step_costs_one_more(submit, worker):
    submit(chain(20))

    with requests() as sent:
        worker.drain("compute")

    assert len(sent) <= 40 + 6
