"""What a person does to runs: from a run's page, asked once more, or to those ticked in the list; by the same
services as REST."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from agentsys.accounts.models import User
from agentsys.core.errors import AgentSysError
from agentsys.dashboard import access, links, text
from agentsys.dashboard.pages import run_page
from agentsys.runs import control, services
from agentsys.runs.models import Run
from agentsys.runs.states import RUN_FINAL, RUN_PAUSABLE, RunStatus

from .base import ReadOnlyAdmin, as_uuid
from .run_limits import LimitsForm

MAX_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Act:
    """One button: its words, and what it does; ``fits`` says for which runs it is shown.

    ``asks`` is the label of a text that it needs; ``permit`` the action that allows it, if it is not its own.
    """

    title: str
    explained: str
    done: str
    fits: Callable[[Run], bool]
    do: Callable[[Run, User, str], Run]
    dangerous: bool = False
    asks: str = ""
    permit: str = ""


def _replan(run: Run, user: User, said: str) -> Run:
    control.message(run, said, user=user, replan=True)
    return run


ACTS: Mapping[str, Act] = {
    "pause": Act(
        title="Pause",
        explained="No further step starts until somebody resumes it. Steps that are running end, and their results are"
        " kept. Its deadline still ends it.",
        done="The run is paused; steps that were running end.",
        fits=lambda run: run.status in RUN_PAUSABLE,
        do=lambda run, user, _: control.pause(run, user=user),
    ),
    "resume": Act(
        title="Resume",
        explained="It goes on where it was.",
        done="The run goes on.",
        fits=lambda run: run.status == RunStatus.PAUSED,
        do=lambda run, user, _: control.resume(run, user=user),
    ),
    "retry": Act(
        title="Retry",
        explained="A new run goes on where this one ended: steps that have succeeded are kept and not executed again,"
        " all others start anew.",
        done="This is the new run.",
        fits=lambda run: run.status in (RunStatus.FAILED, RunStatus.CANCELLED),
        do=lambda run, user, _: control.retry(run, user=user)[0],
    ),
    "cancel": Act(
        title="Cancel",
        explained="No step starts any more. Steps that are running are asked to stop; what they have done already is"
        " not undone. This cannot be taken back.",
        done="The run is cancelled; steps that were running are being stopped.",
        fits=lambda run: run.status not in (*RUN_FINAL, RunStatus.CANCELLING),
        do=lambda run, user, _: services.cancel(run, user=user),
        dangerous=True,
    ),
    "replan": Act(
        title="Replan",
        explained="The run plans anew, with what is done and with your words. Steps that have not started wait for the"
        " new plan, which replaces them; steps that have started go on, and their results are kept.",
        done="The run plans anew.",
        fits=lambda run: run.status not in (*RUN_FINAL, RunStatus.CANCELLING) and bool(run.goal.strip()),
        do=_replan,
        asks="What should be done instead?",
        permit="runs.message",
    ),
}


#: The one that asks for more than a yes.
RAISE = Act(
    title="Change the limits of",
    explained="What is spent stays spent, so no limit can be lower than that. What waits for a budget goes on where"
    " there is room again.",
    done="The run has its new limits.",
    fits=lambda run: run.status not in (*RUN_FINAL, RunStatus.CANCELLING),
    do=lambda run, user, _: control.resume(run, user=user),
)
LIMITS = "limits"


def _permit(name: str) -> str:
    return ACTS[name].permit or f"runs.{name}"


def buttons(request: HttpRequest, run: Run) -> list[tuple[str, Act]]:
    """(name, act) of what this person may do to the run as it is."""
    found = [
        (name, act)
        for name, act in ACTS.items()
        if act.fits(run) and access.may(request, _permit(name), run.workspace_id)
    ]
    if RAISE.fits(run) and access.may(request, "runs.resume", run.workspace_id):
        found.append((LIMITS, RAISE))
    return found


def _bulk(name: str, act: Act) -> Callable[["ControlledAdmin", HttpRequest, QuerySet[Run]], None]:
    def action(admin: "ControlledAdmin", request: HttpRequest, rows: QuerySet[Run]) -> None:
        runs = list(rows[: MAX_AT_ONCE + 1])
        if len(runs) > MAX_AT_ONCE:
            messages.error(request, f"At most {MAX_AT_ONCE} runs at once; nothing was done.")
            return
        admin.act_on(request, runs, name, act)

    return action


class ControlledAdmin(ReadOnlyAdmin):
    """Runs with their buttons: ``<run>/pause/`` and so on."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.act_view)
        own = [path(f"<uuid:run_id>/{name}/", view, {"name": name}, name=f"runs_run_{name}") for name in ACTS]
        limits = self.admin_site.admin_view(self.limits_view)
        own.append(path(f"<uuid:run_id>/{LIMITS}/", limits, name=f"runs_run_{LIMITS}"))
        return own + super().get_urls()

    def limits_view(self, request: HttpRequest, run_id: UUID) -> HttpResponse:
        """GET asks for new limits, POST sets them through the service."""
        run = self.run_or_404(request, run_id)
        user = access.require(request, "runs.resume", run.workspace_id)
        if not RAISE.fits(run):
            messages.error(request, f"The run is {run.status}; its limits stay as they are.")
            return redirect(links.to_run(run.pk))
        form = LimitsForm(run, request.POST if request.method == "POST" else None)
        if request.method != "POST" or not form.is_valid():
            question = {**self._question(request, run, RAISE), "form": form}
            return TemplateResponse(request, "dashboard/confirm.html", question, status=422 if form.is_bound else 200)
        try:
            control.resume(run, limits=form.limits(), user=user)
        except AgentSysError as error:
            messages.error(request, error.message)
        else:
            self.log_change(request, run, f"Limits: {form.limits()}.")
            messages.success(request, RAISE.done)
        return redirect(links.to_run(run.pk))

    def act_view(self, request: HttpRequest, run_id: UUID, name: str) -> HttpResponse:
        """GET asks once more, POST acts through the service."""
        run, act = self.run_or_404(request, run_id), ACTS[name]
        user = access.require(request, _permit(name), run.workspace_id)
        if request.method != "POST":
            return TemplateResponse(request, "dashboard/confirm.html", self._question(request, run, act))
        try:
            answer = act.do(run, user, request.POST.get("text", ""))
        except AgentSysError as error:
            messages.error(request, error.message)
            return redirect(links.to_run(run.pk))
        self.log_change(request, run, f"{act.title}.")
        messages.success(request, act.done)
        return redirect(links.to_run(answer.pk))

    def _question(self, request: HttpRequest, run: Run, act: Act) -> dict[str, Any]:
        goal = text.block(run.goal, run_page.MAX_GOAL_CHARS)
        return {
            **self.admin_site.each_context(request),
            "run": run,
            "title": f"{act.title} a run",
            "act": act,
            "goal": goal,
        }

    # --- Several at once, from the list ---------------------------------------------
    def get_actions(self, request: HttpRequest) -> dict[str, tuple[Any, str, str]]:
        """The same acts for all runs that are ticked; only those that this person may do somewhere."""
        return {
            name: (_bulk(name, act), name, f"{act.title} the runs")
            for name, act in ACTS.items()
            if not act.asks and access.may_somewhere(request, _permit(name))
        }

    def response_action(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        if any(as_uuid(pk) is None for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            messages.error(request, "Tick the runs in the list.")
            return None
        answer: HttpResponse | None = super().response_action(request, queryset)
        return answer

    def act_on(self, request: HttpRequest, runs: Sequence[Run], name: str, act: Act) -> None:
        """Each by itself, as its own page would; what cannot be done to one does not keep the others from it."""
        refused = []
        for run in runs:
            try:
                act.do(run, access.require(request, _permit(name), run.workspace_id), "")
            except (AgentSysError, PermissionDenied) as error:
                refused.append(str(error) or "Your role there does not allow it.")
            else:
                self.log_change(request, run, f"{act.title}.")
        if len(runs) > len(refused):
            messages.success(request, f"{act.title}: done for {len(runs) - len(refused)} of {len(runs)} runs.")
        if refused:
            messages.error(request, f"{act.title}: not done for {len(refused)} runs. {refused[0]}")

    def run_or_404(self, request: HttpRequest, run_id: UUID) -> Run:
        """
        Raises:
            Http404: there is no such run among those this person sees.
        """
        run: Run | None = self.get_object(request, str(run_id))
        if run is None:
            raise Http404
        return run
