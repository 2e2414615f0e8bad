"""What agents are for, end to end: REST, workers as processes, a model server on the wire, real tools."""

import json
import threading
import time
from typing import Any

import pytest

from agentsys.llm import scripted
from agentsys.llm.scripted import Reply
from tests.support.agent_stack import Stack, observed

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
CSV = "city,year,people\nOslo,2024,717\nRome,2024,2750\nOslo,2014,635\nRome,2014,2870\n"


@pytest.fixture
def made(stack: Stack) -> Any:
    """An agent of these terms; its slug."""

    def make(**fields: Any) -> str:
        slug = f"agent-{time.monotonic_ns()}"
        stack.pages.delay_s, stack.pages.posted = 0.0, []
        stack.call("POST", "agents", json={"slug": slug, "name": "An agent", **fields})
        return slug

    return make


def begin(stack: Stack, agent: str, goal: str, **fields: Any) -> str:
    return str(stack.call("POST", "runs", json={"agent": agent, "goal": goal, **fields})["id"])


def asked_of(stack: Stack, run: str) -> dict[str, Any]:
    stack.until(run, lambda now: (now["status"], now["reason"]) == ("waiting", "approval"))
    (asked,) = stack.call("GET", f"approvals?run={run}&state=open")["results"]
    found: dict[str, Any] = asked
    return found


def test_a_table_is_analysed_though_the_first_plan_was_wrong(stack: Stack, made: Any) -> None:
    def planned(column: str, key: str) -> Reply:
        sql = f'SELECT city, max({column}) - min({column}) AS grown FROM "cities.csv" GROUP BY city ORDER BY city'
        step = {"key": key, "tool": "table.query", "arguments": {"sql": sql}}
        return scripted.submit({"steps": [step], "answer": f"${{{key}.rows}}"})

    def think(messages: list[dict[str, Any]]) -> Reply:
        anew = "Planning anew" in str(messages[0])
        return planned("people" if anew else "inhabitants", "again" if anew else "first")

    stack.thinks(think)
    agent = made(mode="plan", planning={"replan_on_failure": 1}, tools=["table.query"])
    run = begin(stack, agent, "How much has each city grown?", files={"cities.csv": CSV})

    ended = stack.ended(run)

    assert (ended["status"], ended["plan_version"]) == ("succeeded", 2), (ended, stack.steps(run))
    assert [list(row.values()) if isinstance(row, dict) else row for row in ended["result"]] == [
        ["Oslo", 82],
        ["Rome", 120],
    ]
    steps = stack.steps(run)
    assert (steps["first"]["status"], steps["again"]["status"]) == ("failed", "succeeded")


def test_a_call_is_made_as_a_person_has_edited_it_and_once(stack: Stack, made: Any) -> None:
    inbox = f"{stack.pages.url}/inbox"

    def think(messages: list[dict[str, Any]]) -> Reply:
        seen = observed(messages)
        if seen:
            return scripted.text("sent" if '"status":204' in seen[0].replace(" ", "") else seen[0])
        return scripted.call("http__post", {"url": inbox, "body": {"to": "all", "text": "Hello"}})

    stack.thinks(think)
    run = begin(stack, made(mode="react", approvals={"tools": ["http.post"]}), "Say hello.")
    asked = asked_of(stack, run)
    edited = {**asked["arguments"], "body": {"to": "ada", "text": "Hello"}}
    stack.call("POST", f"approvals/{asked['id']}/edit", json={"arguments": edited, "digest": asked["digest"]})

    assert stack.ended(run)["result"] == "sent"
    assert [body for _, body in stack.pages.posted] == [{"to": "ada", "text": "Hello"}]


def test_three_agents_work_side_by_side_for_one(stack: Stack, made: Any) -> None:
    at_once, most, lock = [0], [0], threading.Lock()

    def think(messages: list[dict[str, Any]]) -> Reply:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(1.5)
        with lock:
            at_once[0] -= 1
        topic = next(word for word in ("whales", "birds", "bees") if word in str(messages))
        return scripted.text(f"about {topic}")

    stack.thinks(think)
    helper = made(mode="react")
    topics = ("whales", "birds", "bees")
    steps = [
        {"key": topic, "kind": "delegate", "arguments": {"agent": helper, "goal": f"Find out about {topic}."}}
        for topic in topics
    ]
    plan = {"steps": steps, "answer": {topic: f"${{{topic}}}" for topic in topics}}
    run = begin(stack, made(), "Find out about all three.", plan=plan)

    ended = stack.ended(run)

    assert ended["result"] == {topic: f"about {topic}" for topic in topics}, (ended, stack.steps(run))
    assert most[0] == 3


def test_a_budget_that_runs_out_keeps_the_work_and_is_raised(stack: Stack, made: Any) -> None:
    def think(messages: list[dict[str, Any]]) -> Reply:
        pages = len(observed(messages))
        if pages < 3:
            return scripted.call("http__get", {"url": f"{stack.pages.url}/{pages + 1}"})
        return scripted.text(f"{pages} pages read")

    stack.thinks(think)
    run = begin(stack, made(mode="react"), "Read three pages.", limits={"steps": 2})
    waiting = stack.until(run, lambda now: (now["status"], now["reason"]) == ("waiting", "budget"))
    assert waiting["usage"]["model_calls"] >= 2
    read = dict(stack.pages.asked)

    stack.call("POST", f"runs/{run}/resume", json={"limits": {"steps": 20}})

    assert stack.ended(run)["result"] == "3 pages read"
    assert stack.pages.asked["/1"] == read["/1"], "what was done is not done again"


def test_while_a_model_is_away_another_answers_and_without_one_the_run_waits(stack: Stack, made: Any) -> None:
    away_until = time.monotonic() + 6

    def answer(request: dict[str, Any]) -> Reply:
        if request["model"] == "first" and time.monotonic() < away_until:
            return scripted.fault(503)
        return scripted.text(f"said by {request['model']}")

    stack.model.answer = answer
    fields: dict[str, Any] = {"mode": "react", "model": "openai-chat:first"}
    helped = begin(stack, made(**fields, fallback_models=["openai-chat:second"]), "Say something.")
    alone = begin(stack, made(**fields), "Say something.")

    assert stack.ended(helped)["result"] == "said by second"
    assert time.monotonic() < away_until
    switches = [one for one in stack.call("GET", f"runs/{helped}/events")["results"] if one["type"] == "model.switched"]
    assert (switches[0]["data"]["model"], switches[0]["data"]["to"]) == ("openai-chat:first", "openai-chat:second")
    ended = stack.ended(alone)
    assert ended["status"] == "succeeded", ended
    assert ended["result"] == "said by first"


def test_workers_killed_at_every_model_and_tool_call_send_nothing_twice(stack: Stack, made: Any) -> None:
    """Each of three turns posts something that must not be repeated; a worker dies in each call of model and tool."""
    inbox, under_way = f"{stack.pages.url}/inbox", threading.Event()

    def think(messages: list[dict[str, Any]]) -> Reply:
        under_way.set()
        time.sleep(0.7)
        sent = len(observed(messages))
        if sent < 3:
            return scripted.call("http__post", {"url": inbox, "body": {"number": sent}})
        return scripted.text("all sent")

    stack.thinks(think)
    agent = made(mode="react", approvals={"trust": {"*": ["user", "model", "tool", "web"]}})
    stack.pages.delay_s = 1.0
    under_way.clear()
    run = begin(stack, agent, "Send three.")
    for turn in range(1, 4):
        under_way.wait(30)
        stack.kill("worker-model")
        under_way.clear()
        key = f"act.{turn}.1"
        stack.until(run, lambda _, turn=turn: len(stack.pages.posted) >= turn)  # type: ignore[misc]
        stack.kill("worker-network")
        stack.until(run, lambda _, key=key: stack.steps(run)[key]["reason"] == "outcome_unknown")  # type: ignore[misc]
        under_way.clear()
        body = {"outcome": "done", "result": {"status": 204}}
        stack.call("POST", f"runs/{run}/steps/{key}/resolve", json=body)

    ended = stack.ended(run)

    assert ended["result"] == "all sent", ended
    assert [body for _, body in stack.pages.posted] == [{"number": n} for n in range(3)]
    assert len({key for key, _ in stack.pages.posted}) == 3
    assert json.dumps(stack.call("GET", f"runs/{run}/model-calls")["results"]).count('"purpose": "act"') >= 4
