"""What a node costs while nothing is due: four lanes' workers with their sweepers, pollers and heartbeats."""

import sys
import time

import psycopg
import pytest

from tests.benchmarks.stack import START_S, stack, tree_cpu_s, wait_until

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]
LANES = ("model", "network", "compute", "system")
REST_S = 30
#: A process writes its heartbeat into its own row, and nothing else.
HEARTBEAT = "infrastructure_worker"


@pytest.fixture
def node():
    with stack() as servers:
        servers.manage("prepare", DEFAULT_ADMIN_PASSWORD="bench-password-1")
        workers = [servers.run(lane, sys.executable, "-m", "workers", lane, "--concurrency", "2") for lane in LANES]
        with psycopg.connect(servers.env["DATABASE_URL"], autocommit=True) as db:
            wait_until(lambda: _beating(db) >= len(LANES), timeout_s=START_S, pause_s=0.2)
            time.sleep(5)  # what a start does once is not rest
            yield db, [worker.pid for worker in workers]


def _beating(db):
    return db.execute(f"SELECT count(*) FROM {HEARTBEAT}").fetchone()[0]


def _written(db):
    """Rows written so far, by table."""
    rows = db.execute("SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables")
    return dict(rows.fetchall())


def test_a_node_at_rest_uses_next_to_no_cpu_and_writes_only_its_heartbeat(node):
    db, pids = node
    wrote, used_s, begun = _written(db), [tree_cpu_s(pid) for pid in pids], time.monotonic()

    time.sleep(REST_S)  # the measurement itself

    took_s = time.monotonic() - begun
    shares = [(tree_cpu_s(pid) - before) / took_s for pid, before in zip(pids, used_s, strict=True)]
    changed = {table: count - wrote[table] for table, count in _written(db).items() if count > wrote[table]}
    each = ", ".join(f"{lane} {share:.1%}" for lane, share in zip(LANES, shares, strict=True))
    print(f"\nat rest: {sum(shares):.1%} of a core ({each}), rows written: {changed}")
    assert set(changed) <= {HEARTBEAT}
    assert sum(shares) < 0.025  # measured 0.018 beside other work
