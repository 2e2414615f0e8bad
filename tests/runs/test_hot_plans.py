"""The two statements of the steady state read by their indexes, whatever PostgreSQL believes of the tables' sizes."""

import json
import uuid

import pytest
from django.db import connection

from agentsys.runs.store import claims, sweeps
from agentsys.runs.store.sql import SQL
from tests.support.rows import sql

TABLES = ("runs_run", "runs_step", "runs_stepedge")
GIVEN = [
    "run_id", "step_id", "token", "plan_version", "last", "next_token", "output", "usage", "result", "error", "ended",
    "end_reason", "model_calls", "input_tokens", "output_tokens", "cost_usd",
]  # fmt: skip


def analyse():
    for table in TABLES:
        sql(f"ANALYZE {table}")


def grow(submit, count):
    """So many runs beside, of which statistics know nothing."""
    for _ in range(count):
        submit([{"key": "a", "tool": "test.echo"}, {"key": "b", "tool": "test.echo", "depends_on": ["a"]}])


def generic_plan(name, values):
    """The plan that a worker's session keeps, as a flat list of its nodes."""
    statement = SQL[name]
    arguments = ", ".join(values[each] for each in statement.names)
    with connection.cursor() as cursor:
        raw = cursor.connection.cursor()
        raw.execute("SET plan_cache_mode = force_generic_plan")
        raw.execute(f"PREPARE plan AS {statement.text}")
        raw.execute(f"EXPLAIN (FORMAT JSON) EXECUTE plan({arguments})")
        plan = raw.fetchone()[0][0]["Plan"]
        raw.execute("DEALLOCATE plan")
        raw.execute("RESET plan_cache_mode")
        return list(nodes(plan))


def nodes(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def whole_reads(plan):
    """Aliases of the tables that are read from end to end, be it by an index."""
    reads = [node for node in plan if node.get("Relation Name") in TABLES and "Scan" in node["Node Type"]]
    assert len(reads) >= 3
    return {node["Alias"] for node in reads if not {"Index Cond", "Recheck Cond"} & node.keys()}


def sorts_after_locking(plan):
    """Sorts and hashes that take what is below them whole, and lock it all."""
    whole = [node for node in plan if node["Node Type"] in ("Sort", "Incremental Sort", "Hash", "Materialize")]
    return [node for node in whole if any(below["Node Type"] == "LockRows" for below in nodes(node))]


def looks(plan):
    """The part of a claim that looks for what is due and locks it."""
    (look,) = [node for node in plan if node.get("Subplan Name") == "CTE c"]
    return nodes(look)


def claim_values():
    tokens = ", ".join(f"'{uuid.uuid4()}'" for _ in range(16))
    values = {"limit": "16", "tokens": f"ARRAY[{tokens}]::uuid[]", "alone": "true"}
    return values | {"lane": "'compute'", "owner": "'w'", "lease_s": "30"}


@pytest.mark.parametrize(("known", "unknown"), [(0, 60), (1, 60), (3, 0), (20, 0), (60, 0), (20, 60)])
def test_what_is_written_is_found_by_its_key(submit, known, unknown):
    sql(f"TRUNCATE {', '.join(TABLES)} CASCADE")  # pages that earlier rows have left count, too
    grow(submit, known)
    analyse()
    grow(submit, unknown)

    held = claims.claim_some("compute", owner="w", limit=16)
    given = [dict.fromkeys(GIVEN) | {"run_id": str(one.run_id), "step_id": one.id} for one in held]
    completed = {**claim_values(), "given": f"'{json.dumps(given)}'"}

    claim = generic_plan("claim", claim_values())
    assert whole_reads(claim) == set()
    assert sorts_after_locking(looks(claim)) == []
    assert whole_reads(generic_plan("complete", completed)) == set()


def test_a_claim_is_found_by_key_where_statistics_saw_the_tables_just_emptied(submit):
    grow(submit, 60)
    sql("DELETE FROM runs_run")
    sweeps.recount_slots()
    analyse()
    grow(submit, 60)

    claim = generic_plan("claim", claim_values())
    assert whole_reads(claim) == set()
    assert sorts_after_locking(looks(claim)) == []
