"""The worker's row in PostgreSQL: that it lives, and what it costs."""

import time

import psutil

from agentsys.core import procs
from agentsys.infrastructure import registry

TELL_EVERY_S = 10.0


class WorkerRow:
    """One row a worker, however many processes it has; named after its main process.

    Args:
        pid: the main process; what its children cost is added.
        slots: how many steps the whole worker does at a time.
    """

    def __init__(self, lane: str, *, pid: int, slots: int) -> None:
        self.lane, self._slots = lane, slots
        self._name = procs.of(pid)
        self._cpu = CpuClock(pid)
        self._draining = False
        self._next = 0.0

    def tell(self, *, draining: bool = False) -> None:
        """Write it every ten seconds, and at once when the worker starts to end."""
        if time.monotonic() < self._next and draining == self._draining:
            return
        self._draining = draining
        cpu_percent, memory_bytes = self._cpu.read()
        if not self._alive(cpu_percent, memory_bytes):
            name = self._name
            registry.hello(str(name), lane=self.lane, host=name.host, pid=name.pid, concurrency=self._slots)
            self._alive(cpu_percent, memory_bytes)
        self._next = time.monotonic() + TELL_EVERY_S

    def gone(self) -> None:
        registry.gone(str(self._name))

    def _alive(self, cpu_percent: float, memory_bytes: int) -> bool:
        name, draining = str(self._name), self._draining
        return registry.alive(name, cpu_percent=cpu_percent, memory_bytes=memory_bytes, draining=draining)


class CpuClock:
    """CPU and memory of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at, self._used_s = time.monotonic(), self._read()[0]

    def read(self) -> tuple[float, int]:
        """Percent of one CPU since the last reading, and resident bytes now.  ~0.2 ms a process."""
        used_s, memory_bytes = self._read()
        at = time.monotonic()
        percent = 100 * (used_s - self._used_s) / max(at - self._at, 0.001)
        self._at, self._used_s = at, used_s
        return max(0.0, round(percent, 1)), memory_bytes

    def _read(self) -> tuple[float, int]:
        used_s, memory_bytes = 0.0, 0
        for process in self._family():
            try:
                times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:  # it has just ended
                continue
            used_s += times.user + times.system
            memory_bytes += memory.rss
        return used_s, memory_bytes

    def _family(self) -> list[psutil.Process]:
        try:
            main = psutil.Process(self._pid)
            return [main, *main.children(recursive=True)]
        except psutil.Error:
            return []
