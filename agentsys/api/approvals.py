"""Approvals and questions to people: found, and decided once."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import Body, Object, Text, checked, shown
from agentsys.api.keys import IDEMPOTENCY_KEY, idempotency_key, replay_headers
from agentsys.api.pages import NewestFirst
from agentsys.api.views import WorkspaceViews
from agentsys.runs import approvals
from agentsys.runs.models import Approval
from agentsys.runs.services import free_key
from agentsys.runs.states import Decision

APPROVAL = OpenApiParameter("approval_id", OpenApiTypes.UUID, OpenApiParameter.PATH)


class ApprovalOut(serializers.ModelSerializer[Approval]):
    run = serializers.UUIDField(source="run_id")
    step = serializers.CharField(source="step.key")
    tool = serializers.CharField(source="step.tool", help_text="Empty for a question.")
    arguments = serializers.JSONField(allow_null=True, help_text="Of the call; of a question: question, schema.")
    digest = serializers.CharField(help_text="SHA-256 of what is decided on; send it back to decide on just that.")
    tainted = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Arguments that come from where the agent does not trust it for this tool: {argument: [source, …]}.",
    )
    decision = serializers.SerializerMethodField()
    decided_by = serializers.CharField(source="decided_by.username", allow_null=True, default=None)
    answer = serializers.JSONField(allow_null=True, help_text="What was answered, or why it was denied.")
    replaces = serializers.UUIDField(
        source="replaces_id", allow_null=True, help_text="The approval this is an edit of."
    )

    class Meta:
        model = Approval
        fields = [
            "id", "run", "step", "kind", "tool", "arguments", "digest", "tainted", "decision", "decided_by", "answer",
            "replaces", "created_at", "expires_at", "decided_at",
        ]  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=Decision.choices, allow_null=True))
    def get_decision(self, approval: Approval) -> str | None:
        """Null while it is open."""
        return approval.decision or None


class ListedApproval(ApprovalOut):
    arguments = serializers.JSONField(source="short_arguments", allow_null=True, help_text="Null if over 8 KB.")
    answer = serializers.JSONField(source="short_answer", allow_null=True, help_text="Null if over 8 KB.")


class ApprovalFilter(filters.FilterSet):
    run = filters.UUIDFilter(field_name="run_id")
    state = filters.ChoiceFilter(choices=[("open", "open"), ("decided", "decided")], method="by_state")

    class Meta:
        model = Approval
        fields: tuple[str, ...] = ()

    def by_state(self, found: "QuerySet[Approval]", _: str, state: str) -> "QuerySet[Approval]":
        return found.filter(decision="") if state == "open" else found.exclude(decision="")


class Approve(Body):
    digest = Text(max_length=64, required=False, help_text="Of what you saw; 409 if it is another by now.")


class Edit(Approve):
    arguments = Object(help_text="All of the new call's.")


class Deny(Approve):
    reason = Text(max_length=approvals.MAX_REASON_CHARS, allow_blank=True, default="")


class Answer(Approve):
    answer = serializers.JSONField(allow_null=True)


class Approvals(WorkspaceViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "runs.read",
        "retrieve": "runs.read",
        "approve": "approvals.decide",
        "edit": "approvals.decide",
        "deny": "approvals.decide",
        "answer": "approvals.decide",
    }
    queryset = Approval.objects.none()
    serializer_class = ListedApproval
    filterset_class = ApprovalFilter
    pagination_class = NewestFirst

    def approval(self, approval_id: UUID) -> Approval:
        """
        Raises:
            NotFound: not in this workspace.
        """
        return approvals.get(self.workspace_id, approval_id)

    @extend_schema(operation_id="approvals_list", tags=["approvals"])
    def list(self, request: Request) -> Response:
        """The approvals and questions of the workspace, the newest first."""
        found = approvals.lean(Approval.objects.filter(workspace_id=self.workspace_id))
        return self.paged(self.filter_queryset(found))

    @extend_schema(operation_id="approvals_retrieve", tags=["approvals"], parameters=[APPROVAL], responses=ApprovalOut)
    def retrieve(self, request: Request, approval_id: UUID) -> Response:
        """One of them."""
        return Response(shown(ApprovalOut, self.approval(approval_id)))

    @extend_schema(
        operation_id="approvals_approve",
        tags=["approvals"],
        parameters=[APPROVAL, IDEMPOTENCY_KEY],
        request=Approve,
        responses=ApprovalOut,
    )
    def approve(self, request: Request, approval_id: UUID) -> Response:
        """Let the call be made with exactly these arguments.  The first decision stands; any later one is a 409."""
        return self._decided(approvals.approve, approval_id, checked(Approve, request.data))

    @extend_schema(
        operation_id="approvals_edit",
        tags=["approvals"],
        parameters=[APPROVAL, IDEMPOTENCY_KEY],
        request=Edit,
        responses=ApprovalOut,
    )
    def edit(self, request: Request, approval_id: UUID) -> Response:
        """Let the call be made with other arguments, taken as they are.  The answer is the new approval."""
        return self._decided(approvals.edit, approval_id, checked(Edit, request.data))

    @extend_schema(
        operation_id="approvals_deny",
        tags=["approvals"],
        parameters=[APPROVAL, IDEMPOTENCY_KEY],
        request=Deny,
        responses=ApprovalOut,
    )
    def deny(self, request: Request, approval_id: UUID) -> Response:
        """Refuse: the step fails, or succeeds with the denial as its output, as the agent's version has it."""
        return self._decided(approvals.deny, approval_id, checked(Deny, request.data))

    @extend_schema(
        operation_id="approvals_answer",
        tags=["approvals"],
        parameters=[APPROVAL, IDEMPOTENCY_KEY],
        request=Answer,
        responses=ApprovalOut,
    )
    def answer(self, request: Request, approval_id: UUID) -> Response:
        """Answer a question (kind input); 422 if the answer does not fit its schema."""
        return self._decided(approvals.answer, approval_id, checked(Answer, request.data))

    def _decided(self, decide: Callable[..., Approval], approval_id: UUID, given: Mapping[str, Any]) -> Response:
        """The decision, or what the same key and request have decided before."""
        found = self.approval(approval_id)
        asked = (self.action, found.pk, given)
        key = free_key(self.workspace_id, idempotency_key(self.request), *asked)
        before = approvals.decided_before(self.workspace_id, key)
        shown_ = before or decide(found, user=self.user, key=key, **given)
        return Response(shown(ApprovalOut, shown_), headers=replay_headers(replayed=before is not None))
