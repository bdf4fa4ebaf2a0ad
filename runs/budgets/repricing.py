"""A corrected price: what the calls since a day cost by it, in steps, runs, sums and budgets.

Locks are taken in the order of all who spend: runs, counts of budgets, days.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from django.db import connection, transaction

from runs.budgets.counting import CALLS, COUNTS_AGAINST, KEY_RUN, RUNS
from runs.usage.days import hold_days, remake_days
from runs.usage.periods import FIRST_YEAR, midnight, today
from teammates.access import Access
from teammates.errors import Invalid
from teammates.llm.catalog import read_price
from teammates.models import Model, ModelPrice
from teammates.trust import audit

_CALLED = f"""
r.organization_id = %(organization)s AND (r.finished_at IS NULL OR r.finished_at >= %(since)s)
AND s.kind IN ({CALLS}) AND s.status <> 'running'
AND s.model_alias = %(alias)s AND s.model_name = %(name)s AND s.started_at >= %(since)s
AND s.input_tokens + s.output_tokens > 0
"""
_COST = """round((
    greatest(s.input_tokens - s.cache_read_tokens - s.cache_write_tokens, 0) * %(uncached_input)s
    + s.cache_read_tokens * %(cache_read)s + s.cache_write_tokens * %(cache_write)s
    + s.output_tokens * %(output)s) / 1000000, 6)"""
_PREVIEW = f"""
SELECT count(*), count(DISTINCT s.run_id), coalesce(sum(s.cost), 0), coalesce(sum({_COST}), 0),
    count(*) FILTER (WHERE s.cost IS NULL)
FROM runs_step s JOIN runs_run r ON r.id = s.run_id
WHERE {_CALLED} AND s.cost IS DISTINCT FROM {_COST}
"""
_LOCK = f"""
SELECT r.id FROM runs_run r
WHERE EXISTS (SELECT FROM runs_step s WHERE s.run_id = r.id AND {_CALLED})
ORDER BY r.id FOR NO KEY UPDATE
"""
_CORRECT = f"""
CREATE TEMPORARY TABLE corrected ON COMMIT DROP AS
SELECT s.id, s.run_id, s.model_name, {_COST} AS cost, {_COST} - coalesce(s.cost, 0) AS more,
    (s.started_at AT TIME ZONE 'UTC')::date AS day
FROM runs_step s JOIN runs_run r ON r.id = s.run_id
WHERE {_CALLED} AND s.cost IS DISTINCT FROM {_COST}
"""
_STEPS = "UPDATE runs_step s SET cost = c.cost FROM corrected c WHERE s.id = c.id"
_STARTS_ON = """CASE b.period WHEN 'day' THEN c.day
    WHEN 'week' THEN date_trunc('week', c.day)::date
    WHEN 'month' THEN date_trunc('month', c.day)::date END"""
_COUNTS = f"""
WITH due AS (
    SELECT b.id AS budget_id, {_STARTS_ON} AS starts_on, {KEY_RUN} AS run_id, sum(c.more) AS more
    FROM corrected c JOIN {RUNS} ON r.id = c.run_id JOIN runs_budget b ON {COUNTS_AGAINST}
    -- Credits of runs that are over were taken.
    WHERE b.period <> 'credits' OR r.finished_at IS NULL
    GROUP BY 1, 2, 3
    UNION ALL -- what a run is allowed besides: nobody knows by which of its calls it was used
    SELECT NULL, NULL, root.id, sum(c.more) FROM corrected c JOIN {RUNS} ON r.id = c.run_id
    GROUP BY root.id HAVING sum(c.more) > 0
), counts AS (
    SELECT n.id, due.more FROM runs_budgetcount n
    JOIN due ON n.budget_id IS NOT DISTINCT FROM due.budget_id
        AND n.starts_on IS NOT DISTINCT FROM due.starts_on
        AND n.run_id IS NOT DISTINCT FROM due.run_id
    ORDER BY n.budget_id, n.starts_on, n.run_id FOR NO KEY UPDATE OF n
)
UPDATE runs_budgetcount n SET spent = greatest(n.spent + counts.more, 0)
FROM counts WHERE n.id = counts.id
"""
_FINISHED = """
SELECT DISTINCT r.id FROM corrected c JOIN runs_run r ON r.id = c.run_id
WHERE r.finished_at IS NOT NULL
"""
_USAGE = f"""
UPDATE runs_usage u SET cost = s.known, unpriced_calls = s.unpriced FROM (
    SELECT run_id, model_name, coalesce(sum(cost), 0) AS known, count(*) - count(cost) AS unpriced
    FROM runs_step WHERE run_id = ANY(%(runs)s)
        AND kind IN ({CALLS})
    GROUP BY 1, 2
) s WHERE u.run_id = s.run_id AND u.model_name = s.model_name
"""
_RUNS = """
UPDATE runs_run r SET cost = u.cost FROM (
    SELECT run_id, CASE WHEN sum(unpriced_calls) = 0 THEN sum(cost) END AS cost
    FROM runs_usage WHERE run_id = ANY(%(runs)s) GROUP BY 1
) u WHERE r.id = u.run_id
"""


@dataclass(frozen=True)
class Correction:
    """How many calls, of how many runs, cost something else by a price; what they cost by the old
    ones and by the new one, in dollars; and how many of them had no price."""

    calls: int
    runs: int
    before: Decimal
    after: Decimal
    unpriced: int


def preview(access: Access, model: Model, since: date, **lanes: str) -> Correction:
    """What `correct_price` would change. Raises `Invalid`, `Forbidden`."""
    access.require("data.llm_credentials.manage", model)
    with connection.cursor() as cursor:
        cursor.execute(_PREVIEW, _parameters(access, model, since, lanes))
        return Correction(*cursor.fetchone())


@audit.recorded("model.correct_price")
@transaction.atomic
def correct_price(access: Access, model: Model, since: date, **lanes: str) -> Correction:
    """Have a price hold from a day of the organization's on, and book all calls since by it.
    Prices that were set after that day are gone. Raises `Invalid`, `Forbidden`."""
    changed = preview(access, model, since, **lanes)
    parameters = _parameters(access, model, since, lanes)
    at = midnight(since, access.organization.zone)
    Model.objects.select_for_update(no_key=True).get(pk=model.pk)  # one correction at a time
    ModelPrice.objects.filter(model=model, valid_from__gte=at).delete()
    ModelPrice.objects.create(model=model, valid_from=at, **read_price(**lanes))
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, parameters)
        hold_days(access.organization)
        cursor.execute(_CORRECT, parameters)
        cursor.execute(_STEPS)
        cursor.execute(_COUNTS)
        cursor.execute(_FINISHED)
        finished = [pk for (pk,) in cursor.fetchall()]
        cursor.execute(_USAGE, {"runs": finished})
        cursor.execute(_RUNS, {"runs": finished})
        cursor.execute("DROP TABLE corrected")
    remake_days(access.organization, at.astimezone(UTC).date())
    return changed


def _parameters(
    access: Access, model: Model, since: date, lanes: dict[str, str]
) -> dict[str, int | str | datetime | Decimal]:
    if not since.year >= FIRST_YEAR or since > today(access.organization.zone):
        raise Invalid("since must be a day that has begun.")
    return {
        "organization": access.organization.pk,
        "alias": model.alias,
        "name": model.name,
        "since": midnight(since, access.organization.zone),
        **read_price(**lanes),
    }
