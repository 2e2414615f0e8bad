"""Credentials by REST: secrets go in and never come out."""

import json
import logging
from typing import Any

import pytest
from django.db import connection

from agentsys.accounts.models import Credential, Role, Workspace
from agentsys.core import crypto
from agentsys.runs import credentials
from tests.support.canary import CANARY, database, found_in

ALL = "/api/v1/credentials"
ONE = f"{ALL}/github"
FULL = {"tools": ["http.get"], "agents": ["assistant"], "hosts": ["API.github.com", "10.0.0.5:8443", "[fd00::5]:443"]}

pytestmark = pytest.mark.usefixtures("agent", "transactional_db")


@pytest.fixture
def admin(member: Any) -> Any:
    return member(Role.ADMIN)


def enter(client: Any, name: str = "github", secret: Any = CANARY, **body: Any) -> Any:
    return client.post(ALL, {"name": name, "secret": secret, **body}, format="json")


def put(client: Any, **body: Any) -> Any:
    return client.put(ONE, body, format="json")


def secret_of(name: str = "github") -> str:
    row = Credential.objects.get(name=name)
    return crypto.decrypt(bytes(row.ciphertext), place=str(row.pk))


def row_texts() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_jsonb(c)::text FROM accounts_credential c ORDER BY name")
        return [text for (text,) in cursor.fetchall()]


# --- In, and never out -------------------------------------------------------------------
def test_a_secret_goes_in_and_only_its_name_and_terms_come_out(admin: Any, author: Any) -> None:
    made = enter(admin, **FULL)

    assert made.status_code == 201
    assert made.json() == {
        "name": "github", "tools": ["http.get"], "agents": ["assistant"],
        "hosts": ["api.github.com", "10.0.0.5:8443", "[fd00::5]:443"],
        "created_at": made.json()["created_at"], "updated_at": made.json()["updated_at"],
        "used_at": None, "used_by": "", "waiting_steps": 0,
    }  # fmt: skip
    assert secret_of() == CANARY
    assert author.get(ONE).json() == made.json()
    assert author.get(f"{ALL}/").json() == {"next": None, "previous": None, "results": [made.json()]}
    assert found_in([("answers", made.content.decode()), *database()]) == []


def test_without_terms_nobody_gets_it(admin: Any) -> None:
    body = enter(admin).json()

    assert (body["tools"], body["agents"], body["hosts"]) == ([], [], [])


def test_a_change_says_anew_where_it_may_go_and_keeps_the_secret_unless_another_comes(admin: Any) -> None:
    before = enter(admin, **FULL).json()
    changed = put(admin, tools=["http.post", "http.post"])

    assert (changed.status_code, changed.json()["tools"], changed.json()["hosts"]) == (200, ["http.post"], [])
    assert changed.json()["updated_at"] > before["updated_at"]
    assert changed.json()["created_at"] == before["created_at"]
    assert secret_of() == CANARY
    put(admin, secret="another secret", tools=["http.post"])
    assert secret_of() == "another secret"


def test_a_deleted_one_is_gone(admin: Any, problem: Any) -> None:
    enter(admin)

    assert admin.delete(ONE).status_code == 204
    problem(admin.get(ONE), 404, "not_found")
    problem(admin.delete(ONE), 404, "not_found")
    problem(put(admin, tools=[]), 404, "not_found")
    assert enter(admin).status_code == 201


def test_a_name_is_taken_once(admin: Any, problem: Any) -> None:
    enter(admin)
    before = row_texts()

    problem(enter(admin, secret="another secret"), 409, "credential_exists")
    assert row_texts() == before


@pytest.mark.parametrize(
    "secret", ["x" * 20_000, " spaced out \n", "ünï💥codé", '{"type": "service_account"}'], ids=repr
)
def test_a_secret_is_kept_exactly_as_it_is(admin: Any, secret: str) -> None:
    assert enter(admin, secret=secret).status_code == 201
    assert secret_of() == secret


# --- Refused ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": "a"}, "secret"),
        ({"secret": CANARY}, "name"),
        ({"name": "a", "secret": None}, "secret"),
        ({"name": "a", "secret": ""}, "secret"),
        ({"name": "a", "secret": "1234567"}, "secret"),
        ({"name": "a", "secret": " 1234567 \n"}, "secret"),
        ({"name": "a", "secret": "x" * 20_001}, "secret"),
        ({"name": "a", "secret": 12345678}, "secret"),
        ({"name": "a", "secret": [CANARY]}, "secret"),
        ({"name": CANARY, "secret": CANARY}, "name"),
        ({"name": "", "secret": CANARY}, "name"),
        ({"name": "a-b", "secret": CANARY}, "name"),
        ({"name": "a" * 65, "secret": CANARY}, "name"),
        ({"name": "1a", "secret": CANARY}, "name"),
        ({"name": 7, "secret": CANARY}, "name"),
        ({"name": "a", "secret": CANARY, "tools": CANARY}, "tools"),
        ({"name": "a", "secret": CANARY, "tools": [CANARY]}, "tools[0]"),
        ({"name": "a", "secret": CANARY, "tools": ["http.get", 7]}, "tools"),
        ({"name": "a", "secret": CANARY, "tools": ["t"] + [f"t{n}" for n in range(100)]}, "tools"),
        ({"name": "a", "secret": CANARY, "agents": ["no slug"]}, "agents[0]"),
        ({"name": "a", "secret": CANARY, "hosts": ["https://a.example"]}, "hosts[0]"),
        ({"name": "a", "secret": CANARY, "hosts": ["*.example"]}, "hosts[0]"),
        ({"name": "a", "secret": CANARY, "hosts": ["a.example:0"]}, "hosts[0]"),
        ({"name": "a", "secret": CANARY, "hosts": ["a.example:65536"]}, "hosts[0]"),
        ({"name": "a", "secret": CANARY, "hosts": [{}]}, "hosts"),
        ({"name": "a", "secret": CANARY, "value": CANARY}, "value"),
    ],
)
def test_what_is_no_credential_is_refused_without_being_repeated(
    admin: Any, body: Any, path: str, problem: Any
) -> None:
    answer = admin.post(ALL, body, format="json")

    refused = problem(answer, 422, "invalid_input")
    assert path in [fault["path"] for fault in refused["errors"]]
    assert found_in([("answer", answer.content.decode())]) == []
    assert not Credential.objects.exists()


@pytest.mark.parametrize("raw", ['"a\\u0000bcdefghij"', '"abcdefgh\\ud800"'])
def test_nul_and_half_a_surrogate_pair_are_refused(admin: Any, raw: str) -> None:
    answer = admin.post(ALL, f'{{"name": "a", "secret": {raw}}}', content_type="application/json")

    assert answer.status_code in (400, 422)
    assert not Credential.objects.exists()


def test_a_change_that_is_refused_changes_nothing(admin: Any, problem: Any) -> None:
    enter(admin, **FULL)
    before = row_texts()

    for body in ({"secret": ""}, {"secret": "1234567"}, {"tools": ["no tool!"]}, {"name": "other"}, {"secret": None}):
        problem(put(admin, **body), 422, "invalid_input")
    assert row_texts() == before


@pytest.mark.parametrize("name", ["%00", "a%00b", "nope", "a" * 65, "..%2F", "%ED%A0%80"])
def test_a_name_that_is_none_is_not_found(admin: Any, name: str) -> None:
    for method in ("get", "delete", "put"):
        assert getattr(admin, method)(f"{ALL}/{name}", {}, format="json").status_code in (400, 404)


# --- Who may ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_viewers_and_operators_see_none(member: Any, role: str, problem: Any) -> None:
    client = member(role)

    for answer in (client.get(ALL), client.get(ONE), enter(client), put(client), client.delete(ONE)):
        problem(answer, 403, "forbidden")


def test_authors_see_names_and_write_nothing(admin: Any, author: Any, problem: Any) -> None:
    enter(admin)
    before = row_texts()

    assert [one["name"] for one in author.get(ALL).json()["results"]] == ["github"]
    for answer in (enter(author, "other"), put(author, secret="another secret"), author.delete(ONE)):
        problem(answer, 403, "forbidden")
    assert row_texts() == before


def test_another_workspaces_credentials_do_not_exist(admin: Any, stranger: Any, problem: Any) -> None:
    enter(admin)
    before = row_texts()

    assert stranger.get(ALL).json()["results"] == []
    for answer in (stranger.get(ONE), put(stranger, secret="another secret"), stranger.delete(ONE)):
        problem(answer, 404, "not_found")
    assert row_texts() == before
    assert enter(stranger, secret="their own secret").status_code == 201  # the name is free there


def test_nobody_sees_anything(nobody: Any, problem: Any) -> None:
    problem(nobody.get(ALL), 401, "not_authenticated")


# --- Said about it ----------------------------------------------------------------------------------------
def test_each_change_is_one_line_with_who_and_what_and_no_secret(admin: Any, caplog: Any, workspace: Workspace) -> None:
    with caplog.at_level(logging.INFO, logger="agentsys.accounts.credentials"):
        enter(admin)
        put(admin, tools=["http.get"])
        put(admin, secret="another secret")
        admin.delete(ONE)

    lines = [record.getMessage() for record in caplog.records if record.name == "agentsys.accounts.credentials"]
    what = ["created", "changed", "entered anew", "removed"]
    assert lines == [f"our-admin {one} credential github of workspace {workspace.pk}" for one in what]
    assert found_in([("log", caplog.text)]) == []


def test_a_list_costs_two_queries_however_long(admin: Any, counted: Any, workspace: Workspace) -> None:
    for n in range(3):
        enter(admin, f"c{n}")
    with counted() as seen:
        credentials.listed(workspace.pk)

    assert len(seen) == 2
    assert not any("ciphertext" in text for text in seen)


def test_the_schema_says_that_a_secret_is_written_only(admin: Any) -> None:
    schema = json.loads(admin.get("/api/v1/schema?format=json", HTTP_ACCEPT="application/json").content)

    assert "secret" not in schema["components"]["schemas"]["CredentialOut"]["properties"]
    assert schema["components"]["schemas"]["CredentialIn"]["properties"]["secret"]["format"] == "password"
