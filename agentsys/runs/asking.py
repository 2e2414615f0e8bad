"""What a step asks of a person: may this very call be made, or what is the answer.

A decision is bound to the SHA-256 of what was shown: canonical JSON of the tool and its rendered arguments.
Canonical is: keys sorted, no spaces, UTF-8, numbers as PostgreSQL's jsonb gives them back, so that the stored
arguments have the digest that they were stored with.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from agentsys.core.errors import PayloadTooLarge, ToolOutputTooLarge
from agentsys.core.path_evaluation import to_text
from agentsys.core.sanitize import clean
from agentsys.tools import runner
from agentsys.tools.registry import ToolSpec

from .states import ApprovalKind
from .store import decisions
from .store.claims import Claim
from .store.decisions import Question

#: Of what a person is shown, as JSON.  More than that nobody reads before saying yes.
MAX_SHOWN_BYTES = 1_000_000


def settled(value: Any) -> Any:
    """``value`` as it will be read again once it was stored.

    Raises:
        PayloadTooLarge: a person cannot be shown this much.
    """
    try:
        return _as_stored(clean(value, max_bytes=MAX_SHOWN_BYTES))
    except ToolOutputTooLarge:
        message = f"What a person is asked about may have {MAX_SHOWN_BYTES:,} bytes, nested at most 64 deep."
        raise PayloadTooLarge(message) from None


def _as_stored(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_stored(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_stored(part) for part in value]
    return _number(value) if isinstance(value, float) else value


def _number(number: float) -> int | float:
    """jsonb writes no exponents: 1e22 comes back as an integer; and it has no negative zero."""
    if number == 0:
        return 0.0
    text = repr(number)
    return int(Decimal(text)) if "e" in text and number.is_integer() else number


def canonical(tool: str, arguments: Any) -> bytes:
    """The bytes that a decision is bound to."""
    call = {"arguments": arguments, "tool": tool}
    return json.dumps(call, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def question(tool: str, arguments: Any, kind: ApprovalKind = ApprovalKind.APPROVAL) -> Question:
    """A question about ``arguments``, which are settled."""
    bound = canonical(tool, arguments)
    return Question(kind, arguments, hashlib.sha256(bound).hexdigest(), len(bound))


def about_call(
    claim: Claim,
    spec: ToolSpec,
    arguments: Any,
    *,
    skip: Callable[[Any], bool] | None = None,
    tainted: Mapping[str, list[str]] | None = None,
) -> Question | None:
    """What is to be asked before ``spec`` is called with settled arguments; None: it has been approved.

    Args:
        skip: Tells whether a value is known only in the call itself; see arguments.faults.
        tainted: What comes from where it should not, see trust; the person is told.

    Raises:
        ToolArgumentsInvalid: nobody needs to be asked about a call that cannot be made.
    """
    runner.check(spec, arguments, skip=skip)
    asked = replace(question(spec.name, arguments), tainted=dict(tainted or {}))
    return None if decisions.is_approved(claim, asked.digest) else asked


def for_answer(text: Any, schema: Any) -> Question:
    """A question to which the answer is a step's output."""
    shown = text if isinstance(text, str) else to_text(text)
    return question("", settled({"question": shown, "schema": schema}), ApprovalKind.INPUT)
