"""P12: over quota is 429 with Retry-After, before anything is stored."""

from typing import Any

import pytest

from agentsys.core.errors import QuotaExceeded
from agentsys.runs import services
from agentsys.runs.models import Run
from agentsys.runs.submission import Submission
from tests.support.rows import photograph, sql, value
from tests.support.threads import in_parallel

RUNS, BATCH = "/api/v1/runs", "/api/v1/runs/batch"
BODY = {"plan": {"steps": [{"key": "hello", "tool": "test.echo", "arguments": {"value": 1}}]}}

pytestmark = pytest.mark.usefixtures("agent")


@pytest.fixture(autouse=True)
def _three_a_minute(settings: Any) -> None:
    settings.RUNS_PER_MINUTE = 3


@pytest.fixture
def post(operator: Any) -> Any:
    def send(path: str = RUNS, body: Any = BODY, **headers: str) -> Any:
        return operator.post(path, body, format="json", headers=headers)

    return send


def refused(answer: Any) -> bool:
    return answer.status_code == 429 and answer.json()["code"] == "quota_exceeded"


@pytest.mark.promise("P12")
def test_over_quota_is_refused_with_the_time_to_wait_and_stores_nothing(post: Any) -> None:
    assert [post().status_code for _ in range(3)] == [202] * 3
    before = photograph()

    answer = post()

    assert refused(answer)
    assert 1 <= int(answer.headers["Retry-After"]) <= 21  # a third of a minute
    assert photograph() == before


def test_what_was_used_comes_back_with_the_time(post: Any) -> None:
    for _ in range(3):
        post()
    assert refused(post())

    sql("UPDATE runs_submissionquota SET at = at - interval '20 seconds'")

    assert post().status_code == 202
    assert refused(post())


def test_however_long_nobody_submits_no_more_than_a_minutes_worth_gathers(post: Any) -> None:
    post()
    sql("UPDATE runs_submissionquota SET at = at - interval '1 year'")
    assert [post().status_code for _ in range(4)] == [202, 202, 202, 429]


def test_a_clock_that_was_put_back_takes_nothing_away(post: Any) -> None:
    post()
    sql("UPDATE runs_submissionquota SET at = at + interval '1 day'")
    assert [post().status_code for _ in range(3)] == [202, 202, 429]


def test_the_same_key_again_is_answered_and_uses_nothing_up(post: Any) -> None:
    first = post(**{"Idempotency-Key": "a"})
    left = value("SELECT left_over FROM runs_submissionquota")
    post(), post()

    again = post(**{"Idempotency-Key": "a"})

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert left == 2
    assert refused(post())


def test_a_batch_counts_with_all_its_runs_and_is_refused_as_a_whole(post: Any) -> None:
    post()
    assert refused(post(BATCH, {"runs": [BODY] * 3}))
    assert Run.objects.count() == 1
    assert post(BATCH, {"runs": [BODY] * 2}).status_code == 202


def test_a_batch_that_never_fits_is_told_so(post: Any) -> None:
    answer = post(BATCH, {"runs": [BODY] * 4})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert Run.objects.count() == 0


def test_a_retry_and_a_fork_count_too(post: Any, worker: Any) -> None:
    run = post(body={"plan": {"steps": [{"key": "a", "tool": "test.fail"}]}}).json()["id"]
    worker.drain("compute")
    assert post(f"{RUNS}/{run}/retry", {}).status_code == 202
    assert post(f"{RUNS}/{run}/fork", {"from_step": "a"}).status_code == 202
    assert refused(post(f"{RUNS}/{run}/retry", {}))


def test_a_request_that_is_refused_uses_nothing_up(post: Any) -> None:
    for _ in range(5):
        assert post(body={"plan": {"steps": []}}).status_code == 422
    assert post().status_code == 202


def test_one_workspace_does_not_use_up_anothers(post: Any, client_of: Any, stranger: Any) -> None:
    for _ in range(3):
        post()
    assert stranger.post(RUNS, BODY, format="json").status_code == 202


@pytest.mark.promise("P12")
@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_not_one_too_many_is_let_through(workspace: Any) -> None:
    def submit() -> bool:
        try:
            services.submit(workspace_id=workspace.pk, user=None, request=Submission(agent="assistant", **BODY))
        except QuotaExceeded:
            return False
        return True

    assert in_parallel(*[submit] * 8).count(True) == 3
    assert Run.objects.count() == 3
