"""Budgets: what a run may still use, and what agents and the workspace may in all."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from agentsys.api.fields import Body, checked, shown
from agentsys.api.runs import RunViews
from agentsys.api.schema import pages_of
from agentsys.api.views import WorkspaceViews
from agentsys.runs import budgets, services
from agentsys.runs.budgets import Line, Shared
from agentsys.runs.models import Budget


@extend_schema_field({"type": "integer", "nullable": True, "minimum": 1, "description": "null: no limit."})
class Tokens(serializers.JSONField):
    """Judged by the service."""


@extend_schema_field({"type": "number", "nullable": True, "description": "Above 0; null: no limit."})
class Dollars(serializers.JSONField):
    """Judged by the service."""


class Limits(Body):
    """New limits of an agent or the workspace; what is left out stays as it is."""

    tokens = Tokens(required=False, allow_null=True)
    cost_usd = Dollars(required=False, allow_null=True)


class LineOut(serializers.Serializer[Line]):
    limit = serializers.FloatField()
    spent = serializers.FloatField(help_text="Of steps: those planned, done or open.")
    reserved = serializers.FloatField(help_text="For calls under way.")
    over = serializers.FloatField(help_text="Used beyond the limit: known only when the call was over.")


class RunLineOut(LineOut):
    scope = serializers.ChoiceField(choices=("run", "parent", "agent", "workspace"))
    kind = serializers.ChoiceField(choices=("steps", "tokens", "cost_usd", "time_s"))
    run = serializers.UUIDField(allow_null=True)
    agent = serializers.CharField(allow_null=True)


class RunBudgetOut(serializers.Serializer[Any]):
    budgets = RunLineOut(many=True)


class SharedOut(serializers.Serializer[Shared]):
    scope = serializers.ChoiceField(choices=("agent", "workspace"))
    agent = serializers.CharField(allow_null=True)
    tokens = LineOut(allow_null=True)
    cost_usd = LineOut(allow_null=True)


class RunBudget(RunViews):
    permits: ClassVar[Mapping[str, str]] = {"retrieve": "runs.read"}

    @extend_schema(operation_id="runs_budget", tags=["runs"], responses=RunBudgetOut)
    def retrieve(self, request: Request, run_id: UUID) -> Response:
        """Every budget that the run counts on: its own, those of the runs above it, its agent's, the workspace's."""
        run = services.get(self.workspace_id, run_id)
        return Response(shown(RunBudgetOut, {"budgets": budgets.of_run(run)}))


class Budgets(WorkspaceViews):
    permits: ClassVar[Mapping[str, str]] = {
        "list": "budgets.read",
        "of_workspace": "budgets.read",
        "of_agent": "budgets.read",
        "limit_workspace": "budgets.write",
        "limit_agent": "budgets.write",
    }
    queryset = Budget.objects.none()
    serializer_class = SharedOut
    pagination_class = None

    @extend_schema(operation_id="budgets_list", tags=["budgets"], responses=pages_of(SharedOut))
    def list(self, request: Request) -> Response:
        """The workspace's budgets, then those of its agents that have any."""
        found = [shown(SharedOut, one) for one in budgets.of_workspace(self.workspace_id)]
        return Response({"next": None, "previous": None, "results": found})

    @extend_schema(operation_id="budgets_workspace", tags=["budgets"], responses=SharedOut)
    def of_workspace(self, request: Request) -> Response:
        """The workspace's budgets."""
        return Response(shown(SharedOut, budgets.of(self.workspace_id, None)))

    @extend_schema(operation_id="budgets_agent", tags=["budgets"], responses=SharedOut)
    def of_agent(self, request: Request, slug: str) -> Response:
        """The budgets of an agent: of all its runs together."""
        return Response(shown(SharedOut, budgets.of(self.workspace_id, slug)))

    @extend_schema(operation_id="budgets_limit_workspace", tags=["budgets"], request=Limits, responses=SharedOut)
    def limit_workspace(self, request: Request) -> Response:
        """Set the workspace's limits.  422 when more is spent and reserved; steps that wait go on by themselves."""
        return self._limit(request, None)

    @extend_schema(operation_id="budgets_limit_agent", tags=["budgets"], request=Limits, responses=SharedOut)
    def limit_agent(self, request: Request, slug: str) -> Response:
        """Set the limits of an agent.  422 when more is spent and reserved; steps that wait go on by themselves."""
        return self._limit(request, slug)

    def _limit(self, request: Request, slug: str | None) -> Response:
        given = checked(Limits, request.data)
        return Response(shown(SharedOut, budgets.set_limits(self.workspace_id, slug, given)))
