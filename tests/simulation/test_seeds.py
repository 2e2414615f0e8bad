"""Histories drawn from seeds: whatever happens in one, every run ends and every invariant holds.

``make sim SEEDS=2000 FIRST=0`` plays others, in two processes.  A failure names its seed and the least of its actions
with which it still fails.
"""

import os
from collections import Counter
from collections.abc import Sequence

import pytest
from django.conf import settings

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs import verify
from agentsys.runs.models import Run, Step
from tests.simulation import shrinking
from tests.simulation.world import Action, World, drawn
from tests.support import emptying

SEEDS, FIRST = int(os.environ.get("SEEDS", "200")), int(os.environ.get("FIRST", "0"))
ACTIONS = 150
SHRINK_S = 90.0
#: Several processes share many seeds; each of them must see everything.
PARTS = 2 if SEEDS >= 1_000 else 1
#: What must have happened in the histories together, or they prove little.
SOMETIMES = (
    "fenced", "already", "reaped", "crashed", "frozen", "lost bell", "unknown commit", "before a commit",
    "after a statement", "late decision", "resolved", "clock jumped", "clock jumped back", "zombie", "poison",
    "replanned", "superseded", "refused: too_many_plans", "parked", "raised", "held", "kept", "admitted",
    "admitted by the sweeper", "capped", "cap changed", "placed by the sweeper", "limit changed",
)  # fmt: skip

pytestmark = [pytest.mark.timeout(1800), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def _quick_leases(settings, no_bell):
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that


def history(seed: int, actions: Sequence[Action], seen: Counter[str], trace: list[str]) -> World:
    """Play one from an empty database, and write down what was done."""
    emptying.empty(None)
    workspace = Workspace.objects.create(slug="home", name="Home")
    agent = Agent.objects.create(workspace=workspace, slug="assistant", name="Assistant")
    anew = {"replan_on_failure": 2, "max_plans": 3}
    agent.current_version = AgentVersion.objects.create(workspace=workspace, agent=agent, number=1, planning=anew)
    agent.save()
    world = World(seed, workspace, agent.slug, seen)
    world.trace = trace
    with pytest.MonkeyPatch.context() as patch:
        world.faults.install(patch)
        patch.setattr(settings, "LANE_SLOTS", world.rng.choice((1, 2, 3, 2000)))
        world.watch_admissions(patch)
        world.watch_places(patch)
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


def failure(seed: int, actions: Sequence[Action]) -> list[str]:
    """What was done before it failed, and how it did; nothing if it did not."""
    trace: list[str] = []
    try:
        history(seed, actions, Counter(), trace)
    except Exception as error:
        return [*trace, f"{type(error).__name__}: {error}"]
    return []


def told(seed: int) -> str:
    """The least of a failing seed's history, or all of it where it does not fail again."""
    actions = shrinking.least(drawn(seed, ACTIONS), lambda some: bool(failure(seed, some)), within_s=SHRINK_S)
    numbers = ",".join(str(n) for n, _ in actions)
    return "\n".join([f"seed {seed} fails with {len(actions)} of its actions ({numbers}):", *failure(seed, actions)])


@pytest.mark.promise("P10")
@pytest.mark.usefixtures("_quick_leases")
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_every_run_ends_and_every_invariant_holds(part):
    seen: Counter[str] = Counter()
    for seed in range(FIRST + part, FIRST + SEEDS, PARTS):
        try:
            history(seed, drawn(seed, ACTIONS), seen, [])
        except Exception as error:
            raise AssertionError(told(seed)) from error
    if SEEDS >= 200:
        assert [name for name in SOMETIMES if not seen[name]] == []
