"""Use cases of budgets: what a run may still use, and what agents and whole workspaces may.

A run is limited in steps, tokens, cost_usd and time_s by its submission and its agent's version; agents and workspaces
in tokens and cost_usd, in all (a person raises them, nothing starts them anew).  Whatever is used up lets the run wait
with its work kept (``waiting(budget)``), never fail; a raise lets it go on.

- **Tokens, cost**: a model call reserves what it may use at most in every budget that it counts on, or is not made;
  what it has used is settled with the record of its step.  Charged is what the provider reports; all that was reserved
  where nobody knows (its worker died, it timed out, the provider does not say); nothing where the provider refused it.
  Input is estimated on the high side and output is capped at the provider, so a call can use more than was reserved
  only by the estimate's error; then the budget is full, and ``over`` says by how much.  Models without a public price
  cost 0.
- **Steps** count when they are made, and no more when they are dropped (skipped, cancelled, superseded); planning steps
  do not, they have a bound of their own.  A plan that finds no room is kept until it does.
- **Time** counts from the run's start, whether it works, waits or is paused, but not while it waits for more time.
- **Child runs** count on all of that of their parents, as they go, and on the limits of their own agent.
- **Retry and fork** begin with the limits that the run has by then, and nothing of them used.
- A run's limits may be raised by who may resume it, also beyond its agent's version; an agent's and a workspace's bind
  all the same (2026-11: a version cannot change, so nobody could help a run that has used its limits up).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from agentsys.agents import definition
from agentsys.agents.models import Agent
from agentsys.core import db
from agentsys.core.errors import InvalidInput, NotFound

from .models import Budget, Run
from .states import RUN_FINAL, BudgetKind
from .store import budgets, reservations
from .store.sql import SQL

#: What an agent or a workspace may be limited in; steps and time are a run's.
SHARED = ("tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class Line:
    """One budget as people read it: whole steps and tokens, dollars, seconds.

    ``scope`` is run, parent (a run above that waits for this one), agent or workspace; ``over`` is what calls have
    used beyond the limit, which was known only afterwards.
    """

    scope: str
    kind: str
    limit: float
    spent: float
    reserved: float = 0
    over: float = 0
    run: UUID | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """The budgets of a workspace (``agent`` is None) or of one of its agents."""

    agent: str | None = None
    tokens: Line | None = None
    cost_usd: Line | None = None

    @property
    def scope(self) -> str:
        return "workspace" if self.agent is None else "agent"


def of_run(run: Run) -> list[Line]:
    """Every budget that the run's steps count on, its own first.  Two queries."""
    rows = db.rows(SQL["budgets_of_run"], run_id=run.pk)
    return [*_time_of(run), *(_line(row, run.pk) for row in rows)]


def _line(row: db.Row, run_id: UUID) -> Line:
    above = row["run_id"] is not None and row["run_id"] != run_id
    scope = "parent" if above else reservations.scope(row)
    kind, names = row["kind"], {"limit": "lim", "spent": "spent", "reserved": "reserved", "over": "over"}
    numbers = {name: reservations.shown(kind, row[column]) for name, column in names.items()}
    return Line(scope, reservations.NAMES[kind], run=row["run_id"], agent=row["agent"], **numbers)


def _time_of(run: Run) -> Iterable[Line]:
    if run.limits.get("time_s") is None:
        return
    left = db.rows(SQL["time_left"], run_id=run.pk)[0]
    limit_s, until = left["time_s"], run.finished_at if run.status in RUN_FINAL else left["now"]
    spent_s = 0.0
    if left["started_at"] is not None and left["up_at"] is not None and until is not None:
        spent_s = min(max(limit_s - (left["up_at"] - until).total_seconds(), 0.0), limit_s)
    yield Line("run", "time_s", limit_s, round(spent_s, 3), run=run.pk)


def kind_of(name: str) -> BudgetKind:
    """A budget's kind by its name among limits."""
    return reservations.KINDS[name]


def name_of(budget: Budget) -> str:
    """What limits call it."""
    return reservations.NAMES[budget.kind]


def limit_of(budget: Budget) -> float:
    """As limits are written."""
    return reservations.shown(budget.kind, budget.lim)


def said(kind: str, amount: int) -> str:
    """An amount of a budget for people: ``1,200`` or ``$0.012000``."""
    return reservations.said(kind, amount)


# --- Agents and workspaces --------------------------------------------------------------
def of_workspace(workspace_id: UUID) -> list[Shared]:
    """The workspace's budgets, then those of its agents that have any.  One query."""
    rows = Budget.objects.filter(workspace_id=workspace_id, run=None).select_related("agent")
    found: dict[str | None, dict[str, Line]] = {None: {}}
    for row in sorted(rows, key=lambda row: row.agent.slug if row.agent else ""):
        slug = row.agent.slug if row.agent else None
        line = _line({**vars(row), "agent": slug}, workspace_id)
        found.setdefault(slug, {})[line.kind] = line
    return [Shared(slug, **lines) for slug, lines in found.items()]


def of(workspace_id: UUID, slug: str | None) -> Shared:
    """The budgets of a workspace, or of one of its agents.

    Raises:
        NotFound: there is no such agent.
    """
    if slug is not None:
        _agent(workspace_id, slug)
    return next((one for one in of_workspace(workspace_id) if one.agent == slug), Shared(slug))


def set_limits(workspace_id: UUID, slug: str | None, limits: Mapping[str, Any]) -> Shared:
    """Set, raise or lower what a workspace or one of its agents may use in all; None takes a limit away.

    What is spent stays spent when a limit changes; a new limit begins with nothing spent.  Steps that wait for it go
    on by themselves within a second or two.

    Raises:
        InvalidInput: ``errors`` lists what is wrong, also that more is spent and reserved; nothing was changed.
        NotFound: there is no such agent.
    """
    given = {name: value for name, value in limits.items() if value is not None}
    faults = list(definition.limit_faults(given))
    faults += [_not_shared(name) for name in limits if name in definition.LIMITS and name not in SHARED]
    if faults:
        raise InvalidInput("The limits are not valid; see errors.", errors=faults)
    agent_id = _agent(workspace_id, slug).pk if slug is not None else None
    db.retrying(lambda: budgets.set_limits(workspace_id, agent_id, limits))
    return of(workspace_id, slug)


def _not_shared(name: str) -> dict[str, str]:
    message = f"{name} is limited for each run: by its agent's version, or by its submission."
    return {"path": f"limits.{name}", "code": "unavailable", "message": message}


def _agent(workspace_id: UUID, slug: str) -> Agent:
    found = Agent.objects.filter(workspace_id=workspace_id, slug=slug).first() if slug.isprintable() else None
    if found is None:
        raise NotFound("There is no such agent.")
    return found
