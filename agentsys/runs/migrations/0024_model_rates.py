"""Calls of models in the last minute, and what lets no more through than a provider's account may have."""

from django.db import migrations, models

#: One call at a time is judged for an account.  It may come now if it fits with those of the last minute and those
#: whose turn may be in the next.  Else it gets the first moment at which it fits behind all that have theirs, so that
#: none waits for ever, and 5 s from then on to come: "at" is the last of them, after which its place is free again.
#: A statement for each question: each sees what others have written before the lock was given.
ROOM = """
CREATE FUNCTION runs_model_room(
    which varchar, most_requests bigint, most_tokens bigint, wanted bigint, step bigint,
    OUT id bigint, OUT wait_s float8
) LANGUAGE plpgsql AS $$
DECLARE
    most_of_them bigint := coalesce(most_requests, 9e18);
    most_in_all bigint := coalesce(most_tokens, 9e18);
    need bigint := least(wanted, most_tokens);
    moment timestamptz;
    ready timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('runs_model_room ' || which, 0));
    moment := clock_timestamp();
    DELETE FROM runs_modelrate c WHERE c.account = which
       AND (c.at <= moment - interval '60 s' OR (c.step_id IS NOT NULL AND c.at < moment));
    SELECT c.at - interval '5 s' INTO ready FROM runs_modelrate c WHERE c.account = which AND c.step_id = step;
    IF ready > moment THEN
        wait_s := extract(epoch FROM ready - moment);
        RETURN;
    END IF;
    DELETE FROM runs_modelrate c WHERE c.account = which AND c.step_id = step;
    IF ready IS NULL AND NOT (
        SELECT count(*) < most_of_them AND coalesce(sum(c.tokens), 0) <= most_in_all - need
          FROM runs_modelrate c WHERE c.account = which AND c.at < moment + interval '65 s'
    ) THEN
        SELECT max(later.at) + interval '60 s' INTO ready FROM (
            SELECT c.at, count(*) OVER back AS requests, sum(c.tokens) OVER back AS tokens
              FROM runs_modelrate c WHERE c.account = which WINDOW back AS (ORDER BY c.at DESC, c.id DESC)
        ) later WHERE later.requests >= most_of_them OR later.tokens > most_in_all - need;
    END IF;
    IF ready > moment THEN
        INSERT INTO runs_modelrate (account, at, tokens, step_id) VALUES (which, ready + interval '5 s', need, step);
        wait_s := extract(epoch FROM ready - moment);
    ELSE
        INSERT INTO runs_modelrate AS c (account, at, tokens) VALUES (which, moment, need) RETURNING c.id INTO id;
        wait_s := 0;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0023_before_index")]
    operations = [
        migrations.CreateModel(
            name="ModelRate",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("account", models.CharField(max_length=100)),
                ("at", models.DateTimeField()),
                ("tokens", models.BigIntegerField()),
                ("step_id", models.BigIntegerField(null=True)),
            ],
            options={
                "db_table": "runs_modelrate",
                "indexes": [models.Index(fields=["account", "at"], name="modelrate_at")],
            },
        ),
        migrations.RunSQL([ROOM], ["DROP FUNCTION runs_model_room"]),
    ]
