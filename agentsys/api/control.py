"""What a person does to a run beside cancelling it: hold it, let it go on, do it over."""

from collections.abc import Mapping
from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import shown
from agentsys.api.runs import IDEMPOTENCY_KEY, RunOut, RunViews, recorded
from agentsys.runs import control


class Control(RunViews):
    permits: ClassVar[Mapping[str, str]] = {"pause": "runs.pause", "resume": "runs.resume", "retry": "runs.retry"}

    @extend_schema(operation_id="runs_pause", tags=["runs"], request=None, responses=RunOut)
    def pause(self, request: Request, run_id: UUID) -> Response:
        """Hold a run: no further step starts, those that run end.  409 when it ends or has ended."""
        return Response(shown(RunOut, control.pause(self.run(run_id), user=self.user)))

    @extend_schema(operation_id="runs_resume", tags=["runs"], request=None, responses=RunOut)
    def resume(self, request: Request, run_id: UUID) -> Response:
        """Let a paused run go on where it was.  409 when it is not paused."""
        return Response(shown(RunOut, control.resume(self.run(run_id), user=self.user)))

    @extend_schema(
        operation_id="runs_retry", tags=["runs"], request=None, parameters=[IDEMPOTENCY_KEY], responses={202: RunOut}
    )
    def retry(self, request: Request, run_id: UUID) -> Response:
        """A new run that goes on where a failed or cancelled one ended.

        Steps that have succeeded are kept with their outputs; all others start anew.  202 with the new run; 409 when
        the run has succeeded or not ended.
        """
        run, replayed = control.retry(
            self.run(run_id), user=self.user, idempotency_key=request.headers.get("Idempotency-Key", "")
        )
        return recorded(run, request.path.partition(f"/{run_id}")[0], replayed=replayed)
