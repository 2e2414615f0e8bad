"""A call that a person must approve, and a question that only a person can answer."""

import hashlib
import json

import pytest

from agentsys.agents import versions as agents
from agentsys.agents.definition import Definition
from agentsys.core.errors import (
    ApprovalChanged,
    ApprovalDecided,
    ApprovalExpired,
    InvalidInput,
    InvalidTransition,
    NotFound,
    PayloadTooLarge,
)
from agentsys.core.ids import uuid7
from agentsys.runs import approvals, asking, control, services
from agentsys.runs.models import Approval
from agentsys.runs.store import claims, decisions, moves, sweeps
from agentsys.runs.store.claims import claim
from tests.support import tools
from tests.support.approvals import ask, echo, open_of, wire, wired
from tests.support.rows import photograph, sql, value
from tests.support.worker import events, statuses

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
#: Every decision, as it would be taken of a question it fits.
DECISIONS = {
    "approve": lambda one, user=None: approvals.approve(one, user=user),
    "edit": lambda one, user=None: approvals.edit(one, user=user, arguments={"to": "eve"}),
    "deny": lambda one, user=None: approvals.deny(one, user=user, reason="no"),
    "answer": lambda one, user=None: approvals.answer(one, user=user, answer={"n": 1}),
}


@pytest.fixture(autouse=True)
def _uncalled():
    tools.calls.clear()


@pytest.fixture
def olga(make_user):
    return make_user("olga")


@pytest.fixture
def asked(submit, worker):
    """A run that waits for the approval of a payment, with a step that needs it and one beside it."""
    run = submit([wire(), echo("after", "${pay}"), echo("beside", 1)])
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "approval")
    return run


@pytest.fixture
def questioned(submit, worker):
    run = submit([echo("name", "Bob"), ask(question="How old is ${name}?", schema=NUMBER), echo("after", "${who.n}")])
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "input")
    return run


@pytest.fixture
def version_with(agent):
    """Gives the agent a version with these terms."""

    def make(**terms):
        agents.add_version(agent, definition=Definition(approvals=terms))

    return make


def waits_until(key):
    return value(
        "SELECT extract(epoch FROM available_at - clock_timestamp())::float8 FROM runs_step WHERE key = %s", key
    )


def overdue(run):
    """A person's time is over: the step's and the question's, which are one."""
    sql("UPDATE runs_approval SET expires_at = created_at WHERE run_id = %s", run.pk)
    sql(
        "UPDATE runs_step s SET available_at = a.expires_at FROM runs_approval a"
        " WHERE a.step_id = s.id AND s.run_id = %s",
        run.pk,
    )


# --- Asking ---------------------------------------------------------------------------------


def test_the_call_is_not_made_and_its_exact_arguments_are_shown(asked, step_of):
    one, step = open_of(asked), step_of(asked, "pay")

    bound = json.dumps({"arguments": {"to": "bob"}, "tool": "test.wire"}, sort_keys=True, separators=(",", ":"))
    assert (one.kind, one.arguments, one.decision) == ("approval", {"to": "bob"}, "")
    assert one.digest == hashlib.sha256(bound.encode()).hexdigest()
    assert (step.status, step.reason, step.failures, step.effect_started_at) == ("waiting", "approval", 0, None)
    assert (wired(), statuses(asked)) == ([], {"pay": "waiting", "after": "blocked", "beside": "succeeded"})
    assert step.attempts.get().outcome == "asked"


def test_nothing_is_held_while_it_waits_and_time_does_not_wake_it(asked, worker, step_of):
    step = step_of(asked, "pay")
    before = photograph()

    sweeps.wake_sleepers(), sweeps.reap_expired(), sweeps.repair_stuck(), sweeps.expire_questions()
    assert worker.work() == 0

    assert (step.lease_expires_at, photograph()) == (None, before)


def test_both_events_are_written_with_the_move(asked):
    assert events(asked)[-2:] == ["step.succeeded beside", "run.waiting"]
    one = open_of(asked)
    requested = asked.events.get(type="approval.requested")
    assert requested.step == "pay"
    assert requested.data == {
        "approval": str(one.pk), "kind": "approval", "tool": "test.wire", "digest": one.digest,
        "expires_at": one.expires_at.isoformat(), "arguments_bytes": 45, "arguments": {"to": "bob"},
    }  # fmt: skip
    assert asked.events.get(type="step.waiting").data == {"reason": "approval", "approval": str(one.pk)}


def test_large_arguments_are_in_the_approval_and_not_in_the_event(submit, worker):
    run = submit([wire(arguments={"note": "x" * 100_000})])
    worker.work()

    assert "arguments" not in run.events.get(type="approval.requested").data
    assert len(open_of(run).arguments["note"]) == 100_000


def test_more_than_a_person_can_be_shown_is_a_failure(submit, worker):
    run = submit([echo("much", "x" * 900_000), wire(arguments={"note": ["${much}", "${much}"]})])
    worker.finish(run)

    assert (run.status, run.error["code"], wired()) == ("failed", "payload_too_large", [])
    assert not run.approvals.exists()


def test_nobody_is_asked_about_arguments_that_the_tool_does_not_take(submit, worker):
    run = submit([echo("amount", "many"), wire(arguments={"amount": "${amount}"})])
    worker.finish(run)

    assert (run.status, run.error["code"]) == ("failed", "tool_arguments_invalid")
    assert not run.approvals.exists()


def test_references_are_shown_filled_in(submit, worker):
    run = submit(
        [echo("who", {"name": "Ann"}), wire(to="${who.name}", arguments={"note": "for ${input.what}"})],
        input={"what": "tea"},
    )
    worker.work()

    assert open_of(run).arguments == {"to": "Ann", "note": "for tea"}
    approvals.approve(open_of(run), user=None)
    assert worker.finish(run).status == "succeeded"
    assert wired() == [{"to": "Ann", "amount": 1.0, "note": "for tea"}]


@pytest.mark.parametrize("number", [1e22, 1e23, 1e300, -1e25, 1e-7, -0.0, 0.1, 1.0, 10**30, 2**63])
def test_no_number_changes_what_was_approved(submit, worker, number):
    run = submit([echo("n", number), wire(arguments={"note": ["${n}", number]})])
    worker.work()

    approvals.approve(open_of(run), user=None)

    assert worker.finish(run).status == "succeeded"
    assert run.approvals.count() == 1


# --- What requires it ---------------------------------------------------------------------


@pytest.mark.parametrize("terms", [{"tools": ["test.echo"]}, {"tools": "all"}], ids=str)
def test_an_agent_version_may_want_tools_approved(version_with, submit, worker, terms):
    version_with(**terms)
    run = submit([echo("a", 1, approval=False)])
    worker.work()

    assert statuses(run) == {"a": "waiting"}
    assert open_of(run).arguments == {"value": 1}


def test_a_plan_may_ask_for_more_and_never_for_less(version_with, submit, worker):
    version_with(tools=["test.far"])
    run = submit([echo("a", approval=True), echo("b"), wire("c", approval=False)])
    worker.work()

    assert statuses(run) == {"a": "waiting", "b": "succeeded", "c": "waiting"}


def test_a_planned_step_needs_the_approval_too(version_with, submit, worker):
    version_with(tools="all")
    run = submit(goal="Compute 6 * 7.")
    worker.work()

    assert open_of(run).step.tool == "math.evaluate"


def test_a_run_keeps_the_terms_of_its_own_version(version_with, submit, worker):
    run = submit([echo("a")])
    version_with(tools="all")

    assert worker.finish(run).status == "succeeded"


@pytest.mark.parametrize(
    ("terms", "path", "code"),
    [
        ("all", "approvals", "type"),
        ({"tool": []}, "approvals.tool", "unknown_field"),
        ({"tools": "none"}, "approvals.tools", "type"),
        ({"tools": [3]}, "approvals.tools", "type"),
        ({"tools": None}, "approvals.tools", "type"),
        ({"tools": ["test.ehco"]}, "approvals.tools[0]", "unknown_tool"),
        ({"tools": ["test.echo", "test.echo"]}, "approvals.tools[1]", "duplicate"),
        ({"expires_s": 0}, "approvals.expires_s", "bad_value"),
        ({"expires_s": 10**400}, "approvals.expires_s", "bad_value"),
        ({"expires_s": float("nan")}, "approvals.expires_s", "bad_value"),
        ({"expires_s": True}, "approvals.expires_s", "type"),
        ({"expires_s": None}, "approvals.expires_s", "type"),
        ({"on_denied": "ignore"}, "approvals.on_denied", "bad_value"),
        ({"on_denied": ["fail"]}, "approvals.on_denied", "bad_value"),
    ],
)
def test_terms_that_make_no_sense_are_refused(agent, terms, path, code):
    with pytest.raises(InvalidInput) as caught:
        agents.add_version(agent, definition=Definition(approvals=terms))

    assert [(fault["path"], fault["code"]) for fault in caught.value.data["errors"]] == [(path, code)]
    assert agent.versions.count() == 1


# --- Deciding -----------------------------------------------------------------------------


def test_approve_makes_the_call_once(asked, worker, olga, step_of):
    one = approvals.approve(open_of(asked), user=olga)

    assert (one.decision, one.decided_by, one.decided_at is not None) == ("approve", olga, True)
    assert step_of(asked, "pay").status == "ready"
    asked.refresh_from_db()
    assert (asked.status, asked.reason) == ("running", "")
    worker.finish(asked)
    assert (asked.status, asked.tool_calls, len(wired())) == ("succeeded", 3, 1)
    one.refresh_from_db()
    assert one.claim_token == step_of(asked, "pay").claim_token
    decided = asked.events.get(type="approval.decided")
    assert (decided.step, decided.data) == ("pay", {"approval": str(one.pk), "decision": "approve", "by": "olga"})


def test_a_retry_of_the_approved_call_needs_no_second_approval(submit, worker):
    run = submit([{"key": "a", "tool": "test.flaky", "arguments": {"failures": 2}, "approval": True}])
    worker.work()

    approvals.approve(open_of(run), user=None)

    assert worker.finish(run).status == "succeeded"
    assert run.approvals.count() == 1


def test_the_gate_opens_only_after_the_approval(asked, worker, step_of):
    assert step_of(asked, "pay").effect_started_at is None
    approvals.approve(open_of(asked), user=None)
    assert step_of(asked, "pay").effect_started_at is None

    worker.finish(asked)

    assert step_of(asked, "pay").effect_started_at > asked.approvals.get().decided_at


def test_arguments_that_have_changed_since_are_asked_about_again(submit, worker):
    """They cannot, but for a file that somebody writes meanwhile: the digest is what was promised."""
    run = submit([wire(to='${files."a.txt"}'), echo("beside")], files={"a.txt": b"bob"})
    worker.work()
    first = open_of(run)
    sql("UPDATE runs_payload SET content = 'eve'")
    approvals.approve(first, user=None)

    worker.work()

    second = open_of(run)
    assert (first.arguments, second.arguments, wired()) == ({"to": "bob"}, {"to": "eve"}, [])
    approvals.approve(second, user=None)
    worker.finish(run)
    assert [call["to"] for call in wired()] == ["eve"]


def test_edit_makes_another_call_of_it(asked, worker, olga):
    old = open_of(asked)
    new = approvals.edit(old, user=olga, arguments={"to": "eve", "amount": 2.5})

    old.refresh_from_db()
    assert (old.decision, old.arguments, old.decided_by) == ("edit", {"to": "bob"}, olga)
    assert (new.decision, new.arguments, new.decided_by) == ("approve", {"to": "eve", "amount": 2.5}, olga)
    assert (new.replaces_id, new.decided_at) == (old.pk, old.decided_at)
    assert new.digest != old.digest
    worker.finish(asked)
    assert (asked.status, wired()) == ("succeeded", [{"to": "eve", "amount": 2.5, "note": None}])
    decided = asked.events.get(type="approval.decided").data
    assert (decided["decision"], decided["digest"]) == ("edit", new.digest)


@pytest.mark.parametrize("text", ["${beside}", "$${x}", "$$${a", "${", "a ${input.x} b", "$", "${files}"])
def test_what_looks_like_a_reference_in_an_edit_is_none(asked, worker, text):
    approvals.edit(open_of(asked), user=None, arguments={"to": text, "note": {"deep": [text]}})

    worker.finish(asked)

    assert (asked.status, wired()) == ("succeeded", [{"to": text, "amount": 1.0, "note": {"deep": [text]}}])


@pytest.mark.parametrize("note", [1e22, 1e-7, -0.0, 10**30, 1.0, {"é": ["\u2028", "\U0001f600", "\ufffd"]}, "", None])
def test_an_edit_runs_whatever_its_values_are(asked, worker, note):
    approvals.edit(open_of(asked), user=None, arguments={"to": "eve", "note": note})

    worker.finish(asked)

    assert (asked.status, len(wired()), asked.approvals.count()) == ("succeeded", 1, 2)


DEEP = json.loads("[" * 70 + "]" * 70)
BAD_EDITS = {
    "missing": ({}, "arguments.to", "argument_missing"),
    "wrong type": ({"to": 3}, "arguments.to", "argument_type"),
    "out of bounds": ({"to": "x", "amount": -1}, "arguments.amount", "argument_value"),
    "unknown": ({"to": "x", "cc": "y"}, "arguments.cc", "argument_unknown"),
    "no object": (["x"], "arguments", "type"),
    "null": (None, "arguments", "type"),
    "NUL": ({"to": "a\0b"}, "arguments", "bad_value"),
    "NUL in a key": ({"to": "a", "note": {"\0": 1}}, "arguments", "bad_value"),
    "half a character": ({"to": "\ud800"}, "arguments", "bad_value"),
    "no number": ({"to": "x", "note": float("nan")}, "arguments", "bad_value"),
    "the same": ({"to": "bob"}, "arguments", "unchanged"),
}


@pytest.mark.parametrize(("arguments", "path", "code"), BAD_EDITS.values(), ids=BAD_EDITS)
def test_an_edit_that_the_tool_does_not_take_changes_nothing(asked, arguments, path, code):
    before = photograph()

    with pytest.raises(InvalidInput) as caught:
        approvals.edit(open_of(asked), user=None, arguments=arguments)

    assert (caught.value.data["errors"][0]["path"], caught.value.data["errors"][0]["code"]) == (path, code)
    assert photograph() == before


@pytest.mark.parametrize("note", ["x" * 1_000_001, DEEP], ids=["large", "deep"])
def test_an_edit_that_is_too_large_changes_nothing(asked, note):
    before = photograph()

    with pytest.raises(PayloadTooLarge):
        approvals.edit(open_of(asked), user=None, arguments={"to": "eve", "note": note})

    assert photograph() == before


def test_a_denial_fails_the_step_and_its_run(asked, olga, step_of):
    one = approvals.deny(open_of(asked), user=olga, reason="Too much")

    asked.refresh_from_db()
    step = step_of(asked, "pay")
    assert (asked.status, asked.reason, asked.error["code"]) == ("failed", "policy", "approval_denied")
    assert (step.status, step.error["message"], step.failures) == ("failed", "Too much", 0)
    assert (one.decision, one.answer, wired()) == ("deny", "Too much", [])
    assert statuses(asked)["after"] == "cancelled"


def test_a_denial_that_may_be_passed_over_lets_the_run_go_on(submit, worker, step_of):
    run = submit([wire(on_error="continue"), echo("null", "${pay}", if_failed="null"), echo("skipped", "${pay}")])
    worker.work()

    approvals.deny(open_of(run), user=None)

    worker.finish(run)
    assert (run.status, run.result) == ("succeeded", {"null": None, "skipped": None})
    assert statuses(run) == {"pay": "failed", "null": "succeeded", "skipped": "skipped"}
    assert step_of(run, "pay").error["code"] == "approval_denied"


def test_a_denial_may_be_a_result_that_the_agent_sees(version_with, submit, worker, step_of):
    version_with(on_denied="result")
    run = submit([wire(), echo("after", "${pay}")])
    worker.work()

    approvals.deny(open_of(run), user=None, reason="Not today")

    worker.finish(run)
    assert (run.status, run.result) == ("succeeded", {"after": {"denied": True, "reason": "Not today"}})
    assert (wired(), run.tool_calls, step_of(run, "pay").effect_started_at) == ([], 1, None)


@pytest.mark.parametrize("reason", ["x" * 2001, "x" * 100_000])
def test_a_reason_without_end_changes_nothing(asked, reason):
    before = photograph()

    with pytest.raises(InvalidInput):
        approvals.deny(open_of(asked), user=None, reason=reason)

    assert photograph() == before


def test_a_reason_with_what_the_database_refuses_is_kept_without_it(asked, step_of):
    approvals.deny(open_of(asked), user=None, reason="a\0b\ud800")

    assert step_of(asked, "pay").error["message"] == "a\ufffdb\ufffd"


# --- Questions ----------------------------------------------------------------------------


def test_a_question_is_put_with_its_references_and_its_answer_is_the_output(questioned, worker, olga, step_of):
    one = open_of(questioned)
    assert (one.kind, one.arguments) == ("input", {"question": "How old is Bob?", "schema": NUMBER})

    one = approvals.answer(one, user=olga, answer={"n": 42})

    assert (one.decision, one.answer) == ("answer", {"n": 42})
    worker.finish(questioned)
    assert (questioned.status, questioned.result) == ("succeeded", {"after": 42})
    assert step_of(questioned, "who").attempt == 1


@pytest.mark.parametrize("said", ["${name}", None, 0, [], "", {"a": [1.5, True]}, "x" * 100_000], ids=str)
def test_an_answer_without_a_schema_is_any_json_and_never_a_template(submit, worker, said):
    run = submit([ask()])
    worker.work()

    approvals.answer(open_of(run), user=None, answer=said)

    run.refresh_from_db()
    assert (run.status, run.result) == ("succeeded", {"who": said})


def test_the_objective_is_a_question_too(submit, worker):
    run = submit([{"key": "who", "kind": "ask", "objective": "Who wants ${input}?"}], input=["tea"])
    worker.work()

    assert open_of(run).arguments == {"question": 'Who wants ["tea"]?', "schema": None}


def test_a_question_that_is_one_reference_is_shown_as_text(submit, worker):
    run = submit([ask(question="${input}")], input={"a": 1})
    worker.work()

    assert open_of(run).arguments["question"] == '{"a":1}'


@pytest.mark.parametrize(
    ("said", "path"), [({"n": "x"}, "answer.n"), ({}, "answer"), (3, "answer"), (None, "answer")], ids=str
)
def test_an_answer_that_does_not_fit_changes_nothing(questioned, said, path):
    before = photograph()

    with pytest.raises(InvalidInput) as caught:
        approvals.answer(open_of(questioned), user=None, answer=said)

    assert [fault["path"] for fault in caught.value.data["errors"]] == [path]
    assert photograph() == before


@pytest.mark.parametrize(
    ("said", "error"),
    [("\0", InvalidInput), ("\udfff", InvalidInput), (float("inf"), InvalidInput), ("x" * 1_000_001, PayloadTooLarge),
     (DEEP, PayloadTooLarge)],
    ids=["NUL", "half a character", "endless", "large", "deep"],
)  # fmt: skip
def test_an_answer_that_cannot_be_stored_changes_nothing(submit, worker, said, error):
    run = submit([ask()])
    worker.work()
    before = photograph()

    with pytest.raises(error):
        approvals.answer(open_of(run), user=None, answer=said)

    assert photograph() == before


def test_a_question_may_be_refused_an_answer(questioned):
    approvals.deny(open_of(questioned), user=None, reason="None of your business")

    questioned.refresh_from_db()
    assert (questioned.status, questioned.error["code"]) == ("failed", "approval_denied")


# --- Once, in time, and on what was seen ------------------------------------------------------


def fitting(word, asked, questioned):
    return open_of(questioned if word == "answer" else asked)


def refused(decide, error):
    before = photograph()
    with pytest.raises(error) as caught:
        decide()
    assert photograph() == before
    return caught.value


@pytest.mark.promise("P16")
@pytest.mark.parametrize("second", DECISIONS)
@pytest.mark.parametrize("first", ["approve", "edit", "deny"])
def test_a_second_decision_is_refused_and_changes_nothing(asked, first, second):
    """Whether it knows of the first already or not."""
    stale = open_of(asked)
    DECISIONS[first](open_of(asked))

    fresh = approvals.get(asked.workspace_id, stale.pk)
    for known in (stale, fresh):
        error = refused(
            lambda one=known: DECISIONS[second](one), ApprovalDecided if second != "answer" else InvalidTransition
        )
        assert error.http_status == 409


@pytest.mark.parametrize("second", ["deny", "answer"])
def test_a_second_answer_is_refused_and_changes_nothing(questioned, second):
    stale = open_of(questioned)
    approvals.answer(open_of(questioned), user=None, answer={"n": 1})

    for known in (stale, approvals.get(questioned.workspace_id, stale.pk)):
        refused(lambda one=known: DECISIONS[second](one), ApprovalDecided)


@pytest.mark.parametrize("word", DECISIONS)
def test_a_decision_that_is_none_for_this_question_is_refused(asked, questioned, word):
    wrong = asked if word == "answer" else questioned
    if word == "deny":
        return  # both can be denied

    refused(lambda: DECISIONS[word](open_of(wrong)), InvalidTransition)


@pytest.mark.parametrize("word", DECISIONS)
def test_after_a_cancel_nothing_is_decided_any_more(asked, questioned, word):
    one = fitting(word, asked, questioned)
    services.cancel(one.run)

    for known in (one, approvals.get(one.workspace_id, one.pk)):
        assert "run has finished" in refused(lambda one=known: DECISIONS[word](one), InvalidTransition).message


def test_a_cancel_closes_what_is_open(asked):
    services.cancel(asked)

    one = asked.approvals.get()
    assert (one.decision, one.decided_by, one.decided_at is not None) == ("cancelled", None, True)
    assert events(asked)[-5:] == [
        "run.cancelling", "approval.decided pay", "step.cancelled pay", "step.cancelled after", "run.cancelled",
    ]  # fmt: skip


def test_a_run_that_fails_elsewhere_closes_what_is_open(submit, worker):
    run = submit([wire(), {"key": "b", "tool": "test.fail"}])
    worker.finish(run)

    assert (run.status, run.approvals.get().decision) == ("failed", "cancelled")


@pytest.mark.parametrize("word", DECISIONS)
def test_after_its_time_nothing_is_decided_even_before_the_sweeper_comes(asked, questioned, word):
    one = fitting(word, asked, questioned)
    overdue(one.run)

    refused(lambda: DECISIONS[word](one), ApprovalExpired)

    sweeps.expire_questions()
    for known in (one, approvals.get(one.workspace_id, one.pk)):
        refused(lambda one=known: DECISIONS[word](one), ApprovalExpired)


@pytest.mark.parametrize("which", ["asked", "questioned"])
def test_when_its_time_is_over_the_step_fails(which, request, step_of):
    run = request.getfixturevalue(which)
    overdue(run)

    assert sweeps.expire_questions() == []
    assert sweeps.expire_questions() == []

    run.refresh_from_db()
    step = run.steps.get(status="failed")
    assert (run.status, run.reason, step.error["code"]) == ("failed", "policy", "approval_expired")
    one = run.approvals.get()
    assert (one.decision, one.decided_by, one.decided_at is not None) == ("expired", None, True)
    assert events(run).count(f"approval.decided {step.key}") == 1


def test_a_run_may_go_on_after_an_approval_that_nobody_gave(submit, worker):
    run = submit([wire(on_error="continue"), echo("b", "${pay}", if_failed="null")])
    worker.work()
    overdue(run)

    assert sweeps.expire_questions() == ["compute"]

    assert worker.finish(run).result == {"b": None}


@pytest.mark.parametrize(
    ("step_s", "version_s", "expected_s"), [(60, 600, 60), (None, 600, 600), (None, None, 604_800)]
)
def test_how_long_a_person_has_is_the_steps_word_or_the_agents_or_ours(
    version_with, submit, worker, step_s, version_s, expected_s
):
    version_with(**({"expires_s": version_s} if version_s else {}))
    submit([wire(expires_s=step_s), ask(expires_s=step_s)])
    worker.work()

    for key in ("pay", "who"):
        assert expected_s - 60 < waits_until(key) <= expected_s
    assert Approval.objects.filter(expires_at__isnull=True).count() == 0


@pytest.mark.parametrize("word", DECISIONS)
def test_a_decision_on_something_else_than_was_seen_is_refused(asked, questioned, word):
    one = fitting(word, asked, questioned)
    extra = {"edit": {"arguments": {"to": "eve"}}, "answer": {"answer": {"n": 1}}}.get(word, {})

    for wrong in ("0" * 64, "", one.digest.upper()):
        refused(lambda wrong=wrong: getattr(approvals, word)(one, user=None, digest=wrong, **extra), ApprovalChanged)

    getattr(approvals, word)(one, user=None, digest=one.digest, **extra)


def test_another_workspaces_approval_does_not_exist(asked):
    with pytest.raises(NotFound):
        approvals.get(uuid7(), open_of(asked).pk)


# --- Among others -------------------------------------------------------------------------


def test_a_run_waits_for_what_is_left_to_wait_for(submit, worker):
    charge = {"key": "charge", "tool": "test.charge", "arguments": {"how": "unknown"}}
    run = submit([charge, wire(), ask()])
    worker.work()

    def reason():
        run.refresh_from_db()
        return run.status, run.reason

    approvals.answer(open_of(run, "who"), user=None, answer=1)
    assert reason() == ("waiting", "outcome_unknown")
    services.resolve(run, "charge", outcome="done")
    assert reason() == ("waiting", "approval")
    approvals.approve(open_of(run, "pay"), user=None)
    assert worker.finish(run).status == "succeeded"


def test_two_steps_are_asked_about_each_for_itself(submit, worker):
    run = submit([wire("a", "ann"), wire("b", "bob")])
    worker.work()

    approvals.deny(open_of(run, "b"), user=None)

    assert {one.step.key: one.decision for one in run.approvals.select_related("step")} == {
        "a": "cancelled",
        "b": "deny",
    }


def test_a_worker_that_ends_during_the_approved_call_leaves_it_to_a_person(asked, worker):
    approvals.approve(open_of(asked), user=None)
    held = claim("compute", owner="w")
    assert claims.open_gate(held)
    moves.give_back(held.id, asked.pk, held.claim_token, why="dead")

    services.resolve(asked, "pay", outcome="not_done")

    worker.finish(asked)
    assert (asked.status, len(wired()), asked.approvals.count()) == ("succeeded", 1, 1)


def test_what_is_decided_in_a_paused_run_goes_on_with_the_resume(asked, worker):
    control.pause(asked)
    approvals.approve(open_of(asked), user=None)
    assert (worker.work(), statuses(asked)["pay"], wired()) == (0, "queued", [])

    control.resume(asked)

    assert worker.finish(asked).status == "succeeded"


def test_a_question_asked_while_the_run_is_paused_is_what_it_waits_for_afterwards(submit):
    run = submit([wire()])
    held = claim("compute", owner="w")
    control.pause(run)
    decisions.ask(held, asking.question("test.wire", {"to": "bob"}))

    control.resume(run)

    run.refresh_from_db()
    assert (run.status, run.reason, open_of(run).decision) == ("waiting", "approval", "")


@pytest.mark.parametrize(("how", "calls"), [("unavailable", 1), ("lost", 2)])
def test_an_approved_call_whose_end_nobody_saw_is_verified_and_not_approved_again(submit, worker, how, calls):
    """Whether its check finds that it has happened, or that it may be made again."""
    tools.landed.clear()
    run = submit(
        [{"key": "a", "tool": "test.transfer", "arguments": {"how": how}, "approval": True, "max_attempts": 2}]
    )
    worker.work()
    approvals.approve(open_of(run), user=None)

    worker.finish(run)

    assert len([name for name, _ in tools.calls if name == "charge"]) == calls
    assert run.approvals.count() == 1
    assert run.events.filter(type="step.verified").exists()


def test_a_retry_of_a_denied_run_asks_again_and_about_the_same(asked, worker):
    approvals.deny(open_of(asked), user=None)
    asked.refresh_from_db()

    again, _ = control.retry(asked)
    worker.work()

    assert open_of(again).arguments == {"to": "bob"}
    approvals.approve(open_of(again), user=None)
    assert worker.finish(again).status == "succeeded"


def test_a_retry_after_an_edit_asks_about_the_edited_call(submit, worker):
    run = submit([{"key": "a", "tool": "test.fail", "arguments": {"message": "x"}, "approval": True}])
    worker.work()
    approvals.edit(open_of(run), user=None, arguments={"message": "${a}"})
    worker.finish(run)
    assert (run.status, run.error["message"]) == ("failed", "${a}")

    again, _ = control.retry(run)
    worker.work()

    assert open_of(again).arguments == {"message": "${a}"}
