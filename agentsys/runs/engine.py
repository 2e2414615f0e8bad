"""The loop of a worker: claim, do, record, go on with the same runs, wake whoever is next."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from agentsys.core import db, outage
from agentsys.core.errors import DatabaseUnavailable, LeaseLost

from . import dispatch, leases
from .afloat import Afloat
from .attempts import Attempt, Observer, give_back
from .handlers import Waiting
from .leases import Held
from .states import Lane
from .store import children, claims, complete
from .store.claims import Claim, Completion, Result

#: Steps share their claims and commits with others while at least three of four take no longer than this; not "on
#: average", for on a busy machine one that was put aside by the scheduler outweighs many that took nothing.
QUICK_S = 0.002
#: A result waits no longer than this for others to be recorded with …
LINGER_S = 0.01
#: … and when the step under way takes this long, another thread sees to what waits for it.
STUCK_S = 0.1
#: A lane that had too little for a turn is not asked again for this long while the turn has work.
DRY_S = 0.1


def drain(
    lane: str,
    *,
    owner: str,
    observer: Observer,
    slice_s: float,
    stopping: Callable[[], bool] = lambda: False,
    afloat: Afloat | None = None,
) -> int:
    """Do what ``lane`` has due, run by run, for at most ``slice_s`` seconds and the steps then claimed.

    Args:
        stopping: asked before each claim; once true, nothing more is claimed.
        afloat: bounds how many steps are under way, and takes over the calls that wait on the event loop; without it
            this thread waits with them.

    Returns:
        How many attempts were done; 0 when nothing was due: the bell rang twice, or someone was faster.
    """
    end = time.monotonic() + slice_s
    turn = _Turn(lane, owner, observer, more=lambda: time.monotonic() < end and not stopping(), afloat=afloat)
    with _watched(turn):
        while (held := turn.next()) is not None:
            turn.attempt(held)
    db.release()
    return turn.count


def floating(places: int, *, refill: Callable[[Sequence[str]], object] = dispatch.wake) -> Afloat:
    """Room for so many steps of a process at a time, with a thread or without; ``refill`` see Afloat."""
    return Afloat(places, record=_record_in_parts, refill=refill)


_turns: set["_Turn"] = set()


@contextmanager
def _watched(turn: "_Turn") -> Iterator[None]:
    _turns.add(turn)
    try:
        yield
    finally:
        _turns.discard(turn)
        turn.let_go()


def relieve() -> None:
    """Record what is done and give back what has not begun in turns where one step takes its time.

    Called a few times a second from a thread beside those that work.
    """
    for turn in list(_turns):
        turn.relieve()


class _Turn:
    """The claims that one thread took together: done one after the other, recorded together.

    Quick steps, of one run or of several, share a claim and a commit, which is most of what such a step costs; one that
    is not quick, or may not be repeated, is recorded by itself.
    """

    def __init__(
        self, lane: str, owner: str, observer: Observer, *, more: Callable[[], bool], afloat: Afloat | None
    ) -> None:
        self._lane, self._owner, self._observer, self._more, self._afloat = lane, owner, observer, more, afloat
        self._lock = threading.Lock()  # ``relieve`` is another thread's
        self._todo: deque[Held] = deque()
        self._done: list[_Done] = []
        self._size, self._slow = 1 if afloat is None or afloat.patience_s else complete.MAX_BATCH, 0
        self._spare = 0  # places that are taken and have no claim yet
        self._recorded_at = self._begun_at = time.monotonic()
        self._dry_until = 0.0
        self.count = 0

    def next(self) -> Held | None:
        """The next claim of this turn; None: nothing is due, or the turn is over."""
        if not self._todo or time.monotonic() >= self._recorded_at + LINGER_S:
            self._record_done()
        if self._more():
            self._top_up()
        with self._lock:
            self._begun_at = time.monotonic()
            return self._todo.popleft() if self._todo else None

    def attempt(self, held: Held) -> None:
        """Do a claim, and record what came of it unless it may wait for others."""
        if held.lost or held.cancelled:  # while it waited for its turn
            self._leave(1)
            _give_back([held])
            return
        attempt = Attempt(held, self._observer)
        result = self._in_its_place(attempt)
        self.count += 1
        self._slow += attempt.runtime_s > QUICK_S
        if result is None:
            return
        with self._lock:
            self._done.append((attempt, result))
        if held.gate_open:  # it has happened, and only its record says so
            self._record_done()

    def _in_its_place(self, attempt: Attempt) -> Result | None:
        afloat = self._afloat
        if afloat is None:
            result = attempt.do()
            assert not isinstance(result, Waiting)  # it was waited for
            return result
        try:
            result = attempt.do(patience_s=0 if self._todo else afloat.patience_s)
            if isinstance(result, Waiting):
                afloat.take(attempt, result)
        except BaseException:
            afloat.leave()
            raise
        if not isinstance(result, Waiting):
            afloat.leave()
            return result
        self._size = min(2 * self._size, complete.MAX_BATCH)  # others like it: we do not keep them waiting
        return None

    def relieve(self) -> None:
        """Let nothing wait for a step that takes its time."""
        with self._lock:
            if time.monotonic() < self._begun_at + STUCK_S:
                return
            waiting, done = list(self._todo), self._done
            self._todo.clear()
            self._done = []
        self._leave(len(waiting))
        try:
            _record(done, claim_next=0)
        finally:  # PostgreSQL may be away for long: what is dropped now is not renewed for ever
            _give_back(waiting)

    def let_go(self) -> None:
        """Hold nothing any more.  Something is left only where the turn ended by an outage: others find it."""
        with self._lock:
            waiting, done = list(self._todo), self._done
            self._todo.clear()
            self._done = []
        for held in waiting:
            leases.drop(held)
        self._leave(len(waiting))
        _abandon(done)

    def _top_up(self) -> None:
        now = time.monotonic()
        if self._todo and now < self._dry_until:
            return
        with self._places() as room:
            if not room:
                return
            found = claims.claim_some(self._lane, owner=self._owner, limit=room, alone=not self._todo)
            if len(found) < room:
                self._dry_until = now + DRY_S
            self._hold(found)
        if found and self._lane == Lane.MODEL:  # it takes its time: let another thread see whether there is more
            dispatch.wake([self._lane])

    @contextmanager
    def _places(self) -> Iterator[int]:
        """How many claims may be taken now; what is not held of them afterwards is given back."""
        room = max(0, self._size - len(self._todo) - len(self._done))
        if room and self._afloat is not None:
            room = self._afloat.enter(room, self._lane)
        self._spare = room
        try:
            yield room
        finally:
            self._leave(self._spare)

    def _leave(self, places: int) -> None:
        if self._afloat is not None:
            self._afloat.leave(places)

    def _record_done(self) -> None:
        with self._lock:
            done, self._done = self._done, []
            self._begun_at = math.inf  # no step is under way meanwhile
        if done:
            self._record_these(done)
        self._recorded_at = time.monotonic()

    def _record_these(self, done: list["_Done"]) -> None:
        quick = self._slow * 4 <= len(done)
        self._size = min(2 * self._size, complete.MAX_BATCH) if quick else 1
        self._slow = 0
        if not self._more():
            _record(done, claim_next=0)
            return
        with self._places() as room:
            self._hold(_record(done, claim_next=room))

    def _hold(self, taken: list[Claim]) -> None:
        held = [leases.hold(claim) for claim in taken]
        self._spare -= len(held)
        with self._lock:
            self._todo.extend(held)


_Done = tuple[Attempt, Result]


def _record(done: list[_Done], *, claim_next: int) -> list[Claim]:
    """Write results down, ``claim_next`` of them with a claim of what follows; the claims that came of it.

    What one of them meets in the database does not keep the others from it.
    """
    try:
        return _recorded_all(done, claim_next) if done else []
    except BaseException:
        _abandon(done)
        raise


def _record_in_parts(done: list[_Done]) -> None:
    for first in range(0, len(done), complete.MAX_BATCH):
        _record(done[first : first + complete.MAX_BATCH], claim_next=0)


def _recorded_all(done: list[_Done], claim_next: int) -> list[Claim]:
    try:
        with db.lent():
            given = [(attempt.held.claim, result) for attempt, result in done]
            outcomes = complete.complete_all(given, claim_next=claim_next)
    except Exception as error:
        if len(done) > 1 and isinstance(error, DatabaseUnavailable) and outage.is_lost(error.__cause__):
            return _record_after(done, error, claim_next)
        if len(done) > 1:
            return [claim for n, one in enumerate(done) for claim in _record([one], claim_next=int(n < claim_next))]
        done[0][0].failed(error)
        return []
    return [claim for one in done for claim in _recorded(one, outcomes[one[0].held.claim.claim_token])]


def _record_after(done: list[_Done], error: DatabaseUnavailable, claim_next: int) -> list[Claim]:
    """PostgreSQL was away for as long as we persist: one of them waits for it, to be tried again, and then all others
    are written together.  One by one they would wait for a lease each."""
    (first, _), *others = done
    first.failed(error)
    return _record(others, claim_next=claim_next)


def _recorded(done: _Done, outcome: Completion | LeaseLost) -> Sequence[Claim]:
    attempt, result = done
    if isinstance(outcome, LeaseLost):
        attempt.failed(outcome)
        return ()
    attempt.succeeded(result)
    dispatch.wake(outcome.lanes)
    if outcome.parent_step is not None:
        dispatch.wake(children.take_over(outcome.parent_step))
    return outcome.claims


def _abandon(done: list[_Done]) -> None:
    for attempt, _ in done:
        attempt.abandon()


def _give_back(waiting: Sequence[Held]) -> None:
    """Claims that have not begun; those that cannot be given back now are found as held by nobody."""
    for held in waiting:
        leases.drop(held)
    for held in waiting:
        dispatch.wake(give_back(held.claim))
