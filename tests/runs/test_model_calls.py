"""What models were asked and what they answered is kept: all of it, once, and for as long as the run's history."""

from uuid import uuid4

import pytest
from django.db import IntegrityError

from agentsys.agents.models import AgentVersion
from agentsys.core.errors import ModelFailed, ModelUnavailable, NotFound
from agentsys.llm.types import ModelRequest
from agentsys.runs import told_models
from agentsys.runs.models import ModelCall, Payload, PayloadUse
from agentsys.runs.store import model_calls
from agentsys.runs.store.model_calls import MAX_DEPTH, Asked
from tests.support.outages import lose_answer
from tests.support.priced import MODEL
from tests.support.rows import sql, unguarded, value, wake_now

SAY = {"key": "say", "kind": "answer", "objective": "Say something."}
ACT = {"key": "a", "kind": "act", "objective": "Do it."}
STOPPED = r"is append-only"


def calls(n):
    return {"calls": [{"tool": "test.echo", "arguments": {"value": n}}], "text": ""}


def whole(call):
    return told_models.whole(call.run_id, call.pk)


def kept_bytes(run):
    """Of all that a run's calls of models add."""
    return value(
        "SELECT (SELECT coalesce(sum(pg_column_size(c)), 0) FROM runs_modelcall c WHERE run_id = %s)"
        " + (SELECT coalesce(sum(p.size_bytes), 0) FROM runs_payload p JOIN runs_payloaduse u ON u.payload_id = p.id"
        " WHERE u.run_id = %s) AS bytes",
        run.pk, run.pk,
    )  # fmt: skip


def test_a_call_is_kept_with_what_was_asked_answered_and_used(submit, worker, priced):
    priced.answers("Hello.", tokens=(100, 50))
    run = worker.finish(submit([SAY], model=MODEL, answer="${say}", goal="Greet."))

    call = whole(ModelCall.objects.get())
    assert (call.run_id, call.step.key, call.attempt, call.number) == (run.pk, "say", 1, 1)
    assert (call.model, call.purpose, call.error, call.cached) == (MODEL, "answer", None, False)
    assert (call.input_tokens, call.output_tokens, str(call.cost_usd)) == (100, 50, "0.0002000000")
    assert call.response == "Hello."
    assert "Say something." in call.request["prompt"]
    assert call.request["system"] == priced.requests[0].system
    assert call.took_s >= 0


def test_a_call_that_failed_is_kept_with_its_error_and_each_try_is_one(submit, worker, priced):
    priced.does(ModelUnavailable("Away.", retry_after_s=0, cost=False)).does(ModelFailed("No."))
    run = submit([SAY], model=MODEL)
    worker.work()
    wake_now(run)
    worker.finish(run)
    found = [(call.attempt, call.number, call.error["code"], call.answer) for call in ModelCall.objects.all()]
    assert found == [(1, 1, "model_unavailable", ""), (2, 1, "model_failed", "")]
    assert whole(ModelCall.objects.first()).response is None


def test_a_long_history_of_turns_is_kept_once(submit, worker, priced):
    def used(turns):
        for n in range(turns):
            priced.answers(calls(n))
        priced.answers({"result": "done"})
        run = worker.finish(submit([ACT], model=MODEL, answer="${a}"))
        assert (run.status, run.result) == ("succeeded", "done")
        return run, kept_bytes(run)

    (_, few), (run, many) = used(20), used(40)
    assert float(many) < 2.6 * float(few)
    last = ModelCall.objects.filter(run_id=run.pk).last()
    assert len(whole(last).request["turns"]) == 40 == len(priced.requests[-1].turns)
    assert [turn["calls"][0]["arguments"]["value"] for turn in whole(last).request["turns"]] == list(range(40))
    assert ModelCall.objects.filter(run_id=run.pk, depth__gt=MAX_DEPTH).count() == 0
    assert ModelCall.objects.filter(run_id=run.pk, depth=1).count() == 2


def test_every_call_of_a_chain_reads_as_it_was_asked(submit, worker, priced):
    for n in range(MAX_DEPTH + 3):
        priced.answers(calls(n))
    worker.finish(submit([ACT], model=MODEL))
    read = [whole(call).request for call in ModelCall.objects.all()]
    for was, found in zip(priced.requests, read, strict=True):
        assert (found["prompt"], len(found["turns"]), found["note"]) == (was.prompt, len(was.turns), was.note)


def test_what_is_the_same_in_many_runs_is_kept_once(submit, worker, priced):
    for _ in range(3):
        priced.answers("Hello.")
        worker.finish(submit([SAY], model=MODEL, goal="Greet."))
    assert ModelCall.objects.count() == 3
    assert Payload.objects.count() == len({*Payload.objects.values_list("sha256", flat=True)})
    assert PayloadUse.objects.count() == 3 * Payload.objects.count()


def test_a_lost_answer_to_the_commit_keeps_it_once(submit, worker, priced, monkeypatch):
    sent = lose_answer(monkeypatch, "record_call")
    run = worker.finish(submit([SAY], model=MODEL))
    assert len(sent) == 2
    assert (run.status, ModelCall.objects.count(), len(priced.requests)) == ("succeeded", 1, 1)


def test_an_answer_with_what_no_table_takes_is_kept_clean(submit, worker, priced):
    priced.answers("a\x00b\ud800c")
    worker.finish(submit([SAY], model=MODEL))
    assert whole(ModelCall.objects.get()).response == "a\ufffdb\ufffdc"


def test_a_call_is_never_changed_and_belongs_to_its_run(submit, worker, priced, agent):
    worker.finish(submit([SAY], model=MODEL))
    with pytest.raises(IntegrityError, match=STOPPED):
        sql("UPDATE runs_modelcall SET model = 'other'")
    other = worker.finish(submit([SAY], model=MODEL))
    with pytest.raises(NotFound):
        told_models.whole(other.pk, ModelCall.objects.first().pk)


def test_the_offline_model_leaves_nothing(submit, worker):
    worker.finish(submit([SAY]))
    assert ModelCall.objects.count() == 0


def test_the_installations_own_key_is_kept_nowhere(submit, worker, priced, settings):
    settings.OPENAI_API_KEY = "sk-live-0123456789"
    priced.answers("Your key is sk-live-0123456789.")
    worker.finish(submit([SAY | {"objective": "Say sk-live-0123456789."}], model=MODEL))
    call = whole(ModelCall.objects.get())
    assert "sk-live" not in f"{call.request}{call.response}"
    assert call.response == "Your key is [redacted]."


# --- Answers taken again -------------------------------------------------------------------
@pytest.fixture
def caching(agent):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, model=MODEL, planning={"cache_s": 60}
    )
    agent.save()


def test_the_same_question_is_answered_as_before_and_costs_nothing(submit, worker, priced, caching):
    priced.answers("Hello.")
    first, second = (worker.finish(submit([SAY], answer="${say}", goal="Greet.")) for _ in range(2))
    assert (first.result, second.result, len(priced.requests)) == ("Hello.", "Hello.", 1)
    assert (second.input_tokens, second.cost_usd) == (0, 0)
    assert list(ModelCall.objects.values_list("cached", flat=True)) == [False, True]


def test_another_question_an_older_answer_and_a_failure_are_asked(submit, worker, priced, caching):
    priced.does(ModelFailed("No.")).answers("One.").answers("Two.").answers("Three.")
    assert worker.finish(submit([SAY], goal="Greet.")).status == "failed"
    assert worker.finish(submit([SAY], answer="${say}", goal="Greet.")).result == "One."
    other = SAY | {"objective": "Say something else."}
    assert worker.finish(submit([other], answer="${say}", goal="Greet.")).result == "Two."
    with unguarded():
        sql("UPDATE runs_modelcall SET at = at - interval '61 seconds'")
    assert worker.finish(submit([SAY], answer="${say}", goal="Greet.")).result == "Three."


def test_no_other_workspace_and_no_other_model_is_given_an_answer(submit, worker, priced, caching, agent):
    priced.answers("Hello.")
    worker.finish(submit([SAY], goal="Greet."))
    asked = Asked.of(MODEL, priced.requests[0])
    assert model_calls.answered_before(asked, agent.workspace_id, within_s=60) == ("Hello.",)
    assert model_calls.answered_before(asked, uuid4(), within_s=60) is None
    elsewhere = Asked.of("openai-chat:other", priced.requests[0])
    assert model_calls.answered_before(elsewhere, agent.workspace_id, within_s=60) is None


def test_without_the_term_every_question_is_asked(submit, worker, priced):
    for _ in range(2):
        worker.finish(submit([SAY], model=MODEL, goal="Greet."))
    assert len(priced.requests) == 2


def test_a_part_that_is_too_large_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(model_calls, "MAX_BYTES", 2_000)
    asked = Asked.of(MODEL, ModelRequest("answer", "x" * 5_000, "p"))
    assert b"left_out" in asked.contents[asked.parts[1]]
