"""The sidebar, and what a person sees of it."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from agentsys.dashboard import access, links

#: The REST documentation, same origin.
API_DOCS = "/api/v1/docs"


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's navigation: groups of links that this person may follow."""
    flower = links.to_flower()
    return [
        {"items": [_item("Overview", "monitoring", reverse("admin:index"))]},
        {
            "title": "Work",
            "separator": True,
            "items": _work(),
        },
        {
            "title": "Operations",
            "separator": True,
            "items": [
                _item("Workers", "memory", links.listed("infrastructure_worker")),
                _item("Lanes", "alt_route", links.listed("runs_laneslot")),
                _item("Outcomes", "bar_chart", links.listed("infrastructure_outcome"), "is_superuser"),
                *([_item("Flower", "local_florist", flower)] if flower else []),
                _item("API documentation", "api", API_DOCS),
            ],
        },
        {
            "title": "Access",
            "separator": True,
            "items": [
                _item("Workspaces", "workspaces", links.listed("accounts_workspace")),
                _item("Budgets", "savings", links.listed("runs_budget")),
                _item("Credentials", "key", links.listed("accounts_credential"), "reads_credentials"),
                _item("History kept", "auto_delete", links.listed("runs_retention")),
                _item("Members", "group", links.listed("accounts_membership"), "reads_members"),
                _item("Users", "person", links.listed("accounts_user"), "is_superuser"),
            ],
        },
    ]


def _work() -> list[dict[str, Any]]:
    return [
        _item("Runs", "play_circle", links.listed("runs_run")),
        _item("Approvals", "approval", links.to_inbox()),
        _item("Steps", "account_tree", links.listed("runs_step")),
        _item("Attempts", "replay", links.listed("runs_attempt")),
        _item("Model calls", "forum", links.listed("runs_modelcall")),
        _item("Events", "list_alt", links.listed("runs_event")),
        _item("Files", "draft", links.listed("runs_runfile")),
        _item("Agents", "smart_toy", links.listed("agents_agent")),
        _item("MCP servers", "extension", links.listed("tools_mcpserver")),
    ]


def _item(title: str, icon: str, link: str, permission: str = "") -> dict[str, Any]:
    item = {"title": title, "icon": icon, "link": link}
    return item | ({"permission": f"{__name__}.{permission}"} if permission else {})


def is_superuser(request: HttpRequest) -> bool:
    return access.crosses_workspaces(request)


def reads_credentials(request: HttpRequest) -> bool:
    return access.may_somewhere(request, "credentials.read")


def reads_members(request: HttpRequest) -> bool:
    return access.may_somewhere(request, "members.read")
