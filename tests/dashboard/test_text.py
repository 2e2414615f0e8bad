"""Text made fit to be looked at."""

from datetime import UTC, datetime

import pytest

from agentsys.dashboard import text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (-3, "0 ms"),
        (0.0421, "42 ms"),
        (0.996, "1.0 s"),
        (3.14, "3.1 s"),
        (59.96, "60.0 s"),
        (192, "3 m 12 s"),
        (7_500, "2 h 5 m"),
        (360_000, "4 d 4 h"),
    ],
)
def test_durations(seconds, shown):
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (713, "713 B"), (12_400, "12.4 KB"), (3_100_000, "3.1 MB"), (7e12, "7000.0 GB")]
)
def test_sizes(size, shown):
    assert text.size(size) == shown


def test_a_moment_is_in_utc_to_the_second():
    assert text.moment(datetime(2026, 11, 23, 7, 5, 9, 999, tzinfo=UTC)) == "2026-11-23 07:05:09"
    assert text.moment(None) == ""


def test_a_clipped_text_is_one_line_of_at_most_so_many_characters():
    assert text.clip("a\n b\t c", 10) == "a b c"
    assert text.clip("x" * 50, 10) == "x" * 9 + "…"
    assert len(text.clip("x " * 1_000_000, 100)) == 100


def test_a_block_says_how_much_is_missing():
    assert text.block("x" * 12, 10) == "x" * 10 + "\n… 2 more characters"


def test_a_value_is_json_and_a_text_is_itself():
    assert text.pretty({"ä": [1]}) == '{\n  "ä": [\n    1\n  ]\n}'
    assert text.pretty('say "hi"') == 'say "hi"'
    assert text.compact({}) == ""


def test_what_nests_too_deeply_is_said_to():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    assert "too deeply" in text.pretty(deep)
    assert "too deeply" in text.compact(deep)


def test_tricky_characters_are_written_out_and_others_left():
    assert text.visible("a\u202eb\x1b\ufeff") == "a\\u202eb\\u001b\\ufeff"
    assert text.visible("tab\tline\n é 👍 اختبار") == "tab\tline\n é 👍 اختبار"
