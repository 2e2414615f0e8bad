"""Credentials: names, and where they may go.  A secret is entered here and never shown, not even to who enters it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Field
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from agentsys.accounts.credential_terms import Terms, as_terms, name_faults, secret_faults
from agentsys.accounts.models import Credential, Workspace
from agentsys.core.errors import AgentSysError
from agentsys.core.faults import Fault
from agentsys.dashboard import access
from agentsys.runs import credentials

from . import filters
from .base import ScopedAdmin

#: Field of the form -> list of the row.  Names of their own: the row's would be filled from the form's texts.
_LISTS = {"to_tools": "tools", "of_agents": "agents", "to_hosts": "hosts"}
_HELP = {
    "tools": "Tools that it may be given to, one a line.  None: nobody gets it.",
    "agents": "Slugs of the agents whose runs may use it, one a line.  None: all of the workspace.",
    "hosts": "Where http.get, http.post and the like may take it, one a line: host (by https), or host:port.",
}


class CredentialForm(forms.ModelForm):
    """A name, a secret that only goes in, and where it may go."""

    name = forms.CharField(max_length=64, widget=UnfoldAdminTextInputWidget, help_text="In plans: ${credential.name}")
    secret = forms.CharField(
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        strip=False,
        help_text="Never shown again.",
    )
    to_tools = forms.CharField(
        label="Tools", required=False, widget=UnfoldAdminTextareaWidget, help_text=_HELP["tools"]
    )
    of_agents = forms.CharField(
        label="Agents", required=False, widget=UnfoldAdminTextareaWidget, help_text=_HELP["agents"]
    )
    to_hosts = forms.CharField(
        label="Hosts", required=False, widget=UnfoldAdminTextareaWidget, help_text=_HELP["hosts"]
    )

    class Meta:
        model = Credential
        fields = ("workspace",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial.update((name, "\n".join(getattr(self.instance, row))) for name, row in _LISTS.items())
            self.fields.pop("name", None)  # what plans call it does not change
            self.fields["secret"].required = False
            self.fields["secret"].help_text = "Leave it empty to keep the one that there is."

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        faults: list[Fault] = list(self.terms().faults())
        if data.get("name"):
            faults += name_faults(data["name"])
        if data.get("secret"):
            faults += secret_faults(data["secret"])
        fields = {row: name for name, row in _LISTS.items()}
        for fault in faults:
            path = fault["path"].partition("[")[0]
            self.add_error(fields.get(path, path), fault["message"])
        return data

    def terms(self) -> Terms:
        """As the service takes them."""
        lines = {row: (self.cleaned_data.get(name) or "").splitlines() for name, row in _LISTS.items()}
        return as_terms({name: [line.strip() for line in found if line.strip()] for name, found in lines.items()})


@admin.register(Credential)
class CredentialAdmin(ScopedAdmin):
    read_action, write_action = "credentials.read", "credentials.write"
    form = CredentialForm
    list_display = (
        "name",
        "tools_shown",
        "agents_shown",
        "hosts_shown",
        "updated_at",
        "used_at",
        "used_by",
        "workspace",
    )
    list_select_related = ("workspace",)
    list_filter = (filters.WorkspaceFilter,)
    ordering = ("workspace", "name")
    compressed_fields = False

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> tuple[str, ...]:
        told = ("created_at", "updated_at", "used_at", "used_by")
        terms: tuple[str, ...] = tuple(_LISTS)
        if not self.has_change_permission(request, obj):
            terms = ("tools_shown", "agents_shown", "hosts_shown")
            return ("workspace", "name", *terms, *told) if obj else terms
        return ("workspace", "name", "secret", *terms, *told) if obj else ("workspace", "name", "secret", *terms)

    def get_readonly_fields(self, request: HttpRequest, obj: Credential | None = None) -> tuple[str, ...]:
        shown = ("tools_shown", "agents_shown", "hosts_shown")
        return ("workspace", "name", *shown, "created_at", "updated_at", "used_at", "used_by") if obj else ()

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "workspace":
            kwargs["queryset"] = access.writable(request, self.write_action, Workspace.objects.order_by("name"), "id")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.write_action, obj)

    def save_model(self, request: HttpRequest, obj: Credential, form: CredentialForm, change: bool) -> None:
        """The row is the service's to write."""
        if not access.may(request, "credentials.write", obj.workspace_id):
            raise PermissionDenied
        secret, terms = form.cleaned_data["secret"], form.terms()
        name = obj.name if change else form.cleaned_data["name"]
        user: Any = request.user
        try:
            if change:
                told = credentials.change(obj.workspace_id, name, secret or None, terms, user=user)
            else:
                told = credentials.create(obj.workspace_id, name, secret, terms, user=user)
        except AgentSysError as error:
            vars(request)["agentsys_refused"] = error.message
        else:
            obj.pk, obj.name = told.row.pk, told.row.name

    def log_addition(self, request: HttpRequest, obj: Credential, message: Any) -> Any:
        return None if _refused(request) else super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Credential, message: Any) -> Any:
        return None if _refused(request) else super().log_change(request, obj, message)

    def response_add(self, request: HttpRequest, obj: Credential, post_url_continue: str | None = None) -> HttpResponse:
        return _told(request) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Credential) -> HttpResponse:
        return _told(request) or super().response_change(request, obj)

    def delete_model(self, request: HttpRequest, obj: Credential) -> None:
        user: Any = request.user
        credentials.remove(obj.workspace_id, obj.name, user=user)

    @display(description="Tools")
    def tools_shown(self, credential: Credential) -> str:
        return ", ".join(credential.tools) or "none: nobody gets it"

    @display(description="Agents")
    def agents_shown(self, credential: Credential) -> str:
        return ", ".join(credential.agents) or "all"

    @display(description="Hosts")
    def hosts_shown(self, credential: Credential) -> str:
        return ", ".join(credential.hosts) or "none"


def _refused(request: HttpRequest) -> str | None:
    found: str | None = vars(request).get("agentsys_refused")
    return found


def _told(request: HttpRequest) -> HttpResponse | None:
    """Back to the form with what the service has said, if it has refused."""
    if (refused := _refused(request)) is None:
        return None
    messages.error(request, refused)
    return HttpResponseRedirect(request.path)
