"""SQL over the run's tables, and nothing beyond them."""

import contextlib
import os
import threading
import time
from pathlib import Path

import duckdb
import psutil
import pytest

from agentsys.core.errors import (
    NotFound,
    StepCancelled,
    StepTimeout,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolOutputTooLarge,
)
from agentsys.infrastructure.processes import wait_until
from agentsys.tools import registry, runner
from agentsys.tools.sandbox import program
from agentsys.tools.testing import context


@pytest.fixture(autouse=True)
def _nothing_left():
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert not [one for one in psutil.Process().children() if "table.py" in " ".join(one.cmdline())]
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def sales(files):
    files.write("sales.csv", "region,amount,day\nnorth,10,2026-01-01\nsouth,2.5,2026-01-02\nnorth,5,2026-01-03\n")
    return files


def rows(call, sql, **arguments):
    return call("table.query", sql=sql, **arguments)["rows"]


@pytest.mark.parametrize("name", ["sales", "'sales.csv'", '"sales.csv"', "sales.csv"])
def test_a_file_is_a_table_of_its_name(call, sales, name):
    if name == "sales.csv":
        name = '"sales.csv"'
    found = call("table.query", sql=f"SELECT region, sum(amount) AS total FROM {name} GROUP BY ALL ORDER BY region")
    assert found == {
        "columns": ["region", "total"],
        "rows": [{"region": "north", "total": 15.0}, {"region": "south", "total": 2.5}],
        "is_complete": True,
    }


def test_csv_tsv_json_lines_and_parquet_are_joined(call, sales, tmp_path: Path):
    duckdb.sql(f"COPY (SELECT 'north' AS region, 7 AS boss) TO '{tmp_path / 'p.parquet'}'")
    sales.write("bosses.parquet", (tmp_path / "p.parquet").read_bytes())
    sales.write("people.json", '[{"id": 7, "name": "Ada", "tags": ["a", "b"]}, {"id": 8, "name": "Bob"}]')
    sales.write("notes.jsonl", '{"id": 7, "note": "x"}\n{"id": 8, "note": null}\n')
    sales.write("odd name's.tsv", "id\tscore\n7\t1.5\n")
    sql = """
        SELECT name, tags, note, score, count(*) AS n FROM sales JOIN bosses USING (region) JOIN people ON id = boss
          JOIN notes USING (id) JOIN 'odd name''s.tsv' USING (id) GROUP BY ALL
    """
    found = rows(call, sql, files=["sales.csv", "bosses.parquet", "people.json", "notes.jsonl", "odd name's.tsv"])
    assert found == [{"name": "Ada", "tags": ["a", "b"], "note": "x", "score": 1.5, "n": 2}]


def test_values_become_those_of_json_and_columns_of_one_name_are_told_apart(call):
    sql = (
        "SELECT 1 AS a, 2 AS a, 1.50::DECIMAL(9,2) AS d, 'nan'::DOUBLE AS n, DATE '2026-01-02' AS t,"
        " {'x': [NULL]} AS s, 'a\\x00'::BLOB AS b"
    )
    assert rows(call, sql) == [
        {"a": 1, "a_2": 2, "d": 1.5, "n": None, "t": "2026-01-02", "s": {"x": [None]}, "b": "a\ufffd"}
    ]


def test_more_rows_than_asked_for_are_cut_off_and_said_to_be(call):
    found = call("table.query", sql="SELECT * FROM range(50)", max_rows=10)
    assert (len(found["rows"]), found["is_complete"]) == (10, False)
    assert call("table.query", sql="SELECT * FROM range(10)", max_rows=10)["is_complete"] is True


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd', sep=':')",
        "FROM '/etc/passwd'",
        "FROM read_text('/proc/self/environ')",
        "FROM read_blob('/proc/self/fd/0')",
        "FROM read_text('/proc/self/fd/3')",
        "FROM glob('/*')",
        "FROM sniff_csv('/etc/passwd')",
        "FROM 'http://127.0.0.1/x.csv'",
        "FROM read_parquet('s3://bucket/x')",
        "FROM parquet_metadata('/etc/passwd')",
        "FROM read_json('../../../etc/passwd')",
        "FROM sqlite_scan('/etc/x', 'y')",
        "FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
        "FROM query_table('/etc/passwd')",
        "SELECT getenv('SECRET_KEY')",
        "COPY (SELECT 1) TO '/tmp/x'",
        "COPY sales TO PROGRAM 'id'",
        "ATTACH '/tmp/x.db'",
        "ATTACH 'host=127.0.0.1' AS p (TYPE postgres)",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '/tmp/x.duckdb_extension'",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "SET memory_limit = '10GB'",
        "RESET lock_configuration",
        "EXPORT DATABASE '/tmp/x'",
        "IMPORT DATABASE '/tmp/x'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE SECRET (TYPE s3)",
        "INSERT INTO sales VALUES (1, 2, 3)",
        "DELETE FROM sales",
        "DROP TABLE sales",
        "CALL pragma_version()",
        "EXECUTE x",
        "PREPARE x AS SELECT 1",
        "USE memory",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "SELECT 1; ATTACH '/tmp/x.db'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x'",
        "SELECT",
        "no SQL at all",
        ";",
        "--",
    ],
)
def test_nothing_but_one_question_to_the_files_is_answered(call, sales, sql):
    before = set(os.listdir("/tmp"))
    with pytest.raises(ToolFailed) as caught:
        call("table.query", sql=sql, files=["sales.csv"])
    assert "root:" not in str(caught.value.as_dict())
    assert not {"x", "x.db"} & (set(os.listdir("/tmp")) - before)
    assert set(sales.contents) == {"sales.csv"}


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range * b.range = 7",
        "SELECT list(range) FROM range(1000000000)",
        "SELECT repeat('x', 2000000000)",
        "SELECT repeat('x', 100000) FROM range(100000)",
        "SELECT regexp_matches(repeat('a', 100000), '(a*)*b')",
        "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
        "SELECT " + "[" * 20_000,
    ],
)
def test_a_query_that_asks_for_too_much_fails_alone(call, sales, sql):
    began = time.monotonic()
    with contextlib.suppress(ToolFailed, ToolOutputTooLarge):  # or quick after all
        call("table.query", sql=sql, max_seconds=2, max_memory_mb=64)
    assert time.monotonic() - began < 8
    assert rows(call, "SELECT count(*) AS n FROM sales") == [{"n": 3}]


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\0", b"PAR1" + b"\xff" * 100 + b"PAR1", b"{" * 100_000, b'[{"a": 1}, 5]']
)
@pytest.mark.parametrize("name", ["f.parquet", "f.json", "f.jsonl", "f.csv"])
def test_a_file_that_is_none_of_its_kind_fails_alone(call, files, name, content):
    files.write(name, content)
    with contextlib.suppress(ToolFailed):  # some are tables of a kind
        call("table.query", sql=f"SELECT * FROM '{name}'", max_seconds=10)
    assert rows(call, "SELECT 1 AS n") == [{"n": 1}]


def test_a_file_that_cannot_be_read_is_named(call, files):
    files.write("f.parquet", "no such thing")
    with pytest.raises(ToolFailed, match=r"f\.parquet cannot be read"):
        call("table.query", sql="FROM f")


def test_a_file_that_is_no_table_is_refused_with_those_that_are(call, sales):
    sales.write("notes.txt", "x")
    for wrong in ("notes.txt", "nothing.csv", "../sales.csv", "/etc/passwd"):
        with pytest.raises(ToolFailed, match="no table") as caught:
            call("table.query", sql="SELECT 1", files=[wrong])
        assert caught.value.data["tables"] == ["sales.csv"]


def test_tables_too_large_are_refused_before_they_are_read(call, sales):
    for n in range(6):
        sales.write(f"t{n}.csv", bytes(9_000_000))
    with pytest.raises(ToolFailed, match="50 MB"):
        call("table.query", sql="SELECT 1", files=[f"t{n}.csv" for n in range(6)])
    assert rows(call, "SELECT count(*) AS n FROM sales") == [{"n": 3}]  # only what it names is read


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sql": ""},
        {"sql": "x" * 50_001},
        {"sql": 5},
        {"sql": "a\ud800"},
        {"sql": "a", "max_rows": 0},
        {"sql": "a", "max_rows": 10_001},
        {"sql": "a", "files": "f"},
    ],
)
def test_arguments_are_checked(call, arguments):
    with pytest.raises(ToolArgumentsInvalid):
        call("table.query", **arguments)


def test_a_cancel_and_the_steps_deadline_end_it(sales):
    spec = registry.get("table.query")
    endless = {"sql": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"}
    ctx = context(files=sales)
    threading.Timer(0.5, lambda: setattr(ctx, "cancelled", True)).start()
    began = time.monotonic()
    with pytest.raises(StepCancelled):
        runner.run(spec, endless, ctx)
    with pytest.raises(ToolFailed, match="did not end"):
        runner.run(spec, endless, context(deadline_at=time.monotonic() + 1))
    with pytest.raises(StepTimeout):
        runner.run(spec, endless, context(deadline_at=time.monotonic() - 1))
    assert time.monotonic() - began < 4


def test_a_crash_is_one_steps_failure(call, sales):
    threading.Timer(
        0.5, lambda: [one.kill() for one in psutil.Process().children() if "table.py" in str(one.cmdline())]
    ).start()
    with pytest.raises(ToolFailed, match="did not survive this"):
        call(
            "table.query", sql="WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
        )
    assert rows(call, "SELECT count(*) AS n FROM sales") == [{"n": 3}]


def test_it_has_no_environment_of_ours_and_ends_with_its_worker(sales):
    os.environ["SECRET_OF_OURS"] = "do not tell"
    child = os.fork()
    if child == 0:  # no pytest in here
        try:
            endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
            runner.run(registry.get("table.query"), {"sql": endless}, context(files=sales))
        finally:
            os._exit(0)
    del os.environ["SECRET_OF_OURS"]
    found = lambda: [p for p in psutil.Process(child).children() if "table.py" in str(p.cmdline())]  # noqa: E731
    assert wait_until(lambda: found() and found()[0].num_threads() > 0 and not found()[0].environ(), timeout_s=10)
    (process,) = found()
    assert wait_until(lambda: process.cpu_times().user > 0.3, timeout_s=10)  # it has asked to be told

    os.kill(child, 9)
    os.waitpid(child, 0)

    assert wait_until(lambda: not process.is_running(), timeout_s=3)


def test_a_file_that_is_gone_is_not_found(call, sales, monkeypatch):
    monkeypatch.setattr(sales, "read", lambda name: (_ for _ in ()).throw(NotFound(file=name)))
    with pytest.raises(NotFound):
        call("table.query", sql="FROM sales")
    assert program.TICK_S
