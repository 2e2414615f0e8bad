"""How a worker ends: told once, bounded in time, whatever hangs."""

import contextlib
import faulthandler
import logging
import mmap
import os
import threading
import time

from django.conf import settings
from django.db import Error

from agentsys.core import procs
from agentsys.runs import leases

logger = logging.getLogger(__name__)

POLL_S = 0.1
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
    """End this process in DRAIN_S + SPARE_S, and write where it hung.  May be called by a signal handler."""
    faulthandler.dump_traceback_later(settings.DRAIN_S + SPARE_S, exit=True)


class Watch(threading.Thread):
    """Ends a process in which no thread could run for a whole lease, and writes where it hung.

    A tool that stays in C code without letting go of the interpreter stops the heartbeat and the guard with it;
    after a lease nothing that it does counts any more.  The timer is the C library's own and needs no
    interpreter; setting it anew each second costs 45 µs.  Uses nothing that may hang by itself, so that
    an absent database never ends a process.
    """

    def __init__(self, flag: StopFlag) -> None:
        super().__init__(name="watch", daemon=True)
        self._flag = flag

    def run(self) -> None:
        while not self._flag.is_up():
            faulthandler.dump_traceback_later(settings.LEASE_S, exit=True)
            time.sleep(min(1.0, settings.LEASE_S / 4))
        arm_last_resort()  # there is one timer a process, and it has just been ours


class Guard(threading.Thread):
    """Gives steps DRAIN_S once the flag is up, then gives them back uncharged and ends the process.

    A process whose steps end in time is gone before.  The database is used in the last two seconds
    only, from yet another thread, so that one that hangs cannot keep the process alive.
    """

    def __init__(self, flag: StopFlag) -> None:
        super().__init__(name="guard", daemon=True)
        self._flag = flag

    def run(self) -> None:
        while not self._flag.is_up():
            time.sleep(POLL_S)
        time.sleep(settings.DRAIN_S)
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
