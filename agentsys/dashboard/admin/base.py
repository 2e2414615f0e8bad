"""What every page of the admin has in common: rows of one's own workspaces, no count of history, no edits.

State of the engine is only ever read here; the few buttons that change something call the same
services as REST.
"""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from agentsys.dashboard import access

ROWS_A_PAGE = 50
#: Further back than this one goes by filters: an OFFSET costs as much as reading what it skips.
MAX_PAGES = 100


class InfinitePaginator(Paginator):
    """Pages without asking how many rows there are: on history that is a scan of all of it.

    The name is the one by which Unfold's header knows not to show a number of results.
    """

    template_name = "dashboard/pagination.html"

    @cached_property
    def count(self) -> int:
        return self.per_page * MAX_PAGES


class LeanChangeList(ChangeList):
    """A list that leaves the columns it does not show (documents of a megabyte) where they are."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return self.model_admin.lean(found)


class ScopedAdmin(ModelAdmin):
    """Rows of the workspaces in which the person is a member, by role; a superuser sees all."""

    workspace_path = "workspace_id"
    read_action = "runs.read"
    write_action: str | None = None
    actions = None  # no bulk edits, not even Django's "delete selected"
    list_per_page = ROWS_A_PAGE
    list_max_show_all = 0
    list_fullwidth = True
    list_filter_submit = True
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return access.visible(request, super().get_queryset(request), self.workspace_path)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """A key with a NUL is none: PostgreSQL would not even look."""
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def workspace_of(self, obj: Model) -> UUID:
        """The workspace a row belongs to."""
        found: Any = obj
        for part in self.workspace_path.split("__"):
            found = getattr(found, part)
        return found

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if any("\0" in value for _, values in request.GET.lists() for value in values):
            return HttpResponseRedirect(f"{request.path}?e=1")  # PostgreSQL has no NUL; Django's own way to say so
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Rows of other tables are chosen here, and made on their own pages."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(getattr(field, "widget", None), RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    def has_module_permission(self, request: HttpRequest) -> bool:
        return access.may_somewhere(request, self.read_action)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, self.read_action, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request, self.write_action, None)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, self.write_action, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def _may(self, request: HttpRequest, action: str | None, obj: Model | None) -> bool:
        if action is None:
            return False
        if obj is None:
            return access.may_somewhere(request, action)
        return access.may(request, action, self.workspace_of(obj))


class ReadOnlyAdmin(ScopedAdmin):
    """Rows that only the engine writes: to be looked at."""

    paginator = InfinitePaginator
    list_defer: tuple[str, ...] = ()
    sortable_by = ()  # an order without an index sorts all of history
    fields = ()
    enable_nav_sidebar = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LeanChangeList]:
        return LeanChangeList

    def lean(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """``rows`` with only what the list shows of them."""
        return rows.defer(*self.list_defer)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return self.found(queryset, search_term.replace("\0", "").strip()), False

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """``rows`` that a search for ``term`` means; all of them for an empty one."""
        return rows


def badge(status: str) -> SafeString:
    """A status in its colour."""
    return format_html('<span class="as-status s-{}">{}</span>', status, status)


def as_uuid(text: str) -> UUID | None:
    """The UUID that ``text`` writes, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None
