"""The one door to models: against a real HTTP server that speaks chat completions."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from agentsys.core.errors import (
    ModelFailed,
    ModelQuotaExhausted,
    ModelRateLimited,
    ModelUnauthorized,
    ModelUnavailable,
)
from agentsys.llm import client
from agentsys.llm import scripted as model_server
from agentsys.llm.scripted import ModelServer, Reply
from agentsys.llm.types import ModelRequest, ModelResponse, ToolDef, Usage

MODEL = "openai-chat:some-model"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FETCH = ToolDef("http.get", "Fetch.", {"type": "object", "properties": {"url": {"type": "string"}}})


def ask(model: str = MODEL, timeout_s: float = 10, **more: Any) -> ModelResponse:
    fields: dict[str, Any] = {"purpose": "answer", "system": "Be brief.", "prompt": "How many?", **more}
    return client.complete(model, ModelRequest(**fields), timeout_s=timeout_s)


def test_text_comes_back_with_its_usage(server: ModelServer) -> None:
    server.script = [model_server.text("four")]
    response = ask()
    assert (response.output, response.model) == ("four", MODEL)
    assert response.usage == Usage(11, 7, Decimal(0), 1)


def test_an_answer_in_text_is_told_as_it_is_written(server: ModelServer) -> None:
    server.script = [model_server.spoken("to be", " or", " not")]
    told: list[str] = []
    response = client.complete(MODEL, ModelRequest("answer", "s", "p"), timeout_s=10, told=told.append)
    assert (response.output, "".join(told)) == ("to be or not", "to be or not")
    assert response.usage == Usage(11, 7, Decimal(0), 1)
    assert server.requests[0]["stream"] is True


def test_structured_output_is_not_told(server: ModelServer) -> None:
    server.script = [model_server.submit({"n": 4})]
    told: list[str] = []
    request = ModelRequest("answer", "s", "p", output_schema=SCHEMA)
    assert client.complete(MODEL, request, timeout_s=10, told=told.append).output == {"n": 4}
    assert told == []


@pytest.mark.parametrize("reply", [model_server.spoken("half of", breaks="lost"), model_server.fault(503)])
def test_an_answer_that_breaks_off_may_be_asked_for_again(server: ModelServer, reply: Reply) -> None:
    server.script = [reply]
    with pytest.raises(ModelUnavailable):
        client.complete(MODEL, ModelRequest("answer", "s", "p"), timeout_s=10, told=lambda text: None)


def test_the_model_gets_system_prompt_and_key_at_the_given_address(server: ModelServer) -> None:
    server.script = [model_server.text("four")]
    ask()
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "some-model"
    assert [(m["role"], m["content"]) for m in request["messages"]] == [("system", "Be brief."), ("user", "How many?")]
    assert server.headers[0]["authorization"] == "Bearer sk-test"


def test_structured_output_is_handed_in_by_a_tool_call(server: ModelServer) -> None:
    server.script = [model_server.submit({"n": 4})]
    assert ask(output_schema=SCHEMA).output == {"n": 4}
    (tool,) = server.requests[0]["tools"]
    assert tool["function"]["name"] == "submit"
    assert tool["function"]["parameters"]["properties"] == SCHEMA["properties"]


def test_a_schema_that_is_no_object_is_wrapped_on_the_way(server: ModelServer) -> None:
    server.script = [model_server.submit({"value": [1, 2]})]
    assert ask(output_schema={"type": "array", "items": {"type": "integer"}}).output == [1, 2]


@pytest.mark.parametrize("said", ['{"n": 4}', '```json\n{"n": 4}\n```'])
def test_json_in_text_does_where_a_server_calls_no_tools(server: ModelServer, said: str) -> None:
    server.script = [model_server.text(said)]
    assert ask(output_schema=SCHEMA).output == {"n": 4}


def test_arguments_that_are_no_json_come_back_as_text_to_be_refused(server: ModelServer) -> None:
    server.script = [model_server.call("submit", '{"n": ')]
    assert ask(output_schema=SCHEMA).output == '{"n": '


def test_to_act_is_to_call_a_tool_by_its_own_name(server: ModelServer) -> None:
    server.script = [model_server.call("http__get", {"url": "http://x"})]
    asked = {"tool": "http.get", "arguments": {"url": "http://x"}}
    assert ask(purpose="act", tools=(FETCH,)).output == {"calls": [asked], "text": ""}
    assert server.requests[0]["tools"][0]["function"]["name"] == "http__get"


def test_to_act_may_be_to_be_done(server: ModelServer) -> None:
    server.script = [model_server.text("done")]
    assert ask(purpose="act", tools=(FETCH,)).output == {"result": "done"}


def test_a_local_server_needs_no_key(server: ModelServer, settings: Any) -> None:
    settings.OPENAI_API_KEY = ""
    server.script = [model_server.text("four")]
    assert ask().output == "four"


def test_ollama_speaks_the_same_protocol(server: ModelServer) -> None:
    server.script = [model_server.text("four")]
    assert ask("ollama:llama").output == "four"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_what_passes_is_unavailable_and_asked_once(server: ModelServer, status: int) -> None:
    server.script = [model_server.fault(status), model_server.text("never asked for")]
    with pytest.raises(ModelUnavailable) as caught:
        ask()
    assert len(server.requests) == 1
    assert caught.value.retryable
    assert isinstance(caught.value, ModelRateLimited) is (status == 429)


def test_retry_after_is_told(server: ModelServer) -> None:
    server.script = [model_server.fault(429, retry_after="17")]
    with pytest.raises(ModelUnavailable) as caught:
        ask()
    assert caught.value.data["retry_after_s"] == 17


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_names_its_variable(server: ModelServer, status: int) -> None:
    server.script = [model_server.fault(status)]
    with pytest.raises(ModelUnauthorized, match="OPENAI_API_KEY"):
        ask()


def test_an_unknown_model_names_model_and_address(server: ModelServer) -> None:
    server.script = [model_server.fault(404, "no such model", "model_not_found")]
    with pytest.raises(ModelFailed, match=r"some-model.*OPENAI_BASE_URL"):
        ask()


def test_a_used_up_account_is_no_passing_failure(server: ModelServer) -> None:
    server.script = [model_server.fault(429, "quota", "insufficient_quota")]
    with pytest.raises(ModelQuotaExhausted, match="quota"):
        ask()


def test_a_refused_request_says_why(server: ModelServer) -> None:
    server.script = [model_server.fault(400, "the prompt is too odd")]
    with pytest.raises(ModelFailed, match="the prompt is too odd"):
        ask()


@pytest.mark.parametrize(
    "reply", [Reply(b"not json"), Reply({"odd": 1}), Reply(b"", 200), Reply({"choices": []})], ids=repr
)
def test_an_answer_that_is_none_is_an_error(server: ModelServer, reply: Reply) -> None:
    server.script = [reply]
    with pytest.raises((ModelFailed, ModelUnavailable)):
        ask()


def test_a_slow_model_is_unavailable_when_the_time_is_up(server: ModelServer) -> None:
    server.script = [model_server.text("late", delay_s=1.5)]
    with pytest.raises(ModelUnavailable):
        ask(timeout_s=0.3)


def test_a_dead_server_is_unavailable(server: ModelServer, settings: Any) -> None:
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"
    with pytest.raises(ModelUnavailable):
        ask()


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai-chat:x", "OPENAI_API_KEY"), ("openai:x", "OPENAI_API_KEY"), ("anthropic:x", "ANTHROPIC_API_KEY")],
)
def test_a_missing_key_names_the_variable_to_set(settings: Any, model: str, variable: str) -> None:
    settings.OPENAI_BASE_URL = settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = ""
    with pytest.raises(ModelUnauthorized, match=variable):
        ask(model)


@pytest.mark.parametrize("model", ["", "gpt", "openai-chat:", ":x", "other:x", "offline:x"])
def test_an_unknown_form_of_model_lists_the_known_ones(model: str) -> None:
    with pytest.raises(ModelFailed, match=r"offline.*openai-chat"):
        ask(model)


def test_calls_from_many_threads_share_one_loop(server: ModelServer) -> None:
    """A model that each thread drives on a loop of its own fails most of such calls."""
    server.script = [model_server.text("four", delay_s=0.02) for _ in range(40)]
    with ThreadPoolExecutor(10) as pool:
        assert {response.output for response in pool.map(lambda _: ask(), range(40))} == {"four"}


def test_a_web_process_never_imports_a_provider() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "agentsys.settings"}
    code = (
        "import sys, django; django.setup(); import agentsys.llm.client, agentsys.agents.planner;"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'pydantic_ai', 'openai', 'anthropic'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")


# --- What a call may cost --------------------------------------------------------------------
def test_an_answer_is_no_longer_than_its_budget_allows(server: ModelServer) -> None:
    server.script = [model_server.text("four"), model_server.text("four")]
    ask(max_output_tokens=321)
    ask()
    limits = [request.get("max_completion_tokens", request.get("max_tokens")) for request in server.requests]
    assert limits == [321, None]


@pytest.mark.parametrize(("prompt", "least"), [("", 50), ("a" * 3_000, 1_000), ("ж" * 3_000, 2_000)])
def test_an_estimate_counts_all_that_the_model_reads(prompt: str, least: int) -> None:
    made = client.estimate(MODEL, ModelRequest("answer", "s", prompt), max_output_tokens=77)
    assert least <= made.input_tokens < least + 100
    assert (made.max_output_tokens, made.input_usd, made.output_usd) == (77, 0, 0)


def test_a_known_model_has_its_price() -> None:
    made = client.estimate("openai:gpt-4o", ModelRequest("answer", "s", "p" * 3_000_000), max_output_tokens=100)
    assert Decimal(1) < made.input_usd < Decimal(10)
    assert Decimal("0.000001") < made.output_usd < Decimal("0.0001")


@pytest.mark.parametrize("reply", [model_server.text("four"), model_server.submit({"n": 4})])
def test_a_gateway_with_a_name_of_its_own_for_a_model_does_not_make_it_free(server: ModelServer, reply: Reply) -> None:
    server.script = [reply]  # it says that "scripted" has answered
    known = client.estimate("openai-chat:gpt-4o", ModelRequest("answer", "s", "p"), max_output_tokens=7)
    used = ask("openai-chat:gpt-4o").usage
    assert (used.input_tokens, used.output_tokens) == (11, 7)
    assert 7 * known.output_usd < used.cost_usd < 7 * known.output_usd + known.input_usd


def test_the_offline_model_is_free() -> None:
    assert client.estimate("offline", ModelRequest("plan", "s", "p"), max_output_tokens=100).input_tokens == 0


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_a_refusal_has_cost_nothing(server: ModelServer, status: int) -> None:
    server.script = [model_server.fault(status)]
    with pytest.raises((ModelFailed, ModelUnavailable, ModelUnauthorized)) as caught:
        ask()
    assert caught.value.data["cost"] is False


def test_a_server_that_is_not_there_has_cost_nothing(settings: Any) -> None:
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = "http://127.0.0.1:9/v1", "k"
    with pytest.raises(ModelUnavailable) as caught:
        ask()
    assert caught.value.data["cost"] is False


def test_a_call_that_broke_off_may_have_cost(server: ModelServer) -> None:
    server.script = [model_server.text("late", delay_s=1.5)]
    with pytest.raises(ModelUnavailable) as caught:
        ask(timeout_s=0.3)
    assert caught.value.data.get("cost") is not False
