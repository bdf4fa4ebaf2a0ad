"""The sums of days, made again from the runs that ended in them."""

from dataclasses import dataclass

from django.db import connection, transaction

from runs.models import Channel
from runs.usage.totals import LANES

_KEY = "organization_id, day, end_user_id, teammate_id, created_by_id, is_api, model_name"
_LANES = ", ".join(LANES)
_PAGES = ", ".join(f"'{channel}'" for channel in (Channel.APP, Channel.CLI))  # `Run.is_api`
# Of a run that used several models, the first one counts the run.
_MADE = f"""
SELECT r.organization_id, (r.finished_at AT TIME ZONE 'UTC')::date AS day, r.end_user_id,
    r.teammate_id, r.created_by_id, r.channel NOT IN ({_PAGES}) AS is_api,
    coalesce(u.model_name, '') AS model_name,
    count(*) FILTER (WHERE coalesce(u.place, 1) = 1)::int AS runs,
    {", ".join(f"coalesce(sum(u.{lane}), 0)::bigint AS {lane}" for lane in LANES)},
    coalesce(sum(u.cost), 0) AS cost, max(r.finished_at) AS last_at
FROM runs_run r LEFT JOIN (
    SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY id) AS place FROM runs_usage
) u ON u.run_id = r.id
WHERE r.finished_at IS NOT NULL
GROUP BY 1, 2, 3, 4, 5, 6, 7
"""


@dataclass(frozen=True)
class Rebuilt:
    """How many sums there are, and how many of them were wrong before."""

    count: int
    changed: int


def rebuild_days() -> Rebuilt:
    """Make the sums of all days again. No run ends meanwhile."""
    columns = f"{_KEY}, runs, {_LANES}, cost"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE runs_usageday IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(f"CREATE TEMPORARY TABLE made ON COMMIT DROP AS {_MADE}")
        cursor.execute(
            f"SELECT count(*) FROM (SELECT {columns} FROM made EXCEPT "
            f"SELECT {columns} FROM runs_usageday) wrong"
        )
        [changed] = cursor.fetchone()
        cursor.execute(
            f"SELECT count(*) FROM (SELECT {_KEY} FROM runs_usageday EXCEPT "
            f"SELECT {_KEY} FROM made) gone"
        )
        changed += cursor.fetchone()[0]
        cursor.execute("DELETE FROM runs_usageday")
        cursor.execute(
            f"INSERT INTO runs_usageday ({columns}, last_at) SELECT {columns}, last_at FROM made"
        )
        return Rebuilt(cursor.rowcount, changed)
