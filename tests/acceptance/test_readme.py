"""What README.md tells a newcomer to type is typed here, on a stack started as it says."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentsys.infrastructure.embedded import scratch
from tests.support.stack import ROOT, Up

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
README = (ROOT / "README.md").read_text()


def shell_blocks() -> dict[str, str]:
    """The commands marked ``<!-- run: name -->``, by name."""
    return dict(re.findall(r"<!-- run: ([\w ]+) -->\n```sh\n(.*?)```", README, re.DOTALL))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with the README's tool module, and a stack whose data is in its ``.agentsys``."""
    with scratch() as made:
        (made / ".agentsys").mkdir()
        [tools] = re.findall(r"```python\n# my_tools\.py\n(.*?)```", README, re.DOTALL)
        (made / "my_tools.py").write_text(tools)
        up = Up(made / ".agentsys", AGENTSYS_TOOL_MODULES="my_tools", PYTHONPATH=str(made)).wait_until_ready()
        yield made
        up.end(signal.SIGINT)


def typed(folder: Path, commands: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=folder, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_goal_gives_its_events_and_its_result(folder):
    said = typed(folder, shell_blocks()["first goal"])

    assert "event: run.succeeded" in said
    assert "'agents'" in said.splitlines()[-1]


FOLLOW = """
ended() {
  curl -sfN "$API/runs/$1/events" -H "Authorization: Bearer $TOKEN" -H 'Accept: text/event-stream' >/dev/null
  curl -sf "$API/runs/$1" -H "Authorization: Bearer $TOKEN"; echo
}
"""
SHOUT = """
goal='{"goal": "shout \\"hello\\""}'
submit() { curl -sf "$API/runs" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "$1"; }
ended $(submit "$goal" | field id)
"""


def test_the_fixed_plan_and_the_tool_of_ones_own_work(folder):
    blocks = shell_blocks()
    login = blocks["first goal"].split("RUN=$(")[0]
    plan = f"ended $({blocks['fixed plan'].rstrip()} | field id)\n"

    shouted, planned = typed(folder, login + FOLLOW + SHOUT + plan).splitlines()

    assert json.loads(shouted)["result"] == "HELLO"
    assert json.loads(planned)["result"] == {"two": 2, "primes": [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]}


def test_an_agent_is_put_from_a_file_and_exported(folder):
    blocks = shell_blocks()
    login = blocks["first goal"].split("RUN=$(")[0]

    said = typed(folder, login + blocks["agent file"])

    assert said.endswith(
        "slug: clerk\nname: Clerk\nmode: plan\ninstructions: Be brief.\n"
        "tools:\n- text.count\n- math.evaluate\nlimits:\n  steps: 20\n  parallel: 4\n"
    )


def test_every_command_it_names_exists(folder):
    targets = set(re.findall(r"\bmake ([a-z]+)", README))
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {"base", "dev"}
    assert targets <= known | {"and"}
