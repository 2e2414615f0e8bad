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
        turns = [(_once(ours, RUNS), _once(ours, MANY)) for _ in range(2)]
        found = {"W1": _best([one for one, _ in turns]), "2,000 runs": _best([many for _, many in turns])}
        history.copy(ours.db, ours.one(PAST_STEPS), PAST)
        found["200,000 in the past"] = _best([_once(ours, RUNS) for _ in range(ROUNDS)])
        ours.close()
        yield found


def _once(ours, runs):
    ours.forget()
    return ours.w1(runs)


def _best(costs):
    return max(costs, key=lambda cost: cost.steps_per_s)


@pytest.mark.parametrize("name", ["2,000 runs", "200,000 in the past"])
def test_a_step_costs_no_more_with_many_runs_or_a_long_past(measured, name):
    plain, grown = measured["W1"], measured[name]
    speed, cost = grown.steps_per_s / plain.steps_per_s, grown.cpu_ms / plain.cpu_ms
    print(f"\nW6 {name}: {grown.steps_per_s:.0f} of {plain.steps_per_s:.0f} steps/s ({speed:.2f}, aim {AIM}), ", end="")
    print(f"{grown.cpu_ms:.2f} of {plain.cpu_ms:.2f} ms CPU a step ({cost:.2f})", end="")
    assert speed >= AIM
