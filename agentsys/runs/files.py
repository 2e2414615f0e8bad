"""A run's files: rows in PostgreSQL, content stored once a workspace, never a local disk."""

import hashlib
from collections.abc import Iterable
from uuid import UUID

from django.db.models import Case, Q, When

from agentsys.core import db
from agentsys.core.errors import InvalidInput, LeaseLost, NotFound, PayloadTooLarge
from agentsys.core.sanitize import REPLACEMENT
from agentsys.tools.context import MAX_FILE_NAME, FileInfo, Listing, is_file_name

from .models import RunFile
from .store.claims import Claim
from .store.sql import SQL

MAX_FILES = 1000
MAX_FILE_BYTES = 10_000_000
#: Of a run whose files are referred to in a template.
MAX_TEXT_BYTES = 20_000_000


def check_name(name: str) -> str:
    """A file's name: no path, nothing invisible.

    Raises:
        InvalidInput: it is empty, too long, or has characters that a name may not have.
    """
    if not is_file_name(name):
        raise InvalidInput("A file's name is 1 to 255 visible characters without / and \\.", name=name[:MAX_FILE_NAME])
    return name


def put(*, workspace_id: UUID, run_id: UUID, name: str, content: bytes, step: Claim | None = None) -> None:
    """Write or replace a file; by a step only while its claim holds.

    Raises:
        InvalidInput: the name is not one.
        PayloadTooLarge: more than 10 MB, or a file too many.
        LeaseLost: ``step`` is no longer ours.
    """
    check_name(name)
    if len(content) > MAX_FILE_BYTES:
        raise PayloadTooLarge(f"A file may have {MAX_FILE_BYTES} bytes; this one has {len(content)}.", name=name)
    (done,) = db.rows(
        SQL["put_file"], workspace_id=workspace_id, run_id=run_id, name=name, content=content, size=len(content),
        sha256=hashlib.sha256(content).hexdigest(), step=step.key if step else "", step_id=step.id if step else None,
        token=step.claim_token if step else None, max_files=MAX_FILES,
    )  # fmt: skip
    if not done["room"]:
        raise PayloadTooLarge(f"A run may have {MAX_FILES} files.", name=name)
    if not done["written"]:
        raise LeaseLost("The file was not written: the step is no longer ours.")


def put_first(workspace_id: UUID, named: Iterable[tuple[UUID, str, bytes]]) -> None:
    """Write the files that new runs come with, as (run, name, content).

    In the order of their content, whose rows are shared: another order would lock them crosswise.
    """
    for run_id, name, content in sorted(named, key=lambda file: hashlib.sha256(file[2]).digest()):
        put(workspace_id=workspace_id, run_id=run_id, name=name, content=content)


def read(run_id: UUID | str, name: str, *, before: str = "") -> bytes:
    """The whole content; what it was before the step of the key ``before`` wrote it, if that did so last.

    Raises:
        NotFound: the run has no file of this name, or had none then.
    """
    named = RunFile.objects.filter(run_id=run_id, name=name).annotate(content=_of("content", before))
    # PostgreSQL would refuse to look for NUL.
    found = named.values_list("content", flat=True).first() if name.isprintable() else None
    if found is None:
        raise NotFound(f"There is no file named {name!r} in this run.", file=name)
    return bytes(found)


def listing(run_id: UUID | str, *, before: str = "") -> Listing:
    """The run's files, by name; as they were before the step of the key ``before`` wrote those that it wrote last."""
    rows = RunFile.objects.filter(run_id=run_id).order_by("name").annotate(bytes=_of("size_bytes", before))
    found = rows.filter(bytes__isnull=False).values_list("name", "bytes")
    return [FileInfo(name=name, size=size) for name, size in found[:MAX_FILES]]


def _of(column: str, before: str) -> Case:
    mine = Q(written_by=before) if before else Q(pk__in=[])
    return Case(When(mine, then=f"before__{column}"), default=f"payload__{column}")


def texts(run_id: UUID | str) -> dict[str, str]:
    """All files by name, as a template sees them: text that JSON in PostgreSQL can hold.

    Raises:
        PayloadTooLarge: they have more than 20 MB together.
    """
    if sum(entry["size"] for entry in listing(run_id)) > MAX_TEXT_BYTES:
        raise PayloadTooLarge("The run's files are too large to be referred to; read them in steps.")
    rows = RunFile.objects.filter(run_id=run_id).order_by("name").values_list("name", "payload__content")
    return {
        name: bytes(content).decode("utf-8", "replace").replace("\0", REPLACEMENT) for name, content in rows[:MAX_FILES]
    }


class StepFiles:
    """A run's files as a tool sees them; each call returns its connection at once.

    What earlier attempts of its step have written is not there: a step that is done again starts from what it
    started from, so that whatever it makes of the run's files it makes once.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._written: dict[str, int] = {}

    def read(self, name: str) -> bytes:
        before = "" if name in self._written else self._claim.key
        with db.lent():
            return read(self._claim.run_id, name, before=before)

    def write(self, name: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else bytes(content)
        claim = self._claim
        with db.lent():
            put(workspace_id=claim.workspace_id, run_id=claim.run_id, name=name, content=data, step=claim)
        self._written[name] = len(data)

    def list(self) -> Listing:
        with db.lent():
            found = {file["name"]: file["size"] for file in listing(self._claim.run_id, before=self._claim.key)}
        return [FileInfo(name=name, size=size) for name, size in sorted((found | self._written).items())]
