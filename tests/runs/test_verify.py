"""``manage.py verify`` finds every invariant that is broken by hand, and names it."""

import uuid
from contextlib import nullcontext

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError

from agentsys.runs import approvals, verify
from agentsys.runs.store.claims import claim
from tests.support.approvals import open_of
from tests.support.rows import photograph, sql, unguarded, without_rule


def echo(key="a", **fields):
    return {"key": key, "tool": "test.echo", **fields}


@pytest.fixture
def runs(submit, worker):
    """One run of each kind: done, with an unsafe call; half done; waiting; sleeping."""
    charge = {"key": "c", "tool": "test.charge"}
    done = worker.finish(submit([echo("a"), charge | {"depends_on": ["a"]}]))
    unknown = submit([charge | {"arguments": {"how": "unknown"}}])
    asleep = submit([{"key": "w", "kind": "wait", "arguments": {"seconds": 3600}}])
    worker.work()
    asked = submit([{"key": "p", "tool": "test.echo", "approval": True}])
    approved = submit([{"key": "p", "tool": "test.echo", "approval": True}])
    worker.work()
    approvals.approve(open_of(approved), user=None)
    worker.finish(approved)
    half = submit([echo("a"), echo("b"), echo("c", depends_on=["a", "b"]), echo("d", depends_on=["a"])])
    claim("compute", owner="w")
    return {"done": done, "unknown": unknown, "asleep": asleep, "half": half, "asked": asked, "approved": approved}


def broken():
    """Names of the invariants that do not hold."""
    return [finding.name for finding in verify.check() if finding.violations]


def test_a_sound_database_has_nothing_to_complain_of_and_is_not_changed(runs, capsys):
    before = photograph()

    call_command("verify")

    assert photograph() == before
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["I1", *verify.CHECKS]
    assert lines[0].endswith("not checked")
    assert all(line.split()[1] == "ok" for line in lines[1:])


#: What is done to which run, and who must notice.
WRONG = {
    "two results of a step": (
        "I2", "done", "INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome)"
        " SELECT gen_random_uuid(), workspace_id, run_id, step_id, 9, 'x', 'succeeded' FROM runs_attempt"
        " WHERE run_id = %s LIMIT 1",
    ),
    "a result without an attempt": ("I2", "done", "DELETE FROM runs_attempt WHERE run_id = %s"),
    "an unsafe call begun again without a word": (
        "I2", "done", "INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome)"
        " SELECT gen_random_uuid(), workspace_id, run_id, id, 9, 'x', 'waiting' FROM runs_step"
        " WHERE run_id = %s AND effect = 'unsafe'",
    ),
    "a call in the dark begun again without a verdict": (
        "I2", "done", "INSERT INTO runs_attempt (id, workspace_id, run_id, step_id, number, worker, outcome)"
        " SELECT gen_random_uuid(), workspace_id, run_id, id, 9, 'x', 'unknown' FROM runs_step"
        " WHERE run_id = %s AND effect = 'unsafe'",
    ),
    "an unsafe call without its gate": (
        "I2", "done", "UPDATE runs_step SET effect_started_at = NULL WHERE run_id = %s AND effect = 'unsafe'",
    ),
    "a gap in the events": ("I3", "done", "DELETE FROM runs_event WHERE run_id = %s AND seq = 2"),
    "the last event gone": ("I3", "half", "DELETE FROM runs_event WHERE run_id = %s AND seq = (SELECT max(seq) FROM"
                            " runs_event e WHERE e.run_id = runs_event.run_id)"),
    "no event at all": ("I3", "half", "DELETE FROM runs_event WHERE run_id = %s"),
    "an event ahead of its run": ("I3", "half", "UPDATE runs_run SET event_seq = event_seq - 1 WHERE id = %s"),
    "a step that waits for too many": (
        "I4", "half", "UPDATE runs_step SET deps_left = 2 WHERE run_id = %s AND key = 'd'",
    ),
    "a step that waits for too few": (
        "I4", "half", "UPDATE runs_step SET deps_left = 1 WHERE run_id = %s AND key = 'c'",
    ),
    "a step that did not wait": (
        "I4", "half", "UPDATE runs_step SET status = 'ready', deps_left = 0 WHERE run_id = %s AND key = 'd'",
    ),
    "an open step counted too few": ("I8", "half", "UPDATE runs_run SET open_steps = 3 WHERE id = %s"),
    "an active step counted too many": ("I8", "half", "UPDATE runs_run SET active_steps = 3 WHERE id = %s"),
    "a done step not counted": ("I8", "done", "UPDATE runs_run SET steps_done = 1 WHERE id = %s"),
    "a finished run with an open step": (
        "I8", "done", "UPDATE runs_step SET status = 'ready', finished_at = NULL WHERE run_id = %s AND key = 'c'",
    ),
    "a live run that nothing moves": (
        "I9", "half", "UPDATE runs_step SET status = 'succeeded', lease_expires_at = NULL WHERE run_id = %s",
    ),
    "a run that waits for nobody": ("I9", "unknown", "UPDATE runs_step SET reason = '' WHERE run_id = %s"),
    "a run that waits and does not say for what": ("I9", "unknown", "UPDATE runs_run SET reason = '' WHERE id = %s"),
    "a run that says it runs and waits": ("I9", "unknown", "UPDATE runs_run SET status = 'running' WHERE id = %s"),
    "a run that says it waits and runs": (
        "I9", "half", "UPDATE runs_run SET status = 'waiting', reason = 'outcome_unknown' WHERE id = %s",
    ),
    "a step that waits for a person whom nobody asked": ("I9", "asked", "DELETE FROM runs_approval WHERE run_id = %s"),
    "a question of another kind": ("I9", "asked", "UPDATE runs_approval SET kind = 'input' WHERE run_id = %s"),
    "a question that ends at another time": (
        "I9", "asked", "UPDATE runs_approval SET expires_at = expires_at + interval '1 s' WHERE run_id = %s",
    ),
    "a question that nobody waits for": (
        "I9", "approved", "UPDATE runs_approval SET decision = '', decided_at = NULL WHERE run_id = %s",
    ),
    "a call that nobody approved": (
        "I2", "approved", "UPDATE runs_approval SET decision = 'deny', decided_at = now() WHERE run_id = %s",
    ),
    "a call that was approved for another claim": (
        "I2", "approved", "UPDATE runs_approval SET claim_token = gen_random_uuid() WHERE run_id = %s",
    ),
    "a start after the cancel": (
        "I13", "done", "INSERT INTO runs_event (workspace_id, run_id, seq, type, step, at, data)"
        " SELECT workspace_id, id, event_seq + n, CASE n WHEN 1 THEN 'run.cancelling' ELSE 'step.started' END, 'a',"
        " now(), '{}' FROM runs_run, generate_series(1, 2) n WHERE id = %s",
    ),
}  # fmt: skip
BEHIND_A_RULE = {
    "a lease without a worker": ("I5", "step_leased_iff_running", "lease_expires_at = now()", "status = 'ready'"),
    "a worker without a lease": ("I5", "step_leased_iff_running", "lease_expires_at = NULL", "status = 'running'"),
    "a worker without a token": ("I5", "step_running_has_token", "claim_token = NULL", "status = 'running'"),
    "a sleeper without a time": ("I9", "step_sleeping_has_time", "available_at = NULL", "status = 'sleeping'"),
    "too many failures": ("I11", "step_failures_bounded", "failures = 99", "status = 'running'"),
    "too many crashes": ("I11", "step_crashes_bounded", "crashes = 4", "status = 'running'"),
}


@pytest.mark.violates
@pytest.mark.parametrize(("name", "which", "statement"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found_and_named(runs, name, which, statement, capsys):
    with unguarded():
        assert sql(statement, runs[which].pk) > 0

    assert name in broken()
    _says_so(name, capsys)


@pytest.mark.violates
@pytest.mark.parametrize(("name", "rule", "change", "where"), BEHIND_A_RULE.values(), ids=BEHIND_A_RULE)
def test_what_the_tables_refuse_is_found_too_should_a_rule_be_missing(runs, name, rule, change, where, capsys):
    with without_rule("runs_step", rule):
        with unguarded() if "done" in where else nullcontext():
            assert sql(f"UPDATE runs_step SET {change} WHERE {where}") > 0

        assert broken() == [name]
        _says_so(name, capsys)


def _says_so(name, capsys):
    with pytest.raises(SystemExit) as caught:
        call_command("verify")
    assert caught.value.code == 1
    told = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{name} ") and "WRONG" in line for line in told)


def test_acknowledged_runs_must_exist(runs, tmp_path, capsys):
    file = tmp_path / "acknowledged"
    file.write_text(f"\n{runs['done'].pk}\n  {str(runs['half'].pk).upper()}  \n\n")
    call_command("verify", acknowledged=str(file))
    assert "I1   ok" in capsys.readouterr().out

    lost = uuid.uuid4()
    file.write_text(f"{runs['done'].pk}\n{lost}\nno id at all\n")
    with pytest.raises(SystemExit):
        call_command("verify", acknowledged=str(file))

    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("I1 "))
    assert "WRONG" in line
    assert str(lost) in line
    assert "no id at all" in line
    assert str(runs["done"].pk) not in line


def test_a_file_that_cannot_be_read_is_an_error_and_not_a_pass(tmp_path):
    for wrong in (tmp_path / "none", tmp_path):
        with pytest.raises(CommandError):
            call_command("verify", acknowledged=str(wrong))


def test_it_reads_one_snapshot_and_cannot_write(runs):
    before = photograph()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "_one", lambda name, text: sql("DELETE FROM runs_event"))
        with pytest.raises(InternalError, match="read-only"):
            verify.check()

    assert photograph() == before
