"""``manage.py demo``, as a newcomer sees it: real goals succeed, and nothing is left behind."""

import re
import sys
from subprocess import PIPE, STDOUT, run

import psutil
import pytest

from agentsys.infrastructure.embedded import scratch
from tests.support.stack import ROOT, environment, runs

pytestmark = [pytest.mark.processes, pytest.mark.timeout(200)]

TITLES = (
    "Read this service's own API description and analyse it",
    "Take this project's README apart",
    "A fixed plan: parallel branches, Python, and a join",
    "A worker is killed in the middle of a run",
    "An agent whose first idea fails, who plans anew and asks before it sends",
)


def test_the_demo_succeeds_says_where_to_look_and_leaves_nothing_behind() -> None:
    with scratch() as folder:
        done = run(
            [sys.executable, "manage.py", "demo"],
            cwd=ROOT,
            env=environment(folder),
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
            timeout=120,
        )
        left = [process for process in psutil.process_iter() if str(folder) in told_by(process)]

    assert done.returncode == 0, done.stdout
    for title in TITLES:
        assert f"{title}: succeeded" in done.stdout
    assert done.stdout.count("/admin/runs/run/") == len(TITLES)
    assert "Flower" in done.stdout
    assert re.search(r"worker-compute \(process \d+\) was killed with SIGKILL while it ran step 't", done.stdout)
    assert re.search(r"step '(two|three)' ran again \d+\.\d s later, as attempt 2", done.stdout)
    assert '"sum": 14' in done.stdout
    assert re.search(r"5 ✘ failed +read +http.get(.|\n)*5 ✔ succeeded +plan.2", done.stdout)
    assert re.search(r"\? http.post waits for a person's word \(.*body comes from web\); approved", done.stdout)
    assert done.stdout.count("received at http://127.0.0.1:") == 1
    assert not [process for process in left if runs(process)]


def told_by(process: psutil.Process) -> str:
    """Its command line, folder and environment: one of them names the data folder of its stack."""
    try:
        return " ".join([*process.cmdline(), process.cwd(), *process.environ().values()])
    except psutil.Error:
        return ""
