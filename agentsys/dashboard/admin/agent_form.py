"""The form of an agent: what its next version will say, and which of its versions new runs use."""

import json
from dataclasses import asdict
from typing import Any, cast
from uuid import UUID

from django import forms
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from agentsys.agents.definition import FIELDS, Definition
from agentsys.agents.models import Agent, AgentVersion, Mode, VersionStatus
from agentsys.core.errors import InvalidInput
from agentsys.tools import registry
from agentsys.tools.mcp import catalogue

from . import filters

MODES = [
    (Mode.PLAN.value, "Plan: a model writes the steps"),
    (Mode.REACT.value, "React: a model calls tools, turn by turn"),
    (Mode.FIXED.value, "Fixed: each run brings its plan"),
]

BECOMES = [
    (VersionStatus.PUBLISHED.value, "a version that new runs use at once"),
    (VersionStatus.DRAFT.value, "a draft, which no run uses"),
]


class _Document(forms.JSONField):
    """JSON in a text area; nothing stays nothing, not ``null``."""

    widget = UnfoldAdminTextareaWidget({"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        if value in (None, {}):
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


class _Lines(forms.CharField):
    """A list of texts, one a line."""

    widget = UnfoldAdminTextareaWidget({"rows": 2})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [line.strip() for line in (super().to_python(value) or "").splitlines() if line.strip()]


#: The fields by which an agent's versions live and end.
LIFE = ("becomes", "use_version", "retire")


def _named(number: int, status: str) -> str:
    return f"version {number}" + (", a draft: it is published" if status == VersionStatus.DRAFT else "")


class AgentForm(forms.ModelForm):
    """An agent together with the definition that its next version will have."""

    mode = forms.ChoiceField(choices=MODES, initial=Mode.PLAN.value, widget=UnfoldAdminSelectWidget)
    model = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text="For example openai-chat:… or anthropic:…; empty: the installation's AGENTSYS_MODEL.",
    )
    fallback_models = _Lines(
        required=False, help_text="Models that are asked in this order when the first cannot answer, one a line."
    )
    instructions = forms.CharField(required=False, max_length=20_000, widget=UnfoldAdminTextareaWidget)
    tools = forms.MultipleChoiceField(
        required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget, help_text="None chosen: all of them."
    )
    output_schema = _Document(required=False, help_text="A JSON Schema that every result must fit.")
    limits = _Document(
        required=False,
        help_text='A JSON object of steps, tokens, cost_usd, time_s and parallel, each optional: {"steps": 50}.',
    )
    approvals = _Document(
        required=False,
        help_text='What a person must approve: {"tools": ["http.post"]}, or "all"; expires_s, on_denied, trust.',
    )
    planning = _Document(
        required=False,
        help_text='How runs plan and act: {"replan_on_failure": 1}; max_plans, max_fan_out, max_repeats, max_turns.',
    )
    use_version = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        widget=UnfoldAdminSelectWidget,
        label="Version for new runs",
        help_text="Choose an earlier one to go back to it, or a draft to publish it.",
    )
    becomes = forms.ChoiceField(
        required=False,
        choices=BECOMES,
        widget=UnfoldAdminSelectWidget,
        label="A changed definition becomes",
    )
    retire = forms.TypedChoiceField(
        required=False,
        coerce=int,
        empty_value=None,
        widget=UnfoldAdminSelectWidget,
        label="Retire a version",
        help_text="No new run uses it any more, and it cannot be chosen again; runs that use it go on.",
    )

    class Meta:
        model = Agent
        fields = ("workspace", "slug", "name", "description")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        version = self.instance.current_version if self.instance.pk and not self.instance._state.adding else None
        self.known = {name: getattr(version, name) for name in FIELDS} if version else {}
        for name, value in self.known.items():
            self.initial[name] = value
        own = catalogue.names(self.instance.workspace_id) if self.known else registry.all_tools()
        names = {*own, *self.known.get("tools", ())}
        if "tools" in self.fields:
            cast(forms.MultipleChoiceField, self.fields["tools"]).choices = [(name, name) for name in sorted(names)]
        self.drafts: set[int] = set()
        self._offer_versions(version)

    def _offer_versions(self, current: AgentVersion | None) -> None:
        if "use_version" not in self.fields:
            return
        if current is None:
            for name in LIFE:
                del self.fields[name]
            return
        found = list(self.instance.versions.values_list("number", "status")[: filters.MAX_CHOICES])
        known = {number: status for number, status in found if status != VersionStatus.RETIRED}
        old = [n for n, status in known.items() if status == VersionStatus.PUBLISHED and n != current.number]
        self._choices("use_version", [(n, _named(n, status)) for n, status in known.items()])
        self._choices("retire", [("", "none"), *((n, f"version {n}") for n in old)])
        self.drafts = {n for n, status in known.items() if status == VersionStatus.DRAFT}
        self.initial["use_version"] = current.number

    def _choices(self, name: str, choices: list[tuple[Any, str]]) -> None:
        cast(forms.TypedChoiceField, self.fields[name]).choices = choices

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        data["limits"] = data.get("limits") or {}
        data["approvals"] = data.get("approvals") or {}
        data["planning"] = data.get("planning") or {}
        data["output_schema"] = data.get("output_schema")
        if data.get("retire") is not None and data["retire"] == data.get("use_version"):
            self.add_error("retire", "New runs are to use this version.")
        if not self.errors:
            self._check()
        return data

    def _check(self) -> None:
        number = self.cleaned_data.get("use_version")
        try:
            self.definition().check(self.workspace_id())
            if number in self.drafts:
                Definition.of(self.instance.versions.get(number=number)).check(self.workspace_id())
        except InvalidInput as error:
            for fault in error.data["errors"]:
                name = fault["path"].partition("[")[0].partition(".")[0]
                self.add_error(name if name in self.fields else None, fault["message"])

    def workspace_id(self) -> UUID:
        """Whose tools its agent may name."""
        given = self.cleaned_data.get("workspace")
        return cast(UUID, given.pk if given is not None else self.instance.workspace_id)

    def definition(self) -> Definition:
        """What the form says now."""
        return Definition(**{name: self.cleaned_data[name] for name in FIELDS})

    def is_other_definition(self) -> bool:
        """Whether it differs from that of the current version."""
        return {**asdict(self.definition()), "tools": sorted(self.cleaned_data["tools"])} != {
            **self.known,
            "tools": sorted(self.known.get("tools", ())),
        }
