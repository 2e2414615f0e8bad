"""History leaves by policy: what is due and nothing else, in batches that wait for nobody."""

import time
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils.timezone import now

from agentsys.accounts.models import RequestKey, Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.core import ids
from agentsys.core.errors import InvalidInput, NotFound
from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs import budgets, control, forks, retention, services, verify
from agentsys.runs.models import Attempt, Budget, Event, ModelCall, Payload, Pruned, Retention, Run, RunFile, Step
from agentsys.runs.store import prune
from agentsys.runs.store.prune import Terms
from agentsys.runs.submission import Submission
from tests.support.priced import MODEL
from tests.support.rows import photograph, sql, unguarded
from tests.support.threads import background, until, waiting_for_locks

pytestmark = pytest.mark.django_db(transaction=True)
ECHO = [{"key": "a", "tool": "test.echo", "arguments": {"value": "${input}"}}]
LARGE = "x" * 9_000


@pytest.fixture
def past(monkeypatch):
    """Within, ids are made as they were so many days ago."""

    @contextmanager
    def then(days):
        with monkeypatch.context() as patch:
            patch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: time.time_ns() - int(days * 86_400e9)))
            yield

    return then


def age(run, *, days):
    """The run ended so many days ago."""
    with unguarded():
        sql(f"UPDATE runs_run SET finished_at = finished_at - interval '{days} days' WHERE id = %s", run.pk)
    run.refresh_from_db()
    return run


def command(name, *words):
    out = StringIO()
    call_command(name, *words, stdout=out)
    return out.getvalue()


def pruned(**how):
    taken: dict[str, int] = {}
    for job, count in retention.prune_all(Terms(retention.policy(), **how)):
        taken[job] = taken.get(job, 0) + count
    return {job: count for job, count in taken.items() if count}


def spin(turns=30):
    wheel = retention.Wheel()
    return sum(wheel.turn() for _ in range(turns))


@pytest.fixture
def ended(submit, worker, past):
    """A finished run of so many days ago."""

    def make(days, steps=ECHO, **fields):
        fields.setdefault("answer", "${a}" if steps is ECHO else None)
        with past(days):
            run = submit(steps, **fields)
        return age(worker.finish(run), days=days)

    return make


@pytest.mark.promise("P22")
def test_a_run_that_ended_longer_ago_than_the_policy_says_leaves_with_all_that_belongs_to_it(ended, settings):
    old, young = ended(91, input=LARGE, files={"a.txt": b"old"}), ended(89, input="young")

    assert pruned() == {"runs": 1}

    assert list(Run.objects.all()) == [young]
    for model in (Step, Event, Attempt):
        assert set(model.objects.values_list("run_id", flat=True)) == {young.pk}
    assert not RunFile.objects.exists()
    assert Pruned.objects.get().run_id == old.pk


def test_a_live_run_stays_however_old(submit, worker, past):
    with past(500):
        waiting = submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 3_000_000}}])
        worker.work()
        fresh = submit(ECHO)
    before = photograph()

    assert pruned(older_than=0.0) == {}
    assert spin() == 0
    assert photograph() == before
    assert {run.pk for run in Run.objects.all()} == {waiting.pk, fresh.pk}


def test_a_run_stays_while_one_that_was_made_from_it_does_and_goes_with_it(ended, worker, past):
    origin = ended(200)
    with past(100):
        fork, _ = forks.fork(origin, forks.Fork(from_step="a", effects="live"))
    worker.finish(fork)

    assert pruned() == {}
    age(fork, days=100)
    assert pruned() == {"runs": 2}


def test_a_child_stays_while_its_parent_is_younger_than_the_limit(submit, worker, past):
    plan = {"steps": [{"key": "a", "tool": "test.echo"}]}
    with past(100):
        run = submit([{"key": "d", "kind": "delegate", "arguments": {"goal": "do", "plan": plan}}])
        parent = worker.finish(run)
    (child,) = Run.objects.filter(parent_run=parent)
    age(child, days=100)

    assert pruned() == {}
    age(parent, days=100)
    assert pruned() == {"runs": 2}
    assert not any(finding.violations for finding in verify.check())


def test_a_workspace_may_keep_its_runs_longer_or_for_ever(ended, workspace):
    ended(100)
    retention.set_policy(workspace.pk, runs_days=0.0)
    assert (pruned(), spin()) == ({}, 0)
    retention.set_policy(workspace.pk, runs_days=101.0)
    assert (pruned(), spin()) == ({}, 0)
    retention.set_policy(workspace.pk, runs_days=None)
    assert spin() == 1


def test_another_workspaces_policy_says_nothing_about_this_one(ended, workspace):
    run = ended(50)
    stranger = Workspace.objects.create(slug="strange", name="Strange")
    retention.set_policy(stranger.pk, runs_days=1.0)

    assert (pruned(), spin()) == ({}, 0)
    assert pruned(older_than=1.0, workspace_id=stranger.pk) == {}
    assert Run.objects.get() == run


def test_without_a_policy_nothing_leaves(ended, settings):
    settings.KEEP_RUNS_DAYS = 0.0
    ended(10_000)
    assert (pruned(), spin()) == ({}, 0)


def test_events_and_attempts_may_leave_before_their_run_and_verify_knows(ended, settings, client):
    settings.KEEP_HISTORY_DAYS = 30.0
    old, young = ended(31), ended(29)
    for run in (old, young):
        ModelCall.objects.create(
            workspace_id=run.workspace_id, run=run, step=run.steps.first(), attempt=1, number=1, parts=[], took_s=1.0
        )

    assert pruned() == {"history": 1}
    assert pruned() == {}

    for model in (Event, Attempt, ModelCall):
        assert set(model.objects.values_list("run_id", flat=True)) == {young.pk}
    assert Step.objects.filter(run=old).get().output == Step.objects.filter(run=young).get().output
    assert not any(finding.violations for finding in verify.check())
    settings.KEEP_RUNS_DAYS = 30.5
    assert pruned() == {"runs": 1}


def test_a_key_may_be_forgotten_before_its_run_and_then_makes_another(ended, settings, agent):
    settings.KEEP_KEYS_DAYS = 2.0
    old = ended(3, key="again", input=1)

    assert pruned() == {"keys": 1}

    request = Submission(agent=agent.slug, plan={"steps": ECHO}, input=2)
    run, replayed = services.submit(
        workspace_id=agent.workspace_id, user=None, request=request, idempotency_key="again"
    )
    assert (run.pk != old.pk, replayed) == (True, False)


@pytest.mark.parametrize("change", ["goal = 'other'", "idempotency_key = 'other'", "idempotency_key = NULL, goal = ''"])
def test_nothing_else_of_a_finished_run_can_be_changed(ended, change):
    run = ended(3, key="mine", goal="g")
    with pytest.raises(Exception, match="final rows never change"):
        sql(f"UPDATE runs_run SET {change} WHERE id = %s", run.pk)


def test_content_leaves_an_hour_after_nobody_uses_it_and_not_while_somebody_does(ended):
    ended(100, input=LARGE), ended(1, input=LARGE + "y", files={"a": b"kept"})
    pruned()
    assert Payload.objects.count() == 3
    sql("UPDATE runs_payload SET touched_at = clock_timestamp() - interval '61 minutes'")

    assert pruned() == {"payloads": 1}

    assert Payload.objects.count() == 2
    assert not any(finding.violations for finding in verify.check())


def test_content_that_is_put_again_in_this_moment_is_left(ended):
    ended(100, input=LARGE)
    pruned()
    sql("UPDATE runs_payload SET touched_at = clock_timestamp() - interval '61 minutes'")
    with background() as start, transaction.atomic():
        sql("UPDATE runs_payload SET touched_at = clock_timestamp()")  # as a writer that has not committed
        assert start(pruned).result(20) == {}
    assert pruned() == {}


@pytest.mark.promise("P22")
def test_a_run_that_somebody_has_locked_is_left_for_the_next_time(ended):
    locked, _ = ended(100), ended(100)
    with background() as start, transaction.atomic():
        sql("SELECT 1 FROM runs_run WHERE id = %s FOR KEY SHARE", locked.pk)
        assert start(pruned).result(20) == {"runs": 1}
    assert pruned() == {"runs": 1}


def test_a_retry_of_a_run_in_the_moment_it_leaves_finds_it_gone(ended):
    run = ended(100, [{"key": "f", "tool": "test.fail"}])
    with background() as start:
        with transaction.atomic():
            sql("DELETE FROM runs_run WHERE id = %s", run.pk)
            retried = start(lambda: control.retry(run))
            until(lambda: waiting_for_locks() == 1)
        with pytest.raises(NotFound):
            retried.result(20)
    assert not Run.objects.exists()


@pytest.mark.promise("P22")
def test_a_batch_is_bounded_in_runs_and_in_events(ended, monkeypatch):
    for _ in range(5):
        ended(100)
    assert prune.batch("runs", prune.first("runs"), Terms(retention.policy(), batch=2)).taken == 2
    monkeypatch.setattr(prune, "MOST_EVENTS", 1)
    done = prune.batch("runs", prune.first("runs"), Terms(retention.policy()))
    assert done.taken == 1
    assert done.after is not None
    assert pruned() == {"runs": 2}


def test_an_empty_database_is_pruned_too(transactional_db):
    assert (pruned(), pruned(really=False), spin()) == ({}, {}, 0)


def test_the_sweeper_does_it_one_batch_a_tick_unless_paused(ended):
    for _ in range(3):
        ended(100)
    retention.set_policy(None, paused=True)
    sweeper = Sweeper()
    for _ in range(10):
        sweeper.tick()
    assert Run.objects.count() == 3

    retention.set_policy(None, paused=False)
    sweeper = Sweeper()
    for _ in range(10):
        sweeper.tick()
    assert Run.objects.count() == 0


def test_the_command_prunes_by_days_reports_and_leaves_verify_clean(ended, tmp_path):
    gone, kept = ended(20), ended(5)
    acknowledged = tmp_path / "ids"
    acknowledged.write_text(f"{gone.pk}\n{kept.pk}\n")

    assert "        1 finished runs, with all that belongs to them: would go" in command(
        "prune", "--older-than", "10", "--dry-run"
    )
    assert Run.objects.count() == 2
    assert "        1 finished runs, with all that belongs to them: gone" in command("prune", "--older-than", "10")
    assert list(Run.objects.all()) == [kept]
    assert "I1   ok" in command("verify", "--acknowledged", str(acknowledged))


@pytest.mark.parametrize(
    "words",
    [
        ["--older-than", "-1"],
        ["--older-than", "0"],
        ["--older-than", "nan"],
        ["--older-than", "inf"],
        ["--older-than", "x"],
        ["--batch", "0"],
        ["--batch", "1000000000"],
        ["--workspace", "nobody"],
        ["--workspace", "\0"],
    ],
)
def test_what_cannot_be_meant_is_refused_and_prunes_nothing(ended, words):
    ended(100)
    with pytest.raises(CommandError):
        command("prune", *words)
    assert Run.objects.count() == 1


def test_a_workspaces_times_are_set_and_shown_by_command(workspace):
    command("retention", "--workspace", "home", "--runs", "7", "--keys", "0.5", "--pause")
    assert "home                 runs 7 days, history default, keys 0.5 days   paused" in command("retention")
    command("retention", "--workspace", "home", "--runs", "default", "--resume")
    row = Retention.objects.get()
    assert (row.runs_days, row.history_days, row.keys_days, row.paused) == (None, None, 0.5, False)
    command("retention", "--pause")
    assert "paused" in command("retention")


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "99999", "soon", ""])
def test_days_that_are_none_are_refused(workspace, days):
    with pytest.raises(CommandError):
        command("retention", "--workspace", "home", "--runs", days)
    with pytest.raises(CommandError):
        command("retention", "--runs", "7")
    assert not Retention.objects.exists()


def test_a_policy_of_nonsense_is_refused_by_the_service(workspace):
    with pytest.raises(InvalidInput):
        retention.set_policy(workspace.pk, runs_days=float("nan"))


def test_two_workspaces_with_the_same_content_lose_it_each_for_itself(ended, workspace):
    ended(100, input=LARGE)
    stranger = Workspace.objects.create(slug="strange", name="Strange")
    made = Agent.objects.create(workspace=stranger, slug="assistant", name="Assistant")
    made.current_version = AgentVersion.objects.create(workspace=stranger, agent=made, number=1)
    made.save()
    request = Submission(agent="assistant", plan={"steps": ECHO, "answer": "${a}"}, input=LARGE)
    services.submit(workspace_id=stranger.pk, user=None, request=request)
    pruned()
    sql("UPDATE runs_payload SET touched_at = clock_timestamp() - interval '61 minutes'")

    assert pruned() == {"payloads": 1}
    assert Payload.objects.get().workspace_id == stranger.pk


def test_what_an_agent_and_a_workspace_have_spent_stays_when_the_runs_leave(
    submit, worker, agent, past, priced, settings
):
    settings.KEEP_RUNS_DAYS = 30.0
    budgets.set_limits(agent.workspace_id, None, {"tokens": 50_000})
    say = {"key": "say", "kind": "answer", "objective": "Say something."}
    with past(50):
        run = submit([say], model=MODEL, limits={"tokens": 9_000, "steps": 3})
    age(worker.finish(run), days=50)

    pruned()

    assert not Run.objects.exists()
    (left,) = Budget.objects.values_list("run_id", "spent", "reserved")
    assert left == (None, 150, 0)
    assert not any(finding.violations for finding in verify.check())


def test_an_age_of_nothing_is_refused_by_what_it_would_mean_and_a_small_one_is_taken(ended):
    run = ended(1)
    with pytest.raises(CommandError, match=r"for ever.*0\.0001"):
        command("prune", "--older-than", "0")
    assert Run.objects.filter(pk=run.pk).exists()

    assert "        1 finished runs, with all that belongs to them: gone" in command("prune", "--older-than", "0.0001")


@pytest.mark.parametrize("slug", ["nonsense", "", "\x00", "x" * 5_000, "\ud800"])
@pytest.mark.parametrize("how", [[], ["--runs", "7"], ["--pause"]], ids=str)
def test_a_workspace_that_is_not_there_is_told_of_and_nothing_is_set(workspace, slug, how):
    with pytest.raises(CommandError, match="no workspace"):
        command("retention", "--workspace", slug, *how)

    assert not Retention.objects.exists()


def test_one_workspaces_times_are_shown_whether_it_has_its_own_or_not(workspace):
    other = Workspace.objects.create(slug="other", name="Other")
    retention.set_policy(other.pk, runs_days=3.0)

    assert [line.split()[0] for line in command("retention", "--workspace", "home").splitlines()] == ["(all)", "home"]
    assert "runs 3 days" in command("retention", "--workspace", "other")
    assert "home" not in command("retention")


@pytest.mark.parametrize(
    ("installation", "own", "gone"),
    [
        ((30, 0), {}, 40),
        ((0, 0), {}, None),
        ((30, 2), {}, 3),
        ((30, 0), {"keys_days": 5.0}, 6),
        ((30, 2), {"keys_days": 0.0}, 40),
        ((30, 2), {"keys_days": 0.0, "runs_days": 0.0}, None),
        ((30, 2), {"paused": True}, None),
    ],
)
def test_keys_of_what_was_no_run_leave_by_their_age(workspace, settings, installation, own, gone):
    settings.KEEP_RUNS_DAYS, settings.KEEP_KEYS_DAYS = installation
    if own:
        retention.set_policy(workspace.pk, **own)
    for days in (0, 3, 6, 40, 4_000):
        RequestKey.objects.create(workspace=workspace, key=f"{days}", digest="d", at=now() - timedelta(days=days))

    assert spin(60) == sum(gone is not None and days >= gone for days in (0, 3, 6, 40, 4_000))

    left = {int(key.key) for key in RequestKey.objects.all()}
    assert left == {days for days in (0, 3, 6, 40, 4_000) if gone is None or days < gone}


def test_keys_of_what_was_no_run_leave_in_batches_and_of_one_workspace(workspace):
    other = Workspace.objects.create(slug="other", name="Other")
    for n in range(25):
        for where in (workspace, other):
            RequestKey.objects.create(workspace=where, key=str(n), digest="d", at=now() - timedelta(days=4_000))

    assert pruned(workspace_id=workspace.pk, batch=10, really=False) == {"requests": 25}
    assert pruned(workspace_id=workspace.pk, batch=10) == {"requests": 25}

    assert set(RequestKey.objects.values_list("workspace_id", flat=True)) == {other.pk}
