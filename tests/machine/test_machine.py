"""Hypothesis plays people, workers and time against a model of the engine; REST shows what came of it.

``make machine MACHINE_EXAMPLES=1000 MACHINE_SEED=5`` plays more and others, ``MACHINE_STEPS`` longer ones.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import seed as seeded
from hypothesis import settings as Settings
from hypothesis.stateful import get_state_machine_test
from rest_framework.test import APIClient

from agentsys.accounts.models import Membership, Role, User, Workspace
from agentsys.agents import services as agents
from agentsys.api import tokens
from agentsys.runs import verify
from agentsys.runs.states import Lane, RunStatus
from tests.machine.deciders import Deciders
from tests.machine.people import People
from tests.machine.submitters import Submitters
from tests.machine.workers import Workers
from tests.support import emptying

EXAMPLES, STEPS = int(os.environ.get("MACHINE_EXAMPLES", "30")), int(os.environ.get("MACHINE_STEPS", "50"))
SEED = int(os.environ.get("MACHINE_SEED", "0"))
#: What must have happened in the histories together, or they prove little.
SOMETIMES = (
    "late result", "reaped", "dead", "released", "woken", "deadline", "expired", "late decision", "derived", "replayed",
    "approve", "edit", "deny", "answer", "resolved done", "resolved not_done", "resolved failed", "child",
    "approval_changed", "approval_expired", "approval_decided", "idempotency_key_reused", "invalid_transition",
    "forbidden", "not_found", *(f"run {status}" for status in RunStatus),
)  # fmt: skip
#: To look for a shorter history takes minutes: ``MACHINE_SHRINK=1`` asks for it.
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("MACHINE_SHRINK") else (Phase.generate,)
ROUNDS = 40


class Machine(Submitters, People, Deciders, Workers):
    def teardown(self) -> None:
        """Everybody cooperates, and every run ends as the model says."""
        if sys.exc_info()[0] is not None:  # it has failed already
            return
        check()
        for _ in range(ROUNDS):
            if not self.live():
                break
            self.cooperate()
            self.as_the_model_says()
        assert not self.live(), "a run does not end"
        check()

    def cooperate(self) -> None:
        for n, run in enumerate(self.runs):
            if run.paused and run.paused != "parent":
                self.steer(which=n, verb="resume", step=0, flag=False)
        while self.held:
            self.lose(which=0, how="released")
        self.sweep()
        self.time_passes()
        self.questions_expire()
        while asked := self.asked():
            self.decide(which=0, verb="answer" if asked[0][1].reason == "input" else "approve")
        while self.in_the_dark():
            self.resolve(which=0, outcome="done")
        for lane in Lane:
            self.turn(lane=lane)


def check() -> None:
    assert [finding for finding in verify.check() if finding.violations] == []


def people() -> dict[str, Any]:
    """An empty database, and a client of each kind of person."""
    emptying.empty(None)
    home, theirs = (Workspace.objects.create(slug=slug, name=slug) for slug in ("home", "theirs"))
    clients = {"nobody": APIClient()}
    for name, role, workspace in (
        ("operator", Role.OPERATOR, home),
        ("viewer", Role.VIEWER, home),
        ("stranger", Role.ADMIN, theirs),
    ):
        agents.ensure_default(workspace_id=workspace.pk)
        user = User.objects.create_user(name)
        Membership.objects.create(workspace=workspace, user=user, role=role)
        clients[name] = APIClient()
        clients[name].credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.issue(user, workspace.pk).access}")
    return clients


@pytest.mark.timeout(3600)
@pytest.mark.django_db(transaction=True)
def test_whatever_people_and_workers_do_rest_shows_what_the_model_says(settings: Any, no_bell: None) -> None:
    settings.RETRY_BASE_S = settings.RETRY_CAP_S = 3600  # time passes when the machine says so
    counts: Counter[str] = Counter()

    @contextmanager
    def short_leases() -> Iterator[None]:
        """PostgreSQL has been up for longer than one of them, so that none is spared."""
        settings.LEASE_S, usual = 1.0, settings.LEASE_S
        yield
        settings.LEASE_S = usual

    rules = Settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), print_blob=False, phases=PHASES,
    )  # fmt: skip

    def machine() -> Machine:
        return Machine(people(), counts, short_leases)

    seeded(SEED)(get_state_machine_test(machine, settings=rules))()
    if EXAMPLES >= 200:
        missed = [name for name in SOMETIMES if not counts[name]]
        assert not missed, (missed, counts)
