"""A step of kind delegate: what another run is given, and by which agent it is done."""

from typing import Any

from agentsys.agents.plan_faults import type_name
from agentsys.agents.plan_fields import Fields
from agentsys.agents.references import join_path

MAX_AGENT_CHARS = 50
MAX_GOAL_CHARS = 20_000
#: What is filled in before the child starts.  A child's plan is its own: its references mean its own steps.
TEMPLATES = ("goal", "input")
_TAKES = ("agent", "goal", "plan", "input")


def check_delegate(fields: Fields, arguments: dict[str, Any]) -> None:
    """``objective``, or ``{"goal": text}``, and/or ``{"plan": {…}}``; ``agent``: a slug, else the same agent."""
    for name in arguments.keys() - set(_TAKES):
        fields.fault(join_path("arguments", name), "argument_unknown", f"delegate takes only {', '.join(_TAKES)}.")
    for name, most in (("agent", MAX_AGENT_CHARS), ("goal", MAX_GOAL_CHARS)):
        _check_text(fields, name, arguments.get(name), most)
    if arguments.get("goal") is not None and not fields.is_blank("objective"):
        fields.fault("arguments.goal", "argument_value", "The goal stands in objective already; give it once.")
    if fields.is_blank("objective") and arguments.get("goal") is None and arguments.get("plan") is None:
        fields.fault("arguments", "argument_missing", "A step of kind delegate needs a goal or a plan.")
    if arguments.get("plan") is not None and not isinstance(arguments["plan"], dict):
        message = f'plan must be an object {{"steps": […]}}, not {type_name(arguments["plan"])}.'
        fields.fault("arguments.plan", "argument_type", message)


def _check_text(fields: Fields, name: str, value: Any, most: int) -> None:
    where = f"arguments.{name}"
    if value is None:
        return
    if not isinstance(value, str):
        fields.fault(where, "argument_type", f"{name} must be a text, not {type_name(value)}.")
    elif not value.strip() or len(value) > most:
        fields.fault(where, "argument_value", f"{name} has 1 to {most:,} characters.")
