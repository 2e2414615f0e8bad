"""No more calls and tokens a minute than a provider's account may have, whoever asks; turns are kept in their order."""

import random
from types import SimpleNamespace

import pytest

from agentsys.agents.models import AgentVersion
from agentsys.core.errors import ModelRateLimited
from agentsys.llm.types import CallEstimate
from agentsys.runs import blockers
from agentsys.runs.models import ModelRate, Run
from agentsys.runs.store import rates
from tests.support.priced import MODEL
from tests.support.rows import sql, wake_now
from tests.support.threads import in_parallel
from tests.support.worker import statuses

SAY = {"key": "say", "kind": "answer", "objective": "Say something.", "max_attempts": 1}


def admit(step, tokens=100):
    """What was let through, or how long it has to wait."""
    try:
        return rates.admit(SimpleNamespace(id=step), MODEL, CallEstimate(tokens, 0)), 0.0
    except ModelRateLimited as error:
        return None, error.data["retry_after_s"]


def passes(seconds):
    """Time goes by."""
    sql("UPDATE runs_modelrate SET at = at - make_interval(secs => %s)", seconds)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_as_many_are_let_through_as_may_be_and_the_others_get_their_turns(settings):
    settings.MODEL_LIMITS = {"openai": {"requests": 5}}
    came = [one for n in range(3) for one in in_parallel(*[lambda step=n * 6 + k: admit(step) for k in range(6)])]
    waits = sorted(wait for call, wait in came if call is None)
    assert len(waits) == 13
    assert [round(wait / 65) for wait in waits] == [1] * 5 + [2] * 5 + [3] * 3


@pytest.mark.django_db(transaction=True)
def test_tokens_are_counted_as_what_may_be_used_and_then_as_what_was(settings):
    settings.MODEL_LIMITS = {"openai": {"tokens": 250}}
    (first, _), (second, _) = admit(1), admit(2)
    assert admit(3)[0] is None
    rates.settle(first, 10)
    rates.settle(second, 10)
    assert admit(4)[0] is not None
    assert admit(5)[0] is None, "the third's turn counts"


@pytest.mark.django_db(transaction=True)
def test_a_turn_is_kept_for_whoever_has_it_and_nobody_gets_it_before(settings):
    settings.MODEL_LIMITS = {"openai": {"requests": 1}}
    assert admit(1)[0] is not None
    _, wait = admit(2)
    assert 59 < wait <= 60
    passes(wait + 0.5)
    assert admit(3)[0] is None
    assert admit(2)[0] is not None


@pytest.mark.django_db(transaction=True)
def test_a_turn_that_is_not_taken_is_free_again(settings):
    settings.MODEL_LIMITS = {"openai": {"requests": 1}}
    admit(1), admit(2)
    passes(66)
    assert admit(3)[0] is not None


@pytest.mark.django_db(transaction=True)
def test_a_large_call_has_its_turn_among_many_small_ones(settings):
    settings.MODEL_LIMITS = {"openai": {"tokens": 1_000}}
    for step in range(10):
        assert admit(step)[0] is not None
    _, wait = admit(99, 900)
    small = [admit(step) for step in range(10, 20)]
    assert all(call is None and later > wait for call, later in small[1:])
    passes(wait + 0.1)
    assert admit(99, 900)[0] is not None


@pytest.mark.django_db(transaction=True)
def test_a_call_larger_than_the_limit_goes_by_itself(settings):
    settings.MODEL_LIMITS = {"openai": {"tokens": 100}}
    assert admit(1, 5_000)[0] is not None
    assert admit(2, 1)[0] is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(6))
def test_in_no_minute_are_there_more_than_may_be(settings, seed):
    """Time is moved by moving what is written; calls come, wait, come back in time or too late, and use less."""
    drawn, now, waiting, made = random.Random(seed), 0.0, {}, []
    settings.MODEL_LIMITS = {"openai": {"requests": 6, "tokens": 1_000}}
    for step in range(600):
        seconds = drawn.choices([0, 0.3, 2, 4, 30], [4, 4, 4, 4, 1])[0]
        passes(seconds)
        now += seconds
        due = [other for other, (at, _) in waiting.items() if at <= now]
        if not due and len(waiting) > 4:
            continue
        who = drawn.choice(due) if due else step
        tokens = waiting.pop(who, (0, drawn.choice([1, 100, 400, 1_000])))[1]
        call, wait = admit(who, tokens)
        if call is None:
            waiting[who] = (now + wait, tokens)
        else:
            made.append((now, tokens))
    assert len(made) > 25
    for at, _ in made:
        within = [tokens for when, tokens in made if at - 59.9 < when <= at]
        assert len(within) <= 6
        assert sum(within) <= 1_000


def test_a_step_over_the_limit_waits_without_a_worker_and_uses_up_no_try(submit, worker, priced, settings):
    settings.MODEL_LIMITS = {"openai": {"requests": 2}}
    runs = [submit([SAY], answer="${say}", model=MODEL) for _ in range(3)]
    worker.drain("model")

    assert [statuses(run)["say"] for run in runs] == ["succeeded", "succeeded", "sleeping"]
    step = runs[2].steps.get()
    assert (step.failures, step.error["code"]) == (0, "model_rate_limited")
    found = blockers.of(Run.objects.get(pk=runs[2].pk), live_lanes=["model"]).found[0]
    assert (found.kind, "AGENTSYS_MODEL_LIMITS" in found.message) == ("rate_limit", True)
    assert len(priced.requests) == 2

    passes(61)
    wake_now(runs[2])
    assert worker.finish(runs[2]).status == "succeeded"
    assert ModelRate.objects.count() == 1


def test_what_a_call_has_used_is_what_counts_afterwards(submit, worker, priced, settings):
    settings.MODEL_LIMITS = {"openai": {"tokens": 20_000}}
    priced.answers("said", tokens=(100, 50))
    worker.finish(submit([SAY], model=MODEL))
    assert ModelRate.objects.get().tokens == 150


def test_budgets_are_not_charged_for_a_call_that_has_to_wait(submit, worker, priced, settings):
    settings.MODEL_LIMITS = {"openai": {"requests": 1}}
    worker.finish(submit([SAY], model=MODEL))
    run = submit([SAY], model=MODEL, limits={"tokens": 50_000})
    worker.drain("model")
    budget = run.budgets.get(kind="tokens")
    assert (budget.spent, budget.reserved) == (0, 0)


def test_without_a_limit_nothing_is_written(submit, worker, priced, settings):
    settings.MODEL_LIMITS = {"anthropic": {"requests": 1}}
    worker.finish(submit([SAY], model=MODEL))
    assert ModelRate.objects.count() == 0


def test_a_model_of_another_account_is_asked_in_its_place(submit, worker, priced, agent, settings):
    settings.MODEL_LIMITS = {"openai": {"requests": 1}}
    admit(1)
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, model=MODEL, fallback_models=["anthropic:other"]
    )
    agent.save()
    run = worker.finish(submit([SAY], answer="${say}"))
    assert (run.status, run.result) == ("succeeded", "said")
    assert run.events.get(type="model.switched").data["to"] == "anthropic:other"
