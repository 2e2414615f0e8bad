"""Where the embedded servers' binaries and data live, and as whom they run.

PostgreSQL refuses to run as root, so root starts the servers as ``nobody``, who must be able to
reach binaries and data.  An ordinary user's servers run in place.  For root:

- binaries: in the venv if nobody can reach it, else copied once per version to a readable place;
- data: in DATA_DIR if nobody can reach it.  A home of mode 0700 bars nobody whatever the mode of
  the folders inside, and opening the home is not ours to do; then the data lives in the readable
  place under a name made from DATA_DIR's path, and DATA_DIR holds a file that says where.

The readable place is /var/lib/agentsys; /var/tmp only where /var/lib cannot be written, because
systems clean /var/tmp of files that have not been touched for a month.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from agentsys.infrastructure.processes import SetupFailed, user_name

UNPRIVILEGED = ("nobody", "daemon")
READABLE_PLACES = (Path("/var/lib/agentsys"), Path("/var/tmp/agentsys-root"))  # noqa: S108 - see _folder
MIN_FREE_BYTES = 200_000_000


def server_user() -> str | None:
    """As whom servers must be started: None for "as ourselves".

    Raises:
        SetupFailed: we are root and there is no unprivileged user, or our uid has no name.
    """
    if os.geteuid() != 0:
        user_name()
        return None
    for name in UNPRIVILEGED:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise SetupFailed(f"root cannot run PostgreSQL and none of the users {', '.join(UNPRIVILEGED)} exists")


def reachable(path: Path, user: str | None) -> bool:
    """Whether ``user`` can reach and use ``path``.  Asks as that user; costs a fork (3 ms)."""
    if user is None:
        return os.access(path, os.R_OK | os.X_OK)
    entry = pwd.getpwnam(user)
    command = ["/usr/bin/env", "-i", "test", "-x", str(path)]
    return not subprocess.run(  # noqa: S603 - no shell
        command, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], check=False
    ).returncode


def give(path: Path, user: str | None) -> None:
    """Make ``path`` the user's own; nothing to do where servers run as ourselves."""
    if user:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)


def check_space(path: Path) -> None:
    """Raises SetupFailed when the disk that holds ``path`` has no room for a database."""
    free = shutil.disk_usage(path).free
    if free < MIN_FREE_BYTES:
        raise SetupFailed(
            f"the disk that holds {path} is full: {free // 1_000_000} MB free, {MIN_FREE_BYTES // 1_000_000} MB needed"
        )


def data_folder(data_dir: Path, name: str, user: str | None) -> Path:
    """The folder of the server ``name``; made by the server, its parent by us.

    A place once chosen stays, as it holds data: ``data.location`` in DATA_DIR records it.
    """
    record = data_dir / "data.location"
    if record.exists():
        return _recorded(record, user) / name
    own = data_dir / name
    if reachable(data_dir, user):
        return own
    if own.exists():
        raise SetupFailed(f"user {user} cannot reach {own}: open the folders above it, or move it")
    place = _new_place(data_dir)
    record.write_text(f"{place}\n")
    return place / name


def _recorded(record: Path, user: str | None) -> Path:
    place = Path(record.read_text().strip())
    if not reachable(place, user):
        raise SetupFailed(f"the data in {place} is gone or out of reach; delete {record} to start afresh")
    return place


def _new_place(data_dir: Path) -> Path:
    """A new folder named after DATA_DIR's path; what an earlier DATA_DIR of this path left there goes."""
    folder = _folder(readable_place() / "data")
    key = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    for left in folder.glob(f"{key}-*"):
        if not _in_use(left):
            shutil.rmtree(left, ignore_errors=True)
    return _folder(Path(tempfile.mkdtemp(prefix=f"{key}-", dir=folder)))


def _in_use(place: Path) -> bool:
    """Whether a server holds the lock of its data there."""
    for lock in place.glob("*.lock"):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def readable_place() -> Path:
    """A folder of ours that every user can reach.  Raises SetupFailed when there is none."""
    for place in READABLE_PLACES:
        try:
            return _folder(place)
        except OSError:
            continue
    raise SetupFailed(f"none of {', '.join(map(str, READABLE_PLACES))} can be written; set DATABASE_URL")


def _folder(path: Path) -> Path:
    """``path`` as a folder that only we can change and all can pass.  Never somebody else's."""
    path.mkdir(mode=0o755, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to somebody else")
    path.chmod(0o755)
    return path


def binaries(package: str, probe: str, user: str | None) -> Path:
    """The folder of ``package`` from which ``user`` can run ``probe`` (a path inside it).

    Copies the package's ``<package>.libs`` along: the binaries find it by a relative path.
    """
    home = _installed(package)
    if not (home / probe).exists():
        raise SetupFailed(f"{home / probe} is missing: install requirements/base.txt again")
    if reachable(home / probe, user):
        return home
    kept = _folder(readable_place() / "binaries") / f"{package}-{_version(package)}"
    if not kept.exists():
        _copy(home, kept)
    return kept / package


def _installed(package: str) -> Path:
    """Where ``package`` is installed, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SetupFailed(f"the package {package} is not installed: install requirements/base.txt")
    return Path(next(iter(spec.submodule_search_locations)))


def _version(package: str) -> str:
    """A key that changes whenever any file of the wheel does."""
    record = distribution(package).read_text("RECORD") or ""
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def _copy(home: Path, kept: Path) -> None:
    """Copy to a name of our own, then rename: two starts at once leave one whole copy."""
    check_space(kept.parent)
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        unused = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__", "pginstall")
        for source in (home, home.with_name(f"{home.name}.libs")):
            if source.exists():
                shutil.copytree(source, fresh / source.name, symlinks=True, ignore=unused)
        for path in [fresh, *fresh.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            fresh.rename(kept)
        except OSError:  # another start was faster
            if not kept.exists():
                raise


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for servers that live as long as a test session; every server user can reach it."""
    with tempfile.TemporaryDirectory(prefix="agentsys-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path
        for record in path.rglob("data.location"):  # a private TMPDIR: the data lives elsewhere
            shutil.rmtree(record.read_text().strip(), ignore_errors=True)
