"""People, workspaces and who is what in them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import Field
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from agentsys.accounts.models import Membership, User, Workspace
from agentsys.dashboard import access, text

from .base import ScopedAdmin


class SuperuserOnly:
    """Rows that cross workspaces."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.crosses_workspaces(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.crosses_workspaces(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return access.crosses_workspaces(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.crosses_workspaces(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # what somebody did stays theirs: switch "active" off instead


@admin.register(User)
class UserAdmin(SuperuserOnly, DjangoUserAdmin, ModelAdmin):
    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    actions = None
    compressed_fields = False
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    list_fullwidth = True
    filter_horizontal = ()
    search_fields = ("username", "email", "first_name", "last_name")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        (
            "May",
            {
                "fields": ("is_active", "is_staff", "is_superuser"),
                "description": "Staff may sign in here and see the workspaces they are members of. "
                "A superuser sees and does everything.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")


@admin.register(Workspace)
class WorkspaceAdmin(ScopedAdmin):
    workspace_path = "id"
    list_display = ("name", "slug", "created")
    search_fields = ("name", "slug")
    fields = ("name", "slug", "created")
    readonly_fields = ("created",)
    compressed_fields = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return access.crosses_workspaces(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.crosses_workspaces(request)

    @display(description="Created (UTC)")
    def created(self, workspace: Workspace) -> str:
        return text.moment(workspace.created_at)


class MembershipForm(forms.ModelForm):
    """A person is named, not chosen: the list of all users is nobody's but a superuser's."""

    username = forms.CharField(max_length=150, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = Membership
        fields = ("workspace", "role")

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        user = User.objects.filter(username=name, is_active=True).first()
        if user is None:
            raise forms.ValidationError("There is no active user of this name.")
        self.instance.user = user
        return name

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        workspace = data.get("workspace")
        there = Membership.objects.filter(workspace=workspace, user_id=self.instance.user_id)
        if workspace is not None and self.instance.user_id and there.exclude(pk=self.instance.pk).exists():
            self.add_error("username", "This user is a member already.")
        return data


@admin.register(Membership)
class MembershipAdmin(ScopedAdmin):
    read_action, write_action = "members.read", "members.write"
    form = MembershipForm
    list_display = ("user", "role", "workspace", "created")
    list_select_related = ("user", "workspace")
    list_filter = ("role",)
    search_fields = ("user__username", "workspace__name")
    compressed_fields = False

    def get_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[str, ...]:
        return ("workspace", "user", "role") if obj else ("workspace", "username", "role")

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[str, ...]:
        return ("workspace", "user") if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, change=change, **kwargs)

    def formfield_for_foreignkey(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "workspace":
            kwargs["queryset"] = access.visible(request, Workspace.objects.order_by("name"), "id")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, self.write_action, obj)

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        """The workspace comes from a form: ask once more about the one that was chosen."""
        if not access.may(request, "members.write", obj.workspace_id):
            raise PermissionDenied
        super().save_model(request, obj, form, change)

    @display(description="Since (UTC)")
    def created(self, membership: Membership) -> str:
        return text.moment(membership.created_at)
