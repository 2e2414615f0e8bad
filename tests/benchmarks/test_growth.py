"""W6: what a step costs with many runs at once, and with a long past in the database."""

import pytest

from agentsys.infrastructure.processes import free_port
from tests.benchmarks import history, workloads
from tests.benchmarks.stack import stack

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
RUNS, MANY, ROUNDS = 200, 2_000, 3
PAST, PAST_STEPS = 200_000, 3
AIM = 0.9


@pytest.fixture(scope="module")
def measured():
    """The best of some rounds each, so that what else this machine does counts less."""
    with stack() as servers:
        ours = workloads.Agentsys(servers, free_port())
        ours.w1(50)  # warm
        ours.db.execute("VACUUM ANALYZE")
        found = {"W1": _best(ours, RUNS), "2,000 runs": _best(ours, MANY, rounds=1)}
        history.copy(ours.db, ours.one(PAST_STEPS), PAST)
        found["200,000 in the past"] = _best(ours, RUNS)
        ours.close()
        yield found


def _best(ours, runs, rounds=ROUNDS):
    costs = []
    for _ in range(rounds):
        ours.forget()
        costs.append(ours.w1(runs))
    return max(costs, key=lambda cost: cost.steps_per_s)


@pytest.mark.parametrize("name", ["2,000 runs", "200,000 in the past"])
def test_a_step_costs_no_more_with_many_runs_or_a_long_past(measured, name):
    plain, grown = measured["W1"], measured[name]
    speed, cost = grown.steps_per_s / plain.steps_per_s, grown.cpu_ms / plain.cpu_ms
    print(f"\nW6 {name}: {grown.steps_per_s:.0f} of {plain.steps_per_s:.0f} steps/s ({speed:.2f}, aim {AIM}), ", end="")
    print(f"{grown.cpu_ms:.2f} of {plain.cpu_ms:.2f} ms CPU a step ({cost:.2f})", end="")
    assert speed >= AIM
