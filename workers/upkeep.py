"""The threads beside the work: leases are kept, the lane is polled, the database swept."""

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import Error, close_old_connections, connection

from agentsys.core import outage, procs
from agentsys.infrastructure import rollup
from agentsys.infrastructure.sweeper import Sweeper, due_lanes
from agentsys.runs import engine, leases
from agentsys.runs.store.moves import Lost
from workers.election import Election
from workers.roster import WorkerRow
from workers.slices import Slices, Unbidden

logger = logging.getLogger(__name__)

TICK_S = 1.0
#: How exact a step's deadline is.
DEADLINE_S = 0.25
#: A call that is cut off gets this long to clean up before its thread counts as lost.
HUNG_AFTER_S = 5.0
ROLL_UP_EVERY_S = 10.0
MAX_POLLERS = 4


class Loop(threading.Thread):
    """Calls :meth:`tick` every ``every_s`` seconds until closed; a database that is away stops nothing."""

    every_s = TICK_S

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._closed = threading.Event()
        self._away = False

    def tick(self) -> None:
        raise NotImplementedError

    def database_is_away(self) -> None:
        """Called when a tick met a database that does not answer."""

    def close(self) -> None:
        self._closed.set()

    def run(self) -> None:
        while not self._closed.is_set():
            self._guarded_tick()
            self._closed.wait(self.every_s)
        connection.close()

    def _guarded_tick(self) -> None:
        try:
            self.tick()
        except Error as error:
            if not outage.is_lost(error):
                self._failed()
                return
            if not self._away:
                logger.warning("%s waits for PostgreSQL: %s", self.name, str(error).strip())
            self._away = True
            connection.close()
            self.database_is_away()
        except Exception:  # a thread that dies would leave the worker alive and useless
            self._failed()
        else:
            self._away = False

    def _failed(self) -> None:
        logger.exception("%s failed; it goes on", self.name)
        connection.close()

    def safely(self, job: Callable[[], object]) -> None:
        """Do one part of a tick so that its own faults do not keep the parts after it from their turn.

        Raises:
            Error: PostgreSQL is away: so it is for all of them.
        """
        try:
            job()
        except Exception as error:
            if outage.is_lost(error):
                raise
            self._failed()


class Heartbeat(Loop):
    """Renews this process's leases and ends what is past its deadline or is to stop, on a connection of its own."""

    every_s = DEADLINE_S

    def __init__(self, end_process: Callable[[], None], *, bearable: int) -> None:
        """``end_process`` ends the process: a thread of it cannot be stopped otherwise.

        It is called when more than ``bearable`` steps hang: none may in a child of a prefork pool; a threads
        worker, whose other steps are sound, goes on while it has a slot left.
        """
        super().__init__("heartbeat")
        self._end_process, self._bearable = end_process, bearable
        self._next = 0.0

    def tick(self) -> None:
        overdue = self._overdue()
        if (overdue and not self._bearable) or self._hung() > self._bearable:
            self._end_process()
        if time.monotonic() >= self._next:
            leases.beat(procs.own_name())
            self._next = time.monotonic() + settings.HEARTBEAT_S
        leases.look()
        leases.cut_off()

    @staticmethod
    def _hung() -> int:
        """How many steps are no longer ours, but have not come back by ``HUNG_AFTER_S`` past their time."""
        before = time.monotonic() - HUNG_AFTER_S
        return sum(one.lost and one.is_late() and one.deadline_at < before for one in leases.held())

    def _overdue(self) -> bool:
        try:
            return leases.overdue()
        except Error:  # it is; only the record of it failed, and the sweeper will write that
            connection.close()
            return True


class Reliever(Loop):
    """Lets nothing wait for a step that takes its time; a thread of its own, for it may wait for PostgreSQL."""

    every_s = DEADLINE_S

    def __init__(self) -> None:
        super().__init__("reliever")

    def tick(self) -> None:
        engine.relieve()  # to the very end of a drain: what waits is others' to do, or recorded
        close_old_connections()


class Housekeeper(Loop):
    """Once a second: poll and sweep where this process is elected to, and tell that the worker lives.

    Polling does the lane's work where a slot is free and work has waited: bells may be lost, or Redis
    away.  While bells come nothing has waited that long, or no slot is free.
    """

    def __init__(
        self,
        slices: Slices,
        *,
        row: WorkerRow,
        slots: int,
        polling: Election,
        sweeping: Election,
        is_stopping: Callable[[], bool],
        lost: Lost | None = None,
    ) -> None:
        """``slots`` is how many turns this very process may take at a time; ``lost`` see the sweeper."""
        super().__init__("housekeeper")
        self._slices, self._row, self._slots = slices, row, slots
        self._polling, self._sweeping, self._is_stopping = polling, sweeping, is_stopping
        self._pollers = Unbidden(slices, min(slots, MAX_POLLERS), name="poller")
        self._sweeper: Sweeper | None = None
        self._lost = lost
        self._rolled_up_at = 0.0
        self._resigned = False

    def tick(self) -> None:
        if self._is_stopping():
            self._resign()
            close_old_connections()
            return
        if self._polling.won():
            self.safely(self._row.tell)
            self.safely(self._poll)
        else:
            self.safely(due_lanes)
        # PostgreSQL has answered: whoever takes over from a frozen sweeper has been patient from here on.
        self._sweeper = self._sweeper or Sweeper(lost=self._lost)
        if self._sweeping.won():
            self._sweep(self._sweeper)
        close_old_connections()

    def database_is_away(self) -> None:
        self._sweeper = None  # its patience with leases starts anew when the database is back

    def finish(self) -> None:
        """Wait for the turns that polling has begun."""
        self.close()
        self._pollers.close()

    def _resign(self) -> None:
        """This process ends: others poll and sweep from now on."""
        if self._resigned:
            return
        self._resigned = True
        self._sweeping.resign()
        if self._polling.won():
            self._polling.resign()
            self._row.tell(draining=True)

    def _poll(self) -> None:
        due = due_lanes()  # also where no slot is free: each second in contact with PostgreSQL counts
        if self._slices.busy >= self._slots or self._row.lane not in due:
            return
        self._pollers.take()  # where all have one, that is enough

    def _sweep(self, sweeper: Sweeper) -> None:
        connection.ensure_connection()  # away: one line in the log, not one a job
        sweeper.tick()
        if time.monotonic() >= self._rolled_up_at + ROLL_UP_EVERY_S:
            self._rolled_up_at = time.monotonic()
            self.safely(rollup.roll_up)
