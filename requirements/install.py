"""Make .venv and install a lock into it: ``python3 requirements/install.py base|dev``.

Standard library only, any Python 3: it is what a fresh clone runs first.  Nothing is done when the
lock is installed already (30 ms).  Every fault is one line.  No index is named anywhere: pip and uv
use what the machine is set up to use.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS, VENV = ROOT / "requirements", ROOT / ".venv"
PYTHON, UV = VENV / "bin" / "python", VENV / "uv" / "bin" / "uv"
NEEDED_BYTES = 900_000_000


def main(kind: str) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where older ones end
        fail(f"Python 3.11 or newer is needed, and this is {sys.version.split()[0]} ({sys.executable})")
    if installed(kind):
        return
    lock = os.open(LOCKS, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second finds the work done
    if not installed(kind):
        install(kind)


def installed(kind: str) -> bool:
    """Whether the lock is in the venv as it stands now; dev holds all of base."""
    stamps = [(stamp_file(name), stamp(name)) for name in {kind, "dev"}]
    return PYTHON.exists() and any(file.exists() and file.read_text() == text for file, text in stamps)


def stamp_file(kind: str) -> Path:
    return VENV / f"installed-{kind}"


def stamp(kind: str) -> str:
    return hashlib.sha256((LOCKS / f"{kind}.txt").read_bytes()).hexdigest()


def install(kind: str) -> None:
    check_space()
    make_venv()
    if not UV.exists():
        install_uv()
    for name in ("base", "dev"):
        stamp_file(name).unlink(missing_ok=True)
    say(f"installing requirements/{kind}.txt")
    run_first_that_works("the requirements", *ways_to_install(LOCKS / f"{kind}.txt"))
    stamp_file(kind).write_text(stamp(kind))


def ways_to_install(lock: Path) -> Iterator[list[object]]:
    """uv with the machine's certificates, uv with its own, and pip, which has its own index settings."""
    sync = ["pip", "sync", "--quiet", "--python", PYTHON, "--require-hashes", "--compile-bytecode", lock]
    yield [UV, "--system-certs", *sync]
    yield [UV, *sync]
    if pip := any_pip():
        yield [*pip, "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps", "-r", lock]


def check_space() -> None:
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        needed = f"{free // 1_000_000} MB free, {NEEDED_BYTES // 1_000_000} MB needed"
        fail(f"the disk that holds {ROOT} is full: {needed}")


def make_venv() -> None:
    """A venv of this Python; one that works is kept, one that a moved Python broke is made anew."""
    works = [PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if PYTHON.exists() and subprocess.run(works, check=False).returncode == 0:  # noqa: S603
        return
    say("making .venv")
    pip = [] if can_import("ensurepip") else ["--without-pip"]  # Debian's python3 may come without it
    run_first_that_works(".venv", [sys.executable, "-m", "venv", "--clear", *pip, VENV])


def install_uv() -> None:
    """uv from its lock, by any pip there is, into a folder of its own: sync removes what is not locked."""
    target = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location", "--target", VENV / "uv"]
    if pip := any_pip():
        run_first_that_works("uv", [*pip, "install", *target, "--require-hashes", "-r", LOCKS / "bootstrap.txt"])
    elif found := shutil.which("uv"):
        UV.parent.mkdir(parents=True, exist_ok=True)
        UV.symlink_to(found)
    else:
        fail("this Python has neither ensurepip nor pip: install python3-venv (or python3-pip)")


def any_pip() -> list[object]:
    """The venv's pip, else this Python's, which then works for the venv; [] if there is none."""
    if (VENV / "bin" / "pip").exists():
        return [PYTHON, "-m", "pip"]
    return [sys.executable, "-m", "pip", "--python", PYTHON] if can_import("pip") else []


def can_import(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run_first_that_works(what: str, *commands: list[object]) -> None:
    """Try each command; if all fail, say in one line what the last said last, and end."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    why = ""
    for command in commands:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environ)  # noqa: S603
        if done.returncode == 0:
            return
        words = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        why = " / ".join(words[-3:])
        if any("No space left" in line for line in words):
            why = "the disk is full"
            break
    fail(f"{what} cannot be installed: {why}")


def say(text: str) -> None:
    sys.stderr.write(f"agentsys: {text}\n")


def fail(text: str) -> None:
    say(text)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError as error:
        fail(f"the set-up failed: {error}")
