"""A copy of the tree in which guards are removed and tests are run, on servers that all of them share."""

import enum
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from agentsys.infrastructure.embedded import Postgres, Redis, scratch
from tests.mutants.mutant import Change, Mutant

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "agentsys",
    "workers",
    "templates",
    "tests",
    "manage.py",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "requirements",
)
#: Of one mutant's tests; a guard whose loss makes them hang is missed, too.
TIMEOUT_S = 240
_FAILED = re.compile(r"^(?:FAILED|ERROR) \S*::(\w+)", re.MULTILINE)


class Verdict(enum.Enum):
    KILLED = "killed"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"


class Lab:
    """Servers and a copy of the tree, for as long as the block lasts."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(scratch())
        self._tree = self._folder / "tree"
        self._servers: dict[str, str] = {}

    def __enter__(self) -> "Lab":
        ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache")
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            self._tree.mkdir(exist_ok=True)
            copy(ROOT / part, self._tree / part, **({"ignore": ignored} if copy is shutil.copytree else {}))
        postgres = Postgres(self._folder / "pg", max_connections=200, settings={"fsync": "off"})
        redis = Redis(self._folder / "redis")
        self._servers = {"DATABASE_URL": postgres.start(), "REDIS_URL": redis.start()}
        self._stack.callback(redis.stop)
        self._stack.callback(postgres.stop)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def unchanged(self, mutants: list[Mutant]) -> tuple[Verdict, str]:
        """What the tests of all of them say of the tree as it is: they must pass."""
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        return self._test(tests, fresh=True, timeout_s=5 * TIMEOUT_S)

    def play(self, mutant: Mutant) -> tuple[Verdict, str]:
        """The verdict, and the test that has noticed."""
        kept = {name: (self._tree / name).read_text() for name, _, _ in mutant.changes}
        try:
            for change in mutant.changes:
                apply(change, self._tree)
            return self._test(mutant.tests, fresh=mutant.fresh)
        finally:
            for name, text in kept.items():
                (self._tree / name).write_text(text)
            if mutant.fresh:  # the next one finds the tables as they should be
                self._test(["tests/runs/test_kinds.py"], fresh=True)

    def _test(
        self, tests: "list[str] | tuple[str, ...]", *, fresh: bool, timeout_s: float = TIMEOUT_S
    ) -> tuple[Verdict, str]:
        how = ["-q", "-x", "-p", "no:cacheprovider", "--create-db" if fresh else "--reuse-db", "--timeout=60"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *how, *tests],
                cwd=self._tree, env={**os.environ, **self._servers}, capture_output=True, text=True, timeout=timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Verdict.KILLED, "the tests do not end"
        if done.returncode == 0:
            return Verdict.SURVIVED, ""
        found = _FAILED.search(done.stdout)
        if done.returncode == 1 and found:
            return Verdict.KILLED, found[1]
        print(done.stdout[-3000:], done.stderr[-2000:])
        return Verdict.BROKEN, f"pytest ended with {done.returncode}"


def apply(change: Change, tree: Path) -> None:
    """Make the change.

    Raises:
        LookupError: the text is not there exactly once.
    """
    name, old, new = change
    text = (tree / name).read_text()
    if text.count(old) != 1:
        raise LookupError(f"{name} has {text.count(old)} times {old!r}: mend tests/mutants/catalogue.py")
    (tree / name).write_text(text.replace(old, new))
