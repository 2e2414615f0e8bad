"""Values over 8 KB: kept once a workspace, named where they belong, and read as if they were there."""

import hashlib
import json

import pytest
from django.db import connection

from agentsys.accounts.models import Workspace
from agentsys.agents.models import Agent, AgentVersion
from agentsys.runs import control, forks, services, verify
from agentsys.runs.models import Payload, PayloadUse, Run
from agentsys.runs.store import claims, complete, payloads, sweeps
from agentsys.runs.store.claims import Result
from agentsys.runs.submission import Submission
from tests.support.rows import sql, value

LARGE = {"text": "x" * 9_000}
pytestmark = pytest.mark.django_db(transaction=True)


def echo(key, what, **more):
    return {"key": key, "tool": "test.echo", "arguments": {"value": what}, **more}


def stored(column, run, key=None):
    """What the row itself holds."""
    if key is None:
        return json.loads(value(f"SELECT {column}::text FROM runs_run WHERE id = %s", run.pk))
    return json.loads(value(f"SELECT {column}::text FROM runs_step WHERE run_id = %s AND key = %s", run.pk, key))


def well():
    return not any(finding.violations for finding in verify.check())


@pytest.fixture
def finished(submit, worker):
    """One step takes its large input, the next one the first's output, and its is the answer."""
    steps = [echo("a", "${input}"), echo("b", "${a}")]
    return worker.finish(submit(steps, input=LARGE, answer="${b}"))


@pytest.mark.promise("P22")
def test_a_large_value_is_in_the_side_table_once_however_many_rows_have_it(finished, step_of):
    assert finished.status == "succeeded"

    reference = stored("input", finished)
    assert set(reference) == {"$payload", "bytes"}
    same = [stored("result", finished), stored("output", finished, "a"), stored("output", finished, "b")]
    assert same == [reference] * 3
    (payload,) = Payload.objects.all()
    assert payload.sha256 == reference["$payload"] == hashlib.sha256(payload.content).hexdigest()
    assert value("SELECT max(pg_column_size(s.*)) FROM runs_step s") < 1_000


def test_whoever_reads_a_row_gets_the_value(finished, step_of):
    run = Run.objects.get(pk=finished.pk)
    assert (run.input, run.result, step_of(run, "a").output) == (LARGE, LARGE, LARGE)
    assert Run.objects.values_list("result", flat=True).get() == LARGE
    assert list(Run.objects.values("input")) == [{"input": LARGE}]
    run.refresh_from_db()
    assert run.result == LARGE


def test_a_value_of_8_kb_stays_where_it_is(submit, worker):
    fits = "x" * (payloads.LIMIT_BYTES - 2)  # and two quotes
    run = worker.finish(submit([echo("a", "${input}")], input=fits, answer="${a}"))

    assert (stored("input", run), stored("result", run)) == (fits, fits)
    assert not Payload.objects.exists()

    worker.finish(submit([echo("a", "${input}")], input=fits + "x", answer="${a}"))
    assert Payload.objects.count() == 1


def test_the_arguments_of_a_plan_are_kept_the_same_way_and_its_references_hold(submit, worker, step_of):
    steps = [echo("n", 7), echo("a", {**LARGE, "n": "${n}"}), echo("b", "${a.n}")]
    run = worker.finish(submit(steps, answer={"n": "${b}", "text": "${a.text}"}))

    assert run.result == {"n": 7, **LARGE}
    assert set(stored("arguments", run, "a")) == {"$payload", "bytes"}
    assert set(stored("plan", run)) == {"$payload", "bytes"}
    assert step_of(run, "a").arguments == {"value": {**LARGE, "n": "${n}"}}
    assert run.plan["steps"] == steps
    assert well()


@pytest.mark.parametrize(
    "forged",
    [
        {"$payload": "0" * 64, "bytes": 9},
        {"$payload": None},
        {"$payload": {"$payload": 1}},
        {"$payload": "it's '; DROP TABLE", "more": LARGE},
    ],
)
def test_a_value_that_looks_like_a_reference_is_that_value(submit, worker, step_of, forged):
    steps = [echo("a", "${input}"), echo("b", [forged]), echo("c", "${b}")]
    run = worker.finish(submit(steps, input=forged, answer="${a}"))

    assert (run.status, run.input, run.result) == ("succeeded", forged, forged)
    assert step_of(run, "a").output == forged
    assert step_of(run, "c").output == [forged]
    assert well()


def test_another_workspaces_content_is_not_reached_by_its_digest(finished):
    stranger = Workspace.objects.create(slug="strange", name="Strange")
    reference = stored("result", finished)
    assert payloads.unpacked(reference, finished.workspace_id) == LARGE
    assert payloads.unpacked(reference, stranger.pk) is None


def test_two_workspaces_keep_the_same_content_each_for_itself(finished, submit, worker):
    stranger = Workspace.objects.create(slug="strange", name="Strange")
    made = Agent.objects.create(workspace=stranger, slug="assistant", name="Assistant")
    made.current_version = AgentVersion.objects.create(workspace=stranger, agent=made, number=1)
    made.save()
    request = Submission(agent="assistant", plan={"steps": [echo("a", 1)]}, input=LARGE)
    services.submit(workspace_id=stranger.pk, user=None, request=request)

    assert set(Payload.objects.values_list("workspace_id", flat=True)) == {finished.workspace_id, stranger.pk}


def test_a_fork_and_a_retry_keep_what_they_copy_when_the_original_is_gone(finished, submit, worker, step_of):
    failing = worker.finish(submit([echo("a", LARGE), {"key": "f", "tool": "test.fail", "depends_on": ["a"]}]))
    fork, _ = forks.fork(finished, forks.Fork(from_step="b", effects="live"))
    retried, _ = control.retry(failing)
    for run in (fork, retried):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE runs_run SET parent_run_id = NULL WHERE id = %s", [run.pk])
    Run.objects.filter(pk__in=[finished.pk, failing.pk])._raw_delete("default")

    run = worker.finish(fork)
    assert (run.input, run.result) == (LARGE, LARGE)
    assert step_of(retried, "a").output == LARGE
    assert PayloadUse.objects.filter(run=fork).exists()
    assert well()


def test_a_childs_large_result_is_its_parents_step_output_by_reference(submit, worker, step_of):
    plan = {"steps": [echo("a", "${input}")], "answer": "${a}"}
    delegate = {"key": "d", "kind": "delegate", "arguments": {"goal": "do", "plan": plan, "input": "${input}"}}
    run = worker.finish(submit([delegate], input=LARGE, answer="${d}"))

    assert run.result == LARGE
    assert stored("output", run, "d") == stored("result", run)
    assert well()


def test_the_large_output_that_ends_a_run_is_its_result_too(submit):
    run = submit([{"key": "a", "tool": "test.echo"}], answer="${a}")
    claim = claims.claim("compute", owner="w")
    complete.complete(claim, Result(LARGE))

    run.refresh_from_db()
    assert run.result == LARGE
    assert Payload.objects.count() == 1


def test_sixteen_megabytes_in_one_batch_are_sixteen_statements_and_a_small_one(submit):
    runs = [
        submit([{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo", "depends_on": ["a"]}])
        for _ in range(16)
    ]
    held = claims.claim_some("compute", owner="w", limit=16)
    given = [(claim, Result(f"{n:02}" + "x" * 999_990)) for n, claim in enumerate(held)]

    outcomes = complete.complete_all(given, claim_next=0)

    assert len(outcomes) == 16
    assert Payload.objects.count() == 16
    assert value("SELECT max(pg_column_size(output)) FROM runs_step") < 200
    assert {run.pk for run in runs} >= set(PayloadUse.objects.values_list("run_id", flat=True))


@pytest.mark.violates
def test_verify_finds_a_reference_without_its_content_and_one_that_nobody_keeps(finished):
    sql("DELETE FROM runs_payloaduse")
    assert {finding.name for finding in verify.check() if finding.violations} == {"I15"}
    sql("DELETE FROM runs_payload")
    assert {finding.name for finding in verify.check() if finding.violations} == {"I15"}


def test_a_result_of_a_run_that_is_gone_is_fenced_and_leaves_no_use(submit):
    run = submit([{"key": "a", "tool": "test.echo"}])
    claim = claims.claim("compute", owner="w")
    Run.objects.filter(pk=run.pk)._raw_delete("default")

    with pytest.raises(Exception, match="no longer held") as error:
        complete.complete(claim, Result(LARGE))

    assert error.type.__name__ == "LeaseLost"
    assert not PayloadUse.objects.exists()
    assert sweeps.recount_slots() == 1  # its step went without a word
