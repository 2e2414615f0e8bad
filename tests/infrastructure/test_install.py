"""requirements/install.py: what stops a set-up is one line and an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "requirements" / "install.py"
RUN = (
    "import runpy, shutil, sys; sys.argv = ['install', 'base']; {change}; runpy.run_path({path!r}, run_name='__main__')"
)


def install(folder: Path, change: str) -> "subprocess.CompletedProcess[str]":
    """Run a copy whose clone is ``folder``, after ``change`` to what it finds of the machine."""
    copy = folder / "requirements" / "install.py"
    copy.parent.mkdir()
    copy.write_text(INSTALL.read_text())
    (copy.parent / "base.txt").write_text("")
    (copy.parent / "dev.txt").write_text("")
    code = RUN.format(change=change, path=str(copy))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("sys.version_info = (3, 9, 2)", "agentsys: Python 3.11 or newer is needed, and this is "),
        ("shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1, 1, 0)", "agentsys: the disk that holds "),
    ],
)
def test_a_machine_that_will_not_do_is_one_clear_line(tmp_path: Path, change: str, line: str) -> None:
    done = install(tmp_path, change)

    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / ".venv").exists()
