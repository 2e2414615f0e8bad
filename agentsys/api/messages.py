"""What people tell a run while it is under way."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import Body, Boolean, Text, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key, replay_headers
from agentsys.api.pages import Keyset
from agentsys.api.steps import RUN, PartsOfRun
from agentsys.runs import control, services
from agentsys.runs.models import RunMessage


class SendMessage(Body):
    text = Text(max_length=control.MAX_MESSAGE_CHARS, help_text="Read by the run's next step that asks a model.")
    replan = Boolean(
        default=False, help_text="Plan anew at once: what has not started waits for the new plan, which replaces it."
    )


class MessageOut(serializers.ModelSerializer[RunMessage]):
    read_by = serializers.CharField(help_text="The key of a step; empty: not read yet.")

    class Meta:
        model = RunMessage
        fields = ["seq", "text", "by", "at", "replan", "read_at", "read_by"]
        read_only_fields = fields


class InOrder(Keyset):
    ordering = ("seq",)
    limit, max_limit = 100, 100


class Messages(PartsOfRun):
    permits: ClassVar[Mapping[str, str]] = {"list": "runs.read", "create": "runs.message"}
    queryset = RunMessage.objects.none()
    serializer_class = MessageOut
    pagination_class = InOrder

    @extend_schema(operation_id="messages_list", tags=["runs"], parameters=[RUN])
    def list(self, request: Request, run_id: UUID) -> Response:
        """What the run was told, in order."""
        self.check_run(run_id)
        return self.paged(RunMessage.objects.filter(run_id=run_id))

    @extend_schema(
        operation_id="messages_create",
        tags=["runs"],
        parameters=[RUN, IDEMPOTENCY_KEY],
        request=SendMessage,
        responses={201: MessageOut},
    )
    def create(self, request: Request, run_id: UUID) -> Response:
        """Tell a run something that its next planning or answering step takes into account.  409 when it has ended.

        With ``replan`` it gets a planning step at once, and its new plan replaces what has not started; 409 when it has
        no goal to plan from, or has planned as often as it may.
        """
        run = services.get(self.workspace_id, run_id)
        body: dict[str, Any] = checked(SendMessage, request.data)
        made, replayed = control.message(run, **body, user=self.user, idempotency_key=idempotency_key(request))
        headers = replay_headers(replayed=replayed)
        return Response(shown(MessageOut, made), status=status.HTTP_201_CREATED, headers=headers)
