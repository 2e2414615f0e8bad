"""Budgets of workspaces and agents; a run's are on its page.  Set and taken away by the same service as REST."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminSelectWidget

from agentsys.accounts.models import Workspace
from agentsys.agents import definition
from agentsys.agents.models import Agent
from agentsys.dashboard import access
from agentsys.runs import budgets
from agentsys.runs.models import Budget

from . import filters
from .by_service import SavedByService

KINDS = [("tokens", "Tokens"), ("cost_usd", "Cost in US dollars")]


class BudgetForm(forms.ModelForm):
    """Whose limit, of what, and how much."""

    name = forms.ChoiceField(label="Of", choices=KINDS, widget=UnfoldAdminSelectWidget)
    limit = forms.DecimalField(
        widget=UnfoldAdminDecimalFieldWidget,
        max_digits=18,
        decimal_places=6,
        help_text="In all, not a month.  Steps that wait for it go on by themselves when it is raised.",
    )

    class Meta:
        model = Budget
        fields = ("workspace", "agent")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["limit"] = budgets.limit_of(self.instance)
            del self.fields["name"]  # whose and what it is does not change

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        agent, workspace = data.get("agent"), data.get("workspace")
        if agent is not None and workspace is not None and agent.workspace_id != workspace.pk:
            self.add_error("agent", "This agent belongs to another workspace.")
        if data.get("limit") is not None:
            for fault in definition.limit_faults(self.limits()):
                self.add_error("limit", fault["message"])
        return data

    def limits(self) -> dict[str, Any]:
        """As the service takes them."""
        name = self.cleaned_data.get("name") or budgets.name_of(self.instance)
        limit: Decimal = self.cleaned_data["limit"]
        return {name: int(limit) if limit == int(limit) else float(limit)}


@admin.register(Budget)
class BudgetAdmin(SavedByService):
    read_action, write_action = "budgets.read", "budgets.write"
    form = BudgetForm
    list_display = ("whose", "what", "limit_shown", "spent_shown", "reserved_shown", "over_shown", "workspace")
    list_display_links = ("whose",)
    list_select_related = ("agent", "workspace")
    list_filter = (filters.WorkspaceFilter,)
    ordering = ("workspace", "agent__slug", "kind")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        return super().get_queryset(request).filter(run=None).select_related("agent", "workspace")

    def get_fields(self, request: HttpRequest, obj: Budget | None = None) -> tuple[str, ...]:
        numbers = ("spent_shown", "reserved_shown", "over_shown")
        return ("workspace", "whose", "what", "limit", *numbers) if obj else ("workspace", "agent", "name", "limit")

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> tuple[str, ...]:
        return ("workspace", "whose", "what", "spent_shown", "reserved_shown", "over_shown") if obj else ()

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "workspace":
            kwargs["queryset"] = access.writable(request, self.write_action, Workspace.objects.order_by("name"), "id")
        if db_field.name == "agent":
            kwargs["queryset"] = access.writable(request, self.write_action, Agent.objects.order_by("slug"))
            kwargs["required"] = False
        field: Any = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if not field.required:
            field.empty_label = "the whole workspace"
        return field

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.write_action, obj)

    def apply(self, request: HttpRequest, obj: Budget, form: BudgetForm, *, change: bool) -> Any:
        budgets.set_limits(obj.workspace_id, obj.agent.slug if obj.agent else None, form.limits())
        kind = budgets.kind_of(next(iter(form.limits())))
        return Budget.objects.get(workspace=obj.workspace_id, agent=obj.agent_id, run=None, kind=kind).pk

    def delete_model(self, request: HttpRequest, obj: Budget) -> None:
        budgets.set_limits(obj.workspace_id, obj.agent.slug if obj.agent else None, {budgets.name_of(obj): None})

    @display(description="Whose")
    def whose(self, budget: Budget) -> str:
        return f"agent {budget.agent.slug}" if budget.agent else "the workspace"

    @display(description="Of")
    def what(self, budget: Budget) -> str:
        return dict(KINDS)[budgets.name_of(budget)]

    @display(description="Limit")
    def limit_shown(self, budget: Budget) -> str:
        return budgets.said(budget.kind, budget.lim)

    @display(description="Spent")
    def spent_shown(self, budget: Budget) -> str:
        return budgets.said(budget.kind, budget.spent)

    @display(description="Reserved")
    def reserved_shown(self, budget: Budget) -> str:
        return budgets.said(budget.kind, budget.reserved)

    @display(description="Used beyond it")
    def over_shown(self, budget: Budget) -> str:
        return budgets.said(budget.kind, budget.over)
