"""Two workers of a lane whose steps wait share the work; ``make bench`` has it for 1, 2, 4 and 8 of them."""

from collections import Counter

from agentsys.infrastructure.processes import wait_until
from agentsys.runs import batch
from agentsys.runs.models import Attempt, Run
from agentsys.runs.submission import Submission

SLOTS, ROUNDS = 8, 12
#: The most that one does of the least.
SPREAD = 1.5


def test_two_workers_that_wait_share_the_work(start, ring, agent):
    for name in ("network", "network-2"):
        start("network", name=name, slots=SLOTS)
    request = Submission(agent=agent.slug, plan={"steps": [{"key": "a", "tool": "probe.rest"}]})

    runs, _ = batch.submit_all(
        workspace_id=agent.workspace_id, user=None, requests=[request] * (2 * SLOTS * ROUNDS), idempotency_key="once"
    )

    assert wait_until(lambda: not Run.objects.filter(finished_at=None).exists(), timeout_s=30, every_s=0.05)
    assert Run.objects.filter(status="succeeded").count() == len(runs)
    shares = Counter(Attempt.objects.filter(outcome="succeeded").values_list("worker", flat=True))
    assert len(shares) == 2
    assert sum(shares.values()) == len(runs)
    assert max(shares.values()) <= SPREAD * min(shares.values())
