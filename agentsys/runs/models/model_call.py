"""What models were asked and what they answered."""

from decimal import Decimal

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from .run import Run
from .step import Step


class ModelCall(models.Model):
    """One call of a model: written when it has answered or failed, and never changed.

    What it was asked are payloads by their names: the first ``kept`` of those of ``base``, a call before it of the same
    step, then ``parts``.  ``depth`` is how many calls have to be read for that.
    """

    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="+", db_constraint=False, db_index=False)
    attempt = models.IntegerField()
    number = models.IntegerField()  # of the attempt's calls, from 1
    purpose = models.CharField(max_length=10)
    model = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)  # of all that was asked, and of whom
    base_id = models.BigIntegerField(null=True)
    kept = models.IntegerField(default=0)
    parts = ArrayField(models.CharField(max_length=64))
    depth = models.IntegerField(default=1)
    max_output_tokens = models.IntegerField(null=True)  # null: as much as it liked
    answer = models.CharField(max_length=64, blank=True)  # a payload's name; empty: there is none
    cached = models.BooleanField(default=False)  # it was not asked: the same had been answered before
    error = models.JSONField(null=True)
    input_tokens = models.IntegerField(default=0)
    output_tokens = models.IntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=20, decimal_places=10, default=Decimal(0))
    priced_by = models.CharField(max_length=100, blank=True)
    took_s = models.FloatField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["step", "attempt", "number"], name="modelcall_once")]
        indexes = [
            models.Index(fields=["run", "id"], name="modelcall_of_run"),
            models.Index(
                fields=["workspace_id", "digest"], name="modelcall_asked", condition=Q(cached=False) & ~Q(answer="")
            ),
        ]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.model} ({self.purpose})"
