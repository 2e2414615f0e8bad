"""How queued steps are found and held: built beside the work that goes on, without a lock that it would wait for."""

from django.db import migrations, models
from django.db.models import Q
from django.db.models.expressions import RawSQL

#: What an attempt that was broken off has left is of no use.
DROP = "DROP INDEX CONCURRENTLY IF EXISTS step_admissible"
INDEX = (
    "CREATE INDEX CONCURRENTLY step_admissible ON runs_step (workspace_id, lane, fair_key)"
    " WHERE held = '' AND status = 'queued'"
)
RULE = "held = '' OR status = 'queued'"
ADD = f"ALTER TABLE runs_step ADD CONSTRAINT step_held_is_queued CHECK ({RULE}) NOT VALID"
VALIDATE = "ALTER TABLE runs_step VALIDATE CONSTRAINT step_held_is_queued"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("runs", "0013_slots")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([DROP]), migrations.RunSQL([INDEX])],
            [
                migrations.AddIndex(
                    model_name="step",
                    index=models.Index(
                        condition=Q(status="queued", held=""),
                        fields=["workspace_id", "lane", "fair_key"],
                        name="step_admissible",
                    ),
                )
            ],
        ),
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL([ADD]), migrations.RunSQL([VALIDATE])],
            [
                migrations.AddConstraint(
                    model_name="step",
                    constraint=models.CheckConstraint(
                        condition=RawSQL(RULE, [], output_field=models.BooleanField()),  # noqa: S611 - our own words
                        name="step_held_is_queued",
                    ),
                )
            ],
        ),
    ]
