"""The table of goals: what is planned, what is refused, and that the plans are good for something."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from agentsys.core.errors import GoalNotPlannable
from agentsys.tools.testing import MemoryFiles
from tests.support import offline, web

TABLE = yaml.safe_load((Path(__file__).parent / "goals.yaml").read_text(encoding="utf-8"))
PLANNED = [entry for entry in TABLE if "steps" in entry]
REFUSED = [entry for entry in TABLE if "refused" in entry]


def _brief(plan: Any) -> dict[str, Any]:
    """A plan as the table writes it."""
    steps = {
        step["key"]: {"tool": step["tool"], "with": step["arguments"]}
        | ({"after": step["depends_on"]} if "depends_on" in step else {})
        for step in plan["steps"]
    }
    return {"steps": steps} | ({"answer": plan["answer"]} if "answer" in plan else {})


def test_the_table_is_as_long_as_promised() -> None:
    assert len(PLANNED) + len(REFUSED) >= 60
    assert len(REFUSED) >= 12


@pytest.mark.parametrize("entry", PLANNED, ids=lambda entry: entry["goal"])
def test_a_goal_is_planned_as_the_table_says(entry: dict[str, Any]) -> None:
    plan = offline.plan(entry["goal"])
    assert _brief(plan) == {name: part for name, part in entry.items() if name != "goal"}
    assert offline.checked(plan)
    assert offline.plan(entry["goal"]) == plan


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry["goal"])
def test_a_goal_is_refused_by_its_clause(entry: dict[str, Any]) -> None:
    with pytest.raises(GoalNotPlannable) as caught:
        offline.plan(entry["goal"])
    assert caught.value.data == {"clause": entry["refused"], "reason": entry["because"]}
    assert entry["refused"] in caught.value.message
    assert "AGENTSYS_MODEL" in caught.value.message


# --- Plans carried out ----------------------------------------------------------------
NOTES = "Write to bob@example.com on 2024-05-01.\n\nAgents plan. Agents act. Agents rest."


@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        ("What is 17 * 23?", 391),
        ("Compute 15% of 80", 12),
        ("Compute 2 * (3 + 4), then subtract 20 from it and multiply the result by 5", -30),
        ("Add 2 and 3, then multiply the result by 10, then subtract 7.", 43),
        ("Subtract 8 from 5, multiply by 2, and add 1", -5),
        ("Divide 10 by 3 and round it to 2 decimals", 3.33),
        ("Compute 3 * 3 * 4 * 4, then take the square root and divide by 3", 4),
        ("Read notes.txt and tell me which word occurs most often", [{"term": "agents", "count": 3}]),
        ("Extract the email addresses from notes.txt and tell me the number", 1),
        ("Count the words in notes.txt", 11),
        ("How many lines does notes.txt have?", 3),
        ("Extract the email addresses and the dates from notes.txt", [["bob@example.com"], ["2024-05-01"]]),
        ("Read notes.txt, split it into sentences, and tell me how many there are", 4),
        ("Count how often 'agents' occurs in notes.txt", 3),
        ("Query data.json for 'items[].n' and write it to n.json, then read n.json", "[1,2]"),
        ("Read data.json and count its items", 2),
        ("Split 'a;b;c' at ';' and give me the last 2", ["b", "c"]),
        ("Run `[n * n for n in range(4)]` in Python and write the result to squares.json, then read it", "[0,1,4,9]"),
        ("Write 'one two' to a.txt, then count its words", 2),
        ("Split 'One two. Three four.' into sentences and give me the last one", "Three four."),
        ("Compute 3 + 4, then compute 5 * 6, then add both results", 37),
        ("Write 'a b' to a.txt. Write 'c' to b.txt. Count the words in a.txt and b.txt, and add the counts", 3),
        ("Save '${goal} stays' as a.txt and read a.txt", "${goal} stays"),
    ],
)
def test_a_plan_carried_out_gives_the_answer(goal: str, answer: Any) -> None:
    files = MemoryFiles({"notes.txt": NOTES, "data.json": '{"items": [{"n": 1}, {"n": 2}]}'})
    result = offline.carry_out(goal, files=files)
    assert (list(result.values()) if isinstance(answer, list) and isinstance(result, dict) else result) == answer


def test_the_input_of_a_run_is_what_a_goal_can_speak_of() -> None:
    assert offline.carry_out("Count the words of the article", input={"article": "a b c", "limit": 3}) == 3
    assert offline.carry_out("Count the words", input="a b") == 2


def test_a_word_is_a_file_only_where_no_other_place_was_named() -> None:
    files = ("data.json", "prices.json", "README.md")
    assert offline.plan("Read prices and count its items", files=files)["steps"][0]["arguments"] == {
        "name": "prices.json"
    }
    made = offline.plan("Read data.json and split the README into sections", files=files)
    assert made["steps"][1]["arguments"] == {"name": "README.md"}
    for goal in ("Get http://127.0.0.1:8000/data.json and tell me the prices", "Read data.json and tell me the prices"):
        with pytest.raises(GoalNotPlannable) as caught:
            offline.plan(goal, files=files)
        assert caught.value.data["clause"] == "tell me the prices"


def test_files_that_were_sent_along_are_known_by_name() -> None:
    files = MemoryFiles({"my notes.txt": "a b c", "README.md": "# A\n\n# B\n"})
    assert offline.carry_out("Count the words in my notes.txt", files=files) == 3
    assert len(offline.carry_out("Split the README into sections", files=files)) == 2
    assert offline.carry_out("Read the file and count its words", files=MemoryFiles({"x.txt": "a b"})) == 2


@pytest.fixture
def site(settings: Any) -> Any:
    page = b"<html><title>Home</title><p>Hello there.</p><a href='/a'>A</a> <a href='/b'>B</a></html>"
    pages = {
        "/page.html": web.answer(page, content_type="text/html"),
        "/data.json": web.answer(b'{"names": ["x", "y"]}', content_type="application/json"),
        "/empty.json": web.answer(b"[]", content_type="application/json"),
        "/empty.txt": web.answer(b""),
        "/page": web.answer(page, content_type="text/html"),
        "/words": web.answer(b'["one two"]', content_type="application/json"),
        "/logo.png": web.answer(b"\x89PNG\xff", content_type="image/png"),
    }
    with web.Web(pages=pages) as served:
        settings.HTTP_ALLOW = (served.address,)
        yield served


@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        ("Fetch {}/page.html and count its links", 2),
        ("Get the title of {}/page.html", "Home"),
        ("Fetch {}/page.html, extract the text and count the words", 4),
        ("Fetch {}/page.html, save its links to l.json, and count the items in it", {"save": "l.json", "count": 2}),
        ("Fetch {}/data.json and list its names", ["x", "y"]),
        ("Fetch {}/data.json, save it to d.json, and read d.json", '{{"names":["x","y"]}}'),
        ("Fetch {}/empty.json, save it to d.json, and read d.json", "[]"),
        ("Fetch {}/empty.txt and count its lines", 0),
        ("Fetch {}/page and count its words", 4),
        ("Fetch {}/words and count its words", 2),
        ("Fetch {}/page and give me its text", "Hello there.\nA B"),
    ],
)
def test_a_plan_with_fetched_pages_gives_the_answer(site: web.Web, goal: str, answer: Any) -> None:
    answer = answer.format() if isinstance(answer, str) else answer
    assert offline.carry_out(goal.format(f"http://{site.address}")) == answer


def test_what_is_no_text_is_never_saved_as_text(site: web.Web) -> None:
    files = MemoryFiles()
    with pytest.raises(Exception, match="text"):
        offline.carry_out(f"Fetch http://{site.address}/logo.png and save it to logo.png", files=files)
    assert not files.contents
