"""Which tools an agent's version gives values from where: what cannot be meant is refused, each fault at its place."""

from typing import Any

import pytest

from agentsys.agents import approvals, trust

KNOWN = ("mail.send", "http.post")


@pytest.mark.parametrize(
    ("terms", "tool", "sources"),
    [
        ({}, "mail.send", trust.DEFAULT),
        ({"trust": {}}, "mail.send", trust.DEFAULT),
        ({"trust": {"*": ["user"]}}, "mail.send", {"user"}),
        ({"trust": {"*": ["user"], "mail.send": []}}, "mail.send", set()),
        ({"trust": {"http.post": ["web"]}}, "mail.send", trust.DEFAULT),
        ({"trust": {"http.post": ["web"]}}, "http.post", {"web"}),
    ],
)
def test_the_tools_own_line_goes_before_that_for_all_and_both_before_the_default(
    terms: dict[str, Any], tool: str, sources: set[str]
) -> None:
    assert trust.allowed(terms, tool) == sources


def test_by_default_what_strangers_write_is_not_trusted() -> None:
    assert set(trust.SOURCES) - trust.DEFAULT == {"web", "mcp"}


@pytest.mark.parametrize(
    ("terms", "path", "code"),
    [
        ([], "approvals.trust", "type"),
        ("all", "approvals.trust", "type"),
        ({"mail.sent": ["user"]}, "approvals.trust.mail.sent", "unknown_tool"),
        ({"mail.send": "user"}, "approvals.trust.mail.send", "type"),
        ({"mail.send": ["users"]}, "approvals.trust.mail.send", "bad_value"),
        ({"mail.send": [None]}, "approvals.trust.mail.send", "bad_value"),
        ({"mail.send": [["user"]]}, "approvals.trust.mail.send", "bad_value"),
        ({"*": [{}]}, "approvals.trust.*", "bad_value"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_a_fault(terms: Any, path: str, code: str) -> None:
    (fault,) = approvals.faults({"trust": terms}, known=KNOWN)
    assert (fault["path"], fault["code"]) == (path, code)


def test_what_can_be_meant_is_none() -> None:
    terms = {"trust": {"*": [], "mail.send": list(trust.SOURCES)}}
    assert list(approvals.faults(terms, known=KNOWN)) == []
