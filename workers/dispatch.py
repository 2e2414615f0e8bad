"""Ringing: a hint in Redis that a lane has work.  Losing one costs a second, never work.

A bell is an ordinary Celery message.  Celery itself makes it, once a lane and process; from then on
only its two ids change, and one script pushes as many bells as the lane's queue has room for.  That
costs 30 µs instead of the 1.1 ms of a default publish, no round trip finds out that a queue is full, and
nobody waits for an answer.
"""

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from functools import cache

import redis
from kombu import Connection

from workers.celery import app
from workers.lanes import LANES
from workers.line import Line

logger = logging.getLogger(__name__)

#: A Redis that hangs costs a caller this, once …
TIMEOUT_S = 0.4
#: … and is then left alone for this long.
BREAK_S = 1.5

# KEYS: lanes.  ARGV, for each: room, count, then as many messages.
PUSH = """
local at = 1
for _, lane in ipairs(KEYS) do
  local count = tonumber(ARGV[at + 1])
  local free = math.min(count, tonumber(ARGV[at]) - redis.call('LLEN', lane))
  for i = 1, free do
    redis.call('LPUSH', lane, ARGV[at + 1 + i])
  end
  at = at + 2 + count
end
"""


#: Stands for the task's id until a bell is made.
TASK_ID = "00000000-0000-0000-0000-000000000000"


class Breaker:
    """Says for ``BREAK_S`` after a failure that trying is pointless.  Any thread may use it."""

    def __init__(self) -> None:
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._open_until

    def trip(self) -> None:
        self._open_until = time.monotonic() + BREAK_S


_breaker = Breaker()
_line = Line(timeout_s=TIMEOUT_S)


def ring(lanes: Sequence[str]) -> bool:
    """Publish one bell an element of ``lanes``, up to the room in each lane's queue.

    To be called after the commit.  Never raises.  False: Redis did not take it (or was not asked,
    because it failed a moment ago); pollers find the work within a second or two.
    """
    wanted = {lane: n for lane, n in Counter(lanes).items() if lane in LANES}
    if not wanted or _breaker.is_open:
        return not wanted
    try:
        _push(wanted)
    except (redis.RedisError, OSError) as error:
        _breaker.trip()
        logger.warning("Redis took no bell for %s: %s", ", ".join(wanted), error)
        return False
    except Exception:  # the caller has committed; nothing here may undo what it tells its client
        logger.exception("ringing %s failed", ", ".join(wanted))
        return False
    return True


def _push(wanted: dict[str, int]) -> None:
    arguments: list[str | int] = []
    for lane, count in wanted.items():
        room = LANES[lane].bells
        bells = [_bell(lane) for _ in range(min(count, room))]
        arguments += [room, len(bells), *bells]
    _line.send("EVAL", PUSH, len(wanted), *wanted, *arguments)


def _bell(lane: str) -> str:
    """A message as kombu's Redis transport writes it, with a task id and a delivery tag of its own."""
    template, tag = _template(lane)
    return template.replace(TASK_ID, str(uuid.uuid4())).replace(tag, str(uuid.uuid4()))


@cache
def _template(lane: str) -> tuple[str, str]:
    """A bell that Celery and kombu made, as JSON, and the delivery tag in it."""
    queue = f"{lane}-{uuid.uuid4()}"  # the memory transport's queues belong to the whole process
    with Connection("memory://") as connection:
        producer = app.amqp.Producer(connection)
        # Not send_task: inside of a task it would make every bell to come a child of that one.
        task = LANES[lane].task
        made = app.amqp.as_task_v2(TASK_ID, task, args=(lane,), ignore_result=True)
        app.amqp.send_task_message(producer, task, made, queue=queue, retry=False)
        message = connection.default_channel.basic_get(queue, no_ack=True)
    text = json.dumps(message.serializable()).replace(queue, lane)
    return text, message.delivery_tag
