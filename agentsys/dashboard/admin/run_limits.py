"""The form that changes what a run may use in all."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from agentsys.agents import definition
from agentsys.runs.models import Run
from agentsys.runs.store.holding import PARALLEL

_LABELS = {
    "steps": "Steps",
    "tokens": "Tokens",
    "cost_usd": "Cost (US dollars)",
    "time_s": "Time (seconds)",
    "parallel": "Steps at a time",
}


class LimitsForm(forms.Form):
    """One number for each limit that the run has, as it is now; how many steps at a time is said of any run."""

    def __init__(self, run: Run, data: Any = None) -> None:
        super().__init__(data)
        self._now = {name: value for name, value in run.limits.items() if name in definition.LIMITS}
        for name, value in self._now.items():
            kind = forms.IntegerField if definition.LIMITS[name][1] else forms.FloatField
            self.fields[name] = kind(label=_LABELS[name], initial=value, widget=UnfoldAdminTextInputWidget)
        if PARALLEL not in self._now:
            self.fields[PARALLEL] = forms.IntegerField(
                label=_LABELS[PARALLEL], required=False, widget=UnfoldAdminTextInputWidget, help_text="Empty: no cap."
            )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        for fault in definition.limit_faults({name: value for name, value in data.items() if value is not None}):
            self.add_error(fault["path"].partition(".")[2], fault["message"])
        return data

    def limits(self) -> dict[str, Any]:
        """Those that differ from what they are."""
        return {name: value for name, value in self.cleaned_data.items() if value != self._now.get(name)}
