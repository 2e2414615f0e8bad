"""The catalogue of tools, the workers, and the documents about the API itself."""

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.utils import timezone

from agentsys.infrastructure.models import Worker
from agentsys.tools import registry

TOOLS, WORKERS = "/api/v1/tools", "/api/v1/workers"


def test_a_viewer_reads_what_every_tool_takes_and_gives(viewer: Any) -> None:
    body = viewer.get(TOOLS).json()

    assert [tool["name"] for tool in body["results"]] == sorted(registry.all_tools())
    for tool in body["results"]:
        assert tool["description"]
        assert tool["input_schema"]["type"] == "object"
    count = viewer.get(f"{TOOLS}/text.count").json()
    assert count in body["results"]
    assert set(count) == {
        "name", "description", "effect", "lane", "timeout_s", "approval", "input_schema", "output_schema", "examples",
    }  # fmt: skip


def test_a_tool_that_is_not_there_is_a_404_that_says_which_is_near(viewer: Any, problem: Any) -> None:
    assert "text.count" in problem(viewer.get(f"{TOOLS}/text.cuont"), 404, "not_found")["detail"]


@pytest.mark.parametrize("path", [TOOLS, f"{TOOLS}/text.count", WORKERS])
def test_nobody_reads_them_without_a_session(nobody: Any, db: Any, problem: Any, path: str) -> None:
    problem(nobody.get(path), 401, "not_authenticated")


def test_workers_are_alive_while_they_are_heard_of(viewer: Any) -> None:
    now = timezone.now()
    for name, age_s in (("fresh", 5), ("gone", 600)):
        Worker.objects.create(name=name, host="h", lane="compute", pid=1, seen_at=now - timedelta(seconds=age_s))

    found = viewer.get(WORKERS).json()["results"]

    assert [(worker["name"], worker["alive"]) for worker in found] == [("fresh", True), ("gone", False)]


def test_the_openapi_document_is_made_without_a_warning() -> None:
    out = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out)

    document = yaml.safe_load(out.getvalue())
    assert "/api/v1/runs" in document["paths"]
    assert not [path for path in document["paths"] if path.endswith("/")]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert "application/problem+json" in operation["responses"]["default"]["content"]


def test_anybody_reads_the_openapi_document(nobody: Any) -> None:
    response = nobody.get("/api/v1/schema", headers={"Accept": "application/json"})

    assert response.status_code == 200
    assert json.loads(response.content)["info"]["title"] == "agentsys"


@pytest.mark.parametrize("query", ["?lang=de", "?version=a%0d%0aSet-Cookie:x", "?format=json"])
def test_a_strange_question_gets_the_same_document(nobody: Any, query: str) -> None:
    response = nobody.get(f"/api/v1/schema{query}")

    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers


def test_swagger_ui_asks_no_other_host_and_needs_no_relaxed_policy(nobody: Any) -> None:
    page = nobody.get("/api/v1/docs", headers={"Accept": "text/html"})
    script = nobody.get("/api/v1/docs?script=", headers={"Accept": "text/html"})

    text = page.content.decode()
    policy = page["Content-Security-Policy"]
    nonce = text.split('nonce="')[1].split('"')[0]
    assert "unsafe" not in policy
    assert f"'nonce-{nonce}'" in policy
    assert "http://" not in text
    assert "https://" not in text
    assert "<script>" not in text
    assert script["Content-Type"].startswith("application/javascript")
    assert "schema" in script.content.decode()
    assert '"validatorUrl": null' in script.content.decode()
