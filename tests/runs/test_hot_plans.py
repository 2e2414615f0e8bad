"""The two statements of the steady state read by their indexes, whatever PostgreSQL believes of the tables' sizes."""

import json
import uuid

import pytest
from django.db import connection

from agentsys.runs.store import claims
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
        raw.execute("SET enable_seqscan = off")  # as our role has it
        raw.execute("SET plan_cache_mode = force_generic_plan")
        raw.execute(f"PREPARE plan AS {statement.text}")
        raw.execute(f"EXPLAIN (FORMAT JSON) EXECUTE plan({arguments})")
        plan = raw.fetchone()[0][0]["Plan"]
        raw.execute("DEALLOCATE plan")
        raw.execute("RESET plan_cache_mode")
        raw.execute("RESET enable_seqscan")
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


# Not for statistics that know next to nothing: what such a plan looks like hangs on the pages that earlier rows left.
@pytest.mark.parametrize(("known", "unknown"), [(3, 0), (20, 0), (60, 0), (20, 60)])
def test_what_is_written_is_found_by_its_key(submit, known, unknown):
    grow(submit, known)
    analyse()
    grow(submit, unknown)
    tokens = ", ".join(f"'{uuid.uuid4()}'" for _ in range(16))
    claimed = {"limit": "16", "tokens": f"ARRAY[{tokens}]::uuid[]", "alone": "true"}
    claimed |= {"lane": "'compute'", "owner": "'w'", "lease_s": "30"}

    held = claims.claim_some("compute", owner="w", limit=16)
    given = [dict.fromkeys(GIVEN) | {"run_id": str(one.run_id), "step_id": one.id} for one in held]
    completed = {**claimed, "given": f"'{json.dumps(given)}'"}

    # What the look for claimable steps costs hangs on its LIMIT, which a generic plan does not know.
    assert {"s_1", "r_1"}.isdisjoint(whole_reads(generic_plan("claim", claimed)))
    assert whole_reads(generic_plan("complete", completed)) == set()
