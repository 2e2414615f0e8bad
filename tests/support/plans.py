"""Plans for tests: a step that is valid unless a test says otherwise, and what a refusal says."""

import json
from typing import Any

import pytest

from agentsys.agents.plans import Plan, parse_plan
from agentsys.core.errors import PlanInvalid
from agentsys.tools import registry

TOOLS = registry.all_tools()
NOW = {"tool": "time.now"}


def parse(steps: list[Any], **more: Any) -> Plan:
    return parse_plan({"steps": steps, **more}, tools=TOOLS)


def step(key: Any = "a", **fields: Any) -> dict[str, Any]:
    return {"key": key, **NOW, **fields}


def refused(data: Any, max_steps: int = 1_000) -> list[tuple[str, str]]:
    """(path, code) of every fault; each message is a sentence or ends in one."""
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(data, tools=TOOLS, max_steps=max_steps)
    errors = caught.value.data["errors"]
    for error in errors:
        assert set(error) == {"path", "code", "message"}
        assert error["message"][-1] in ".?"
        assert json.dumps(error, ensure_ascii=False).encode()
        assert len(json.dumps(error)) < 2_000
    return [(error["path"], error["code"]) for error in errors]


def messages(data: Any) -> list[str]:
    with pytest.raises(PlanInvalid) as caught:
        parse_plan(data, tools=TOOLS)
    return [error["message"] for error in caught.value.data["errors"]]
