"""Commands through the whole stack: submitted by REST, run in a box by a worker's child, ended with what ends them."""

import os
import signal
import time
from typing import Any

import psutil
import pytest
from rest_framework.test import APIClient

from agentsys.infrastructure.processes import wait_until
from tests.support import boxes
from tests.workers.conftest import ended

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ring")]


@pytest.fixture(autouse=True)
def _boxes() -> None:
    boxes.needed()


def shell(key: str, command: str, **arguments: Any) -> dict[str, Any]:
    return {"key": key, "tool": "shell.run", "arguments": {"command": command, **arguments}}


CODE = """
lines = read_file('sorted.txt').splitlines()
write_file('numbered.txt', '\\n'.join(f'{n} {line}' for n, line in enumerate(lines, 1)))
"""


def sleepers(seconds: str) -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", seconds]]


def test_a_plan_of_commands_works_on_the_runs_files(api: APIClient, posted: Any, start: Any) -> None:
    start("compute", slots=2), start("network")
    steps = [
        shell("sort", "sort -u names.txt > sorted.txt; wc -l < sorted.txt"),
        shell("bad", "cat nothing.txt; echo lost > lost.txt", allow_errors=True) | {"depends_on": ["sort"]},
        shell("use", 'echo $n | tr 3 t; echo "$d" >> sorted.txt', inputs={"n": "${sort.stdout}", "d": "${input}"})
        | {"depends_on": ["sort"]},
        {"key": "code", "tool": "python.run", "arguments": {"code": CODE}, "depends_on": ["use"]},
        {"key": "read", "tool": "files.read", "arguments": {"name": "numbered.txt"}, "depends_on": ["code"]},
    ]

    run = ended(posted(*steps, files={"names.txt": "b\na\nb\nc\n"}, input="d; rm *"), timeout_s=30)

    assert run.status == "succeeded", run.error
    outputs = {step.key: step.output for step in run.steps.all()}
    assert outputs["use"]["stdout"] == "t\n"
    assert outputs["read"]["text"] == "1 a\n2 b\n3 c\n4 d; rm *"
    assert "nothing.txt" in outputs["bad"]["stderr"]
    assert api.get(f"/api/v1/runs/{run.pk}/files/sorted.txt").content == b"a\nb\nc\nd; rm *\n"
    catalogue = api.get("/api/v1/tools/shell.run").json()
    assert (catalogue["effect"], catalogue["lane"]) == ("pure", "compute")
    assert set(catalogue["input_schema"]["required"]) == {"command"}


def test_a_cancel_by_rest_ends_the_command_and_writes_nothing(api: APIClient, posted: Any, start: Any) -> None:
    start("compute", slots=2)
    run = posted(shell("a", "echo x > f; sleep 4343 & sleep 4343"))
    assert wait_until(lambda: len(sleepers("4343")) == 2, timeout_s=15)

    begun = time.monotonic()
    assert api.post(f"/api/v1/runs/{run.pk}/cancel").status_code == 200
    run = ended(run)

    assert (run.status, run.files.count(), time.monotonic() - begun < 5) == ("cancelled", 0, True)
    assert not sleepers("4343")


def test_a_command_whose_worker_is_killed_dies_with_it_and_is_run_again(posted: Any, start: Any) -> None:
    start("compute", slots=2)
    run = posted(shell("a", "cat f >> log; [ -e go ] || sleep 4444; echo done", max_seconds=60), files={"f": "x"})
    assert wait_until(lambda: sleepers("4444"), timeout_s=15)
    (box,) = sleepers("4444")
    child = next(one for one in box.parents() if "bwrap" not in one.name() and one.name() != "bash")

    run.steps.update(arguments=shell("a", "cat f >> log; echo done")["arguments"])  # the second time it is quick
    os.kill(child.pid, signal.SIGKILL)

    assert wait_until(lambda: not sleepers("4444"), timeout_s=3)
    run = ended(run, timeout_s=30)
    assert (run.status, run.steps.get().output["stdout"], run.steps.get().crashes) == ("succeeded", "done\n", 1)
    assert run.files.get(name="log").payload.content == b"x"


def test_a_hostile_plan_fails_alone(posted: Any, start: Any) -> None:
    start("compute", slots=2)
    commands = ("f() { f | f & }; f; sleep 9", "yes", "x=a; while :; do x=$x$x; done", "ln -s /etc/passwd p; cat p")
    bombs = [posted(shell("a", command, max_seconds=2)) for command in commands]
    quiet = posted(shell("a", "echo fine"))

    assert ended(quiet, timeout_s=40).result["a"]["stdout"] == "fine\n"
    for run in bombs:
        assert (ended(run, timeout_s=40).status, run.files.count()) == ("failed", 0), run.result
    assert {run.error["code"] for run in bombs} == {"tool_failed"}
