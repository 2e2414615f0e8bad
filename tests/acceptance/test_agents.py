"""Agents that act, end to end: REST, workers as processes that are killed, a model server on the wire, real pages."""

import json
import time
from typing import Any

import pytest

from agentsys.llm import scripted as model_server
from agentsys.llm.scripted import Reply
from tests.support.agent_stack import GONE, PAGES, Stack, fetch, observed

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]


@pytest.fixture
def researcher(stack: Stack) -> str:
    """An agent of mode react; its slug."""
    slug = f"researcher-{time.monotonic_ns()}"
    stack.call("POST", "agents", json={"slug": slug, "name": "Researcher", "mode": "react"})
    return slug


def test_a_research_over_ten_pages_survives_the_death_of_its_workers(stack: Stack, researcher: str) -> None:
    stack.pages.delay_s = 1.0

    def think(messages: list[dict[str, Any]]) -> Reply:
        pages = observed(messages)
        if not pages:
            time.sleep(1)
            return fetch(stack.pages.url, range(1, PAGES + 1))
        found = [f"{n * 11}" for n in range(1, PAGES + 1) if any(f"Page {n} says {n * 11}." in page for page in pages)]
        return model_server.text(f"{len(found)} pages, and {len(pages) - len(found)} could not be read: {found}")

    stack.thinks(think)
    run = stack.call("POST", "runs", json={"agent": researcher, "goal": "What do the ten pages say?"})["id"]
    stack.until(run, lambda now: now["status"] == "running")
    stack.kill("worker-model")
    stack.until(run, lambda _: any(step["status"] == "running" for key, step in stack.steps(run).items() if "." in key))
    stack.kill("worker-network")

    ended = stack.ended(run)

    assert ended["status"] == "succeeded", ended
    assert ended["result"].startswith("9 pages, and 1 could not be read")
    steps = stack.steps(run)
    assert len(steps) == 1 + PAGES
    assert [steps[f"act.1.{n}"]["status"] for n in range(1, PAGES + 1)].count("failed") == 1
    assert steps[f"act.1.{GONE}"]["error"]["code"]
    events = stack.call("GET", f"runs/{run}/events?limit=500")["results"]
    assert [event["type"] for event in events].count("step.acting") == 1
    assert set(stack.pages.asked) >= {f"/{n}" for n in range(1, PAGES + 1)}


def test_what_a_page_says_to_do_is_shown_to_the_model_as_what_a_tool_gave(stack: Stack, researcher: str) -> None:
    def think(messages: list[dict[str, Any]]) -> Reply:
        if not observed(messages):
            return fetch(stack.pages.url, range(1, 2))
        return model_server.text("read")

    stack.thinks(think)
    run = stack.call("POST", "runs", json={"agent": researcher, "goal": "Read the page."})["id"]
    assert stack.ended(run)["result"] == "read"
    last = stack.model.requests[-1]["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "tool"]
    assert json.loads(last[2]["tool_calls"][0]["function"]["arguments"]) == {"url": f"{stack.pages.url}/1"}
    assert last[3]["tool_call_id"] == last[2]["tool_calls"][0]["id"]
    assert "Page 1 says 11." in last[3]["content"]
    assert "Page 1 says" not in last[1]["content"]


def test_a_call_waits_for_an_approval_and_a_no_is_seen(stack: Stack) -> None:
    slug = f"careful-{time.monotonic_ns()}"
    fields = {"mode": "react", "approvals": {"tools": ["http.get"], "on_denied": "result"}}
    stack.call("POST", "agents", json={"slug": slug, "name": "Careful", **fields})

    def think(messages: list[dict[str, Any]]) -> Reply:
        seen = observed(messages)
        return model_server.text(f"not read: {seen[0]}") if seen else fetch(stack.pages.url, range(1, 2))

    stack.thinks(think)
    before = dict(stack.pages.asked)
    run = stack.call("POST", "runs", json={"agent": slug, "goal": "Read the page."})["id"]
    stack.until(run, lambda now: (now["status"], now["reason"]) == ("waiting", "approval"))
    (asked,) = [one for one in stack.call("GET", "approvals")["results"] if one["run"] == run]
    stack.call("POST", f"approvals/{asked['id']}/deny", json={"reason": "Not that page."})

    ended = stack.ended(run)

    assert ended["status"] == "succeeded", ended
    assert "not read" in ended["result"]
    assert stack.pages.asked == before
