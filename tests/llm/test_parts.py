"""A question in parts: nothing of it is lost, and what has grown at its end is new in its last parts only."""

from typing import Any

import pytest

from agentsys.llm.parts import CHARS, MOST_CHARS, assembled, parts_of
from agentsys.llm.types import Called, ModelRequest, ToolDef, Turn

TOOL = ToolDef("http.get", "Fetch.", {"type": "object"})


def turn(number: int) -> Turn:
    return Turn((Called(f"c{number}", "http.get", {"n": number}, "out"),), "said")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "one\ntwo",
        "\n" * 5_000,
        "x" * 50_000,
        "line\n" * 4_000,
        "\u2028é😀\n" * 900,
        "a" * MOST_CHARS + "\n",
        "# ",
    ],
)
def test_the_whole_question_comes_back(text: str) -> None:
    asked = ModelRequest("act", text, text, (TOOL,), {"type": "object"}, turns=(turn(1), turn(2)), note=text)
    found = assembled(parts_of(asked))
    assert (found["system"], found["prompt"], found["note"]) == (text, text, text)
    assert found["tools"] == [{"name": "http.get", "description": "Fetch.", "parameters": {"type": "object"}}]
    assert [one["calls"][0]["id"] for one in found["turns"]] == ["c1", "c2"]
    assert (found["purpose"], found["output_schema"]) == ("act", {"type": "object"})


def test_what_has_grown_at_its_end_shares_its_beginning() -> None:
    def of(lines: int, turns: int) -> list[dict[str, Any]]:
        prompt = "".join(f"line {n} of many\n" for n in range(lines))
        return parts_of(ModelRequest("act", "s", prompt, turns=tuple(map(turn, range(turns)))))

    short, long = of(1_000, 3), of(1_040, 3)
    assert len(short) > 1_000 * 15 / (CHARS + 20)
    assert short[:-4] == long[: len(short) - 4]
    assert of(1_000, 9)[: len(short)] == short


def test_tools_that_the_provider_is_not_given_are_no_part() -> None:
    assert not [part for part in parts_of(ModelRequest("plan", "s", "p", (TOOL,))) if "tool" in part]
