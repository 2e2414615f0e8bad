"""What a person does to a run beside cancelling it: hold it, let it go on, do it over."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import Body, Object, Text, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key
from agentsys.api.runs import RunOut, RunViews, recorded
from agentsys.runs import control, forks
from agentsys.runs.forks import Fork


class ForkRun(Body):
    """Where to fork a run, and what is to be other there."""

    from_step = Text(max_length=64, help_text="It and all that depends on it run again.")
    input = serializers.JSONField(required=False, allow_null=True, help_text="Left out: as it was.")
    model = Text(required=False, max_length=200, allow_blank=True, help_text="Left out: as it was.")
    arguments = Object(child=Object(), default=dict, help_text="{step: its arguments}, checked as in a plan.")
    effects = serializers.ChoiceField(
        choices=forks.EFFECTS, default="recorded", help_text="live makes calls again that did something."
    )


def _fork_of(body: dict[str, Any]) -> Fork:
    given: dict[str, Any] = {n: (value,) if n in ("input", "model") else value for n, value in body.items()}
    return Fork(**given)


class ResumeRun(Body):
    """Nothing, or new limits."""

    limits = Object(default=dict, help_text="steps, tokens, cost_usd, time_s, parallel: new values of its own.")


class Control(RunViews):
    permits: ClassVar[Mapping[str, str]] = {
        "pause": "runs.pause",
        "resume": "runs.resume",
        "retry": "runs.retry",
        "fork": "runs.fork",
    }

    @extend_schema(operation_id="runs_pause", tags=["runs"], request=None, responses=RunOut)
    def pause(self, request: Request, run_id: UUID) -> Response:
        """Hold a run and its child runs: no step starts, those that run end.  409 when it ends or has ended."""
        return Response(shown(RunOut, control.pause(self.run(run_id), user=self.user)))

    @extend_schema(operation_id="runs_resume", tags=["runs"], request=ResumeRun, responses=RunOut)
    def resume(self, request: Request, run_id: UUID) -> Response:
        """Let a paused run and its child runs go on, or one that waits for a budget, with its limits raised.

        409 when it waits for neither, or its parent is paused; 422 when a limit would be lower than what is spent and
        reserved.
        """
        given = checked(ResumeRun, request.data or {})
        return Response(shown(RunOut, control.resume(self.run(run_id), limits=given["limits"], user=self.user)))

    @extend_schema(
        operation_id="runs_retry", tags=["runs"], request=None, parameters=[IDEMPOTENCY_KEY], responses={202: RunOut}
    )
    def retry(self, request: Request, run_id: UUID) -> Response:
        """A new run that goes on where a failed or cancelled one ended.

        Steps that have succeeded are kept with their outputs; all others start anew.  202 with the new run; 409 when
        the run has succeeded or not ended.
        """
        run, replayed = control.retry(self.run(run_id), user=self.user, idempotency_key=idempotency_key(request))
        return recorded(run, request, replayed=replayed)

    @extend_schema(
        operation_id="runs_fork", tags=["runs"], request=ForkRun, parameters=[IDEMPOTENCY_KEY], responses={202: RunOut}
    )
    def fork(self, request: Request, run_id: UUID) -> Response:
        """A new run from a step of this one, whatever its state, with another input, model or arguments.

        Steps that have succeeded and do not depend on that step are kept.  202 with the new run.
        """
        run, replayed = forks.fork(
            self.run(run_id),
            _fork_of(checked(ForkRun, request.data)),
            user=self.user,
            idempotency_key=idempotency_key(request),
        )
        return recorded(run, request, replayed=replayed)
