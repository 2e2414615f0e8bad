"""What a person does to a run while it lives: hold it, let it go on."""

from collections.abc import Mapping
from typing import ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.runs import RunOut, RunViews
from agentsys.runs import control


class Control(RunViews):
    permits: ClassVar[Mapping[str, str]] = {"pause": "runs.pause", "resume": "runs.resume"}

    @extend_schema(operation_id="runs_pause", tags=["runs"], request=None, responses=RunOut)
    def pause(self, request: Request, run_id: UUID) -> Response:
        """Hold a run: no further step starts, those that run end.  409 when it ends or has ended."""
        return Response(RunOut(control.pause(self.run(run_id), user=self.user)).data)

    @extend_schema(operation_id="runs_resume", tags=["runs"], request=None, responses=RunOut)
    def resume(self, request: Request, run_id: UUID) -> Response:
        """Let a paused run go on where it was.  409 when it is not paused."""
        return Response(RunOut(control.resume(self.run(run_id), user=self.user)).data)
