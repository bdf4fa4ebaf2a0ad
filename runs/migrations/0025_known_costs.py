"""Of models that some calls had no price for, what is known of the cost: sums are made again."""

from django.db import migrations, models

FILL = """
UPDATE runs_usage u SET cost = s.known, unpriced_calls = greatest(s.unpriced, 1)
FROM runs_usage lacking, LATERAL (
    SELECT coalesce(sum(cost), 0) AS known, count(*) - count(cost) AS unpriced FROM runs_step
    WHERE run_id = lacking.run_id AND model_name = lacking.model_name
        AND kind IN ('model', 'compaction')
) s
WHERE lacking.cost IS NULL AND u.id = lacking.id
"""
# A worker makes the days again whose timezone is another one.
REMAKE = "UPDATE teammates_organization SET days_timezone = ''"


class Migration(migrations.Migration):
    dependencies = [("runs", "0024_credits"), ("teammates", "0026_digests")]
    operations = [
        migrations.AddField(
            model_name="usage",
            name="unpriced_calls",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="usageday",
            name="records",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="usagelabel",
            name="records",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.RunSQL(REMAKE, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="usage",
            name="cost",
            field=models.DecimalField(decimal_places=6, default=0, max_digits=14),
        ),
        migrations.AddIndex(
            model_name="usage",
            index=models.Index(
                condition=models.Q(("unpriced_calls__gt", 0)),
                fields=["organization", "recorded_at"],
                name="usage_unpriced",
            ),
        ),
    ]
