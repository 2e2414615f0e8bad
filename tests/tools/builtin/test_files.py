"""The run's own files."""

import pytest

from agentsys.core.errors import NotFound, ToolArgumentsInvalid, ToolFailed, ToolOutputTooLarge


def test_what_is_written_is_listed_and_read(call, files):
    assert call("files.list") == {"files": [], "count": 0}
    assert call("files.write", name="notes.md", text="grüße") == {"name": "notes.md", "size": 7}
    call("files.write", name="b.txt", text="old")
    call("files.write", name="b.txt", text="new")

    assert call("files.list") == {
        "files": [{"name": "b.txt", "size": 3}, {"name": "notes.md", "size": 7}],
        "count": 2,
    }
    assert call("files.read", name="notes.md") == {"name": "notes.md", "size": 7, "text": "grüße"}
    assert files.contents["b.txt"] == b"new"


def test_a_mark_of_byte_order_is_not_part_of_the_text(call, files):
    files.write("a.csv", b"\xef\xbb\xbfa,b")
    assert call("files.read", name="a.csv")["text"] == "a,b"


def test_a_file_that_is_not_there_is_not_found(call):
    with pytest.raises(NotFound, match="no file named 'a'"):
        call("files.read", name="a")


def test_what_is_no_text_or_too_large_is_not_read(call, files):
    files.write("a.png", b"\x89PNG\xff")
    files.write("big", b"x" * 1_000_001)
    with pytest.raises(ToolFailed, match="not UTF-8"):
        call("files.read", name="a.png")
    with pytest.raises(ToolOutputTooLarge):
        call("files.read", name="big")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../a",
        "a/../b",
        "a/./b",
        ".",
        "..",
        "a/b",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
        5,
        None,
        "\x7f",
        " ",
        "   ",
    ],
)
def test_a_name_that_could_mean_another_place_is_refused(call, files, name):
    with pytest.raises((ToolArgumentsInvalid, ToolFailed)):
        call("files.write", name=name, text="x")
    assert files.contents == {}


def test_a_text_has_a_limit(call, files):
    with pytest.raises(ToolArgumentsInvalid):
        call("files.write", name="a", text="x" * 1_000_001)
    assert files.contents == {}
