"""Many runs in one submission: all of them or none, in one commit."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from operator import itemgetter
from uuid import UUID

from django.db import transaction

from agentsys.accounts import keys as key_rules
from agentsys.accounts.models import User
from agentsys.core import db
from agentsys.core.errors import AgentSysError, IdempotencyKeyReused, InvalidInput, NotFound, PayloadTooLarge
from agentsys.core.faults import Fault, fault

from . import dispatch, files, intake, submission
from .models import Run
from .store import quota, slots
from .store.create import NewRun, insert_runs
from .submission import Submission

MAX_RUNS = 1_000
#: Of all runs together: what one statement and one commit may bring.
MAX_STEPS = 10_000
MAX_FILES = 1_000
MAX_FAULTS = 100


class _KeyTaken(Exception):
    """The batch's idempotency key is in the database already; nothing of the batch was written."""


def submit_all(
    *, workspace_id: UUID, user: User | None, requests: Sequence[Submission | InvalidInput], idempotency_key: str = ""
) -> tuple[list[Run], bool]:
    """Record runs and their first steps in one commit, then ring for them once.

    Costs two queries, however many runs there are; with a key or with files some more.  The same
    ``idempotency_key`` and requests give the same runs again.

    Args:
        requests: In the place of one that has not the shape of a submission, what is wrong with it: it is told
            together with the faults of the others.

    Returns:
        The runs in the order of ``requests``, and whether they were there before.

    Raises:
        InvalidInput: with ``errors``, the faults of all requests, their paths from ``runs[n]`` on; nothing was stored.
        IdempotencyKeyReused: the key belongs to something else.
        QuotaExceeded: the workspace has submitted as much as it may for now; nothing was stored.
    """
    key_rules.check(idempotency_key)
    if not requests:
        return [], False
    faults = _Faults()
    faults.check_count(len(requests), MAX_RUNS, "runs")
    asked = {n: request for n, request in enumerate(requests) if isinstance(request, Submission)}
    faults.check_count(sum(len(request.files) for request in asked.values()), MAX_FILES, "files")
    for n, request in enumerate(requests):
        with faults.of(n):
            _check(request)
    keys = _keys(idempotency_key, len(requests))
    digest = _digest(asked.values()) if keys and not faults.found else ""
    if digest and (known := _replayed(workspace_id, keys, digest)):
        return known, True
    new = _new_runs(workspace_id, asked, keys, digest, faults)
    slots.make(workspace_id, {lane for run in new for lane in run.steps.roots})
    try:
        runs = db.retrying(
            lambda: quota.within(workspace_id, len(new), lambda: _insert(workspace_id, user, new, asked.values()))
        )
    except _KeyTaken:  # somebody was faster with the same key
        return _replayed(workspace_id, keys, digest), True
    dispatch.wake([lane for run in new for lane in run.steps.roots])
    return runs, False


def _check(request: Submission | InvalidInput) -> None:
    if isinstance(request, InvalidInput):
        raise request
    submission.check(request)


def _keys(key: str, count: int) -> list[str]:
    """One for each run, as the database keeps one run a key: the first has the batch's own, the others such as
    nobody can send (a line's end is in no header)."""
    if not key:
        return []
    hidden = hashlib.sha256(key.encode()).hexdigest()
    return [key, *(f"{hidden}\n{n}" for n in range(1, count))]


def _digest(requests: Iterable[Submission]) -> str:
    """As a submission's, of all of them; never the same as that of a single one."""
    return hashlib.sha256("\n".join(["batch", *(request.digest() for request in requests)]).encode()).hexdigest()


def _replayed(workspace_id: UUID, keys: Sequence[str], digest: str) -> list[Run]:
    """The runs of the batch that had these keys; none if there was none."""
    kept = Run.objects.select_related("agent_version__agent")
    found = {run.idempotency_key: run for run in kept.filter(workspace_id=workspace_id, idempotency_key__in=keys)}
    taken = key_rules.is_taken(workspace_id, keys[0]) if keys[0] not in found else False
    if taken or (keys[0] in found and found[keys[0]].request_digest != digest):
        raise IdempotencyKeyReused
    return [found[key] for key in keys if key in found] if keys[0] in found else []


def _new_runs(
    workspace_id: UUID, asked: Mapping[int, Submission], keys: Sequence[str], digest: str, faults: "_Faults"
) -> list[NewRun]:
    """
    Args:
        asked: By their numbers in the batch.

    Raises:
        InvalidInput: of any of them something is wrong.
    """
    versions = intake.current_versions(workspace_id, {request.agent for request in asked.values()})
    new = []
    for n, request in asked.items():
        if n not in faults.places:
            with faults.of(n):
                new.append(intake.new_run(request, versions, key=keys[n] if keys else None, digest=digest))
    faults.check_count(sum(len(run.steps.rows) for run in new), MAX_STEPS, "steps")
    faults.raise_any()
    return new


def _insert(workspace_id: UUID, user: User | None, new: Sequence[NewRun], requests: Iterable[Submission]) -> list[Run]:
    """One statement and one commit; with a key or files, one transaction.

    Raises:
        _KeyTaken: nothing was written.
    """
    pairs = zip(new, requests, strict=True)
    contents = [(run.id, name, content) for run, request in pairs for name, content in request.files.items()]
    with transaction.atomic() if contents or new[0].values["idempotency_key"] else nullcontext():
        runs = insert_runs(new, workspace_id=workspace_id, created_by_id=user.pk if user else None)
        if len(runs) < len(new):
            raise _KeyTaken
        files.put_first(workspace_id, contents)
    return runs


class _Faults:
    """What is wrong with which request; a hundred are enough."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Fault]] = []

    @property
    def places(self) -> set[int]:
        return {n for n, _ in self.found}

    @contextmanager
    def of(self, n: int) -> Iterator[None]:
        """Take what the block raises for a fault of the ``n``-th request."""
        try:
            yield
        except (InvalidInput, PayloadTooLarge, NotFound) as error:
            self.found += ((n, told) for told in _told(f"runs[{n}]", error))
            if len(self.found) >= MAX_FAULTS:
                self.raise_any()

    def check_count(self, count: int, most: int, what: str) -> None:
        """
        Raises:
            InvalidInput: there are more; nothing else is looked at.
        """
        if count > most:
            message = f"A batch has at most {most:,} {what}, not {count:,}."
            self.found.append((-1, fault("runs", f"too_many_{what}", message)))
            self.raise_any()

    def raise_any(self) -> None:
        """
        Raises:
            InvalidInput: something was found.
        """
        if self.found:
            first, *more = errors = [told for _, told in sorted(self.found, key=itemgetter(0))]
            others = f" ({len(more)} more: see errors.)" if more else ""
            raise InvalidInput(f"{first['path']}: {first['message']}{others}", errors=errors[:MAX_FAULTS])


def _told(place: str, error: AgentSysError) -> Iterator[Fault]:
    """The faults that an error has, or is, below a place."""
    faults = error.data.get("errors")
    if faults is None:
        path = f"{place}.agent" if isinstance(error, NotFound) else place
        yield {"path": path, "code": error.code, "message": error.message}
        return
    for one in faults:
        below = "." if one["path"] and not one["path"].startswith("[") else ""
        yield {**one, "path": f"{place}{below}{one['path']}"}
