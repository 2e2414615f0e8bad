"""What a durable step costs, beside plain Celery on the same machine in the same minute."""

import statistics
from contextlib import ExitStack

import pytest

from agentsys.infrastructure.processes import free_port
from tests.benchmarks import baseline, workloads
from tests.benchmarks.stack import stack

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]
RUNS, ROUNDS, ALONE = 100, 2, 25


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
        plain = workloads.Baseline(servers, lambda run: baseline.step.delay(run, 0), lambda run: baseline.fan.delay(run, 0))
        ending.callback(plain.close)
        ending.callback(baseline.app.close)
        peers = {"agentsys": ours, "baseline": plain}
        costs: dict[str, list[workloads.Cost]] = {name: [] for name in peers}
        for peer in peers.values():
            peer.w1(10)  # warm
        for name in list(peers) * ROUNDS:
            costs[name].append(peers[name].w1(RUNS))
        took = {name: peer.w3(ALONE) for name, peer in peers.items()}
        yield {name: (_median(costs[name]), took[name]) for name in peers}


def _median(costs):
    return workloads.Cost(
        statistics.median(cost.steps_per_s for cost in costs),
        statistics.median(cost.cpu_ms for cost in costs),
        statistics.median(cost.web_ms for cost in costs),
    )


#: What PERFORMANCE asks for; printed beside what is measured.  The bounds below are what holds today.
AIM = 0.35


def test_a_durable_step_costs_less_than_a_plain_celery_step(measured):
    for name, (cost, took) in measured.items():
        print("\n" + workloads.report(name, cost, took), end="")
    ours, plain = measured["agentsys"][0], measured["baseline"][0]
    print(f"\nCPU per step, the HTTP submission of its run included: {ours.cpu_ms / plain.cpu_ms:.2f} of the baseline")
    print(f"without the web process: {(ours.cpu_ms - ours.web_ms) / plain.cpu_ms:.2f}; the aim is {AIM}")
    assert ours.cpu_ms < 0.5 * plain.cpu_ms  # measured 0.34 to 0.37; a commit a step was 0.6
    assert ours.cpu_ms - ours.web_ms < 0.4 * plain.cpu_ms  # measured 0.24 to 0.26; a commit a step was 0.46


def test_a_run_alone_is_not_much_slower_than_plain_celery(measured):
    """From the HTTP submission to the committed end; a bell and a whole transaction a step are in it."""
    ours, plain = (statistics.median(measured[name][1]) for name in ("agentsys", "baseline"))
    assert ours < 2.5 * plain  # measured 1.0 to 1.6
