"""Budgets: what a model call may use is reserved before it, and settled with what it has used when its step moves on.

Reserving is a commit of its own; settling belongs to the transaction that ends the claim, whoever ends it.  What is
charged: what the provider reported; of a call of which nobody knows what it used (its worker died, it timed out, the
provider reported nothing) all that was reserved; of one that the provider refused, nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import ceil
from typing import Any
from uuid import UUID

from agentsys.core import db
from agentsys.core.errors import BudgetExhausted, LeaseLost
from agentsys.llm.types import CallEstimate, Usage

from ..states import BudgetKind
from .claims import Claim
from .sql import SQL

#: Millionths of a dollar: what costs are counted in.
MICROS = 1_000_000
#: A call is not made for less output than this.
LEAST_OUTPUT_TOKENS = 256
#: Name in limits -> kind of budget.
KINDS: Mapping[str, BudgetKind] = {
    "steps": BudgetKind.STEPS,
    "tokens": BudgetKind.TOKENS,
    "cost_usd": BudgetKind.COST,
}
_ANY_CALL = 2**31 - 1
NAMES = {kind.value: name for name, kind in KINDS.items()}
#: What the numbers that people read are numbers of.
UNITS = {BudgetKind.STEPS.value: "steps", BudgetKind.TOKENS.value: "tokens", BudgetKind.COST.value: "usd"}


@dataclass(slots=True)
class Spending:
    """What the model calls of one attempt have used, as the thread knows that makes them.

    ``reported`` is of all calls; ``present`` of the ``call``-th, which is reserved for, and ``unsure`` while nobody
    knows that.  Where more is reserved than this (the answer was lost), it was for a call that was not made.
    """

    call: int = 0
    reported: Usage = field(default_factory=Usage)
    present: Usage = field(default_factory=Usage)
    unsure: bool = False
    reserved: bool = False

    def used(self) -> dict[str, int]:
        """``{tokens, micros}`` of the present call, the ``call``-th."""
        return {
            "call": self.call,
            "tokens": self.present.input_tokens + self.present.output_tokens,
            "micros": micros(self.present.cost_usd),
        }


def micros(usd: Decimal | float) -> int:
    """In millionths of a dollar, rounded up."""
    return ceil(Decimal(str(usd)) * MICROS)


def amount_of(name: str, value: float) -> int:
    """A limit as its budget counts it; of a cost, what is below a millionth is cut off."""
    return int(Decimal(str(value)) * MICROS) if name == "cost_usd" else int(value)


def shown(kind: str, amount: int) -> float:
    """As limits are written: whole steps and tokens, dollars."""
    return amount / MICROS if kind == BudgetKind.COST else amount


def reserve(claim: Claim, estimate: CallEstimate, spending: Spending) -> int | None:
    """Make room for one model call, and settle the one before it of the same claim.  One statement, one commit.

    Returns:
        How many tokens its output may have; None: nothing limits it.

    Raises:
        BudgetExhausted: there is no room; nothing was changed.
        LeaseLost: the step is no longer ours.
    """
    used = spending.used()
    had, spending.reserved = spending.reserved, True  # until the answer is there: should it be lost, something may be
    rows = db.retrying(
        lambda: db.rows(
            SQL["reserve"], run_id=claim.run_id, step_id=claim.id, token=claim.claim_token,
            workspace_id=claim.workspace_id, unsure=spending.unsure, **used,
            input_tokens=estimate.input_tokens, input_micros=estimate.input_usd * MICROS,
            output_micros=estimate.output_usd * MICROS, least=min(LEAST_OUTPUT_TOKENS, estimate.max_output_tokens),
            most=estimate.max_output_tokens,
        )
    )  # fmt: skip
    spending.reserved = had
    if not rows[0]["ours"]:
        raise LeaseLost(step=claim.key, attempt=claim.attempt)
    if rows[0]["id"] is None:
        return None
    if rows[0]["output"] < min(LEAST_OUTPUT_TOKENS, estimate.max_output_tokens):
        raise exhausted([row for row in rows if row["free"] < row["needs"]], claim.run_id)
    spending.reserved, spending.call = True, used["call"] + 1
    return int(rows[0]["output"])


def settle(token: UUID, spending: Spending | None) -> list[db.Row]:
    """Settle what an ended claim holds, in the transaction that ends it.

    Args:
        spending: What its calls have used; None: nobody knows.

    Returns:
        The budgets of which four fifths are used up since now.
    """
    # A reservation that the spending knows nothing of is another process's with the same claim: nobody knows its use.
    known = spending if spending is not None and spending.reserved else Spending(call=_ANY_CALL, unsure=True)
    return db.rows(SQL["settle"], token=token, unsure=known.unsure, **known.used())


def charge_steps(run_id: UUID, steps: int, *, above_only: bool = False) -> list[db.Row]:
    """Count so many more steps (below 0: fewer) of a locked run, and of the runs above it.

    Args:
        above_only: Those of the run itself are counted already: it was made with them.

    Returns:
        The budgets of which four fifths are used up since now.

    Raises:
        BudgetExhausted: there is no room for all of them; nothing was changed.
    """
    rows = db.rows(SQL["charge_steps"], run_id=run_id, steps=steps, above=above_only)
    if rows and not rows[0]["fits"]:
        raise exhausted([row for row in rows if row["free"] < row["needs"]], run_id)
    return [row for row in rows if row["warn"]]


# --- What people are told ---------------------------------------------------------------
def exhausted(short: Sequence[db.Row], run_id: UUID) -> BudgetExhausted:
    """The error that says which budgets have no room; ``data["budgets"]`` is also what the sweeper goes by."""
    first = short[0]
    numbers = {name: said(first["kind"], first[name]) for name in ("lim", "spent", "reserved", "needs")}
    message = (
        f"The {_whose(first, run_id)} budget of {NAMES[first['kind']]} is used up: its limit is {numbers['lim']},"
        f" {numbers['spent']} are spent and {numbers['reserved']} reserved; this needs {numbers['needs']} more."
        f" {_how_to_raise(first)}"
    )
    return BudgetExhausted(message, budgets=[_told(row) for row in short])


def _told(row: db.Row) -> dict[str, Any]:
    """All numbers as limits are written, in ``unit``; ``budget`` is its id."""
    numbers = {"limit": "lim", **{name: name for name in ("spent", "reserved", "needs", "wants")}}
    return {
        "budget": row["id"], "scope": scope(row), "run": row["run_id"] and str(row["run_id"]),
        "kind": NAMES[row["kind"]], "unit": UNITS[row["kind"]],
        **{name: shown(row["kind"], row[column]) for name, column in numbers.items()},
    }  # fmt: skip


def warning(row: db.Row) -> dict[str, Any]:
    """The data of the event ``budget.warning``."""
    return {
        "scope": scope(row),
        "kind": NAMES[row["kind"]],
        "unit": UNITS[row["kind"]],
        "limit": shown(row["kind"], row["lim"]),
        "spent": shown(row["kind"], row["spent"]),
    }


def _whose(row: db.Row, run_id: UUID) -> str:
    return "parent run's" if row["run_id"] not in (None, run_id) else f"{scope(row)}'s"


def scope(row: db.Row) -> str:
    """run, agent or workspace: whose budget it is."""
    return "run" if row["run_id"] is not None else "agent" if row["agent_id"] is not None else "workspace"


def _how_to_raise(row: db.Row) -> str:
    name = NAMES[row["kind"]]
    if row["run_id"] is not None:
        return f'Raise it: POST /api/v1/runs/{row["run_id"]}/resume {{"limits": {{"{name}": …}}}}.'
    where = "workspace" if row["agent_id"] is None else "agents/<slug>"
    return f"An admin raises it: PATCH /api/v1/budgets/{where}; the run then goes on by itself."


def said(kind: str, amount: int) -> str:
    """An amount for people."""
    return f"${amount / MICROS:,.6f}" if kind == BudgetKind.COST else f"{amount:,}"
