"""What Prometheus is told beyond the web process itself, read from PostgreSQL at each scrape.

Every process of every node writes to PostgreSQL already, so one scrape of one web process tells of all.
Nothing here counts history: live rows are in partial indexes, what has ended in running totals.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from django.db import Error, connection
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from agentsys.core import db
from agentsys.infrastructure import rollup
from agentsys.infrastructure.models import Outcome
from agentsys.runs.states import Lane

logger = logging.getLogger(__name__)

SQL = db.load(Path(__file__).with_name("sql"))
_BOUNDS = [*(repr(bound) for bound in rollup.BOUNDS_S), "+Inf"]


class EngineCollector(Collector):
    """Lanes, runs, steps and workers."""

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        try:
            found = [*_lanes(), *_runs(), *_workers(), *_outcomes(rollup.outcomes())]
        except Error as error:
            logger.warning("no metrics of the engine: %s", str(error).strip())
            connection.close()
            found = []
        finally:
            db.release()
        yield _gauge("agentsys_database_up", "Whether PostgreSQL answered this scrape.", {(): float(bool(found))})
        yield from found


def _lanes() -> Iterator[Metric]:
    rows = {row["lane"]: row for row in db.rows(SQL["lanes"])}
    for column, name, text in (
        ("queued", "agentsys_lane_queued_steps", "Steps that wait for a slot of their workspace."),
        ("ready", "agentsys_lane_ready_steps", "Steps that could run now."),
        ("running", "agentsys_lane_running_steps", "Steps under way."),
        ("oldest_ready_s", "agentsys_lane_oldest_ready_seconds", "How long the oldest ready step has waited."),
    ):
        values = {(lane.value,): float(rows[lane][column] if lane in rows else 0) for lane in Lane}
        yield _gauge(name, text, values, "lane")


def _runs() -> Iterator[Metric]:
    values = {(row["status"],): float(row["runs"]) for row in db.rows(SQL["live_runs"])}
    yield _gauge("agentsys_live_runs", "Runs that have not ended.", values, "status")


def _workers() -> Iterator[Metric]:
    rows = db.rows(SQL["workers"])
    served = {(lane.value,): float(sum(row["lane"] == lane for row in rows)) for lane in Lane}
    yield _gauge("agentsys_workers", "Workers seen within a minute.", served, "lane")
    for column, name, text in (
        ("concurrency", "agentsys_worker_slots", "Steps a worker does at a time."),
        ("cpu_percent", "agentsys_worker_cpu_percent", "CPU of a worker and its children, 100 = one CPU."),
        ("memory_bytes", "agentsys_worker_memory_bytes", "Resident memory of a worker and its children."),
        ("seen_s", "agentsys_worker_seen_seconds", "How long ago a worker was heard of."),
    ):
        values = {(row["host"], row["lane"], str(row["pid"])): float(row[column]) for row in rows}
        yield _gauge(name, text, values, "host", "lane", "pid")


def _outcomes(totals: Iterable[Outcome]) -> Iterator[Metric]:
    runs = CounterMetricFamily("agentsys_runs", "Runs that ended.", labels=["outcome"])
    steps = CounterMetricFamily("agentsys_steps", "What became of steps.", labels=["kind", "outcome"])
    run_s = HistogramMetricFamily("agentsys_run_seconds", "From submission to end.", labels=["outcome"])
    step_s = HistogramMetricFamily("agentsys_step_seconds", "From claim to end.", labels=["kind", "outcome"])
    for total in totals:
        is_run = total.kind == "run"
        labels = [total.outcome] if is_run else [total.kind, total.outcome]
        (runs if is_run else steps).add_metric(labels, total.count)
        if any(total.buckets):
            buckets = list(zip(_BOUNDS, accumulate(total.buckets), strict=True))
            (run_s if is_run else step_s).add_metric(labels, buckets=buckets, sum_value=total.seconds)
    yield from (runs, steps, run_s, step_s)


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> GaugeMetricFamily:
    """``values`` has a tuple of label values for each key."""
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        gauge.add_metric(key, value)
    return gauge
