"""What people tell a run while it is under way."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from .run import Run


class RunMessage(models.Model):
    """One steering message; ``seq`` counts 1, 2, 3… a run.  It is read once, by the step named in ``read_by``."""

    workspace_id = models.UUIDField()
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="messages", db_constraint=False, db_index=False)
    seq = models.SmallIntegerField()
    text = models.TextField()
    by = models.CharField(max_length=150, blank=True)  # a person's name, as it was then
    at = models.DateTimeField(db_default=Now())
    replan = models.BooleanField(default=False, db_default=False)  # whoever sent it wants another plan
    read_at = models.DateTimeField(null=True)
    read_by = models.CharField(max_length=64, blank=True)

    class Meta:
        db_table = "runs_message"
        constraints = [
            models.UniqueConstraint(fields=["run", "seq"], name="runmessage_seq_unique"),
            models.CheckConstraint(
                condition=Q(read_at__isnull=True, read_by="") | (Q(read_at__isnull=False) & ~Q(read_by="")),
                name="runmessage_read_by_a_step",
            ),
        ]
        ordering = ["seq"]
