"""SQL over the run's tables: DuckDB in a process of its own, which sees the files it is given and nothing else."""

import math
import time
from typing import Annotated, Any

from django.conf import settings
from pydantic import Field
from typing_extensions import TypedDict

from agentsys.core.errors import StepTimeout, ToolFailed
from agentsys.tools.builtin.types import FileName
from agentsys.tools.context import ToolContext
from agentsys.tools.registry import tool
from agentsys.tools.sandbox.limits import MB
from agentsys.tools.sandbox.program import Bounds
from agentsys.tools.sandbox.program import run as run_program

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
MAX_FILES_BYTES = 50 * MB
#: Libraries and threads' stacks, beside the tables.
OWN_BYTES = 700 * MB


class Rows(TypedDict):
    """``is_complete`` is false where there are more rows than were asked for."""

    columns: list[str]
    rows: list[dict[str, Any]]
    is_complete: bool


@tool(
    name="table.query",
    effect="pure",
    lane="compute",
    timeout_s=60.0,
    result_path="rows",
)
def query(
    sql: Annotated[str, Field(min_length=1, max_length=50_000, description="One SELECT of DuckDB's SQL.")],
    ctx: ToolContext,
    files: Annotated[
        list[FileName] | None,
        Field(max_length=50, description="The files that it reads; those that the query names unless given."),
    ] = None,
    max_rows: Annotated[int, Field(ge=1, le=10_000, description="How many rows are given back.")] = 1_000,
    max_seconds: Annotated[float, Field(gt=0, le=50, description="Time limit.")] = 20,
    max_memory_mb: Annotated[int, Field(ge=64, le=1_024, description="Memory for the tables, in MB.")] = 256,
) -> Rows:
    """Run SQL over this run's tables.  They are its CSV, TSV, JSON, JSON-lines and Parquet files.

    A file is a table of its name, such as "sales.csv", and of its name without the ending, such as sales.  One
    question is taken; nothing can be written, and nothing but the files be read.
    """
    names = _tables(ctx, sql, files)
    job: dict[str, Any] = {"sql": sql, "max_rows": max_rows, "memory_mb": max_memory_mb}
    bounds = bounds_of(ctx, max_seconds, max_memory_mb * MB + OWN_BYTES)

    def put(job: dict[str, Any], descriptors: list[int]) -> None:
        job["files"] = [{"name": name, "descriptor": at} for name, at in zip(names, descriptors, strict=True)]

    found: Rows = run_program(
        "table",
        job,
        [ctx.files.read(name) for name in names],
        put=put,
        bounds=bounds,
        should_stop=lambda: ctx.cancelled,
    )
    return found


def bounds_of(ctx: ToolContext, max_seconds: float, memory_bytes: int) -> Bounds:
    """
    Raises:
        StepTimeout: the step has no time left.
    """
    left_s = math.inf if math.isinf(ctx.deadline_at) else ctx.deadline_at - time.monotonic()
    if left_s <= 0:
        raise StepTimeout()
    return Bounds(min(max_seconds, left_s), memory_bytes, 2 * settings.MAX_OUTPUT_BYTES)


def _tables(ctx: ToolContext, sql: str, files: list[str] | None) -> list[str]:
    """The files that are to become tables."""
    known = {file["name"]: file["size"] for file in ctx.files.list()}
    tables = [name for name in known if name.lower().endswith(ENDINGS) and name.rpartition(".")[0]]
    chosen = (
        [name for name in tables if name.rpartition(".")[0] in sql] if files is None else list(dict.fromkeys(files))
    )
    for name in chosen:
        if name not in tables:
            kinds = ", ".join(ENDINGS)
            raise ToolFailed(
                f"{name!r} is no table of this run; its files may end in {kinds}.", file=name, tables=tables[:100]
            )
    if sum(known[name] for name in chosen) > MAX_FILES_BYTES:
        raise ToolFailed("The tables have more than 50 MB; name those that the query needs in `files`.")
    return chosen
