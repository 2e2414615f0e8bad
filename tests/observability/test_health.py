"""/healthz, /readyz and /metrics, as an orchestrator and Prometheus see them."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from agentsys.infrastructure import registry, rollup
from agentsys.infrastructure.models import Outcome, Worker
from agentsys.observability import health
from agentsys.runs.states import Lane

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("agentsys.observability.urls")]


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "KEEP_S", 1e-6)


@pytest.fixture
def serve():
    """A worker for each lane, but for those named."""

    def make(*, without: str = "") -> None:
        for lane in Lane:
            if lane != without:
                registry.hello(f"host/boot/1/{lane}", lane=lane, host="host", pid=1, concurrency=2)

    return make


def ready(client: Client) -> tuple[int, dict[str, Any]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()


def metrics(client: Client, **headers: str) -> dict[str, dict[tuple[str, ...], float]]:
    """{sample: {label values: value}}"""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_a_process_that_answers_is_healthy_whatever_else_is_away(client, settings):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.post("/healthz").status_code == 405


def test_ready_when_every_lane_has_a_worker(client, serve):
    serve()
    lanes = {lane.value: True for lane in Lane}
    assert ready(client) == (200, {"ready": True, "missing": [], "degraded": [], "lanes": lanes})


def test_not_ready_while_a_lane_has_no_worker_and_it_says_what_to_do(client, serve):
    serve(without="network")
    status, answer = ready(client)
    assert (status, answer["ready"], answer["lanes"]["network"]) == (503, False, False)
    assert answer["missing"] == ["no worker of lane network was seen within a minute: python -m workers network"]


@pytest.mark.parametrize("change", [{"seen_at": Now() - timedelta(seconds=61)}, {"draining": True}])
def test_a_worker_that_is_silent_or_ends_serves_no_lane(client, serve, change):
    serve()
    Worker.objects.filter(lane="compute").update(**change)
    assert ready(client)[1]["lanes"]["compute"] is False


def test_not_ready_before_the_migrations(client, serve):
    serve()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'runs' AND name LIKE '0002%' RETURNING app, name")
        ((app, name),) = cursor.fetchall()
        try:
            status, answer = ready(client)
        finally:
            cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, now())", [app, name])
    assert status == 503
    assert f"1 migrations are not applied ({app}.{name}" in answer["missing"][0]


def test_not_ready_while_postgresql_is_away_and_no_address_is_told(client, serve, monkeypatch):
    serve()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    assert ready(client) == (
        503,
        {"ready": False, "missing": ["PostgreSQL does not answer"], "degraded": [], "lanes": {}},
    )


def test_without_redis_it_is_ready_and_says_that_it_is_slow(client, serve, settings):
    serve()
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    health._redis.cache_clear()
    try:
        status, answer = ready(client)
    finally:
        health._redis.cache_clear()
    assert (status, answer["ready"]) == (200, True)
    assert answer["degraded"] == ["Redis does not answer: lanes are polled once a second"]


def test_lanes_workers_and_live_runs_are_measured(client, serve, submit):
    serve(without="network")
    Worker.objects.filter(lane="compute").update(cpu_percent=150.5, memory_bytes=1000)
    submit([{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo"}])

    found = metrics(client)

    assert found["agentsys_lane_ready_steps"] == {("model",): 0, ("network",): 0, ("compute",): 2, ("system",): 0}
    assert found["agentsys_lane_oldest_ready_seconds"]["compute",] > 0
    assert found["agentsys_workers"] == {("model",): 1, ("network",): 0, ("compute",): 1, ("system",): 1}
    assert found["agentsys_worker_cpu_percent"]["host", "compute", "1"] == 150.5
    assert found["agentsys_worker_memory_bytes"]["host", "compute", "1"] == 1000
    assert found["agentsys_live_runs"] == {("queued",): 1}
    assert found["agentsys_database_up"] == {(): 1}
    assert any(name.startswith("django_http_") for name in found)


def test_steps_that_wait_for_a_slot_are_measured_beside_those_that_could_run(client, submit, settings):
    settings.LANE_SLOTS = 1
    submit([{"key": key, "tool": "test.echo"} for key in "abc"])
    submit([{"key": "p", "tool": "test.echo"}, {"key": "q", "tool": "test.echo"}], limits={"parallel": 1})

    found = metrics(client)

    assert found["agentsys_lane_ready_steps"]["compute",] == 1
    assert found["agentsys_lane_queued_steps"] == {
        ("model",): 0, ("network",): 0, ("compute",): 3, ("system",): 0,
    }  # fmt: skip


def test_runs_and_steps_are_counted_once_by_outcome_with_their_durations(client, submit, worker):
    good = [submit([{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo"}]) for _ in range(3)]
    bad = submit([{"key": "a", "tool": "test.fail"}])
    for run in (*good, bad):
        worker.finish(run)

    assert rollup.roll_up(margin_s=0) == 3 + 6 + 2
    assert rollup.roll_up(margin_s=0) == 0
    found = metrics(client)

    assert found["agentsys_runs_total"] == {("succeeded",): 3, ("failed",): 1}
    assert found["agentsys_steps_total"] == {("tool", "succeeded"): 6, ("tool", "failed"): 1}
    assert found["agentsys_step_seconds_count"]["tool", "succeeded"] == 6
    assert max(found["agentsys_step_seconds_bucket"].values()) == 6
    assert 0 < found["agentsys_step_seconds_sum"]["tool", "succeeded"] < 60
    assert found["agentsys_run_seconds_count"]["succeeded",] == 3


def test_events_younger_than_the_margin_wait_for_the_next_count(submit, worker):
    worker.finish(submit([{"key": "a", "tool": "test.echo"}]))
    assert rollup.roll_up(margin_s=3600) == 0
    assert not Outcome.objects.exclude(kind="cursor").exists()
    assert rollup.roll_up(margin_s=0) == 2


def test_history_is_counted_in_batches(submit, worker, monkeypatch):
    monkeypatch.setattr(rollup, "BATCH", 3)
    for _ in range(4):
        worker.finish(submit([{"key": "a", "tool": "test.echo"}]))
    assert rollup.roll_up(margin_s=0) == 8
    totals = {(o.kind, o.outcome): o.count for o in rollup.outcomes()}
    assert totals == {("run", "succeeded"): 4, ("tool", "succeeded"): 4}


def test_metrics_ask_for_a_token_where_one_is_set(client, settings):
    settings.METRICS_TOKEN = "scrape-me"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert metrics(client, Authorization="Bearer scrape-me")
