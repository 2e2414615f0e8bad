"""What a worker is besides Celery: its lane, its threads, its orderly end.

In a threads pool all of it runs in the main process.  In a prefork pool the main process only
supervises: each child keeps the leases of its own steps, one elected child polls the lane.  One
elected process of each host sweeps: only there can be seen which of its processes are dead.  The
file locks that elect are in ``DATA_DIR/locks``.

No connection is made before a fork: neither the database's nor Redis's may be shared.
"""

import gc
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import signals
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from agentsys.core import exits, hints, procs
from agentsys.llm import client
from agentsys.runs import engine, leases
from agentsys.runs.dispatch import STOPPING
from agentsys.tools import registry as tools
from agentsys.tools.sandbox import run as sandbox
from workers import dispatch, ending
from workers.election import Election
from workers.events import AttemptEvents
from workers.lanes import LANES
from workers.roster import WorkerRow
from workers.slices import NOTHING_DUE, Slices, Unbidden
from workers.upkeep import Heartbeat, Housekeeper, Reliever

logger = logging.getLogger(__name__)

#: Turns at a time that fill places which have become free.
MAX_REFILLS = 4
#: New objects, and times of these, and of those, that the collector of cycles waits for; Python has 700, 10, 10.
COLLECT_AFTER = (50_000, 10, 10)


@dataclass(frozen=True)
class Plan:
    """What this worker is, settled in the main process before any fork.

    ``hostname`` is Celery's node name, by which Flower knows the worker.
    """

    lane: str
    hostname: str
    slots: int
    prefork: bool
    main_pid: int

    def election(self, job: str) -> Election:
        return Election(settings.DATA_DIR / "locks" / f"{job.replace('/', '-')}.lock")


class Process:
    """A process that claims steps: a threads pool's main process, or a child of a prefork pool."""

    def __init__(self, plan: Plan, flag: ending.StopFlag) -> None:
        procs.join(plan.hostname.partition("@")[0])
        self._events = AttemptEvents(plan.hostname)
        self._afloat = None if plan.prefork else engine.floating(plan.slots, refill=self._refill)
        self.slices = Slices(plan.lane, self._events, flag.is_up, afloat=self._afloat, one_at_a_time=plan.prefork)
        self._refills = Unbidden(self.slices, min(plan.slots, MAX_REFILLS), name="refill")
        self.row = WorkerRow(plan.lane, pid=plan.main_pid, slots=plan.slots)
        self._housekeeper = Housekeeper(
            self.slices,
            row=self.row,
            slots=1 if plan.prefork else plan.slots,
            polling=plan.election(f"poll-{plan.hostname}"),
            sweeping=plan.election(f"sweep-{procs.of(plan.main_pid).host}"),
            is_stopping=flag.is_up,
            lost=self._events.lost,
        )
        self._reliever = Reliever()
        self._heartbeat = Heartbeat(self._end, bearable=0 if plan.prefork else plan.slots - 1)
        self._stops = hints.Listener((STOPPING,), lambda _, runs: leases.hint(runs))
        self._guard = ending.Guard(flag, leave=self._leave) if plan.prefork else ending.Guard(flag)
        self._watch = ending.Watch(flag)

    def start(self) -> None:
        beside = (self._heartbeat, self._reliever, self._housekeeper, self._stops)
        for thread in (self._watch, self._events, *beside, self._guard):
            thread.start()

    def close(self) -> None:
        """The orderly end; Celery's own turns have ended already.  The guard bounds the wait."""
        if self._afloat is not None:
            self._afloat.wait_until_empty(settings.DRAIN_S + ending.SPARE_S)
        self._housekeeper.finish()
        self._refills.close()
        self._stops.close()
        self._reliever.close()
        self._heartbeat.close()
        self._events.close()

    def _refill(self, lanes: Sequence[str]) -> None:
        """Places are free again.  Where turns of ours hang, another process may have some."""
        if not self._refills.take():
            dispatch.ring(lanes)

    def _leave(self) -> None:
        if not self.slices.busy:
            self.close()
            os._exit(0)

    def _end(self) -> None:
        """End this process: steps of it hang, and a thread cannot be stopped otherwise.

        A child is replaced by its pool, a worker by whoever started it.
        """
        logger.error("steps that passed their deadline do not come back; their process ends and is to be replaced")
        ending.release()  # whatever else it does is given back uncharged
        self._events.abandon("the step passed its deadline; its process was ended")
        self._events.close()
        os._exit(1)


class Node:
    """This worker, as Celery's signals tell of its life."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.process: Process | None = None
        self.flag = ending.StopFlag()

    def set_up(self, instance: Any, **_: Any) -> None:
        """The main process, before its pool starts."""
        queues = list(instance.app.amqp.queues.consume_from)
        if len(queues) != 1 or queues[0] not in LANES:
            raise SystemExit("A worker serves one lane: start it with python -m workers LANE")
        prefork = "prefork" in instance.pool_cls.__module__
        self.plan = Plan(queues[0], instance.hostname, instance.concurrency, prefork, os.getpid())
        _load(self.plan)
        if not prefork:
            self._start()

    def child_starts(self, **_: Any) -> None:
        if self.flag.is_up():
            os._exit(0)  # the main process was told to end while it was still forking: it has nothing for us
        # A stop that is sent to the whole process group is the main process's to handle.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._start()

    def ready(self, sender: Any, **_: Any) -> None:
        """The main process, once its pool serves: how a child ends is noted, for whoever takes over its steps."""
        pool = getattr(sender.pool, "_pool", None)
        if self.plan is None or not self.plan.prefork or pool is None:
            return
        down = pool.on_process_down
        if getattr(down, "notes", False):  # this consumer was ready before
            return

        def noted(child: Any) -> None:
            if child.exitcode:
                exits.note(child.pid, child.exitcode)
            if down is not None:
                down(child)

        noted.notes = True  # type: ignore[attr-defined]
        pool.on_process_down = noted

    def stop(self, **_: Any) -> None:
        """In a signal handler of the main process: nothing here may wait for a lock."""
        self.flag.hoist()
        ending.arm_last_resort()

    def child_ends(self, **_: Any) -> None:
        if self.process is not None:
            self.process.close()

    def ended(self, **_: Any) -> None:
        """The main process, after its pool."""
        if self.plan is None:
            return
        self.child_ends()
        dispatch.ring([self.plan.lane])  # for bells that came here and were not answered
        try:
            WorkerRow(self.plan.lane, pid=self.plan.main_pid, slots=self.plan.slots).gone()
        except Error as error:
            logger.warning("PostgreSQL was not told of the end: %s", str(error).strip())

    def _start(self) -> None:
        assert self.plan is not None
        self.process = Process(self.plan, self.flag)
        self.process.start()


def _load(plan: Plan) -> None:
    """Import what steps will need, before any fork, so that children share it."""
    try:
        tools.load()
    except ImproperlyConfigured as error:
        raise SystemExit(f"agentsys: {error}") from error
    if plan.lane == "compute" and (why_not := sandbox.why_not()):
        logger.warning("shell.run will be refused on this machine: %s", why_not)
    if plan.lane == "model" and settings.MODEL != client.OFFLINE:
        client.load()
    connections.close_all()
    _spare_collector()


def _spare_collector() -> None:
    """Have Python's collector of cycles leave alone what is here for good, and look at the rest less often.

    By default it looks through everything each time that a quarter is new: thousands of calls that wait are.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


worker = Node()
signals.celeryd_after_setup.connect(worker.set_up, weak=False)
signals.worker_process_init.connect(worker.child_starts, weak=False)
signals.worker_ready.connect(worker.ready, weak=False)
signals.worker_shutting_down.connect(worker.stop, weak=False)
signals.worker_process_shutdown.connect(worker.child_ends, weak=False)
signals.worker_shutdown.connect(worker.ended, weak=False)


def answer_bell(lane: str) -> str:
    """What a task does; returns what it ran, in words."""
    process = worker.process
    if process is None or worker.plan is None or lane != worker.plan.lane:
        return NOTHING_DUE
    if worker.flag.is_up():
        dispatch.ring([lane])
        return "passed on: this worker ends"
    return process.slices.take()
