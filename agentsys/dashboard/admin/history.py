"""What happened in a run and what it wrote: events and files."""

from typing import Any
from urllib.parse import quote

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.decorators import display

from agentsys.dashboard import links, text
from agentsys.runs import files
from agentsys.runs.models import Event, RunFile

from . import filters
from .base import ReadOnlyAdmin, as_uuid
from .steps import run_link


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("type", "run_page", "seq", "step", "happened", "what")
    list_display_links = None
    list_filter = (filters.EventTypeFilter, filters.RunFilter, filters.WorkspaceFilter)
    ordering = ("-id",)
    search_fields = ("run__id",)
    search_help_text = "A run's id"

    def found(self, rows: QuerySet[Event], term: str) -> QuerySet[Event]:
        run_id = as_uuid(term)
        return rows.filter(run_id=run_id) if run_id else rows.none() if term else rows

    @display(description="Run")
    def run_page(self, event: Event) -> SafeString:
        return run_link(event.run_id)

    @display(description="At (UTC)")
    def happened(self, event: Event) -> str:
        return text.moment(event.at)

    @display(description="Data")
    def what(self, event: Event) -> str:
        return text.compact(event.data, 120)


@admin.register(RunFile)
class RunFileAdmin(ReadOnlyAdmin):
    list_display = ("file_name", "run_page", "bytes_long", "writer", "written")
    list_filter = (filters.RunFilter, filters.WorkspaceFilter)
    ordering = ("-id",)
    search_fields = ("name", "run__id")
    search_help_text = "A file's whole name, or a run's id"

    def get_queryset(self, request: HttpRequest) -> QuerySet[RunFile]:
        return super().get_queryset(request).annotate(bytes=F("payload__size_bytes"))

    def found(self, rows: QuerySet[RunFile], term: str) -> QuerySet[RunFile]:
        run_id = as_uuid(term)
        return rows.filter(run_id=run_id) if run_id else rows.filter(name=term) if term else rows

    @display(description="Name")
    def file_name(self, file: RunFile) -> str:
        return text.clip(file.name, 80)

    @display(description="Run")
    def run_page(self, file: RunFile) -> SafeString:
        return run_link(file.run_id)

    @display(description="Size")
    def bytes_long(self, file: RunFile) -> str:
        return text.size(file.bytes)  # type: ignore[attr-defined]

    @display(description="Written by")
    def writer(self, file: RunFile) -> str:
        return file.written_by or "came with the run"

    @display(description="At (UTC)")
    def written(self, file: RunFile) -> str:
        return text.moment(file.written_at)

    # --- The page -----------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.content_view)
        own = [path("<int:file_id>/content/", view, name="runs_runfile_content")]
        return own + super().get_urls()

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        file = self.get_object(request, unquote(object_id))
        context = _shown(file) if file is not None else {}
        answer: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})
        return answer

    def content_view(self, request: HttpRequest, file_id: int) -> HttpResponse:
        """The content as a download: bytes from a run are never rendered in our origin."""
        file: RunFile | None = self.get_object(request, str(file_id))
        if file is None:
            raise Http404
        answer = HttpResponse(files.read(file.run_id, file.name), content_type="application/octet-stream")
        answer["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
        return answer


def _shown(file: RunFile) -> dict[str, Any]:
    """The file's page; its content as text where it is text."""
    content = files.read(file.run_id, file.name)
    try:
        shown: str | None = text.block(content.decode())
    except UnicodeDecodeError:
        shown = None
    facts = [
        ("Size", text.size(len(content))),
        ("Written by", file.written_by or "came with the run"),
        ("At (UTC)", text.moment(file.written_at)),
    ]
    name = text.clip(file.name, 255)
    return {"file": file, "file_name": name, "shown": shown, "facts": facts, "run_url": links.to_run(file.run_id)}
