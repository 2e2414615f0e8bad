"""Redis emptied, killed, frozen, away, and full of what nobody of us has written."""

import json
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest
import redis

from agentsys.infrastructure.embedded import Redis, scratch
from agentsys.infrastructure.processes import wait_until
from tests.chaos import judge
from tests.chaos.plans import chain, single
from tests.chaos.scenario import assert_succeeded, judged
from tests.chaos.world import World, size, world
from tests.support.reports import figures_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3000)]
END_S = 240.0
LANES = ("model", "network", "compute", "system")
#: Work is quick again this long after Redis answers.
AGAIN_S = 3.0
EMPTIED_EVERY_S = size(1, 3, 3)
STARTED = """
SELECT extract(epoch FROM s.started_at - r.created_at)::float8 AS waited
  FROM runs_step s JOIN runs_run r ON r.id = s.run_id
 WHERE r.id = ANY(%s::uuid[]) ORDER BY 1"""


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[World, Redis]]:
    """A Redis that nobody but the test starts again."""
    with scratch() as folder:
        server = Redis(folder)
        url = server.start()
        try:
            with world(REDIS_URL=url) as made:
                yield made, server
        finally:
            server.stop()


def judge_again(made: World, ids: list[str], figures: dict) -> None:
    """Redis answers: from here on steps start soon after their submission."""
    fresh: list[str] = []
    for _ in range(10):
        fresh += made.submit([single("near"), single("far")])
        time.sleep(0.1)
    made.settle(ids + fresh, within_s=END_S)
    waited_s = [row["waited"] for row in made.rows(STARTED, fresh)]
    p50, p99 = judge.share(waited_s, 0.5), judge.share(waited_s, 0.99)
    figures["recovery"] = {"redis": {"n": len(fresh), "p50_s": round(p50, 2), "p99_s": round(p99, 2)}}
    assert_succeeded(made, ids + fresh)
    judged(made, ids + fresh, figures)
    assert p99 < AGAIN_S * judge.SLACK


def workers_of(made: World) -> dict[str, int]:
    return {name: pid for name, pid in made.up.endpoints["processes"].items() if name.startswith("worker-")}


def emptied(server: Redis, seconds: float) -> int:
    for _ in range(times(emptied, seconds)):
        with redis.Redis.from_url(server.url) as connection:
            connection.flushall()
        time.sleep(EMPTIED_EVERY_S)
    return times(emptied, seconds)


def killed(server: Redis, seconds: float) -> int:
    os.kill(server.pid or 0, signal.SIGKILL)
    assert wait_until(lambda: not server.alive(), timeout_s=5)
    server.start()
    return 1


def frozen(server: Redis, seconds: float) -> int:
    process = psutil.Process(server.pid)
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    return 1


def away(server: Redis, seconds: float) -> int:
    os.kill(server.pid or 0, signal.SIGKILL)
    time.sleep(seconds)
    assert not server.alive()
    server.start()
    return 1


def times(fault: Callable[[Redis, float], int], seconds: float) -> int:
    """How often it is done."""
    return round(seconds / EMPTIED_EVERY_S) if fault is emptied else 1


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [(emptied, size(4, 30, 120)), (killed, 0), (frozen, size(4, 20, 60)), (away, size(5, 60, 300))],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_work_goes_on_and_is_quick_again(stack, request, fault: Callable[[Redis, float], int], seconds):
    made, server = stack
    figures, before = figures_of(request, f"Redis {fault.__name__}, {seconds} s"), workers_of(made)
    figures["planned"] = times(fault, seconds)
    many = size(6, 20, 50) if seconds else 6  # what is still queued would be waited for, not Redis
    ids = made.submit([chain(n, steps=5) for n in range(many)])

    figures["done"] = fault(server, seconds)

    begun = made.value("SELECT count(*) FROM runs_step WHERE status = 'succeeded' AND run_id = ANY(%s::uuid[])", ids)
    figures["steps meanwhile"] = begun
    judge_again(made, ids, figures)
    assert figures["done"] == figures["planned"]
    assert workers_of(made) == before, "a worker ended for it"
    if seconds >= 5:
        assert begun > 0, "nothing went on without Redis"


# --- What nobody of us has written ----------------------------------------------------
def malformed(dice: random.Random) -> bytes:
    return dice.choice(
        [
            b"garbage", b"\xff\xfe\x00", b"[]", b"null", b"1e999", b"{}", b'{"body": 1}', b"[" * 500,
            b'{"body": "!!", "properties": {"delivery_tag": "1", "body_encoding": "base64"}}',
            b'{"headers": {"task": "execute"}, "properties": {"delivery_tag": "2", "delivery_info": {}}}',
            b'{"headers": null, "properties": null}', os.urandom(50), b'"' + b"x" * 10_000 + b'"',
        ]
    )  # fmt: skip


def forged(dice: random.Random) -> bytes:
    """A whole Celery message: another task's name, another lane, words that a bell does not have."""
    lane = dice.choice([*LANES, "nobody", "../../etc", "compute'; DROP TABLE runs_run; --", None, 7, {"a": 1}])
    task = dice.choice(["plan", "execute", "system", "execute", "os.system", "celery.backend_cleanup", "nobody"])
    arguments = dice.choice([[lane], [lane, lane], [], [[lane] * 100]])
    body = json.dumps([arguments, dice.choice([{}, {"lane": lane}, {"run": str(uuid.uuid4())}]), {}])
    ids = str(uuid.uuid4())
    headers = {"lang": "py", "task": task, "id": ids, "root_id": ids, "parent_id": None, "eta": None, "retries": 0}
    info = {"exchange": "", "routing_key": dice.choice(LANES)}
    properties = {"correlation_id": ids, "delivery_mode": 2, "delivery_info": info, "priority": 0, "delivery_tag": ids}
    whole = {
        "body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": {**properties, "body_encoding": None},
    }  # fmt: skip
    return json.dumps(whole).encode()


@pytest.mark.promise("P10")
@pytest.mark.parametrize("make", [malformed, forged])
def test_messages_that_nobody_of_us_wrote_change_nothing(stack, request, make: Callable[[random.Random], bytes]):
    made, server = stack
    count, dice = size(1_000, 10_000, 10_000), random.Random(1)
    figures, before = figures_of(request, f"{count} {make.__name__} messages"), workers_of(made)
    ids = made.submit([chain(n, steps=5) for n in range(4)])
    with redis.Redis.from_url(server.url) as connection, connection.pipeline(transaction=False) as pipeline:
        for _ in range(count):
            pipeline.lpush(dice.choice(LANES), make(dice))
        pipeline.execute()

    with redis.Redis.from_url(server.url) as connection:
        empty = lambda: not any(connection.llen(lane) for lane in LANES)  # noqa: E731
        assert wait_until(empty, timeout_s=END_S, every_s=0.2), "they are not taken"
    figures["planned"] = figures["done"] = count
    judge_again(made, ids, figures)
    assert workers_of(made) == before, "a worker ended for it"
