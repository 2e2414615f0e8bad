"""How a process has ended, as whoever takes over its steps can tell."""

import os
import signal
import subprocess
import sys
import time

import pytest

from agentsys.core import exits, procs

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def _folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path


@pytest.fixture
def ended():
    """A process that has ended by a signal, by its name; waited for or still a zombie."""
    children = []

    def end(*, waited: bool, by=signal.SIGKILL):
        child = subprocess.Popen(SLEEP)
        children.append(child)
        name = str(procs.of(child.pid))
        child.send_signal(by)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        if waited:
            child.wait()
        return child.pid, name

    yield end
    for child in children:
        child.wait()


def test_a_process_that_nobody_has_waited_for_says_it_itself(ended):
    _, name = ended(waited=False, by=signal.SIGSEGV)
    assert exits.how(name) == "signal 11 (SIGSEGV)"


@pytest.mark.parametrize(
    ("exitcode", "said"), [(-9, "signal 9 (SIGKILL)"), (1, "exit code 1"), (0, "exit code 0"), (-200, "signal 200")]
)
def test_another_is_told_of_by_who_waited_for_it(ended, exitcode, said):
    pid, name = ended(waited=True)
    assert exits.how(name) == ""

    exits.note(pid, exitcode)

    assert exits.how(name) == said


def test_of_the_living_and_of_what_is_no_process_nothing_is_said():
    exits.note(os.getpid(), -9)
    assert exits.how(procs.own_name()) == ""
    for name in ("", "w1", "a/b/c/d", "host/place/1/2", "x" * 500):
        assert exits.how(name) == ""


def test_an_old_note_is_another_processs_and_goes(ended, tmp_path):
    pid, name = ended(waited=True)
    exits.note(pid, -9)
    note = tmp_path / "exits" / str(pid)
    old = time.time() - exits.FRESH_S - 1
    os.utime(note, (old, old))
    assert exits.how(name) == ""

    exits.note(1, 0)

    assert not note.exists()


def test_a_folder_that_cannot_be_written_costs_a_word_only(settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.DATA_DIR = tmp_path / "file"
    exits.note(1, -9)
    assert exits.how("w") == ""
