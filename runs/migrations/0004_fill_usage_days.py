"""The daily sums of the runs that ended before there were daily sums."""

from django.db import migrations

FILL = """
INSERT INTO runs_usageday (organization_id, day, end_user_id, teammate_id, created_by_id, is_api,
    model_name, runs, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost,
    last_at)
SELECT r.organization_id, (r.finished_at AT TIME ZONE 'UTC')::date, r.end_user_id, r.teammate_id,
    r.created_by_id, r.channel <> 'app', coalesce(u.model_name, ''),
    count(*) FILTER (WHERE u.id IS NULL OR u.id = (
        SELECT min(first.id) FROM runs_usage first WHERE first.run_id = r.id)),
    coalesce(sum(u.input_tokens), 0), coalesce(sum(u.output_tokens), 0),
    coalesce(sum(u.cache_read_tokens), 0), coalesce(sum(u.cache_write_tokens), 0),
    coalesce(sum(u.cost), 0), max(r.finished_at)
FROM runs_run r LEFT JOIN runs_usage u ON u.run_id = r.id
WHERE r.finished_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7
"""


class Migration(migrations.Migration):
    dependencies = [("runs", "0003_accounts_and_tasks")]
    operations = [migrations.RunSQL(FILL, migrations.RunSQL.noop)]
