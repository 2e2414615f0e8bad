"""A run's files: rows of the database, content kept once, written only by those who hold a step."""

import pytest

from agentsys.core.errors import InvalidInput, NotFound, PayloadTooLarge
from agentsys.runs import control, files, retention
from agentsys.runs.store import sweeps
from agentsys.runs.store.claims import claim
from agentsys.runs.store.prune import Terms
from tests.support.rows import expire, photograph, sql, value
from tests.support.threads import in_parallel

ECHO = {"key": "a", "tool": "test.echo"}


@pytest.fixture
def store(submit):
    """The files of a run as the tool of its claimed step sees them."""
    submit([ECHO])
    return files.StepFiles(claim("compute", owner="w"))


@pytest.mark.parametrize("content", [b"", b"\0\xff\x00", "text \U0001f600".encode(), bytes(range(256)) * 1000])
def test_what_is_written_is_read_and_listed(store, content):
    store.write("f", content)

    assert store.read("f") == content
    assert store.list() == [{"name": "f", "size": len(content)}]


def test_text_is_written_as_utf8(store):
    store.write("f", "\xe4")

    assert store.read("f") == b"\xc3\xa4"


def test_a_name_is_written_again(store):
    store.write("f", "old"), store.write("g", "other"), store.write("f", "new")

    assert store.read("f") == b"new"
    assert [entry["name"] for entry in store.list()] == ["f", "g"]


def test_the_same_content_is_kept_once_a_workspace(submit, store):
    for name in "abc":
        store.write(name, "same")
    submit([ECHO], files={"x": b"same"})

    assert value("SELECT count(*) FROM runs_payload") == 1


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "a\0", "\ud800", "a\nb", "\u202e", "x" * 256])
def test_a_name_that_is_none_is_refused_and_never_found(store, name):
    before = photograph()

    with pytest.raises(InvalidInput):
        store.write(name, "x")
    with pytest.raises(NotFound):
        store.read(name)

    assert photograph() == before


def test_a_file_too_large_is_refused(store):
    store.write("f", bytes(files.MAX_FILE_BYTES))
    with pytest.raises(PayloadTooLarge):
        store.write("f", bytes(files.MAX_FILE_BYTES + 1))

    assert len(store.read("f")) == files.MAX_FILE_BYTES


def test_a_file_too_many_is_refused_but_those_there_may_be_rewritten(store, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILES", 3)
    for name in "abc":
        store.write(name, name)
    before = value("SELECT count(*) FROM runs_payload")

    with pytest.raises(PayloadTooLarge):
        store.write("d", "one too many")
    store.write("a", "again")

    assert [entry["name"] for entry in store.list()] == ["a", "b", "c"]
    assert store.read("a") == b"again"
    assert value("SELECT count(*) FROM runs_payload") == before + 1


def test_the_files_of_another_run_are_not_there(submit, store):
    store.write("mine", "x")
    other = submit([ECHO], files={"theirs": b"y"})

    assert [entry["name"] for entry in files.listing(other.pk)] == ["theirs"]
    with pytest.raises(NotFound):
        store.read("theirs")


def test_many_writers_of_one_name_and_one_content_do_not_trip_over_each_other(submit):
    submit([ECHO | {"key": f"s{n}"} for n in range(8)])
    stores = [files.StepFiles(claim("compute", owner=f"w{n}")) for n in range(8)]

    for n in range(5):
        in_parallel(*(lambda one=one, n=n: (one.write("f", f"{n}"), one.write(f"g{n}", "same")) for one in stores))

    assert stores[0].read("f") == b"4"
    assert len(stores[0].list()) == 6


def test_a_step_reads_what_another_wrote(submit, worker):
    run = submit(
        [
            {"key": "w", "tool": "files.write", "arguments": {"name": "f", "text": "hello ${input}"}},
            {"key": "r", "tool": "files.read", "arguments": {"name": "f"}, "depends_on": ["w"]},
        ],
        input="you",
    )

    worker.finish(run)

    assert run.status == "succeeded", run.error
    assert "hello you" in str(run.result["r"])
    assert run.files.get().written_by == "w"


# --- Done again --------------------------------------------------------------------------
def test_a_step_that_is_done_again_sees_the_files_as_they_were_before_it(submit, settings):
    settings.LEASE_S = 1.0  # PostgreSQL has been up for longer than that
    run = submit([ECHO], files={"log": b"1\n", "other": b"x"})
    first = files.StepFiles(claim("compute", owner="w"))
    first.write("log", first.read("log") + b"2\n")
    first.write("log", first.read("log") + b"3\n")  # its own, while it works
    first.write("new", "n")
    assert [(file["name"], file["size"]) for file in first.list()] == [("log", 6), ("new", 1), ("other", 1)]

    expire(run)
    sweeps.reap_expired()
    again = files.StepFiles(claim("compute", owner="w2"))

    assert again.read("log") == b"1\n"
    assert [file["name"] for file in again.list()] == ["log", "other"]
    with pytest.raises(NotFound):
        again.read("new")
    again.write("log", again.read("log") + b"2\n")
    assert files.read(run.pk, "log") == again.read("log") == b"1\n2\n"
    assert files.read(run.pk, "new") == b"n"


def test_what_another_step_has_written_since_is_there_for_a_step_done_again(submit):
    submit([ECHO, ECHO | {"key": "b"}])
    one, two = (files.StepFiles(claim("compute", owner="w")) for _ in range(2))
    one.write("f", "one"), two.write("f", "two")

    assert files.StepFiles(one._claim).read("f") == b"two"
    assert [f["name"] for f in files.StepFiles(two._claim).list()] == ["f"]
    assert files.StepFiles(two._claim).read("f") == b"one"


def test_a_step_that_is_tried_often_adds_to_a_file_once_and_so_does_a_retry_of_its_run(submit, worker):
    step = {"key": "a", "tool": "test.append", "arguments": {"name": "log", "failures": 3}, "max_attempts": 2}
    run = submit([step], files={"log": b"1"})
    worker.finish(run)
    assert (run.status, files.read(run.pk, "log")) == ("failed", b"1+")

    again, _ = control.retry(run)
    worker.finish(again)

    assert files.read(again.pk, "log") == b"1+"


def test_what_a_file_was_before_is_pruned_with_its_run_and_not_earlier(submit):
    run = submit([ECHO], files={"f": b"before"})
    files.StepFiles(claim("compute", owner="w")).write("f", "after")

    assert pruned_payloads() == 0
    assert files.read(run.pk, "f", before="a") == b"before"

    run.files.all().delete()
    assert pruned_payloads() == 2


def pruned_payloads():
    sql("UPDATE runs_payload SET touched_at = clock_timestamp() - interval '61 minutes'")
    return sum(count for job, count in retention.prune_all(Terms(retention.policy())) if job == "payloads")
