"""The addresses under ``/api``, each with and without a slash at its end."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path, re_path, register_converter
from django.urls.converters import StringConverter, UUIDConverter

from agentsys.api.agents import Agents
from agentsys.api.approvals import Approvals
from agentsys.api.batches import Batches
from agentsys.api.blockers import RunBlockers
from agentsys.api.budgets import Budgets, RunBudget
from agentsys.api.control import Control
from agentsys.api.credentials import Credentials
from agentsys.api.events import Events
from agentsys.api.lanes import Lanes
from agentsys.api.mcp import McpServers, McpTools
from agentsys.api.messages import Messages
from agentsys.api.model_calls import ModelCalls
from agentsys.api.parsing import StrictJSONParser, SubmissionFormParser
from agentsys.api.runs import Runs
from agentsys.api.schema import Docs, Schema
from agentsys.api.sessions import Me, Sessions
from agentsys.api.steps import Files, Steps
from agentsys.api.tools import Tools
from agentsys.api.versions import Versions
from agentsys.api.views import Unknown
from agentsys.api.workers import Workers

View = Callable[..., Any]


class RunId(UUIDConverter):
    """A UUID in either case; anything else is an address that does not exist."""

    regex = "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"


class StepKey(StringConverter):
    """As in a plan; what the engine has named has a dot (``plan.1``, and ``fetch.v1`` that a new plan has replaced)."""

    regex = "[A-Za-z_][A-Za-z0-9_.]{0,71}"


class FileName(StringConverter):
    regex = r"[^/\x00-\x1f]{1,255}"


register_converter(FileName, "file_name")
register_converter(RunId, "run_id")
register_converter(StepKey, "step_key")

_JSON_OR_FORM = (StrictJSONParser, SubmissionFormParser)
_ROUTES: tuple[tuple[str, View], ...] = (
    ("auth/token", Sessions.as_view({"post": "log_in"})),
    ("auth/refresh", Sessions.as_view({"post": "refresh"})),
    ("auth/logout", Sessions.as_view({"post": "log_out"})),
    ("me", Me.as_view({"get": "retrieve"})),
    ("runs", Runs.as_view({"get": "list", "post": "create"}, parser_classes=_JSON_OR_FORM)),
    ("runs/batch", Batches.as_view({"post": "create"})),
    ("runs/<run_id:run_id>", Runs.as_view({"get": "retrieve"})),
    ("runs/<run_id:run_id>/cancel", Runs.as_view({"post": "cancel"})),
    ("runs/<run_id:run_id>/pause", Control.as_view({"post": "pause"})),
    ("runs/<run_id:run_id>/resume", Control.as_view({"post": "resume"})),
    ("runs/<run_id:run_id>/budget", RunBudget.as_view({"get": "retrieve"})),
    ("runs/<run_id:run_id>/blockers", RunBlockers.as_view({"get": "retrieve"})),
    ("runs/<run_id:run_id>/retry", Control.as_view({"post": "retry"})),
    ("runs/<run_id:run_id>/fork", Control.as_view({"post": "fork"})),
    ("runs/<run_id:run_id>/messages", Messages.as_view({"get": "list", "post": "create"})),
    ("runs/<run_id:run_id>/steps", Steps.as_view({"get": "list"})),
    ("runs/<run_id:run_id>/steps/<step_key:key>", Steps.as_view({"get": "retrieve"})),
    ("runs/<run_id:run_id>/steps/<step_key:key>/resolve", Runs.as_view({"post": "resolve"})),
    ("runs/<run_id:run_id>/events", Events.as_view({"get": "list"})),
    ("runs/<run_id:run_id>/model-calls", ModelCalls.as_view({"get": "list"})),
    ("runs/<run_id:run_id>/model-calls/<int:number>", ModelCalls.as_view({"get": "retrieve"})),
    ("runs/<run_id:run_id>/files", Files.as_view({"get": "list"})),
    ("runs/<run_id:run_id>/files/<file_name:name>", Files.as_view({"get": "retrieve"})),
    ("approvals", Approvals.as_view({"get": "list"})),
    ("approvals/<run_id:approval_id>", Approvals.as_view({"get": "retrieve"})),
    *(
        (f"approvals/<run_id:approval_id>/{verb}", Approvals.as_view({"post": verb}))
        for verb in ("approve", "edit", "deny", "answer")
    ),
    ("agents", Agents.as_view({"get": "list", "post": "create"})),
    (
        "agents/<slug:slug>",
        Agents.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}),
    ),
    ("agents/<slug:slug>/export", Agents.as_view({"get": "export"})),
    ("agents/<slug:slug>/versions", Versions.as_view({"get": "list", "post": "create"})),
    (
        "agents/<slug:slug>/versions/<int:number>",
        Versions.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    ("agents/<slug:slug>/versions/<int:number>/publish", Versions.as_view({"post": "publish"})),
    ("agents/<slug:slug>/versions/<int:number>/retire", Versions.as_view({"post": "retire"})),
    ("agents/<slug:slug>/versions/<int:number>/export", Versions.as_view({"get": "export"})),
    ("agents/<slug:slug>/versions/<int:number>/diff/<int:since>", Versions.as_view({"get": "diff"})),
    ("budgets", Budgets.as_view({"get": "list"})),
    ("budgets/workspace", Budgets.as_view({"get": "of_workspace", "patch": "limit_workspace"})),
    ("budgets/agents/<slug:slug>", Budgets.as_view({"get": "of_agent", "patch": "limit_agent"})),
    ("credentials", Credentials.as_view({"get": "list", "post": "create"})),
    (
        "credentials/<str:name>",
        Credentials.as_view({"get": "retrieve", "put": "update", "delete": "destroy"}),
    ),
    ("lanes", Lanes.as_view({"get": "list"})),
    ("lanes/<str:lane>", Lanes.as_view({"patch": "partial_update"})),
    ("mcp-servers", McpServers.as_view({"get": "list", "post": "create"})),
    (
        "mcp-servers/<run_id:server_id>",
        McpServers.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    ("mcp-servers/<run_id:server_id>/refresh", McpServers.as_view({"post": "refresh"})),
    ("mcp-servers/<run_id:server_id>/tools", McpTools.as_view({"get": "list"})),
    ("mcp-servers/<run_id:server_id>/tools/<str:name>", McpTools.as_view({"get": "retrieve"})),
    ("mcp-servers/<run_id:server_id>/tools/<str:name>/approve", McpTools.as_view({"post": "approve"})),
    ("tools", Tools.as_view({"get": "list"})),
    ("tools/<str:name>", Tools.as_view({"get": "retrieve"})),
    ("workers", Workers.as_view({"get": "list"})),
)


def _both(route: str, view: View, name: str | None = None) -> list[URLPattern]:
    return [path(f"v1/{route}", view, name=name), path(f"v1/{route}/", view)]


urlpatterns = [
    *(pattern for route, view in _ROUTES for pattern in _both(route, view)),
    *_both("schema", Schema.as_view(), "schema"),
    *_both("docs", Docs.as_view(url_name="schema"), "docs"),
    re_path("", Unknown.as_view()),
]
