"""Rows that people set here and a service writes, the same as for REST: what it refuses is said on the form."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from agentsys.core.errors import AgentSysError
from agentsys.dashboard import access

from .base import ScopedAdmin

_REFUSED = "agentsys_refused"


class SavedByService(ScopedAdmin):
    """The row is the service's to write: only under its locks is it known what may be.

    What was done is kept as Django's log of the admin, what was refused is not.
    """

    compressed_fields = False

    def apply(self, request: HttpRequest, obj: Any, form: Any, *, change: bool) -> Any:
        """Have the service write what the form says.

        Returns:
            The key of the row.

        Raises:
            AgentSysError: it refuses.
        """
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Model, form: forms.ModelForm, change: bool) -> None:
        """
        Raises:
            PermissionDenied: the person may not write here.
        """
        if self.write_action is None or not access.may(request, self.write_action, self.workspace_of(obj)):
            raise PermissionDenied
        try:
            obj.pk = self.apply(request, obj, form, change=change)
        except AgentSysError as error:
            vars(request)[_REFUSED] = error.message

    def construct_change_message(
        self, request: HttpRequest, form: forms.ModelForm, formsets: Any, add: bool = False
    ) -> str:
        """With the values: a log without them says that somebody did something."""
        given = (f"{form.fields[name].label or name} {form.cleaned_data[name]}" for name in form.changed_data)
        return f"Set {', '.join(given)}." if form.changed_data else "Set nothing."

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        return None if _REFUSED in vars(request) else super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        return None if _REFUSED in vars(request) else super().log_change(request, obj, message)

    def response_add(self, request: HttpRequest, obj: Model, post_url_continue: str | None = None) -> HttpResponse:
        return _told(request) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Model) -> HttpResponse:
        return _told(request) or super().response_change(request, obj)


def _told(request: HttpRequest) -> HttpResponse | None:
    """Back to the form with what the service has said, if it has refused."""
    refused: str | None = vars(request).get(_REFUSED)
    if refused is None:
        return None
    messages.error(request, refused)
    return HttpResponseRedirect(request.path)
