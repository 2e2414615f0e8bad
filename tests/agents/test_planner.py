"""From a goal to a plan: by the offline model, and by a language model behind a real HTTP server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentsys.agents.planner import make_plan
from agentsys.agents.plans import to_json
from agentsys.agents.progress import Progress
from agentsys.agents.prompts import Prompts
from agentsys.core.errors import GoalNotPlannable, ModelUnauthorized, ModelUnavailable, PlanInvalid
from agentsys.llm import scripted as model_server
from agentsys.llm.scripted import ModelServer, serving
from agentsys.llm.types import Usage
from agentsys.tools import registry

MODEL = "openai-chat:planner"
TOOLS = registry.all_tools()
GOOD = {
    "steps": [
        {"key": "read", "tool": "files.read", "arguments": {"name": "notes.txt"}},
        {"key": "count", "tool": "text.count", "arguments": {"text": "${read.text}"}},
    ],
    "answer": "${count.words}",
}
BAD = {"steps": [{"key": "read", "tool": "files.raed", "arguments": {}}]}


@pytest.fixture
def server(settings: Any) -> Iterator[ModelServer]:
    with serving() as model:
        settings.OPENAI_BASE_URL = model.url
        yield model


def plan(goal: str = "Count the words in notes.txt", **more: Any) -> tuple[Any, Usage]:
    options: dict[str, Any] = {
        "model": MODEL,
        "tools": TOOLS,
        "input": None,
        "files": [],
        "prompts": Prompts(),
        "max_steps": 10,
        "timeout_s": 10,
        **more,
    }
    return make_plan(goal, **options)


def prompt_of(server: ModelServer, number: int = -1) -> str:
    return "\n".join(str(message["content"]) for message in server.requests[number]["messages"])


# --- Offline --------------------------------------------------------------------------
def test_the_offline_model_plans_without_a_network() -> None:
    made, usage = plan(model="offline")
    assert [step.tool for step in made.steps] == ["files.read", "text.count"]
    assert made.steps[1].depends_on == ("read",)
    assert usage == Usage(model_calls=1)


def test_a_goal_that_no_tool_can_do_is_refused_by_its_clause() -> None:
    with pytest.raises(GoalNotPlannable) as caught:
        plan("Read notes.txt and fax it to Bob", model="offline")
    assert caught.value.data["clause"] == "fax it to Bob"


@pytest.mark.parametrize(
    ("goal", "clause"),
    [
        ("Read a.txt, then wait", "wait"),
        ("Summarize a.txt in 1000 sentences", "Summarize a.txt in 1000 sentences"),
        ("Wait until 2030-01-01", "Wait until 2030-01-01"),
    ],
)
def test_a_plan_that_a_tool_would_refuse_is_a_refusal_of_its_clause(goal: str, clause: str) -> None:
    with pytest.raises(GoalNotPlannable) as caught:
        plan(goal, model="offline")
    assert caught.value.data["clause"] == clause
    assert clause in caught.value.message


def test_only_allowed_tools_are_planned_with() -> None:
    allowed = {name: spec for name, spec in TOOLS.items() if name != "files.read"}
    with pytest.raises(GoalNotPlannable):
        plan(model="offline", tools=allowed)


def test_the_input_and_the_files_of_a_run_are_known() -> None:
    made, _ = plan("Count the words of the article", model="offline", input={"article": "a b"})
    assert made.steps[0].arguments == {"text": "${input.article}"}
    made, _ = plan("Split the README into sections", model="offline", files=["README.md"])
    assert made.steps[0].arguments == {"name": "README.md"}


# --- A language model -----------------------------------------------------------------
def test_a_models_plan_is_taken_as_a_submitted_one(server: ModelServer) -> None:
    server.script = [model_server.submit(GOOD)]
    made, usage = plan()
    assert [step["key"] for step in to_json(made)["steps"]] == ["read", "count"]
    assert made.answer == "${count.words}"
    assert (usage.input_tokens, usage.model_calls) == (11, 1)


def test_the_model_sees_goal_tools_files_input_and_instructions(server: ModelServer) -> None:
    server.script = [model_server.submit(GOOD)]
    plan(input={"limit": 3}, files=["notes.txt"], prompts=Prompts("Prefer short plans."))
    seen = prompt_of(server)
    for part in ("Count the words in notes.txt", "text.count", "JMESPath", '"limit": 3', "Prefer short plans."):
        assert part in seen


def test_a_model_is_told_of_questions_to_people_and_may_ask_one(server: ModelServer) -> None:
    ask = {"key": "who", "kind": "ask", "objective": "Who?", "arguments": {"schema": {"type": "string"}}}
    server.script = [model_server.submit({"steps": [ask], "answer": "${who}"})]

    made, _ = plan()

    assert [step.kind for step in made.steps] == ["ask"]
    assert "a question to a person" in prompt_of(server)
    kinds = json.dumps(server.requests[0]["tools"])
    assert '"ask"' in kinds


def test_a_model_that_plans_anew_is_told_how_far_the_run_has_come(server: ModelServer) -> None:
    step = {"key": "read", "kind": "tool", "tool": "files.read", "arguments": {"name": "notes.txt"}}
    count = {"key": "count", "tool": "text.count", "arguments": {"text": "${read.text}"}}
    clash = {"steps": [{**count, "key": "read"}], "answer": "${read}"}
    server.script = [model_server.submit(clash), model_server.submit({"steps": [count], "answer": "${count.words}"})]
    progress = Progress(
        done=[{"step": step, "output": '{"text": "one two"}'}],
        failed=[{"step": {**step, "key": "fetch"}, "error": {"code": "tool_failed", "message": "gone"}}],
        dropped=[{**step, "key": "old"}],
        taken=frozenset({"read", "fetch"}),
        asked=["Count it."],
    )

    made, _ = plan(progress=progress)

    assert [(s.key, s.depends_on) for s in made.steps] == [("count", ("read",))]
    for part in ("one two", "gone", '"old"', "Count it.", "Planning anew"):
        assert part in prompt_of(server, 0)
    assert "that the run has already" in prompt_of(server, 1)


def test_faults_go_back_to_the_model_with_its_plan(server: ModelServer) -> None:
    server.script = [model_server.submit(BAD), model_server.submit(GOOD)]
    made, usage = plan()
    assert [step.key for step in made.steps] == ["read", "count"]
    assert usage.model_calls == 2
    seen = prompt_of(server)
    assert "files.raed" in seen
    assert "unknown_tool" in seen
    assert "Count the words in notes.txt" in seen


def test_after_two_corrections_the_faults_are_the_answer(server: ModelServer) -> None:
    server.script = [model_server.submit(BAD)] * 3 + [model_server.submit(GOOD)]
    with pytest.raises(PlanInvalid, match="after 2 corrections") as caught:
        plan()
    assert len(server.requests) == 3
    assert caught.value.data["errors"][0]["code"] == "unknown_tool"


@pytest.mark.parametrize("said", ["I would read the file first.", "[]", "null", "{}", '{"steps": 3}', '{"steps": ['])
def test_what_is_no_plan_is_told_and_corrected(server: ModelServer, said: str) -> None:
    server.script = [model_server.text(said), model_server.text(json.dumps(GOOD))]
    made, _ = plan()
    assert len(made.steps) == 2


def test_what_the_model_cannot_do_is_not_asked_for_again(server: ModelServer) -> None:
    server.script = [model_server.submit({"cannot": "fax it to Bob: there is no fax"})]
    with pytest.raises(GoalNotPlannable, match="fax it to Bob"):
        plan()
    assert len(server.requests) == 1


def test_a_plan_of_too_many_steps_is_a_fault(server: ModelServer) -> None:
    server.script = [model_server.submit(GOOD)] * 3
    with pytest.raises(PlanInvalid) as caught:
        plan(max_steps=1)
    assert caught.value.data["errors"][0]["code"] == "too_many_steps"


def test_corrections_share_the_time_of_one_plan(server: ModelServer) -> None:
    server.script = [model_server.submit(BAD, delay_s=0.5)] * 3
    with pytest.raises(ModelUnavailable):
        plan(timeout_s=0.7)
    assert len(server.requests) < 3


def test_errors_of_the_model_are_passed_on(server: ModelServer) -> None:
    server.script = [model_server.fault(401)]
    with pytest.raises(ModelUnauthorized, match="OPENAI_API_KEY"):
        plan()
    server.script = [model_server.fault(503)]
    with pytest.raises(ModelUnavailable):
        plan()


def test_what_people_have_said_since_is_in_the_prompt_and_stays_there_in_a_correction(server: ModelServer) -> None:
    server.script = [model_server.submit(BAD), model_server.submit(GOOD)]

    plan(messages=["Only the first line.", "No: all of it."])

    assert len(server.requests) == 2
    for number in range(2):
        assert '["Only the first line.", "No: all of it."]' in prompt_of(server, number)
