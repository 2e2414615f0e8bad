"""What a durable step costs, beside plain Celery on the same machine in the same minute."""

import statistics
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from agentsys.infrastructure.processes import free_port
from tests.benchmarks import baseline, workloads
from tests.benchmarks.stack import stack

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
RUNS, FANS, ROUNDS, ALONE = 100, 20, 2, 25


@pytest.fixture(scope="module")
def measured():
    """Both peers on one database and one broker, in turn; the worker of the other is idle but alive."""
    with ExitStack() as ending:
        servers = ending.enter_context(stack())
        baseline.app.conf.broker_url = servers.env["REDIS_URL"]
        ours = workloads.Agentsys(servers, free_port())
        ending.callback(ours.close)
        with ours.db.cursor() as cursor:
            cursor.execute(baseline.TABLES)
        plain = workloads.Baseline(servers, lambda n: baseline.step.delay(n, 0), lambda n: baseline.fan.delay(n, 0))
        ending.callback(plain.close)
        ending.callback(baseline.app.close)
        peers = {"agentsys": ours, "baseline": plain}
        for peer in peers.values():
            peer.w1(10), peer.w2(2)  # warm
        turns = list(peers) * ROUNDS
        chains = [(name, peers[name].w1(RUNS)) for name in turns]
        fans = [(name, peers[name].w2(FANS)) for name in turns]
        yield {
            name: Measured(_median(name, chains), _median(name, fans), peer.w3(ALONE)) for name, peer in peers.items()
        }


class Measured(NamedTuple):
    """One peer's W1, W2, and W3's times."""

    w1: workloads.Cost
    w2: workloads.Cost
    w3: list[float]


def _median(name, measured):
    costs = [cost for who, cost in measured if who == name]
    return workloads.Cost(
        statistics.median(cost.steps_per_s for cost in costs),
        statistics.median(cost.cpu_ms for cost in costs),
        statistics.median(cost.web_ms for cost in costs),
    )


#: What is asked for; printed beside what is measured.  The bounds below are what holds today.
AIM_W1, AIM_W2 = 0.25, 0.17


def test_a_durable_step_costs_less_than_a_plain_celery_step(measured):
    for name, peer in measured.items():
        print("\n" + workloads.report(name, peer.w1, peer.w2, peer.w3), end="")
    ours, plain = measured["agentsys"].w1, measured["baseline"].w1
    print(
        f"\nW1: CPU per step, the HTTP submission of its run included: {ours.cpu_ms / plain.cpu_ms:.2f} of the baseline"
    )
    print(f"without the web process: {(ours.cpu_ms - ours.web_ms) / plain.cpu_ms:.2f}; the aim is {AIM_W1}")
    assert ours.cpu_ms < 0.5 * plain.cpu_ms  # measured 0.34 to 0.40; a commit a step was 0.6
    assert ours.cpu_ms - ours.web_ms < 0.4 * plain.cpu_ms  # measured 0.24 to 0.26; a commit a step was 0.46


def test_a_step_beside_others_of_its_run_costs_less_than_one_of_a_chain(measured):
    ours, plain = measured["agentsys"].w2, measured["baseline"].w2
    print(f"\nW2: {ours.cpu_ms / plain.cpu_ms:.2f} of the baseline; the aim is {AIM_W2}")
    assert ours.cpu_ms < 0.45 * plain.cpu_ms  # measured 0.28; one of a run at a time was 0.73


def test_a_run_alone_is_not_much_slower_than_plain_celery(measured):
    """From the HTTP submission to the committed end; a bell and a whole transaction a step are in it."""
    ours, plain = (statistics.median(measured[name].w3) for name in ("agentsys", "baseline"))
    assert ours < 2.5 * plain  # measured 1.0 to 1.6
