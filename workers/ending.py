"""How a worker ends: told once, bounded in time, whatever hangs."""

import contextlib
import faulthandler
import logging
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import Error

from agentsys.core import procs
from agentsys.runs import leases

logger = logging.getLogger(__name__)

POLL_S = 0.1
#: An idle child that nobody has ended by then after a stop ends itself.
IDLE_S = 1.0
RELEASE_S = 2.0
#: After DRAIN_S and this the main process is ended whatever it waits for.
SPARE_S = RELEASE_S + 2.0


class StopFlag:
    """Hoisted by a signal handler of the main process, seen by all its children; takes no lock."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)  # anonymous and shared, so a fork inherits it

    def hoist(self) -> None:
        self._byte[0] = 1

    def is_up(self) -> bool:
        return self._byte[0] == 1


def arm_last_resort() -> None:
    """End this process in DRAIN_S + SPARE_S, and write where it hung.  May be called by a signal handler.

    By the kernel's timer, which a fork leaves behind.  faulthandler's own leaves its lock instead: a child that was
    forked after it was set hung at its first use of it.
    """
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.setitimer(signal.ITIMER_REAL, settings.DRAIN_S + SPARE_S)


class Watch(threading.Thread):
    """Ends a process in which no thread could run for two leases, and writes where it hung.

    A tool that stays in C code without letting go of the interpreter stops the heartbeat and the guard with it;
    after a lease nothing that it does counts any more.  The second one is for a process that was frozen: the timer
    cannot tell, and to go on, with its late results refused, is better than to end.  The timer is the C library's
    own and needs no interpreter; setting it anew each second costs 45 µs.  Uses nothing that may hang by itself, so
    that an absent database never ends a process.
    """

    def __init__(self, flag: StopFlag) -> None:
        super().__init__(name="watch", daemon=True)
        self._flag = flag

    def run(self) -> None:
        while not self._flag.is_up():
            faulthandler.dump_traceback_later(2 * settings.LEASE_S, exit=True)
            time.sleep(min(1.0, settings.LEASE_S / 4))
        faulthandler.cancel_dump_traceback_later()
        arm_last_resort()


class Guard(threading.Thread):
    """Gives steps DRAIN_S once the flag is up, then gives them back uncharged and ends the process.

    A process whose steps end in time is gone before: because Celery tells it to, or else, where it has nothing to
    do, by itself.  A stop that reaches a prefork worker before it is ready lets Celery's main process wait for
    children that it never tells.  The database is used in the last two seconds only, from yet another thread, so
    that one that hangs cannot keep the process alive.
    """

    def __init__(self, flag: StopFlag, *, leave: Callable[[], object] = lambda: None) -> None:
        """``leave`` is called once a second; it ends the process in good order where that is idle."""
        super().__init__(name="guard", daemon=True)
        self._flag, self._leave = flag, leave

    def run(self) -> None:
        while not self._flag.is_up():
            time.sleep(POLL_S)
        end = time.monotonic() + settings.DRAIN_S
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(IDLE_S, left_s))
            self._leave()
        logger.warning("steps are still under way %.0f s after the stop; they are given back", settings.DRAIN_S)
        release()
        os._exit(0)


def release() -> None:
    """Give back every step of this process uncharged, within RELEASE_S."""
    thread = threading.Thread(target=_release, name="release", daemon=True)
    thread.start()
    thread.join(RELEASE_S)


def _release() -> None:
    with contextlib.suppress(Error):  # their leases run out then
        leases.release_all(procs.own_name())
