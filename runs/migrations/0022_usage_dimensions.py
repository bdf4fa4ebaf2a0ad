"""Sums of days by more than there was: made again from the runs."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

CHANNELS = [
    ("api", "a program"),
    ("app", "a page"),
    ("cli", "the command line"),
    ("schedule", "a schedule"),
    ("email", "an e-mail"),
    ("webhook", "a webhook"),
]
SUMS = "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens"
FILL = f"""
SET CONSTRAINTS ALL IMMEDIATE;
DELETE FROM runs_usageday;
INSERT INTO runs_usageday (organization_id, day, local_day, end_user_id, teammate_id, version_id,
    task_id, created_by_id, api_key_id, channel, model_name, runs, {SUMS}, cost, unpriced, last_at)
SELECT r.organization_id, (r.finished_at AT TIME ZONE 'UTC')::date,
    (r.finished_at AT TIME ZONE o.timezone)::date, r.end_user_id, r.teammate_id,
    r.teammate_version_id, CASE WHEN NOT t.is_ad_hoc THEN r.task_id END, r.created_by_id,
    r.api_key_id, r.channel, coalesce(u.model_name, ''),
    count(*) FILTER (WHERE coalesce(u.place, 1) = 1),
    coalesce(sum(u.input_tokens), 0), coalesce(sum(u.output_tokens), 0),
    coalesce(sum(u.cache_read_tokens), 0), coalesce(sum(u.cache_write_tokens), 0),
    coalesce(sum(u.cost), 0), count(u.id) FILTER (WHERE u.cost IS NULL), max(r.finished_at)
FROM runs_run r
JOIN teammates_organization o ON o.id = r.organization_id
JOIN runs_task t ON t.id = r.task_id
LEFT JOIN (
    SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY id) AS place FROM runs_usage
) u ON u.run_id = r.id
WHERE r.finished_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11;
INSERT INTO runs_usagelabel (organization_id, kind, day, local_day, created_by_id, label, runs,
    {SUMS}, cost, unpriced, last_at)
SELECT r.organization_id, l.kind, (r.finished_at AT TIME ZONE 'UTC')::date,
    (r.finished_at AT TIME ZONE o.timezone)::date, r.created_by_id, l.label, count(*),
    coalesce(sum(u.input_tokens), 0), coalesce(sum(u.output_tokens), 0),
    coalesce(sum(u.cache_read_tokens), 0), coalesce(sum(u.cache_write_tokens), 0),
    coalesce(sum(u.cost), 0), count(*) FILTER (WHERE u.lacks_price), max(r.finished_at)
FROM runs_run r
JOIN teammates_organization o ON o.id = r.organization_id
CROSS JOIN LATERAL (
    SELECT DISTINCT 'tool' AS kind, name AS label FROM runs_toolcall c WHERE c.run_id = r.id
    UNION ALL (
        SELECT 'tag', m.key || '=' || m.value
        FROM jsonb_each_text(
            CASE jsonb_typeof(r.metadata) WHEN 'object' THEN r.metadata ELSE '{{}}' END
        ) m
        WHERE length(m.key) + length(m.value) < 200
            AND position('=' in m.key) = 0 AND position('"' in m.key || m.value) = 0
            AND jsonb_typeof(r.metadata -> m.key) IN ('string', 'number', 'boolean')
        ORDER BY m.key LIMIT 20
    )
) l
CROSS JOIN LATERAL (
    SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens,
        sum(cost) AS cost, bool_or(cost IS NULL) AS lacks_price
    FROM runs_usage WHERE run_id = r.id
) u
WHERE r.finished_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6;
SET CONSTRAINTS ALL IMMEDIATE;
"""


def sums():
    return [
        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
        ("day", models.DateField()),
        ("local_day", models.DateField()),
        ("runs", models.PositiveIntegerField()),
        ("input_tokens", models.BigIntegerField()),
        ("output_tokens", models.BigIntegerField()),
        ("cache_read_tokens", models.BigIntegerField()),
        ("cache_write_tokens", models.BigIntegerField()),
        ("cost", models.DecimalField(decimal_places=6, max_digits=14)),
        ("unpriced", models.PositiveIntegerField()),
        ("last_at", models.DateTimeField()),
    ]


def number_of(model):
    return models.ForeignKey(
        null=True,
        db_constraint=False,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to=model,
    )


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0021_usage_details"),
        ("teammates", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="UsageLabel",
            fields=[
                *sums(),
                (
                    "kind",
                    models.CharField(choices=[("tool", "Tool"), ("tag", "Tag")], max_length=4),
                ),
                ("label", models.CharField(max_length=200)),
                ("created_by", number_of(settings.AUTH_USER_MODEL)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="usage_labels",
                        to="teammates.organization",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="usagelabel",
            constraint=models.UniqueConstraint(
                models.F("organization"),
                models.F("kind"),
                models.F("day"),
                models.F("local_day"),
                models.F("created_by"),
                models.F("label"),
                name="usage_label_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["organization", "finished_at"],
                name="run_by_end",
            ),
        ),
        migrations.RemoveConstraint(model_name="usageday", name="usage_day_once"),
        migrations.RemoveField(model_name="usageday", name="is_api"),
        migrations.AddField("usageday", "api_key", number_of("teammates.apikey")),
        migrations.AddField("usageday", "task", number_of("runs.task")),
        migrations.AddField("usageday", "version", number_of("teammates.teammateversion")),
        migrations.AddField(
            "usageday",
            "channel",
            models.CharField(choices=CHANNELS, default="", max_length=10),
            preserve_default=False,
        ),
        migrations.AddField(
            "usageday", "local_day", models.DateField(default="2000-01-01"), preserve_default=False
        ),
        migrations.AddField(
            "usageday",
            "unpriced",
            models.PositiveIntegerField(default=0),
            preserve_default=False,
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
        migrations.AddIndex("usageday", models.Index(fields=["day"], name="usage_day_by_day")),
        migrations.AddConstraint(
            model_name="usageday",
            constraint=models.UniqueConstraint(
                models.F("organization"),
                models.F("day"),
                models.F("local_day"),
                models.F("end_user"),
                models.F("teammate"),
                models.F("version"),
                models.F("task"),
                models.F("created_by"),
                models.F("api_key"),
                models.F("channel"),
                models.F("model_name"),
                name="usage_day_once",
                nulls_distinct=False,
            ),
        ),
    ]
