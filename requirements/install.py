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
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second finds the work done
        if not installed(kind):
            install(kind)
    (ROOT / ".venv.lock").unlink(missing_ok=True)


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
    sync = ["pip", "sync", "--quiet", "--python", PYTHON, "--require-hashes", "--compile-bytecode"]
    run("the requirements", UV, *sync, LOCKS / f"{kind}.txt")
    stamp_file(kind).write_text(stamp(kind))


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
    run(".venv", sys.executable, "-m", "venv", "--clear", *pip, VENV)


def install_uv() -> None:
    """uv from its lock, by any pip there is, into a folder of its own: sync removes what is not locked."""
    target = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location", "--target", VENV / "uv"]
    lock = ["--require-hashes", "-r", LOCKS / "bootstrap.txt"]
    if (VENV / "bin" / "pip").exists():
        run("uv", PYTHON, "-m", "pip", "install", *target, *lock)
    elif can_import("pip"):
        run("uv", sys.executable, "-m", "pip", "install", *target, *lock)
    elif found := shutil.which("uv"):
        UV.parent.mkdir(parents=True, exist_ok=True)
        UV.symlink_to(found)
    else:
        fail("this Python has neither ensurepip nor pip: install python3-venv (or python3-pip)")


def can_import(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run(what: str, *command: object) -> None:
    """Run a command; if it fails, say in one line what it said last and end."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environ)  # noqa: S603
    if done.returncode:
        words = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        full = any("No space left" in line for line in words)
        why = "the disk is full" if full else " / ".join(words[-3:])
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
