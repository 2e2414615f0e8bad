"""What is asked of a person, as a card: all of it, or no way to decide.

Whoever approves must have seen what: a card that leaves something out has no buttons but the way to more.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from agentsys.dashboard import links, text
from agentsys.runs import approvals, trust
from agentsys.runs.models import Approval
from agentsys.runs.states import ApprovalKind

#: Of the arguments, in characters: on a page of their own, and in the inbox.
MAX_SHOWN_CHARS, MAX_LISTED_CHARS = 100_000, 4_000
MAX_LISTED = 30


def inbox(rows: "QuerySet[Approval]", may_decide: Any) -> dict[str, Any]:
    """The open ones among ``rows``, the oldest first.  One query; ``may_decide`` is asked with a workspace's id."""
    found = approvals.lean(rows.filter(decision="")).order_by("id")[: MAX_LISTED + 1]
    listed = list(found)
    cards = [
        card(row, may=may_decide(row.workspace_id), arguments=vars(row)["short_arguments"], limit=MAX_LISTED_CHARS)
        for row in listed[:MAX_LISTED]
    ]
    return {"cards": cards, "more": len(listed) > MAX_LISTED, "history_url": links.listed("runs_approval")}


def card(
    approval: Approval,
    *,
    may: bool,
    arguments: Any,
    limit: int = MAX_SHOWN_CHARS,
    faults: Sequence[str] = (),
    typed: str = "",
) -> dict[str, Any]:
    """Everything a card shows.

    Args:
        arguments: of the approval, None where they are too large for this place.
        typed: what somebody wrote that was refused for ``faults``.
    """
    is_question = approval.kind == ApprovalKind.INPUT
    written = "" if arguments is None else _written(arguments, is_question)
    whole = arguments is not None and len(written) <= limit
    schema = (arguments or {}).get("schema") if is_question else None
    return {
        "approval": approval,
        "is_question": is_question,
        "tool": text.clip(approval.step.tool, 100),
        "state": approval.decision or "open",
        "facts": [(name, value) for name, value in _facts(approval, timezone.now()) if value],
        "shown": text.block(written, limit),
        "schema": text.pretty(schema, 4_000) if schema is not None else "",
        "is_text": takes_text(schema),
        "whole": whole,
        "may": may and whole and not approval.decision,
        "editable": typed or text.visible(written),
        "typed": typed,
        "faults": faults,
        "url": links.to_approval(approval.pk),
        "run_url": links.to_run(approval.run_id),
        "said": _said(approval),
    }


def takes_text(schema: Any) -> bool:
    """Whether an answer is a text as it is typed, and not JSON."""
    if schema is None:
        return True
    if not isinstance(schema, Mapping):
        return False
    choices = schema.get("enum")
    of_texts = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    return schema.get("type") == "string" or ("type" not in schema and of_texts)


def _written(arguments: Any, is_question: bool) -> str:
    if is_question:
        return str(arguments.get("question", ""))
    return json.dumps(arguments, ensure_ascii=False, indent=2)


def _facts(approval: Approval, now: datetime) -> list[tuple[str, str]]:
    is_open = not approval.decision
    left_s = (approval.expires_at - now).total_seconds() if approval.expires_at and is_open else None
    return [
        ("Step", approval.step.key),
        ("Asked because", text.clip(trust.said(approval.tainted), 300)),
        ("Asked (UTC)", text.moment(approval.created_at)),
        ("Waits for", text.duration((now - approval.created_at).total_seconds()) if is_open else ""),
        ("Expires in", text.duration(left_s)),
        ("Decided (UTC)", text.moment(approval.decided_at)),
        ("By", text.clip(approval.decided_by or "", 60)),
    ]


def _said(approval: Approval) -> str:
    """What was answered, or why it was denied; only where the row has it."""
    if not approval.decision or "answer" in approval.get_deferred_fields():
        return ""
    return text.pretty(approval.answer) if approval.answer is not None else ""
