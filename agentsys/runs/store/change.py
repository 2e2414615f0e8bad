"""One transaction that moves one run: lock it, move its steps, save it once with its events.

``claim`` and ``complete`` do the same in one statement each, for the steady state; all rarer moves go
through here.  The rules that turn counters into a run's status are in :meth:`Change._settle`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from psycopg.types.json import Jsonb

from agentsys.core import db
from agentsys.core.errors import AgentSysError, NotFound
from agentsys.runs import results
from agentsys.runs.told import told

from .. import dispatch
from ..states import RUN_FINAL, STEP_ACTIVE, RunStatus, StepKind, StepStatus
from . import kin, payloads, reservations
from .claims import Result
from .holding import Holding
from .payloads import Owner
from .reservations import Spending
from .sql import SQL

_SAVED = (
    "status", "reason", "stop_reason", "parked_reason", "retryable", "event_seq", "open_steps", "active_steps",
    "steps_done", "plan_version", "time_up_at", "held_at", "over_cap",
)  # fmt: skip


def jsonb(value: Any) -> Jsonb | None:
    """JSON null and SQL NULL are one for us: absent."""
    return None if value is None else Jsonb(value)


@dataclass
class Change(Holding):
    """A locked run and what is to be written of it; ``lanes`` to ring after the commit.

    No step becomes ready here: it is queued for a slot, and admitted after the commit.
    """

    _events: list[dict[str, Any]] = field(default_factory=list)
    _costs: dict[str, Any] = field(default_factory=lambda: {"tool_calls": 0, **Result(None).costs()})
    _cancelling: bool = False
    _has_ended: bool = False
    _has_orphans: bool = False
    spending: Spending | None = None  #: of the attempt that ends by this change; None: nobody knows
    _ended: list[UUID] = field(default_factory=list)
    _dropped: int = 0

    @property
    def is_final(self) -> bool:
        return self.run["status"] in RUN_FINAL

    @property
    def suffix(self) -> str:
        """What the key of a step gets that a later plan may use anew."""
        return f".v{self.run['plan_version']}"

    def event(self, type_: str, step: str = "", **data: Any) -> None:
        self.run["event_seq"] += 1
        self._events.append({"seq": self.run["event_seq"], "type": type_, "step": step, "data": data})

    def left(self, was: str, to: str, lane: str, *, plans: bool = False) -> None:
        """Count one step's move from ``was`` to ``to``, and the slot of ``lane`` that it gives back; ``plans``: a
        planning step, which no budget counts."""
        self.count_slot(was, to, lane)
        self.run["active_steps"] += (to in STEP_ACTIVE) - (was in STEP_ACTIVE)
        if to in (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED):
            self.run["open_steps"] -= 1
        if to in (StepStatus.SUCCEEDED, StepStatus.FAILED):
            self.run["steps_done"] += 1
        self._dropped += not plans and to in (StepStatus.SKIPPED, StepStatus.CANCELLED)

    def cost(self, kind: str, result: Result) -> None:
        for name, amount in result.costs().items():
            self._costs[name] += amount
        self._costs["tool_calls"] += kind == "tool"

    def settle(self, token: UUID) -> None:
        """An attempt that may hold reservations has ended, its own or those of a copy of it."""
        self._ended.append(token)

    def charge_steps(self, count: int, *, instead_of: Callable[[], int] = lambda: 0) -> None:
        """Count steps that the run is about to have, ``instead_of`` others that are dropped with this change.

        Raises:
            BudgetExhausted: there is no room for all of them; nothing was changed.
        """
        if "steps" in self.run["limits"] or self.run["parent_step"] is not None:
            dropped = instead_of()
            self._warn(reservations.charge_steps(self.run["id"], count - dropped))
            self._dropped -= dropped

    def park(self, reason: str) -> None:
        self.run["parked_reason"] = reason

    def repark(self) -> None:
        """A step has stopped waiting: what is left to wait for is what the first of the others waits for."""
        left = db.row(SQL["waiting_reason"], run_id=self.run["id"])
        self.park(left["reason"] if left else "")

    def stop(self, *, reason: str, error: AgentSysError | None, by: str | None = None) -> None:
        """Cancel whatever is not running; the run ends failed (with ``error``) or cancelled once drained."""
        if error is not None:
            self.stop_for(told(error), reason=reason, retryable=error.retryable)
        elif self.run["status"] != RunStatus.CANCELLING:
            self._drain(reason, reason, **({"by": by} if by else {}))

    def stop_for(self, error: dict[str, Any], *, reason: str, retryable: bool) -> None:
        """:meth:`stop` for an error as the tables have it."""
        if self.run["status"] == RunStatus.CANCELLING:
            return
        self.run["error"], self.run["retryable"] = error, retryable
        self._drain(reason, "policy")

    def _drain(self, stop_reason: str, reason: str, **data: Any) -> None:
        self.run["stop_reason"] = stop_reason
        self._turn(RunStatus.CANCELLING, reason, **data)
        self._cancelling = True
        self.cancel_open("run")

    def hold(self) -> None:
        """What has not started waits, without a slot, until the run goes on."""
        for row in db.rows(SQL["hold_ready"], run_id=self.run["id"]):
            self.left(row["was"], StepStatus.QUEUED, row["lane"])

    def pause(self, *, reason: str, by: str | None = None) -> None:
        """Nothing of the run is claimed any more; what runs goes on to its end."""
        self.hold()
        self._turn(RunStatus.PAUSED, reason, **({"by": by} if by else {}))

    def resume(self, *, by: str | None = None) -> None:
        """Undo :meth:`pause`; a run whose time is used up goes on waiting for that."""
        self.event("run.resumed", **({"by": by} if by else {}))
        if self.run["held_at"] is None:
            self.go_on()
        else:
            self.wait_for_time()

    def wait_for_time(self) -> None:
        """The run's time is used up: its status says so, whatever its steps do."""
        self._turn(RunStatus.QUEUED if self.run["started_at"] is None else RunStatus.WAITING, "budget")

    def go_on(self) -> None:
        """Nothing holds the run any more: what was held back wants its slots; its status is what its steps say."""
        self.release()
        if not self.run["active_steps"]:
            self._turn(RunStatus.WAITING, self.run["parked_reason"])
        elif self.run["started_at"] is None:
            asleep = db.row(SQL["waits_for_its_start"], run_id=self.run["id"])
            self._turn(RunStatus.QUEUED, "start_at" if asleep else "")
        else:
            self._turn(RunStatus.RUNNING, "")

    def cancel_open(self, reason: str) -> None:
        """Whatever is not running and has not ended -> cancelled."""
        rows = db.rows(SQL["cancel_open"], run_id=self.run["id"], reason=reason)
        for row in sorted(rows, key=lambda row: int(row["id"])):  # told in plan order, whatever the join gave
            if row["approval"]:
                self.event("approval.decided", row["key"], approval=str(row["approval"]), decision="cancelled")
            self.left(row["was"], StepStatus.CANCELLED, row["lane"], plans=row["kind"] == StepKind.PLAN)
            self.event("step.cancelled", row["key"])
            self._has_orphans |= row["kind"] == StepKind.DELEGATE and row["was"] == StepStatus.WAITING

    def join(self, step_id: int, *, failed: bool = False) -> None:
        """Tell the children of a step that it has ended; a failed one skips those that need it, and theirs."""
        ended = [(step_id, failed)]
        while ended:
            parent, bad = ended.pop()
            params = {"step_id": parent, "failed": bad, "priority": self.run["priority"]}
            for row in db.rows(SQL["join_children"], held=self.held, **params):
                self._joined(row)
            if not bad:
                continue
            for row in db.rows(SQL["skip_children"], step_id=parent, suffix=self.suffix):
                self.left(StepStatus.BLOCKED, StepStatus.SKIPPED, row["lane"])
                self.event("step.skipped", row["key"])
                ended.append((row["id"], True))

    def _joined(self, row: db.Row) -> None:
        if row["status"] != StepStatus.BLOCKED:
            self.left(StepStatus.BLOCKED, row["status"], row["lane"])
            self.ring(row["lane"])

    def save(self) -> None:
        """Settle the status, then write the run and its events, and give slots back: the last lock of all."""
        if not self.is_final:
            self._settle()
            self.fit()
            self._settle_budgets()
            self._write()
        self.give_back_slots()

    def _write(self) -> None:
        run = self.run
        db.rows(
            SQL["save_run"],
            run_id=run["id"],
            **{name: run[name] for name in _SAVED},
            error=jsonb(run["error"]),
            result=jsonb(run["result"]),
            answer=jsonb(run["answer"]),
            cancelling=self._cancelling,
            final=self.is_final,
            **self._costs,
        )
        if self._events:
            db.rows(
                SQL["insert_events"], workspace_id=run["workspace_id"], run_id=run["id"], events=Jsonb(self._events)
            )

    def tell(self) -> None:
        """After the commit: slots for those that want one, hints to who follows the run and to the workers of one that
        now stops; its parent moves."""
        self.admit()
        if self._events:
            dispatch.changed(self.run["id"])
        if self._cancelling and not self.is_final:
            dispatch.stopping(self.run["id"])
        if self._has_orphans:
            kin.stop_children(self.run["id"])
        if self._has_ended and self.run["parent_step"] is not None:
            dispatch.wake(kin.take_over(self.run["parent_step"]))

    def _settle_budgets(self) -> None:
        """Last, for they are what other runs may wait for: first steps, then the rest, as everywhere."""
        if self._dropped:
            self.charge_steps(-self._dropped)
        for token in self._ended:
            self._warn(reservations.settle(token, self.spending))

    def _warn(self, budgets: Sequence[db.Row]) -> None:
        """Before the run's last event, if it has ended: nobody reads on after that."""
        last = self._events.pop() if budgets and self.is_final else None
        self.run["event_seq"] -= last is not None
        for budget in budgets:
            self.event("budget.warning", **reservations.warning(budget))
        if last is not None:
            self.event(last["type"], last["step"], **last["data"])

    def _settle(self) -> None:
        run = self.run
        if run["open_steps"] == 0:
            self._end()
        elif run["held_at"] is not None:
            pass  # it waits for its time, whatever its steps do
        elif run["status"] in (RunStatus.RUNNING, RunStatus.WAITING) and run["active_steps"] == 0:
            if (run["status"], run["reason"]) != (RunStatus.WAITING, run["parked_reason"]):
                self._turn(RunStatus.WAITING, run["parked_reason"])
        elif run["status"] == RunStatus.WAITING and run["active_steps"] > 0:
            self._turn(RunStatus.RUNNING, "")

    def _end(self) -> None:
        self._has_ended = True
        if self.run["status"] == RunStatus.CANCELLING:
            to = RunStatus.CANCELLED if self.run["error"] is None else RunStatus.FAILED
            self._turn(to, self.run["stop_reason"])
            return
        run = db.rows(SQL["endings"], run_ids=[self.run["id"]])[0]
        result, self.run["error"] = results.make(self.run["answer"], run["outputs"], run, locked=True)
        self.run["result"] = payloads.packed(result, Owner(self.run["workspace_id"], self.run["id"]))
        if self.run["error"] is None:
            self._turn(RunStatus.SUCCEEDED, "complete")
        else:
            self._turn(RunStatus.FAILED, "error")

    def _turn(self, status: str, reason: str, **data: Any) -> None:
        self.run["status"], self.run["reason"] = str(status), reason
        self.event(f"run.{status}", reason=reason, **data)


@contextmanager
def locked(run_id: UUID) -> Iterator[Change]:
    """Open a transaction with this run locked; save what was changed when the block ends well.

    Raises:
        NotFound: there is no such run.
    """
    with transaction.atomic(durable=True):
        row = db.row(SQL["lock_run"], run_id=run_id)
        if row is None:
            raise NotFound("There is no such run.")
        change = Change(row)
        yield change
        change.save()
    change.tell()
