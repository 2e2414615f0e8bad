"""Models that cannot answer: others are asked in their place, and one that fails again and again is left alone."""

from decimal import Decimal

import pytest
from django.utils import timezone

from agentsys.agents.models import AgentVersion
from agentsys.core.errors import (
    AnswerCut,
    ContextOverflow,
    ModelFailed,
    ModelNotFound,
    ModelOverloaded,
    ModelQuotaExhausted,
    ModelRateLimited,
    ModelUnauthorized,
    ModelUnavailable,
)
from agentsys.llm.types import ModelResponse, Usage
from agentsys.runs import blockers, control, services
from agentsys.runs.models import Breaker, Run
from agentsys.runs.store import breakers, sweeps
from agentsys.runs.store.breakers import MOST
from tests.support import priced as scripted
from tests.support.rows import sql, wake_now
from tests.support.threads import in_parallel
from tests.support.worker import events, statuses

FIRST, SECOND, THIRD = "openai-chat:first", "openai-chat:second", "anthropic:third"
SAY = {"key": "say", "kind": "answer", "objective": "Say something."}


@pytest.fixture
def models(priced, agent, monkeypatch):
    """Models by name, each with what it does; and the agent asks the first, then the others."""
    does: dict[str, list] = {FIRST: [], SECOND: [], THIRD: []}
    asked: list[str] = []

    async def ask(prefix, name, request, timeout_s, told=None):
        model = f"{prefix}:{name}"
        asked.append(model)
        answer = does[model].pop(0) if does[model] else f"said by {name}"
        if isinstance(answer, tuple):  # it begins to answer, and then fails
            told(answer[0])
            answer = answer[1]
        if isinstance(answer, Exception):
            raise answer
        return ModelResponse(answer, Usage(10, 5, 0, 1), model)

    monkeypatch.setattr(scripted, "ask", ask)
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, model=FIRST, fallback_models=[SECOND, THIRD]
    )
    agent.save()
    does["asked"] = asked
    return does


def away(**data):
    return ModelUnavailable("It is away.", **data)


def switched(run):
    return [
        (event.data["model"], event.data["to"], event.data["error"]["code"])
        for event in run.events.filter(type="model.switched").order_by("seq")
    ]


# --- Others in its place -----------------------------------------------------------------
def test_when_the_model_cannot_answer_the_next_one_is_asked_and_each_switch_is_told(submit, worker, models):
    models[FIRST], models[SECOND] = [away()], [ModelRateLimited("Wait.", retry_after_s=3600)]
    run = worker.finish(submit([SAY], answer="${say}"))

    assert (run.status, run.result) == ("succeeded", "said by third")
    assert models["asked"] == [FIRST, SECOND, THIRD]
    assert switched(run) == [(FIRST, SECOND, "model_unavailable"), (SECOND, THIRD, "model_rate_limited")]
    assert run.steps.get().failures == 0


def test_when_all_are_away_the_step_is_tried_again_with_the_first(submit, worker, models):
    for model in (FIRST, SECOND, THIRD):
        models[model] = [away(retry_after_s=0)]
    run = worker.finish(submit([SAY], answer="${say}"))
    assert run.result == "said by first"
    assert models["asked"] == [FIRST, SECOND, THIRD, FIRST]


def test_what_is_too_long_is_asked_once_more_with_less_then_of_another_model(submit, worker, models):
    models[FIRST] = [ContextOverflow("Too long.", cost=False)] * 2
    run = worker.finish(submit([SAY | {"objective": "Say something. " * 1_000}], answer="${say}"))

    assert (run.result, models["asked"]) == ("said by second", [FIRST, FIRST, SECOND])
    (told,) = run.events.filter(type="model.compacted")
    assert (told.data["model"], told.data["error"]["code"]) == (FIRST, "context_overflow")
    assert switched(run) == [(FIRST, SECOND, "context_overflow")]
    assert run.steps.get().failures == 0


def test_what_cannot_be_made_shorter_is_not_asked_again(submit, worker, agent, models):
    alone(models, agent)
    models[FIRST] = [ContextOverflow("Too long.", cost=False)]
    run = worker.finish(submit([SAY]))
    assert (run.status, run.error["code"], models["asked"]) == ("failed", "context_overflow", [FIRST])
    assert not run.events.filter(type="model.compacted").exists()


def test_of_several_that_fail_the_one_decides_that_may_answer_soonest(submit, worker, models):
    models[FIRST] = [ModelRateLimited("Wait.", retry_after_s=3600)]
    models[SECOND] = [ModelOverloaded("Much to do.", retry_after_s=60)]
    models[THIRD] = [ModelNotFound("Who?")]
    run = submit([SAY | {"max_attempts": 1}], answer="${say}")
    worker.drain("model")
    step = run.steps.get()
    assert (step.status, step.error["code"], step.failures) == ("sleeping", "model_overloaded", 0)
    assert 30 < (step.available_at - timezone.now()).total_seconds() <= 60
    found = blockers.of(Run.objects.get(pk=run.pk), live_lanes=["model"]).found[0]
    assert found.kind == "rate_limit"

    wake_now(run)
    assert worker.finish(run).result == "said by first"


def test_a_wait_without_a_time_gets_longer_from_one_to_the_next(submit, worker, agent, models, settings):
    alone(models, agent)
    settings.RETRY_BASE_S, settings.RETRY_CAP_S = 10, 1_000
    models[FIRST] = [ModelOverloaded("Much to do.")] * 4
    run, waits = submit([SAY]), []
    for _ in range(4):
        worker.work(sleepers=True)
        waits.append((run.steps.get().available_at - timezone.now()).total_seconds())
        wake_now(run)
    assert waits[3] > 39 > 11 > waits[0]


def test_what_an_answer_that_is_none_has_used_is_charged(submit, worker, agent, models):
    alone(models, agent)
    used = Usage(300, 200, Decimal("0.5"), 1)
    models[FIRST] = [AnswerCut("Cut.", usage=used.as_data())]
    run = worker.finish(submit([SAY], limits={"tokens": 50_000, "cost_usd": 5}))
    assert (run.status, run.error["code"]) == ("failed", "answer_cut")
    spent = {budget.kind: budget.spent for budget in run.budgets.all()}
    assert (spent["tokens"], spent["cost_micros"]) == (500, 500_000)


def test_a_model_that_refuses_is_not_replaced(submit, worker, models):
    models[FIRST] = [ModelFailed("No.")]
    run = worker.finish(submit([SAY]))
    assert (run.status, models["asked"]) == ("failed", [FIRST])


def test_an_answer_that_has_begun_is_not_gone_on_by_another_model(submit, worker, models):
    models[FIRST] = [("To be", away(retry_after_s=0))]
    run = worker.finish(submit([SAY], answer="${say}"))
    assert (run.result, models["asked"], switched(run)) == ("said by first", [FIRST, FIRST], [])


def test_a_run_with_a_model_of_its_own_gets_no_other(submit, worker, models):
    models[THIRD] = [away(retry_after_s=0)]
    run = worker.finish(submit([SAY], answer="${say}", model=THIRD))
    assert (run.result, models["asked"]) == ("said by third", [THIRD, THIRD])


def test_budgets_hold_across_models(submit, worker, models):
    models[FIRST] = [away(cost=False)]
    run = worker.finish(submit([SAY], limits={"tokens": 50_000}))
    assert run.status == "succeeded"
    assert Run.objects.get(pk=run.pk).input_tokens == 10


# --- Accounts that are not in order ---------------------------------------------------------
@pytest.mark.parametrize("error", [ModelUnauthorized, ModelQuotaExhausted])
def test_a_step_waits_for_the_account_and_goes_on_when_somebody_says_so(submit, agent, worker, models, error):
    alone(models, agent)
    models[FIRST] = [error("The key is not taken.", model=FIRST, cost=False)]
    run = submit([SAY | {"max_attempts": 1}], answer="${say}")
    worker.work()
    run.refresh_from_db()
    assert (run.status, run.reason) == ("waiting", "credential")
    step = run.steps.get()
    assert (step.status, step.reason, step.failures, step.error["code"]) == ("waiting", "credential", 0, error.code)
    assert "step.waiting say" in events(run)
    found = blockers.of(run, live_lanes=["model"]).found[0]
    assert (found.kind, f"/runs/{run.pk}/resume" in found.unblock) == ("credential", True)
    assert not Breaker.objects.exists()

    control.resume(run)

    assert worker.finish(run).result == "said by first"


def test_a_step_that_waits_for_an_account_asks_again_by_itself(submit, agent, worker, models):
    alone(models, agent)
    models[FIRST] = [ModelUnauthorized("No."), ModelUnauthorized("No.")]
    run = submit([SAY], answer="${say}")
    worker.work()
    assert sweeps.release_credentials() == []
    sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE run_id = %s", run.pk)
    assert sweeps.release_credentials() == ["model"]
    worker.work()
    assert statuses(run) == {"say": "waiting"}
    sql("UPDATE runs_step SET available_at = clock_timestamp() WHERE run_id = %s", run.pk)
    sweeps.release_credentials()
    assert worker.finish(run).result == "said by first"


def test_another_account_answers_in_the_place_of_one_that_is_not_in_order(submit, worker, models):
    models[FIRST], models[SECOND] = [ModelQuotaExhausted("No credit.")], [ModelUnauthorized("No.")]
    run = worker.finish(submit([SAY], answer="${say}"))
    assert run.result == "said by third"
    assert [code for _, _, code in switched(run)] == ["model_quota_exhausted", "model_unauthorized"]


def test_a_cancel_reaches_a_step_that_waits_for_an_account(submit, agent, worker, models):
    alone(models, agent)
    models[FIRST] = [ModelUnauthorized("No.")]
    run = submit([SAY])
    worker.work()
    services.cancel(run)
    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("cancelled", {"say": "cancelled"})


# --- Breakers -----------------------------------------------------------------------------
def alone(models, agent, number=3):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=number, model=FIRST
    )
    agent.save()


def test_a_model_that_fails_again_and_again_is_left_alone_by_all_and_uses_up_no_try(submit, agent, worker, models):
    alone(models, agent)
    models[FIRST] = [away(retry_after_s=0)] * MOST
    runs = [submit([SAY | {"max_attempts": 1}]) for _ in range(MOST)]
    worker.drain("model")
    assert [Run.objects.get(pk=run.pk).status for run in runs] == ["failed"] * MOST

    run = submit([SAY | {"max_attempts": 1}])
    worker.drain("model")

    assert len(models["asked"]) == MOST
    step = run.steps.get()
    assert (step.status, step.failures, step.error["code"]) == ("sleeping", 0, "model_paused")
    found = blockers.of(Run.objects.get(pk=run.pk), live_lanes=["model"]).found[0]
    assert (found.kind, found.step) == ("breaker", "say")
    assert "has failed 5 times in a row" in found.message


def test_after_a_while_one_call_asks_again_and_an_answer_closes_it(submit, agent, worker, models):
    alone(models, agent)
    for _ in range(MOST):
        breakers.failed(FIRST, away())
    run = submit([SAY], answer="${say}")
    worker.drain("model")
    assert (statuses(run), models["asked"]) == ({"say": "sleeping"}, [])

    sql("UPDATE runs_breaker SET open_until = clock_timestamp()")
    wake_now(run)

    assert worker.finish(run).result == "said by first"
    assert not Breaker.objects.exists()


def test_of_many_that_come_when_it_is_time_one_is_let_through(transactional_db):
    for _ in range(MOST):
        breakers.failed(FIRST, away())
    sql("UPDATE runs_breaker SET open_until = clock_timestamp()")

    def ask():
        try:
            return breakers.admit(FIRST, timeout_s=60)
        except ModelUnavailable:
            return None

    assert in_parallel(*[ask] * 6).count(True) == 1


def test_a_probe_that_fails_leaves_it_alone_for_longer(transactional_db):
    for _ in range(MOST):
        breakers.failed(FIRST, away())
    first = Breaker.objects.get()
    breakers.failed(FIRST, away())
    second = Breaker.objects.get()
    assert second.open_until - second.failed_at > 1.9 * (first.open_until - first.failed_at)


def test_a_wait_that_a_provider_asks_for_is_no_failure_of_it(submit, agent, worker, models):
    alone(models, agent)
    models[FIRST] = [ModelRateLimited("Wait.", retry_after_s=0)] * (MOST + 1)
    run = worker.finish(submit([SAY], answer="${say}"))
    assert (run.result, Breaker.objects.count()) == ("said by first", 0)


def test_one_that_is_left_alone_is_replaced_at_once(submit, worker, models):
    for _ in range(MOST):
        breakers.failed(FIRST, away())
    run = worker.finish(submit([SAY], answer="${say}"))
    assert (run.result, models["asked"]) == ("said by second", [SECOND])
    assert "model.switched say" in events(run)
