"""What models were asked and what they answered."""

from decimal import Decimal

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

TIE = """
ALTER TABLE runs_modelcall ADD CONSTRAINT runs_modelcall_of_run FOREIGN KEY (workspace_id, run_id)
    REFERENCES runs_run (workspace_id, id) ON DELETE CASCADE;
CREATE TRIGGER modelcall_final BEFORE UPDATE ON runs_modelcall FOR EACH ROW EXECUTE FUNCTION runs_append_guard();
"""


def _of(model: str) -> models.ForeignKey:
    return models.ForeignKey(
        db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="+", to=model
    )


class Migration(migrations.Migration):
    dependencies = [("runs", "0024_model_rates")]
    operations = [
        migrations.CreateModel(
            name="ModelCall",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("workspace_id", models.UUIDField()),
                ("attempt", models.IntegerField()),
                ("number", models.IntegerField()),
                ("purpose", models.CharField(max_length=10)),
                ("model", models.CharField(max_length=200)),
                ("digest", models.CharField(max_length=64)),
                ("base_id", models.BigIntegerField(null=True)),
                ("kept", models.IntegerField(default=0)),
                ("parts", django.contrib.postgres.fields.ArrayField(models.CharField(max_length=64), size=None)),
                ("depth", models.IntegerField(default=1)),
                ("max_output_tokens", models.IntegerField(null=True)),
                ("answer", models.CharField(blank=True, max_length=64)),
                ("cached", models.BooleanField(default=False)),
                ("error", models.JSONField(null=True)),
                ("input_tokens", models.IntegerField(default=0)),
                ("output_tokens", models.IntegerField(default=0)),
                ("cost_usd", models.DecimalField(decimal_places=10, default=Decimal(0), max_digits=20)),
                ("priced_by", models.CharField(blank=True, max_length=100)),
                ("took_s", models.FloatField()),
                ("at", models.DateTimeField(db_default=Now())),
                ("run", _of("runs.run")),
                ("step", _of("runs.step")),
            ],
            options={
                "ordering": ["id"],
                "indexes": [
                    models.Index(fields=["run", "id"], name="modelcall_of_run"),
                    models.Index(
                        condition=Q(cached=False) & ~Q(answer=""),
                        fields=["workspace_id", "digest"],
                        name="modelcall_asked",
                    ),
                ],
                "constraints": [models.UniqueConstraint(fields=("step", "attempt", "number"), name="modelcall_once")],
            },
        ),
        migrations.RunSQL([TIE], migrations.RunSQL.noop),
    ]
