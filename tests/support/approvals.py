"""Steps that ask a person, and what they ask."""

from typing import Any

from agentsys.runs import approvals
from agentsys.runs.models import Approval, Run
from tests.support import tools


def wire(key: str = "pay", to: Any = "bob", **fields: Any) -> dict[str, Any]:
    """A call that must not be repeated, nor made unasked."""
    return {"key": key, "tool": "test.wire", "arguments": {"to": to, **fields.pop("arguments", {})}, **fields}


def ask(key: str = "who", question: str = "Who?", schema: Any = None, **fields: Any) -> dict[str, Any]:
    return {"key": key, "kind": "ask", "arguments": {"question": question, "schema": schema}, **fields}


def echo(key: str, value: Any = None, **fields: Any) -> dict[str, Any]:
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def open_of(run: Run, key: str | None = None) -> Approval:
    """The one open question of a run (of its step ``key``)."""
    found = run.approvals.filter(decision="", **({"step__key": key} if key else {})).get()
    return approvals.get(run.workspace_id, found.pk)


def wired() -> list[dict[str, Any]]:
    """The arguments of every call of test.wire that was really made."""
    return [arguments for name, arguments in tools.calls if name == "wire"]
