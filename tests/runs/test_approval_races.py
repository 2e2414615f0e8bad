"""Decisions that meet each other, expiry, a cancel or a dying connection: one wins, and it wins whole."""

import time

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from agentsys.core.errors import AgentSysError, ApprovalDecided, ApprovalExpired, InvalidTransition, LeaseLost
from agentsys.runs import approvals, asking, services
from agentsys.runs.models import Approval
from agentsys.runs.states import ApprovalKind
from agentsys.runs.store import decisions, moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support import tools
from tests.support.approvals import ask, echo, open_of, wire, wired
from tests.support.outages import lose_answer, lose_commit
from tests.support.rows import expire, photograph, sql
from tests.support.threads import in_a_crowd, in_parallel
from tests.support.worker import events, statuses

ROUNDS = 10


@pytest.fixture(autouse=True)
def _uncalled():
    tools.calls.clear()


@pytest.fixture
def make_asked(submit, worker):
    def make(*steps):
        run = submit([*(steps or (wire(),))])
        worker.work()
        return run

    return make


def tried(decide):
    """What came of it: the error's code, or "" where it was taken."""
    try:
        decide()
    except AgentSysError as error:
        return error.code
    return ""


def a_question():
    return asking.question("test.wire", {"to": "bob"})


@pytest.mark.promise("P16")
def test_of_twenty_at_once_one_decides(make_asked, worker):
    kinds = [
        lambda one: approvals.approve(one, user=None),
        lambda one: approvals.deny(one, user=None, reason="no"),
        lambda one: approvals.edit(one, user=None, arguments={"to": "eve"}),
        lambda one: approvals.edit(one, user=None, arguments={"to": "mallory"}),
    ]
    for _ in range(3):
        run = make_asked()
        one = open_of(run)

        codes = in_a_crowd(*[lambda n=n, one=one: tried(lambda: kinds[n % 4](one)) for n in range(20)])

        assert sorted(codes) == [""] + ["approval_decided"] * 19
        assert events(run).count("approval.decided pay") == 1
        one.refresh_from_db()
        worker.finish(run)
        assert run.status == ("failed" if one.decision == "deny" else "succeeded")
        assert run.approvals.count() == (2 if one.decision == "edit" else 1)


def test_twenty_answers_at_once_give_one(make_asked):
    run = make_asked(ask())
    one = open_of(run)

    works = [lambda n=n: tried(lambda: approvals.answer(one, user=None, answer=n)) for n in range(20)]
    codes = in_a_crowd(*works)

    assert sorted(codes) == [""] + ["approval_decided"] * 19
    run.refresh_from_db()
    assert run.result == {"who": codes.index("")}


def test_a_decision_and_expiry_at_the_same_moment_give_one_end(make_asked, worker):
    seen = set()
    for n in range(ROUNDS):
        run = make_asked(wire(on_error="continue"))
        one = open_of(run)
        until = "clock_timestamp() + make_interval(secs => %s)"
        sql(f"UPDATE runs_approval SET expires_at = {until} WHERE id = %s", 0.004 * n, one.pk)
        sql("UPDATE runs_step SET available_at = (SELECT expires_at FROM runs_approval WHERE id = %s) WHERE id = %s",
            one.pk, one.step_id)  # fmt: skip

        code, _ = in_parallel(lambda one=one: _late(one), _expire_for_a_while)

        one.refresh_from_db()
        assert (one.decision, code) in {("approve", ""), ("expired", "approval_expired")}
        assert worker.finish(run).status == "succeeded"
        assert statuses(run)["pay"] == {"approve": "succeeded", "expired": "failed"}[one.decision]
        seen.add(one.decision)
    assert "expired" in seen


def _late(one):
    time.sleep(0.01)  # the moment itself is what is looked for, somewhere in the rounds
    return tried(lambda: approvals.approve(one, user=None))


def _expire_for_a_while():
    end = time.monotonic() + 0.06
    while time.monotonic() < end:
        sweeps.expire_questions()


@pytest.mark.parametrize("word", ["approve", "edit", "deny", "answer"])
def test_a_decision_and_a_cancel_at_the_same_moment_give_one_end(make_asked, worker, word):
    extra = {"edit": {"arguments": {"to": "eve"}}, "answer": {"answer": 1}}.get(word, {})
    for _ in range(ROUNDS):
        run = make_asked(ask() if word == "answer" else wire(), echo("beside"))
        one = open_of(run)

        decided, cancelled = in_parallel(
            lambda one=one: tried(lambda: getattr(approvals, word)(one, user=None, **extra)),
            lambda run=run: tried(lambda: services.cancel(run)),
        )

        worker.finish(run)
        one.refresh_from_db()
        assert (one.decision, decided) in {(word, ""), ("cancelled", "invalid_transition")}
        if cancelled:
            assert run.status != "cancelled"
        else:
            assert run.status == "cancelled"
            assert wired() == []


def test_a_question_and_a_cancel_at_the_same_moment_leave_none_open(submit):
    for _ in range(ROUNDS):
        run = submit([wire()])
        held = claim("compute", owner="w")

        in_parallel(
            lambda one=held: tried(lambda: decisions.ask(one, a_question())), lambda run=run: services.cancel(run)
        )

        run.refresh_from_db()
        assert (run.status, statuses(run)) == ("cancelled", {"pay": "cancelled"})
        assert set(run.approvals.values_list("decision", flat=True)) <= {"cancelled"}


def test_many_questions_expire_by_several_sweepers_once(submit, worker):
    run = submit([wire(f"p{n}", f"to {n}", on_error="continue") for n in range(30)])
    worker.work()
    sql("UPDATE runs_approval SET expires_at = created_at")
    sql("UPDATE runs_step s SET available_at = a.expires_at FROM runs_approval a WHERE a.step_id = s.id")

    in_parallel(*[sweeps.expire_questions] * 4)

    run.refresh_from_db()
    assert (run.status, run.approvals.filter(decision="expired").count()) == ("succeeded", 30)
    assert len([told for told in events(run) if told.startswith("approval.decided")]) == 30


# --- Workers and connections that die -------------------------------------------------------


def test_a_worker_that_was_fenced_asks_nobody(submit, settings):
    settings.LEASE_S = 1.0
    run = submit([wire()])
    held = claim("compute", owner="w")
    expire(run)
    moves.give_back(held.id, run.pk, held.claim_token, why="lease")
    before = photograph()

    with pytest.raises(LeaseLost):
        decisions.ask(held, a_question())

    assert photograph() == before
    again = claim("compute", owner="w2")
    decisions.ask(again, a_question())
    assert run.approvals.count() == 1


def test_a_worker_killed_before_the_commit_has_asked_nobody(submit, worker, monkeypatch):
    """Its transaction is rolled back; the step runs again and asks once."""
    run = submit([wire()])
    held = claim("compute", owner="w")
    real = decisions.db.rows

    def dies(statement, /, **params):
        answer = real(statement, **params)
        if "INSERT INTO runs_approval" in statement.text:
            raise SystemExit
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(decisions.db, "rows", dies)
        with pytest.raises(SystemExit):
            decisions.ask(held, a_question())
    assert (statuses(run), run.approvals.count()) == ({"pay": "running"}, 0)
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")

    worker.work()

    assert (statuses(run), run.approvals.count()) == ({"pay": "waiting"}, 1)


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("step", [wire(), ask()], ids=["approval", "question"])
def test_a_question_whose_commit_is_unknown_is_asked_once(submit, worker, monkeypatch, committed, step):
    run = submit([step])
    lost = lose_commit(monkeypatch, committed=committed)

    worker.work()

    assert lost == [committed]
    run.refresh_from_db()
    assert (run.status, run.approvals.count()) == ("waiting", 1)
    assert sum(told.startswith("approval.requested") for told in events(run)) == 1


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("word", ["approve", "edit", "deny"])
def test_a_decision_whose_commit_is_unknown_can_be_sent_again(make_asked, worker, committed, word):
    run = make_asked()
    one = open_of(run)
    extra = {"edit": {"arguments": {"to": "eve"}}}.get(word, {})

    def decide():
        return getattr(approvals, word)(one, user=None, **extra)

    with pytest.MonkeyPatch.context() as once:
        lose_commit(once, committed=committed)
        with pytest.raises(OperationalError):
            decide()
    connection.close()

    assert tried(decide) == ("approval_decided" if committed else "")
    assert events(run).count("approval.decided pay") == 1
    worker.finish(run)
    assert len(wired()) == (0 if word == "deny" else 1)


@pytest.mark.parametrize("executed", [True, False])
def test_an_approval_that_is_used_while_the_connection_dies_is_asked_for_again(
    make_asked, worker, monkeypatch, executed
):
    run = make_asked()
    approvals.approve(open_of(run), user=None)
    lose_answer(monkeypatch, "use_approval", executed=executed)

    worker.finish(run)

    assert (run.status, len(wired()), run.approvals.count()) == ("succeeded", 1, 1)


def test_an_expiry_whose_commit_is_unknown_happens_once(make_asked, monkeypatch):
    run = make_asked()
    sql("UPDATE runs_approval SET expires_at = created_at")
    sql("UPDATE runs_step s SET available_at = a.expires_at FROM runs_approval a WHERE a.step_id = s.id")
    with monkeypatch.context() as once:
        lose_commit(once, committed=True)
        with pytest.raises(OperationalError):
            sweeps.expire_questions()
    connection.close()

    assert sweeps.expire_questions() == []
    assert events(run).count("approval.decided pay") == 1


def test_an_approval_is_not_for_another_claim(make_asked):
    """A worker whose lease was taken may not begin the call that was approved meanwhile."""
    run = make_asked()
    one = approvals.approve(open_of(run), user=None)
    held = claim("compute", owner="w")
    moves.give_back(held.id, run.pk, held.claim_token, why="dead")
    fresh = claim("compute", owner="w2")

    assert decisions.is_approved(held, one.digest) is False
    assert decisions.is_approved(fresh, "0" * 64) is False
    assert decisions.is_approved(fresh, one.digest) is True
    moves.give_back(fresh.id, run.pk, fresh.claim_token, why="released")


def test_the_call_that_somebody_has_edited_is_not_the_one_approved(make_asked):
    run = make_asked()
    one = open_of(run)
    edited = approvals.edit(one, user=None, arguments={"to": "carol"})
    held = claim("compute", owner="w")

    assert decisions.is_approved(held, one.digest) is False
    assert decisions.is_approved(held, edited.digest) is True
    moves.give_back(held.id, run.pk, held.claim_token, why="released")


# --- What the tables refuse --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    ["decision = 'maybe', decided_at = now()", "kind = 'other'", "decision = 'approve'", "decided_at = now()"],
)
def test_the_table_refuses_what_is_no_decision(make_asked, change):
    make_asked()
    before = photograph()

    with pytest.raises(IntegrityError), transaction.atomic():
        sql(f"UPDATE runs_approval SET {change}")

    assert photograph() == before


def test_a_step_has_one_open_question_at_most(make_asked):
    one = open_of(make_asked())

    with pytest.raises(IntegrityError, match="approval_one_open_a_step"), transaction.atomic():
        Approval.objects.create(
            workspace_id=one.workspace_id, run=one.run, step=one.step, kind=ApprovalKind.APPROVAL, digest="0" * 64
        )


def test_an_open_question_whose_step_does_not_wait_is_not_decided(make_asked, worker):
    """Nothing can bring it about but a hand in the tables: then nothing follows from the decision."""
    run = make_asked(wire(), echo("b"))
    one = open_of(run)
    sql("UPDATE runs_step SET status = 'ready', reason = '', available_at = NULL WHERE key = 'pay'")

    with pytest.raises(InvalidTransition):
        approvals.approve(one, user=None)

    one.refresh_from_db()
    assert one.decision == ""
    sql(
        "UPDATE runs_step SET status = 'running', lease_expires_at = now(), claim_token = gen_random_uuid()"
        " WHERE key = 'pay'"
    )
    sql("UPDATE runs_step SET status = 'waiting', reason = 'approval', lease_expires_at = NULL,"
        " available_at = (SELECT expires_at FROM runs_approval) WHERE key = 'pay'")  # fmt: skip


def test_too_late_is_told_by_what_came_before(make_asked):
    for decision, error in {"": ApprovalExpired, "expired": ApprovalExpired, "cancelled": InvalidTransition,
                            "deny": ApprovalDecided}.items():  # fmt: skip
        assert type(decisions.too_late(Approval(decision=decision))) is error
