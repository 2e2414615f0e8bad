"""Every attempt is a task in Flower; a bell says what it ran.  A real Flower, asked over HTTP."""

import base64
import contextlib
import http.client
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentsys.infrastructure.processes import Process, free_port, wait_until
from tests.workers.conftest import ROOT, database_url, ended

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ring")]

Get = Callable[..., Any]


@pytest.fixture
def flower(transactional_db: None, doorbell: Any, folder: Path, start: Any) -> Iterator[Get]:
    """``flower("/api/tasks")`` → JSON, once Flower listens to events."""
    port, config = free_port(), folder / "flowerconfig.py"
    config.write_text(f"address = '127.0.0.1'\nport = {port}\nbasic_auth = ['eve:secret']\nread_only = True\n")
    command = [sys.executable, "-m", "celery", "-A", "workers.celery", "flower", f"--conf={config}"]
    env = {"DATABASE_URL": database_url(), "REDIS_URL": doorbell.url, "AGENTSYS_DATA_DIR": str(folder)}
    process = Process("flower", command, log=folder / "flower.log", env={**os.environ, **env}, cwd=ROOT)
    process.start()

    def get(path: str, *, method: str = "GET", user: str = "eve:secret") -> Any:
        """The JSON of an answer, or the status of a refusal."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            authorization = "Basic " + base64.b64encode(user.encode()).decode()
            connection.request(method, path, headers={"Authorization": authorization})
            answer = connection.getresponse()
            return json.load(answer) if answer.status == 200 else answer.status

    def is_listening() -> bool:
        try:
            return get("/api/workers?status=true") not in ({}, 503)
        except OSError:
            return False

    start("compute", slots=1)
    assert wait_until(is_listening, timeout_s=30), process.last_words()
    yield get
    process.stop()


def test_every_attempt_is_a_task_and_a_bell_says_what_it_ran(flower, submit):
    run = ended(
        submit(
            [
                {"key": "a", "tool": "test.echo", "arguments": {"value": 1}},
                {"key": "b", "tool": "test.echo", "arguments": {"value": "${a}"}},
                {"key": "c", "tool": "test.fail", "arguments": {"message": "no luck"}, "depends_on": ["b"]},
            ]
        )
    )
    ids = {str(a.id): a.step.key for a in run.attempts.select_related("step")}
    assert sorted(ids.values()) == ["a", "b", "c"]

    def tasks() -> dict[str, Any]:
        return flower("/api/tasks")

    done = ("SUCCESS", "FAILURE")
    assert wait_until(lambda: sum(tasks().get(i, {}).get("state") in done for i in ids) == 3, timeout_s=10)
    seen = {key: tasks()[i] for i, key in ids.items()}
    assert {key: (task["name"], task["state"]) for key, task in seen.items()} == {
        "a": ("execute", "SUCCESS"),
        "b": ("execute", "SUCCESS"),
        "c": ("execute", "FAILURE"),
    }
    assert seen["a"]["kwargs"] == repr({"run": str(run.id), "step": "a", "tool": "test.echo"})
    assert seen["a"]["runtime"] > 0
    assert seen["a"]["worker"].startswith("compute@")
    assert "no luck" in seen["c"]["exception"]
    bells = [task for i, task in tasks().items() if i not in ids]
    assert any(f"ran {run.id}/a, {run.id}/b, {run.id}/c" in (bell["result"] or "") for bell in bells)


def test_the_attempt_of_a_killed_child_is_told_to_have_failed(flower, submit, held):
    run = submit([held.step()])
    (child,) = held.wait_for()
    attempt = str(run.steps.get().claim_token)

    def state() -> tuple[str | None, str | None]:
        task = flower("/api/tasks").get(attempt, {})
        return task.get("state"), task.get("exception")

    assert wait_until(lambda: state() == ("STARTED", None), timeout_s=10)

    os.kill(child, signal.SIGKILL)

    assert wait_until(lambda: state() == ("FAILURE", "its worker has ended"), timeout_s=15), state()
    assert flower("/api/tasks")[attempt]["worker"].startswith("compute@")
    held.let_go()
    assert ended(run).status == "succeeded"
    assert [a.outcome for a in run.attempts.order_by("number")] == ["crashed", "succeeded"]


def test_flower_is_read_only_and_asks_who_you_are(flower):
    assert flower("/api/tasks", user="eve:wrong") == 401
    assert flower("/api/task/send-task/execute", method="POST") == 403
