"""What a text is about."""

import pytest

TEXT = """# Engines

Steam engines turn heat into motion. The weather was nice that day in spring.
A steam engine needs water, and the water becomes steam in the boiler of the engine.

```
steam steam steam steam engine engine engine.
```

| steam | engine |
|---|---|

My cat sleeps on the sofa all afternoon. See the [manual](https://example.com/steam) for more details on it.
"""


def test_a_summary_is_the_most_telling_sentences_in_their_order(call):
    result = call("text.summarize", text=TEXT, sentences=2)
    assert result["sentences"] == [
        "Steam engines turn heat into motion.",
        "A steam engine needs water, and the water becomes steam in the boiler of the engine.",
    ]
    assert result["summary"] == " ".join(result["sentences"])


def test_the_same_text_has_the_same_summary(call):
    results = {call("text.summarize", text=TEXT)["summary"] for _ in range(5)}
    assert len(results) == 1


def test_marks_of_markdown_do_not_get_into_a_summary(call):
    summary = call("text.summarize", text=TEXT, sentences=100)["summary"]
    assert "manual for more" in summary
    assert not {"#", "|", "`", "]"} & set(summary)


@pytest.mark.parametrize("text", ["", " \n", "one", "Hi. Yo.", "# only a heading", "```\ncode\n```", "the the the."])
def test_a_text_with_little_in_it_has_a_little_summary(call, text):
    result = call("text.summarize", text=text, sentences=3)
    assert len(result["sentences"]) <= 2
    assert result["summary"] == " ".join(result["sentences"])


def test_equal_sentences_are_said_once(call):
    text = "This sentence is here again and again. " * 5
    assert call("text.summarize", text=text)["sentences"] == ["This sentence is here again and again."]


def test_the_most_frequent_words_come_first_and_equals_by_the_alphabet(call):
    text = "Water and the steam, WATER's the engine: steam or water. The it's of don't 42 ab"
    assert call("text.top_terms", text=text, n=3)["terms"] == [
        {"term": "water", "count": 3},
        {"term": "steam", "count": 2},
        {"term": "engine", "count": 1},
    ]


@pytest.mark.parametrize("text", ["", "the of and", "123 456", "- - -", "\0\0"])
def test_a_text_without_words_of_its_own_has_no_terms(call, text):
    assert call("text.top_terms", text=text) == {"terms": []}
