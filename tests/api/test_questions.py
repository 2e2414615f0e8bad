"""A list that is asked by a name it does not know says so; a key that is none is refused."""

import re

import pytest

from agentsys.runs.models import Run
from tests.support.rows import photograph

LISTS = {
    "runs": ["agent", "created_after", "created_before", "cursor", "label", "limit", "parent", "search", "status"],
    "approvals": ["cursor", "limit", "run", "state"],
    "agents": ["cursor", "limit"],
    "agents/assistant/versions": ["cursor", "limit"],
    "tools": [],
    "workers": ["cursor", "limit"],
    "runs/{run}/steps": ["cursor", "limit"],
    "runs/{run}/events": ["after", "limit"],
    "runs/{run}/files": ["cursor", "limit"],
    "runs/{run}/messages": ["cursor", "limit"],
}
STEPS = [{"key": "a", "tool": "test.echo"}]


@pytest.fixture
def run(submit):
    return submit(STEPS)


@pytest.mark.parametrize(("path", "known"), LISTS.items())
def test_a_parameter_that_a_list_does_not_know_is_refused_by_its_name(viewer, run, problem, path, known):
    address = f"/api/v1/{path.format(run=run.pk)}"
    assert viewer.get(address).status_code == 200

    body = problem(viewer.get(address, {"stauts": "running", "x\x00": "1"}), 422, "invalid_input")

    assert [(error["path"], error["code"]) for error in body["errors"]] == [
        ("stauts", "unknown_parameter"),
        ("x\x00", "unknown_parameter"),
    ]
    said = body["errors"][0]["message"]
    listed = re.search(r"There are (.*)\.", said)[1]
    assert set(known) <= set(listed.split(", ")) or listed == "none"
    assert ("Did you mean status?" in said) == ("status" in known)


def test_every_list_of_the_document_says_which_parameters_it_knows(viewer, run, problem):
    """What the document names is taken, so none of it may be unknown."""
    paths = viewer.get("/api/v1/schema", headers={"Accept": "application/json"}).json()["paths"]
    given = {"run_id": str(run.pk), "slug": "assistant"}
    for path, verbs in paths.items():
        operation = verbs.get("get", {})
        if not operation.get("operationId", "").endswith("_list"):
            continue
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query" and parameter["name"] != "format":
                answer = viewer.get(path.format(**given), {parameter["name"]: "\x00"})
                codes = [error["code"] for error in answer.json().get("errors", [])]
                assert answer.status_code in (200, 422), (path, parameter["name"])
                assert "unknown_parameter" not in codes


def test_a_list_of_another_workspace_tells_a_stranger_nothing_more(stranger, nobody, run, problem):
    address = f"/api/v1/runs/{run.pk}/steps"
    problem(stranger.get(address), 404, "not_found")
    problem(stranger.get(address, {"x": "1"}), 422, "invalid_input")
    problem(nobody.get(address, {"x": "1"}), 401, "not_authenticated")


def test_many_unknown_parameters_are_told_up_to_a_hundred(viewer, db, problem):
    body = problem(viewer.get("/api/v1/runs", {f"p{n}": "" for n in range(300)}), 422, "invalid_input")

    assert len(body["errors"]) == 100


@pytest.mark.parametrize("key", ["", " ", "\t"])
@pytest.mark.parametrize("path", ["runs", "runs/batch", "runs/{run}/retry", "runs/{run}/fork"])
def test_an_empty_idempotency_key_is_refused_and_nothing_is_made(operator, run, problem, path, key):
    plan = {"plan": {"steps": STEPS}}
    bodies = {"runs": plan, "runs/batch": {"runs": [plan]}, "runs/{run}/fork": {"from_step": "a"}}
    before = photograph()

    answer = operator.post(
        f"/api/v1/{path.format(run=run.pk)}", bodies.get(path), format="json", headers={"Idempotency-Key": key}
    )

    body = problem(answer, 422, "invalid_input")
    assert body["errors"][0]["path"] == "Idempotency-Key"
    assert photograph() == before


def test_no_idempotency_key_is_none(operator, agent):
    for _ in range(2):
        assert operator.post("/api/v1/runs", {"plan": {"steps": STEPS}}, format="json").status_code == 202

    assert Run.objects.count() == 2
