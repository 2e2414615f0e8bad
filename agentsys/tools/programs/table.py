"""SQL over some files, by DuckDB.

The files are read into tables first, from descriptors in memory; then access to anything outside is switched off, and
the configuration locked, before the query is looked at.
"""

import datetime
import decimal
import math
from typing import Any

import chamber
import duckdb

_READERS = {
    "csv": "read_csv('{}')",
    "tsv": "read_csv('{}', delim = '\t')",
    "json": "read_json('{}')",
    "jsonl": "read_json('{}')",
    "ndjson": "read_json('{}')",
    "parquet": "read_parquet('{}')",
}
_CONFIGURATION: dict[str, Any] = {
    "threads": "1",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
}
_QUESTIONS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
MAX_CELL_CHARS = 100_000


def query(job: dict[str, Any]) -> dict[str, Any]:
    memory_mb = job["memory_mb"]
    database = duckdb.connect(":memory:", config=_CONFIGURATION | {"memory_limit": f"{memory_mb}MB"})
    for file in job["files"]:
        _load(database, file["name"], file["descriptor"])
    for setting in ("enable_external_access = false", "lock_configuration = true"):
        database.execute(f"SET {setting}")
    try:
        return _answer(database, job["sql"], job["max_rows"])
    except duckdb.Error as error:
        raise chamber.Refused(str(error)) from None


def _load(database: duckdb.DuckDBPyConnection, name: str, descriptor: int) -> None:
    """A table of the file's name, and one of its name without its ending where that is free."""
    stem, _, ending = name.rpartition(".")
    reader = _READERS[ending.lower()].format(f"/proc/self/fd/{descriptor}")
    try:
        database.execute(f"CREATE TABLE {_quoted(name)} AS FROM {reader}")
        database.execute(f"CREATE VIEW IF NOT EXISTS {_quoted(stem)} AS FROM {_quoted(name)}")
    except duckdb.Error as error:
        raise chamber.Refused(f"{name} cannot be read: {error}") from None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _answer(database: duckdb.DuckDBPyConnection, sql: str, max_rows: int) -> dict[str, Any]:
    statements = database.extract_statements(sql)
    if len(statements) != 1 or statements[0].type not in _QUESTIONS:
        raise chamber.Refused("One SELECT is taken (WITH, FROM, VALUES, DESCRIBE, SUMMARIZE and EXPLAIN, too).")
    found = database.execute(statements[0])
    columns = _distinct([str(column[0]) for column in found.description or ()])
    rows = found.fetchmany(max_rows + 1)
    return {
        "columns": columns,
        "rows": [dict(zip(columns, map(_plain, row), strict=True)) for row in rows[:max_rows]],
        "is_complete": len(rows) <= max_rows,
    }


def _distinct(names: list[str]) -> list[str]:
    """Columns of the same name get a number: rows are objects."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found


def _plain(value: Any) -> Any:
    """A value of SQL as one of JSON."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value[:MAX_CELL_CHARS]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value[:MAX_CELL_CHARS].decode("utf-8", "replace")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)[:MAX_CELL_CHARS]


if __name__ == "__main__":
    chamber.work(query)
