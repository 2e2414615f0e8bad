"""Faults on purpose: which process is ended or frozen, when, and what it held."""

import contextlib
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil
import redis

from tests.chaos.world import World
from tests.support.stack import runs

VICTIM_S = 60.0
BUSY_S = 0.5
#: What a kill of theirs takes with it beside themselves.
EVERYTHING = "*"


@dataclass(frozen=True)
class Fault:
    """``kind`` names a bound of recovery; ``lane`` whose steps it hits, or everybody's."""

    kind: str
    lane: str
    at: float
    pids: frozenset[int] = field(default_factory=frozenset)


class Faults:
    """Does faults to a world and remembers them."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world, self._dice = world, dice
        self.done: list[Fault] = []

    def apply(self, name: str) -> None:
        """``child``, ``flush`` or the name of a process of the stack."""
        if name == "child":
            self.kill_child()
        elif name == "flush":
            self._record("flush", "", time.time())
            flush(self.world)
        else:
            self.kill(name)

    def kill(self, name: str) -> None:
        """kill -9 of a process of the stack; if it is just being started again, of the new one."""
        victim = self._found(name)
        family = frozenset({victim.pid, *(child.pid for child in children(victim.pid))})
        at = time.time()
        victim.send_signal(signal.SIGKILL)
        lane = name.removeprefix("worker-").split("-")[0] if name.startswith("worker-") else ""
        kind = "worker" if lane else name
        self._record(kind, lane or (EVERYTHING if name in ("postgres", "redis") else ""), at, family)

    def kill_child(self, lane: str = "compute") -> None:
        """kill -9 of one process of a pool: one that works, if any does within half a second."""
        main = self._found(f"worker-{lane}").pid
        child = self._first(lambda: self._busy(main), BUSY_S) or self._first(lambda: children(main), VICTIM_S)
        assert child is not None, f"the pool of {lane} has no process"
        at = time.time()
        with contextlib.suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGKILL)
        self._record("child", lane, at, frozenset({child.pid}))

    def freeze(self, lane: str) -> tuple[psutil.Process, list[int]]:
        """SIGSTOP of a process that has steps of ``lane``, and their ids."""
        end = time.monotonic() + VICTIM_S
        while not (held := self.world.rows(HELD, lane)):
            assert time.monotonic() < end, f"nobody works for {lane}"
            time.sleep(0.02)
        victim = psutil.Process(max(held, key=lambda row: len(row["steps"]))["pid"])
        at = time.time()
        victim.send_signal(signal.SIGSTOP)
        self._record("frozen", lane, at, frozenset({victim.pid}))
        held = [row for row in self.world.rows(HELD, lane) if row["pid"] == victim.pid]
        return victim, held[0]["steps"] if held else []

    def stop(self, name: str) -> None:
        """SIGTERM; returns when another process is there in its place."""
        victim = self._found(name)
        self._record("stopped", name.removeprefix("worker-").split("-")[0], time.time(), frozenset({victim.pid}))
        victim.send_signal(signal.SIGTERM)
        end = time.monotonic() + VICTIM_S
        while self._found(name).pid == victim.pid:
            assert time.monotonic() < end, f"{name} does not end"
            time.sleep(0.1)

    def _busy(self, main: int) -> list[psutil.Process]:
        holders = {row["pid"] for row in self.world.rows(HOLDERS)}
        return [child for child in children(main) if child.pid in holders]

    def _first(self, found: Callable[[], Sequence[psutil.Process]], for_s: float) -> psutil.Process | None:
        end = time.monotonic() + for_s
        while not (some := found()):
            if time.monotonic() > end:
                return None
            time.sleep(0.02)
        return self._dice.choice(some)

    def _found(self, name: str) -> psutil.Process:
        end = time.monotonic() + VICTIM_S
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
                process = psutil.Process(self.world.up.endpoints["processes"][name])
                if runs(process):
                    return process
            assert time.monotonic() < end, f"there is no {name} to kill"
            time.sleep(0.02)

    def _record(self, kind: str, lane: str, at: float, pids: frozenset[int] = frozenset()) -> None:
        self.done.append(Fault(kind, lane, at, pids))


HELD = """
SELECT split_part(lease_owner, '/', 3)::int AS pid, array_agg(id) AS steps FROM runs_step
 WHERE lease_expires_at IS NOT NULL AND lane = %s GROUP BY 1"""
HOLDERS = """
SELECT DISTINCT split_part(lease_owner, '/', 3)::int AS pid FROM runs_step WHERE lease_expires_at IS NOT NULL"""


def children(pid: int) -> list[psutil.Process]:
    try:
        return [child for child in psutil.Process(pid).children() if runs(child)]
    except psutil.NoSuchProcess:
        return []


def flush(world: World) -> None:
    url = world.services["redis_url"]
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url, socket_timeout=2) as connection:
        connection.flushall()
