"""What models were asked, and what they answered."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from agentsys.dashboard import links, text
from agentsys.runs import told_models
from agentsys.runs.models import ModelCall

from . import filters
from .base import ReadOnlyAdmin, as_uuid, badge
from .steps import run_link


@admin.register(ModelCall)
class ModelCallAdmin(ReadOnlyAdmin):
    list_display = ("model_head", "came", "step_key", "run_page", "tokens", "cost", "took", "asked_at")
    list_select_related = ("step",)
    list_filter = (filters.RunFilter, filters.WorkspaceFilter)
    ordering = ("-id",)
    search_fields = ("run__id",)
    search_help_text = "A run's id"

    def lean(self, rows: QuerySet[ModelCall]) -> QuerySet[ModelCall]:
        return rows.defer("parts", "step__arguments", "step__output", "step__objective", "step__error")

    def found(self, rows: QuerySet[ModelCall], term: str) -> QuerySet[ModelCall]:
        run_id = as_uuid(term)
        return rows.filter(run_id=run_id) if run_id else rows.none() if term else rows

    @display(description="Model")
    def model_head(self, call: ModelCall) -> str:
        return text.clip(call.model, 60)

    @display(description="Came of it")
    def came(self, call: ModelCall) -> SafeString:
        return badge(_came(call))

    @display(description="Step")
    def step_key(self, call: ModelCall) -> SafeString:
        return format_html('<a class="as-link" href="{}">{}</a>', links.to_step(call.step_id), call.step.key)

    @display(description="Run")
    def run_page(self, call: ModelCall) -> SafeString:
        return run_link(call.run_id)

    @display(description="Tokens in, out")
    def tokens(self, call: ModelCall) -> str:
        return f"{call.input_tokens:,}, {call.output_tokens:,}"

    @display(description="Cost")
    def cost(self, call: ModelCall) -> str:
        return f"${call.cost_usd:,.6f}" if call.cost_usd else ""

    @display(description="Took")
    def took(self, call: ModelCall) -> str:
        return text.duration(call.took_s)

    @display(description="At (UTC)")
    def asked_at(self, call: ModelCall) -> str:
        return text.moment(call.at)

    # --- The page -----------------------------------------------------------------
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        call = self.get_object(request, unquote(object_id))
        context = _shown(told_models.whole(call.run_id, call.pk)) if call is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})
        return answer


def _came(call: ModelCall) -> str:
    return "failed" if call.error else "cached" if call.cached else "succeeded"


def _shown(call: Any) -> dict[str, Any]:
    """A call's page: the facts, then what was asked in the order in which the model reads it, then what it said."""
    asked = call.request
    documents = [
        ("Error", call.error),
        ("Answer", call.response),
        ("System", asked["system"]),
        ("Prompt", asked["prompt"]),
        *((f"Turn {number}", turn) for number, turn in enumerate(asked["turns"], 1)),
        ("Note", asked["note"]),
        ("Tools", asked["tools"]),
        ("Shape of the answer", asked["output_schema"]),
    ]
    return {
        "call": call,
        "came": _came(call),
        "model_name": text.clip(call.model, 200),
        "facts": [(name, value) for name, value in _facts(call) if value],
        "documents": [(name, _written(value)) for name, value in documents if value],
        "run_url": links.to_run(call.run_id),
        "step_url": links.to_step(call.step_id),
    }


def _written(value: Any) -> str:
    return text.block(value) if isinstance(value, str) else text.pretty(value)


def _facts(call: ModelCall) -> list[tuple[str, str]]:
    return [
        ("Step", call.step.key),
        ("For", call.purpose),
        ("Attempt", f"{call.attempt}, call {call.number}"),
        ("Tokens in, out", f"{call.input_tokens:,}, {call.output_tokens:,}"),
        ("Cost", f"${call.cost_usd:,.6f}" if call.cost_usd else ""),
        ("Price by", call.priced_by),
        ("At most", f"{call.max_output_tokens:,} tokens" if call.max_output_tokens else ""),
        ("Took", text.duration(call.took_s)),
        ("At (UTC)", text.moment(call.at)),
    ]
