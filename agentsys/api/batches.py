"""Many runs in one request."""

from collections.abc import Mapping
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.errors import faults_of
from agentsys.api.fields import Body, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key, replay_headers
from agentsys.api.runs import RunOut, RunViews, SubmitRun
from agentsys.core.errors import InvalidInput
from agentsys.runs import batch
from agentsys.runs.submission import Submission


class Submissions(serializers.ListField):
    """Counted before any of them is looked at."""

    child = SubmitRun()
    default_error_messages = {"max_length": f"A batch has at most {batch.MAX_RUNS:,} runs."}

    def to_internal_value(self, data: Any) -> list[Any]:
        if isinstance(data, list) and len(data) > batch.MAX_RUNS:
            self.fail("max_length")
        return super().to_internal_value(data)

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        """Of each a submission, or what is wrong with its shape: what the others mean is judged all the same."""
        return [_entry(one) for one in data]


def _entry(data: Any) -> Submission | InvalidInput:
    try:
        return Submission(**checked(SubmitRun, data))
    except ValidationError as error:
        return InvalidInput(errors=list(faults_of(error.detail)))


class SubmitRuns(Body):
    """What ``POST runs`` takes, many times."""

    runs = Submissions(allow_empty=False, help_text=f"At most {batch.MAX_RUNS:,}.")


class Batches(RunViews):
    permits: ClassVar[Mapping[str, str]] = {"create": "runs.submit"}

    @extend_schema(
        operation_id="runs_batch",
        tags=["runs"],
        parameters=[IDEMPOTENCY_KEY],
        request=SubmitRuns,
        responses={202: inline_serializer("RunBatch", {"results": RunOut(many=True)})},
    )
    def create(self, request: Request) -> Response:
        """Submit many runs: all are recorded, in the order of the request, or none.

        Of what is wrong with any of them, ``errors`` tells it with paths such as ``runs[3].goal``.
        """
        runs, replayed = batch.submit_all(
            workspace_id=self.workspace_id,
            user=self.user,
            requests=checked(SubmitRuns, request.data)["runs"],
            idempotency_key=idempotency_key(request),
        )
        body = {"results": [shown(RunOut, run) for run in runs]}
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=replay_headers(replayed=replayed))
