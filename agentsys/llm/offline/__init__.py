"""The embedded model: a deterministic planner of imperative English, behind the same door as every model.

A goal is split into clauses (``clauses``).  Each goes to the tool whose own words fit it best
(``catalogue``); the tool's schema says which literals and which earlier outputs fill its arguments
(``attempt``, ``sources``); ``planner`` puts the steps together.  Nothing is guessed: a clause without a
tool, an argument without a value, a literal or a word without a place, and a tie are refused by name.
"""

import json
from typing import Any

from agentsys.core.errors import GoalNotPlannable
from agentsys.llm.offline import anew
from agentsys.llm.offline.planner import Planner
from agentsys.llm.types import Called, ModelRequest, ModelResponse, Usage

MODEL = "offline"


def respond(request: ModelRequest) -> ModelResponse:
    """Answer from ``request.context`` and ``request.tools``; the prose of the request is not read.

    Context by purpose: ``plan`` {goal, input?, files?, max_steps?, progress?}, ``act`` {objective, input?, files?},
    ``answer`` {outputs}.  With ``progress``, of a run that is under way, what people have said is planned as the new
    rest; without a word, what a failure has left.

    Raises:
        GoalNotPlannable: with ``clause``, the part that cannot be planned, and ``reason``.
    """
    output = {"plan": _plan, "act": _act, "answer": _answer}[request.purpose](request)
    return ModelResponse(output, Usage(model_calls=1), MODEL)


def _plan(request: ModelRequest) -> dict[str, Any]:
    context = request.context
    progress = context.get("progress")
    if progress and not progress["asked"]:
        return anew.without_failed(progress)
    planner = Planner(
        request.tools,
        files=tuple(context.get("files") or ()),
        input=context.get("input"),
        max_steps=context.get("max_steps") or 1_000,
    )
    if progress:
        planner.goes_on(anew.seeds(progress, planner.profiles), taken=progress["taken"])
        goal = "\n".join(progress["asked"])
    else:
        goal = str(context.get("goal") or context.get("objective") or "")
    # What a plan could not store: NUL, and halves of characters.
    return planner.plan(goal.replace("\0", "\ufffd").encode("utf-8", "replace").decode())


def _act(request: ModelRequest) -> dict[str, Any]:
    """An objective is one call, and what that gave is the result."""
    if request.turns:
        return {"result": _observed(request.turns[-1].calls[-1])}
    steps = _plan(request)["steps"]
    if len(steps) != 1:
        objective = str(request.context.get("objective", ""))[:300]
        reason = f"it takes {len(steps)} steps, and an objective is one tool call"
        raise GoalNotPlannable(f'Cannot do "{objective}" at once: {reason}.', clause=objective, reason=reason)
    return {"calls": [{"tool": steps[0]["tool"], "arguments": steps[0]["arguments"]}], "text": ""}


def _observed(call: Called) -> Any:
    """The output of a call; one that is too long to be shown is only begun, and stays text."""
    try:
        return json.loads(call.output)
    except ValueError:
        return call.output


def _answer(request: ModelRequest) -> Any:
    """The one output, or all of them by step."""
    outputs = request.context.get("outputs") or {}
    return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)
