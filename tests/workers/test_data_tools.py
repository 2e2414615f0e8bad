"""Data tools through the whole stack: fixed plans by REST, done by real workers."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from agentsys.runs.models import Run
from tests.tools.builtin.test_pdf import pdf
from tests.workers.conftest import ended

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("ring")]


WRITE = """
lines = ['region,total'] + [f"{row['region']},{row['total']}" for row in rows]
write_file('totals.csv', '\\n'.join(lines))
"""


def test_tables_are_queried_and_a_query_that_fails_is_its_steps(api: APIClient, posted: Any, start: Any) -> None:
    start("compute", slots=2)
    sales = "region,amount\nnorth,10\nsouth,2\nnorth,5\n"
    steps = [
        {
            "key": "bad",
            "tool": "table.query",
            "arguments": {"sql": "FROM read_text('/etc/passwd')"},
            "on_error": "continue",
        },
        {
            "key": "sum",
            "tool": "table.query",
            "arguments": {"sql": "SELECT region, sum(amount)::INT AS total FROM sales GROUP BY ALL ORDER BY 1"},
        },
        {
            "key": "write",
            "tool": "python.run",
            "arguments": {
                "code": WRITE,
                "inputs": {"rows": "${sum.rows}"},
            },
        },
        {
            "key": "again",
            "tool": "table.query",
            "arguments": {"sql": "SELECT max(total) AS most FROM totals"},
            "depends_on": ["write"],
        },
    ]

    run = ended(posted(*steps, files={"sales.csv": sales}), timeout_s=30)

    outputs = {step.key: step.output for step in run.steps.all()}
    assert run.status == "succeeded", run.error
    assert outputs["again"]["rows"] == [{"most": 15}]
    assert run.steps.get(key="bad").error["code"] == "tool_failed"
    assert "root:" not in str(run.steps.get(key="bad").error)
    listed = {tool["name"]: tool for tool in api.get("/api/v1/tools").json()["results"]}
    assert {listed[name]["effect"] for name in ("table.query", "pdf.text", "python.run", "shell.run")} == {"pure"}


def test_a_pdf_that_came_with_the_run_is_read(api: APIClient, agent: Any, start: Any) -> None:
    start("compute", slots=2)
    plan = '{"steps": [{"key": "a", "tool": "pdf.text", "arguments": {"name": "r.pdf"}}]}'
    sent = {"agent": "assistant", "plan": plan, "files": SimpleUploadedFile("r.pdf", pdf("one", "two"))}

    answer = api.post("/api/v1/runs", sent, format="multipart")

    assert answer.status_code == 202, answer.json()
    run = ended(Run.objects.get(pk=answer.json()["id"]))
    assert (run.status, run.result["a"]["text"]) == ("succeeded", "one\n\f\ntwo")
