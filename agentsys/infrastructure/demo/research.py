"""A language model at work: its first idea fails, it plans anew, a person approves what it wants to send, it answers.

Without a key the model is scripted: real HTTP, real protocol, its answers written below.  With ``--model`` the same
goal goes to that one.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from agentsys.infrastructure.demo.client import Client
from agentsys.infrastructure.demo.play import Act
from agentsys.infrastructure.demo.scenes import Scene
from agentsys.infrastructure.supervisor_wanted import Wanted
from agentsys.llm import scripted
from agentsys.llm.scripted import ModelServer, Reply

AGENT = "researcher"
MODEL = "openai-chat:scripted"
#: The goal's addresses.
_ADDRESSES = re.compile(r"read (http://[^ ]+)/api/v1/openapi\.json .*? POST that to (http://[^ ]+) as ")
#: JMESPath over the API's description.
RUNS = "{title: info.title, runs: keys(paths)[?contains(@, '/runs')]}"
SUMMARY = (
    "One submits a goal as a run, follows its steps and events, and pauses, resumes, retries, forks or cancels it."
)
TITLE = "An agent whose first idea fails, who plans anew and asks before it sends"


@dataclass(frozen=True)
class Research:
    """The scene's model and where its findings are sent, on a server of the demo's own."""

    model: str
    inbox: str
    received: list[Any]

    def scene(self, address: str) -> Scene:
        """For a stack that answers at ``address``."""
        goal = (
            f"Find out what one can do with runs here: read {address}/api/v1/openapi.json or, if it is not there, "
            f"{address}/api/v1/schema?format=json, and take the paths from it that have /runs in them. "
            f'Sum it up in one sentence, POST that to {self.inbox} as {{"summary": …}}, and answer with it.'
        )
        return Scene(TITLE, {"agent": AGENT, "goal": goal})

    def agent(self) -> dict[str, Any]:
        return {
            "name": "Researcher", "model": self.model, "tools": ["http.get", "http.post", "json.query"],
            "planning": {"replan_on_failure": 2},
        }  # fmt: skip


@contextmanager
def researching(wanted: Wanted, model: str) -> Iterator[tuple[Wanted, Research]]:
    """The stack that is wanted, led to a server of ours: the inbox, and unless there is a ``model``, the model, too."""
    received: list[Any] = []
    with scripted.serving(answer=_answering(received)) as server:
        host = server.url.removeprefix("http://").partition("/")[0]
        allowed = replace(wanted, http_allow=(*wanted.http_allow, host))
        if not model:
            scripts = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "scripted"}
            allowed = replace(allowed, environ={**allowed.environ, **scripts})
        yield allowed, Research(model or MODEL, _inbox(server), received)


def _inbox(server: ModelServer) -> str:
    return server.url.removesuffix("/v1") + "/inbox"


# --- What the scripted model says -----------------------------------------------------------
def _answering(received: list[Any]) -> Callable[[dict[str, Any]], Reply]:
    def answer(request: dict[str, Any]) -> Reply:
        if request["path"] == "/inbox":
            received.append({name: value for name, value in request.items() if name != "path"})
            return Reply({"received": len(received)})
        return _said(json.dumps(request.get("messages"), ensure_ascii=False), bool(request.get("tools")))

    return answer


def _said(asked: str, to_plan: bool) -> Reply:
    """By what it is asked, and not by how often: a question that is put again is answered again."""
    if not to_plan:
        return scripted.spoken(*(f"{word} " for word in SUMMARY.split()[:-1]), SUMMARY.split()[-1])
    base, inbox = _ADDRESSES.findall(asked)[0]
    return scripted.submit(_second_plan(base, inbox) if "Planning anew" in asked else _first_plan(base))


def _first_plan(base: str) -> dict[str, Any]:
    read = {"key": "read", "tool": "http.get", "arguments": {"url": f"{base}/api/v1/openapi.json"}}
    return {"steps": [read], "answer": "${read.json.info.title}"}


def _second_plan(base: str, inbox: str) -> dict[str, Any]:
    schema = {"key": "schema", "tool": "http.get", "arguments": {"url": f"{base}/api/v1/schema?format=json"}}
    query = {"key": "paths", "tool": "json.query", "arguments": {"data": "${schema.json}", "expression": RUNS}}
    summary = {
        "key": "summary",
        "kind": "answer",
        "objective": "Sum up in one sentence what one can do: ${paths.value}",
    }
    send = {"key": "send", "tool": "http.post", "arguments": {"url": inbox, "body": {"summary": "${summary}"}}}
    answer = {"summary": "${summary}", "sent": "${send.status}"}
    return {"steps": [schema, query, summary, send], "answer": answer}


# --- The person ---------------------------------------------------------------------------
class Person:
    """Says yes to what the run asks, as somebody would in the admin; ``asked`` counts."""

    def __init__(self, client: Client, act: Act, say: Callable[[str], None]) -> None:
        self._client, self._act, self._say = client, act, say
        self.asked = 0

    def look(self) -> None:
        """To be called whenever the act may have moved."""
        if (self._act.run.get("status"), self._act.run.get("reason")) != ("waiting", "approval"):
            return
        for approval in self._client.open_approvals(self._act.run["id"]):
            why = "; ".join(f"{name} comes from {', '.join(found)}" for name, found in approval["tainted"].items())
            self._say(f"? {approval['tool']} waits for a person's word ({why or 'as its agent has it'}); approved")
            self._client.approve(approval)
            self.asked += 1
