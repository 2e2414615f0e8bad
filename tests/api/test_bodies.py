"""What comes in from outside is refused where the database or a reader could not carry it."""

import json
from typing import Any

import pytest
from django.conf import settings
from django.db import InterfaceError, OperationalError

from agentsys.api.parsing import MAX_DEPTH
from agentsys.runs.models import Run

RUNS = "/api/v1/runs"


@pytest.fixture
def post(operator: Any, agent: Any) -> Any:
    def send(raw: bytes | str, **headers: Any) -> Any:
        return operator.post(RUNS, raw, content_type=headers.pop("content_type", "application/json"), **headers)

    return send


def nested(depth: int) -> str:
    return '{"goal": "x", "input": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("{", "not JSON"),
        ("{'goal': 1}", "not JSON"),
        ('{"goal": "x"} tail', "not JSON"),
        ('{"goal": "a", "goal": "b"}', "appears twice"),
        ('{"goal": "x", "input": {"a": {"b": 1, "b": 2}}}', "appears twice"),
        ('{"goal": "x", "input": NaN}', "NaN"),
        ('{"goal": "x", "input": -Infinity}', "Infinity"),
        ('{"goal": "x", "input": 1e999}', "too large"),
        ('{"goal": "x", "input": ' + "9" * 1001 + "}", "digits"),
        ('{"goal": "x", "input": ' + "9" * 100_000 + "}", "digits"),
        ('{"goal": "a\\u0000b"}', "NUL"),
        ('{"goal": "x", "labels": {"a\\u0000": "b"}}', "NUL"),
        ('{"goal": "x", "input": [{"a": ["\\ud800"]}]}', "surrogate"),
        ('{"goal": "\\udfff"}', "surrogate"),
        (nested(MAX_DEPTH + 1), "deeper"),
        (nested(5_000), "deeper"),
        ("[" * 1_000_000, "deeper"),
        ('{"a":' * 500_000, "deeper"),
        (b'{"goal": "\xff"}', "UTF-8"),
        ('{"goal": "x"}'.encode("utf-16"), "UTF-8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_json_that_could_not_be_kept_is_refused_and_nothing_is_stored(
    post: Any, problem: Any, raw: bytes | str, says: str
) -> None:
    assert says in problem(post(raw), 400, "parse_error")["detail"]
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "raw",
    [
        '\ufeff{"goal": "x"}',
        json.dumps({"goal": "x", "input": "\\u0000 as text, 😀 as a pair"}),
        '{"goal": "x", "input": "\\ud83d\\ude00"}',
        '{"goal": "x", "input": ' + "9" * 1000 + "}",
        '{"goal": "x", "input": [-0.0, 1e300, true, null, ""]}',
        nested(60),
    ],
    ids=lambda value: str(value)[:30],
)
def test_unusual_but_good_json_is_taken(post: Any, raw: str) -> None:
    response = post(raw.encode())

    assert response.status_code == 202, response.content


@pytest.mark.parametrize("raw", ["[]", '"goal"', "5", "null", "true", "[{}]"])
def test_a_body_that_is_no_object_is_refused(post: Any, problem: Any, raw: str) -> None:
    body = problem(post(raw), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == [("", "type")]
    assert not Run.objects.exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "x"])
def test_another_kind_of_content_is_refused(post: Any, problem: Any, kind: str) -> None:
    problem(post('{"goal": "x"}', content_type=kind), 415, "unsupported_media_type")
    assert not Run.objects.exists()


def test_a_body_over_the_limit_is_refused_by_its_header_alone(post: Any, problem: Any) -> None:
    response = post('{"goal": "x"}', CONTENT_LENGTH=settings.MAX_BODY_BYTES + 1)

    problem(response, 413, "payload_too_large")
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({}, [("goal", "missing")]),
        ("", [("goal", "missing")]),
        ({"goal": "  "}, [("goal", "missing")]),
        ({"goal": 5}, [("goal", "type")]),
        ({"goal": "x" * 20_001}, [("goal", "too_long")]),
        ({"goal": "x", "gaol": 1, "files": {"a": 5}}, [("files.a", "type"), ("gaol", "unknown_field")]),
        ({"goal": "x", "priority": 11}, [("priority", "bad_value")]),
        ({"goal": "x", "priority": "high"}, [("priority", "type")]),
        ({"goal": "x", "labels": {"a": 1}}, [("labels.a", "type")]),
        ({"goal": "x", "labels": ["a"]}, [("labels", "type")]),
        ({"goal": "x", "limits": {"stpes": 1}}, [("limits.stpes", "unknown_field")]),
        ({"goal": "x", "limits": {"steps": -1}}, [("limits.steps", "bad_value")]),
        ({"goal": "x", "start_at": "tomorrow"}, [("start_at", "type")]),
        ({"goal": "x", "deadline_s": 0}, [("deadline_s", "bad_value")]),
        ({"goal": "x", "deadline_s": 1e15}, [("deadline_s", "bad_value")]),
        ({"goal": "x", "output_schema": []}, [("output_schema", "type")]),
        ({"goal": "x", "output_schema": {"type": 5}}, [("output_schema.type", "bad_value")]),
        ({"goal": "x", "effects": "dry"}, [("effects", "unavailable")]),
        ({"plan": {"steps": []}}, [("steps", "empty_plan")]),
    ],
    ids=str,
)
def test_all_faults_of_a_submission_are_told_at_once(post: Any, fields: Any, faults: Any) -> None:
    response = post(json.dumps(fields) if fields != "" else "")

    assert response.status_code == 422
    assert [(fault["path"], fault["code"]) for fault in response.json()["errors"]] == faults
    assert all(fault["message"] for fault in response.json()["errors"])
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("get", "/api", 404, "not_found"),
        ("get", "/api/", 404, "not_found"),
        ("get", "/api/v1", 404, "not_found"),
        ("get", "/api/v2/runs", 404, "not_found"),
        ("post", "/api/v1/nothing", 404, "not_found"),
        ("get", "/api/v1/runs/17", 404, "not_found"),
        ("get", "/api/v1/runs/not-a-uuid/steps", 404, "not_found"),
        ("get", "/api/v1/agents/a%00b", 404, "not_found"),
        ("get", "/api/v1/tools/a%00b", 404, "not_found"),
        ("delete", "/api/v1/runs", 405, "method_not_allowed"),
        ("put", "/api/v1/agents", 405, "method_not_allowed"),
        ("options", "/api/v1/runs", 405, "method_not_allowed"),
        ("get", "/api/v1/runs?limit=0", 422, "invalid_input"),
        ("get", "/api/v1/runs?limit=99999", 422, "invalid_input"),
        ("get", "/api/v1/runs?cursor=x", 422, "invalid_input"),
        ("get", "/api/v1/runs?cursor=WzAsICJ4IiwgIngiXQ", 422, "invalid_input"),
        ("get", "/api/v1/runs?status=happy", 422, "invalid_input"),
        ("get", "/api/v1/runs?label=%00&label=a", 422, "invalid_input"),
        ("get", "/api/v1/runs?label=a&label=%00", 422, "invalid_input"),
        ("get", "/api/v1/runs?agent=%00", 422, "invalid_input"),
        ("get", "/api/v1/runs?search=%00", 422, "invalid_input"),
        ("get", "/api/v1/runs?created_after=never", 422, "invalid_input"),
    ],
)
def test_every_refusal_is_a_problem(
    operator: Any, problem: Any, method: str, path: str, status: int, code: str
) -> None:
    response = getattr(operator, method)(path)

    problem(response, status, code)
    assert "OPTIONS" not in response.get("Allow", "")


def test_html_is_not_to_be_had_here(operator: Any, problem: Any) -> None:
    problem(operator.get(RUNS, headers={"Accept": "text/html"}), 406, "not_acceptable")


def test_a_bug_is_a_500_that_says_nothing_of_the_inside(
    operator: Any, problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("agentsys.api.runs.RunOut.to_representation", broken)
    monkeypatch.setattr("agentsys.api.runs.Runs.runs", broken)
    operator.raise_request_exception = False

    response = operator.get(RUNS)

    problem(response, 500, "internal")
    assert "secret" not in response.content.decode()


def test_a_foreign_host_is_a_400(operator: Any, problem: Any) -> None:
    problem(operator.get(RUNS, headers={"Host": "evil.example"}), 400, "bad_request")


@pytest.mark.parametrize("error", [OperationalError("secret address"), InterfaceError("closed")])
def test_a_database_that_does_not_answer_is_worth_another_try(
    operator: Any, problem: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: Any) -> None:
        raise error

    monkeypatch.setattr("agentsys.api.runs.Runs.runs", away)

    response = operator.get(RUNS)

    assert "secret" not in problem(response, 503, "unavailable")["detail"]
    assert int(response["Retry-After"]) > 0
