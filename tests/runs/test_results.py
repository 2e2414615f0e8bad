"""What a run answers, once its last step has ended, whichever way that one ended."""

import http.server
import json
import threading

import pytest

from agentsys.agents.models import AgentVersion
from tests.support.rows import sql
from tests.support.worker import events, statuses


def echo(key, value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def fails(key, **fields):
    return {"key": key, "tool": "test.fail", "on_error": "continue", **fields}


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, [None], {"a": None}])
def test_an_output_may_be_any_json_and_nothing_becomes_something_else(submit, worker, value):
    run = worker.finish(submit([echo("a", value), echo("b", "${a}")]))

    assert (run.status, run.result) == ("succeeded", {"b": value})


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (None, None),
        ("${a}", {"n": 1, "s": "x"}),
        ("${a.n}", 1),
        ("${a.none}", None),
        ({"k": ["${a.s}", "n=${a.n}", "$${a}"]}, {"k": ["x", "n=1", "${a}"]}),
        ("${input.who} asks ${goal}: ${a.n}", "Ann asks why: 1"),
        ("${files.notes}", "one\ntwo"),
        ({"all": "${files}"}, {"all": {"notes": "one\ntwo", "raw": "\ufffd\ufffd"}}),
        ("nothing of it", "nothing of it"),
    ],
)
def test_an_answer_template_sees_steps_input_goal_and_files(submit, worker, answer, result):
    files = {"notes": b"one\ntwo", "raw": b"\xff\x00"}
    run = submit([echo("a", {"n": 1, "s": "x"})], answer=answer, input={"who": "Ann"}, goal="why", files=files)

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", result)


def test_without_a_template_the_result_is_what_nobody_depends_on(submit, worker):
    run = submit([echo("a", 1), echo("b", 2, depends_on=["a"]), echo("c", 3, depends_on=["a"]), echo("alone", 4)])

    worker.finish(run)

    assert run.result == {"b": 2, "c": 3, "alone": 4}


def test_a_step_that_ends_last_without_being_a_leaf_is_not_in_the_result(submit, worker):
    """Its only child was skipped for another parent's failure before it ended."""
    run = submit([fails("a"), echo("leaf", depends_on=["a", "b"]), {"key": "b", "tool": "test.far"}])
    worker.drain("compute")
    assert statuses(run) == {"a": "failed", "leaf": "skipped", "b": "ready"}

    worker.finish(run)

    assert (run.status, run.result) == ("succeeded", {"leaf": None})


@pytest.mark.parametrize("last", ["a", "b"])
def test_the_result_is_the_same_whichever_step_ends_last(submit, worker, last):
    lanes = {"a": "compute", "b": "network"}
    run = submit([echo("a", 1), {"key": "b", "tool": "test.far", "arguments": {"value": 2}}], answer=["${a}", "${b}"])

    for key in sorted(lanes, key=lambda key: key == last):
        worker.drain(lanes[key])

    run.refresh_from_db()
    assert run.result == [1, 2]


def test_skipped_and_failed_steps_give_null(submit, worker):
    run = submit(
        [fails("a"), echo("b", "${a}"), echo("c", 3)],
        answer={"a": "${a}", "b": "${b}", "deep": "${a.x.y}", "c": "${c}"},
    )

    worker.finish(run)

    assert statuses(run) == {"a": "failed", "b": "skipped", "c": "succeeded"}
    assert run.result == {"a": None, "b": None, "deep": None, "c": 3}


@pytest.mark.parametrize("last", ["succeeds", "fails", "is skipped"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("${a | length(@)}", "reference_failed"),
        (["${input}"] * 5, "payload_too_large"),
    ],
)
def test_a_template_that_cannot_be_filled_in_fails_the_run_and_not_the_step(submit, worker, last, answer, code):
    ends = {
        "succeeds": [{"key": "z", "tool": "test.far"}],
        "fails": [{"key": "z", "tool": "test.fail", "on_error": "continue", "depends_on": ["a"]}],
        "is skipped": [fails("y", depends_on=["a"]), echo("z", depends_on=["y"])],
    }[last]
    run = submit([echo("a", 1), *ends], answer=answer, input="x" * 900_000)

    worker.finish(run)

    assert (run.status, run.reason, run.error["code"], run.result) == ("failed", "error", code, None)
    assert statuses(run)["a"] == "succeeded"
    assert events(run)[-1] == "run.failed"


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize("last", ["succeeds", "fails"])
@pytest.mark.parametrize(("answer", "fits"), [({"n": "${a}"}, True), ({"n": "n=${a}"}, False), (None, False)])
def test_a_result_must_fit_the_schema(submit, worker, last, answer, fits):
    ends = [{"key": "z", "tool": "test.far"}] if last == "succeeds" else [fails("z", depends_on=["a"])]
    run = submit([echo("a", 1), *ends], answer=answer, output_schema=SCHEMA)

    worker.finish(run)

    assert (run.status, run.reason) == (("succeeded", "complete") if fits else ("failed", "error"))
    assert (run.result if fits else run.error["code"]) == ({"n": 1} if fits else "output_invalid")


def test_a_schema_of_the_agent_holds_unless_the_run_has_its_own(submit, worker, agent):
    agent.current_version = AgentVersion.objects.create(
        workspace_id=agent.workspace_id, agent=agent, number=2, output_schema={"type": "string"}
    )
    agent.save()

    assert worker.finish(submit([echo("a", 1)])).error["code"] == "output_invalid"
    assert worker.finish(submit([echo("a", 1)], output_schema={})).status == "succeeded"
    assert worker.finish(submit([echo("a", 1)], output_schema={"not": {}})).error["code"] == "output_invalid"


@pytest.mark.parametrize("last", ["succeeds", "fails"])
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/nowhere"},
        {"$ref": "urn:nobody:knows"},
        {"$ref": "#"},
        {"additionalProperties": {"pattern": "("}},
        {"patternProperties": {"(": {}}},
        {"additionalProperties": {"$dynamicRef": "#none"}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": {"pattern": "("}},
        {"$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)}, "$ref": "#/$defs/0"},
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_schema_that_cannot_be_used_ends_the_run_and_never_hangs_it(submit, worker, schema, last):
    """However it came into the row: submissions refuse most of them, an older agent's version may hold them."""
    steps = [echo("a", "x")] if last == "succeeds" else [echo("a", "x"), fails("z", depends_on=["a"])]
    run = submit(steps, answer={"a": "${a}"})
    _put_schema(run, schema)

    worker.finish(run)

    assert (run.status, run.reason, run.error["code"]) == ("failed", "error", "output_invalid")


def _put_schema(run, schema):
    sql("UPDATE runs_run SET output_schema = %s WHERE id = %s", json.dumps(schema), run.pk)


def test_a_schema_reaches_for_nothing_outside(submit, worker):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        schema = {"$ref": f"http://127.0.0.1:{server.server_port}/secret.json"}
        run = submit([echo("a", 1)])
        _put_schema(run, schema)
        worker.finish(run)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert asked == []
    assert run.error["code"] == "output_invalid"


def test_a_result_of_many_large_outputs_is_refused_before_the_database_has_to(submit, worker):
    run = submit([echo(f"s{n}", "${input}") for n in range(6)], input="x" * 900_000)

    worker.finish(run)

    assert (run.status, run.error["code"]) == ("failed", "payload_too_large")
