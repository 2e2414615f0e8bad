"""A step of kind ask: a question to a person, and the shape that the answer must have."""

import json
from typing import Any

from agentsys.agents.plan_fields import Fields
from agentsys.agents.references import join_path
from agentsys.core import schemas

MAX_QUESTION_CHARS = 20_000
MAX_SCHEMA_BYTES = 100_000


def check_ask(fields: Fields, arguments: dict[str, Any]) -> None:
    """``objective``, or ``{"question": text}``, is the question; ``{"schema": JSON Schema}`` bounds the answer.

    The question is a template, the schema is not.
    """
    for name in arguments.keys() - {"question", "schema"}:
        fields.fault(join_path("arguments", name), "argument_unknown", "ask takes only question and schema.")
    _check_question(fields, arguments.get("question"))
    if arguments.get("schema") is not None:
        check_schema(fields, arguments["schema"])


def _check_question(fields: Fields, question: Any) -> None:
    where = "arguments.question"
    if question is None:
        if fields.is_blank("objective"):
            fields.fault("objective", "missing", "A step of kind ask needs its question.")
    elif not fields.is_blank("objective"):
        fields.fault(where, "argument_value", "The question stands in objective already; give it once.")
    elif not isinstance(question, str):
        fields.fault(where, "argument_type", "question must be a text.")
    elif not question.strip():
        fields.fault(where, "argument_missing", "A step of kind ask needs its question.")
    elif len(question) > MAX_QUESTION_CHARS:
        fields.fault(where, "argument_value", f"question has at most {MAX_QUESTION_CHARS:,} characters.")


def check_schema(fields: Fields, schema: Any) -> None:
    """``arguments.schema`` as a JSON Schema."""
    if len(json.dumps(schema, default=str)) > MAX_SCHEMA_BYTES:
        fields.fault("arguments.schema", "argument_value", f"A schema may have {MAX_SCHEMA_BYTES:,} bytes.")
        return
    for fault in schemas.faults(schema, path="arguments.schema"):
        fields.fault(fault["path"], "argument_value", f"{fault['message'].rstrip('.')}.")
