"""The installation's own rows: who works, and how much of what came out."""

from django.db import models
from django.db.models.functions import Now


class Worker(models.Model):
    """A process that claims steps, as its heartbeat last told."""

    name = models.CharField(max_length=200, primary_key=True)
    host = models.CharField(max_length=100)
    lane = models.CharField(max_length=10)
    pid = models.IntegerField()
    concurrency = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    cpu_percent = models.FloatField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    draining = models.BooleanField(default=False)

    class Meta:
        indexes = [models.Index(fields=["lane", "-seen_at"], name="worker_lane_seen")]
        ordering = ["lane", "name"]

    def __str__(self) -> str:
        return self.name


class Outcome(models.Model):
    """A running total a kind and an outcome, so that no metric ever counts history."""

    kind = models.CharField(max_length=10)  # "run", or a step's kind
    outcome = models.CharField(max_length=10)
    count = models.BigIntegerField(default=0)
    seconds = models.FloatField(default=0)  # the sum of their durations
    buckets = models.JSONField(default=list)  # cumulative histogram of seconds; see rollup.py

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "outcome"], name="outcome_once")]
