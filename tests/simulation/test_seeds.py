"""Histories drawn from seeds: whatever happens in one, every run ends and every invariant holds.

``make sim SEEDS=2000 FIRST=0`` plays others.  A failure names its seed and the shortest beginning that still fails.
"""

import os
from collections import Counter

import pytest

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs import verify
from agentsys.runs.models import Run, Step
from tests.simulation.world import World
from tests.support import emptying

SEEDS, FIRST = int(os.environ.get("SEEDS", "200")), int(os.environ.get("FIRST", "0"))
ACTIONS, AT_ONCE = 150, 20
#: What must have happened in the histories together, or they prove little.
SOMETIMES = (
    "fenced", "already", "reaped", "crashed", "frozen", "lost bell", "unknown commit", "before a commit",
    "after a statement", "late decision", "resolved", "clock jumped", "poison", "replanned",
    "superseded", "parked", "raised", "held", "kept",
)  # fmt: skip

TRACE: list[str] = []

pytestmark = [pytest.mark.timeout(1800), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def _quick_leases(settings, no_bell):
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that


def history(seed: int, actions: int, seen: Counter[str]) -> World:
    """Play one from an empty database."""
    emptying.empty(None)
    workspace = Workspace.objects.create(slug="home", name="Home")
    agent = Agent.objects.create(workspace=workspace, slug="assistant", name="Assistant")
    anew = {"replan_on_failure": 2, "max_plans": 3}
    agent.current_version = AgentVersion.objects.create(workspace=workspace, agent=agent, number=1, planning=anew)
    agent.save()
    world = World(seed, workspace, agent.slug, seen)
    TRACE[:] = ()
    world.trace = TRACE
    with pytest.MonkeyPatch.context() as patch:
        world.faults.install(patch)
        world.play(actions)
        check(world)
        world.finish()
    check(world)
    seen["poison"] += Run.objects.filter(reason="poison").count()
    seen["superseded"] += Step.objects.filter(reason="superseded").count()
    return world


def check(world: World) -> None:
    assert [finding for finding in verify.check() if finding.violations] == []
    twice = {key: n for key, n in world.calls.items() if n > 1 + world.again[key]}
    assert not twice, "unsafe calls were repeated by us"


def shortest(seed: int) -> tuple[int, list[str]]:
    """The fewest actions of a failing seed with which it still fails, and these."""
    least, most, trace = 0, ACTIONS, list(TRACE)
    while least < most:
        half = (least + most) // 2
        failed = trace_of_failure(seed, half)
        if failed is None:
            least = half + 1
        else:
            most, trace = half, failed
    return most, trace


def trace_of_failure(seed: int, actions: int) -> list[str] | None:
    try:
        history(seed, actions, Counter())
    except Exception as error:
        return [*TRACE, repr(error)]
    return None


@pytest.mark.promise("P10")
@pytest.mark.usefixtures("_quick_leases")
def test_whatever_happens_every_run_ends_and_every_invariant_holds():
    seen: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            history(seed, ACTIONS, seen)
        except Exception as error:
            most, trace = shortest(seed)
            told = "\n".join(trace)
            raise AssertionError(f"seed {seed} fails, with its first {most} actions alone:\n{told}") from error
    if SEEDS >= 200:
        assert [name for name in SOMETIMES if not seen[name]] == []
