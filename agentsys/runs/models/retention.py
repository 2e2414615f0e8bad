"""How long history is kept, and what is left of what has gone."""

from django.db import models
from django.db.models import Q

from agentsys.accounts.models import Workspace


class Retention(models.Model):
    """A workspace's own times in days; null: the installation's, 0: for ever.  The row without one only pauses all."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    runs_days = models.FloatField(null=True)
    history_days = models.FloatField(null=True)  # events and attempts, where these leave before their runs
    keys_days = models.FloatField(null=True)  # idempotency keys, the same way
    paused = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name = verbose_name_plural = "history kept"
        constraints = [
            models.UniqueConstraint(fields=["workspace"], name="retention_once", nulls_distinct=False),
            models.CheckConstraint(
                condition=(Q(runs_days__isnull=True) | Q(runs_days__gte=0))
                & (Q(history_days__isnull=True) | Q(history_days__gte=0))
                & (Q(keys_days__isnull=True) | Q(keys_days__gte=0)),
                name="retention_days_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"history of {self.workspace}" if self.workspace else "history of all workspaces"


class Pruned(models.Model):
    """Of a finished run its events and attempts have gone (``history_at``), or it has itself (``gone_at``)."""

    run_id = models.UUIDField(primary_key=True)
    workspace_id = models.UUIDField()
    finished_at = models.DateTimeField()
    history_at = models.DateTimeField(null=True)
    gone_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "runs_pruned"
