"""Spending that is far from the usual is told: of a run beside its task's, of a day beside those
of the weeks before."""

from datetime import date
from decimal import Decimal

from django.db import connection, transaction
from django.urls import reverse

from runs.models import Run
from runs.notifications import notices
from teammates.models import Organization, Role
from teammates.templatetags.muster import money

TIMES_USUAL = 10
LEAST_COST = Decimal("0.10")  # dollars of a run; less is nobody's trouble
LEAST_DAY = Decimal(1)  # dollars
GOES_BY, LEAST_RUNS = 20, 5  # runs of a task
WEEKS, LEAST_DAYS = 4, 7  # before a day; days of them on which something was spent
DEVIATIONS = 3
MOST_AT_ONCE = 20
# What run `r`'s task usually costs: the median of its last completed runs.
USUAL = f"""(
    SELECT CASE WHEN count(*) >= {LEAST_RUNS} THEN
        percentile_cont(0.5) WITHIN GROUP (ORDER BY p.cost) END
    FROM (
        SELECT cost FROM runs_run WHERE task_id = r.task_id AND id <> r.id
            AND status = 'completed' AND cost IS NOT NULL
        ORDER BY created_at DESC LIMIT {GOES_BY}
    ) p
)"""
# Organizations whose day costs more than the spread of the days before, and were not told of it.
_DAYS = f"""
WITH today AS (
    SELECT d.organization_id, d.local_day, sum(d.cost) AS cost
    FROM runs_usageday d JOIN teammates_organization o ON o.id = d.organization_id
    WHERE d.day >= (now() AT TIME ZONE 'UTC')::date - 1 AND o.closed_at IS NULL
        AND d.local_day = (now() AT TIME ZONE o.timezone)::date
        AND o.unusual_told_on IS DISTINCT FROM d.local_day
    GROUP BY 1, 2 HAVING sum(d.cost) >= {LEAST_DAY}
), before AS (
    SELECT t.organization_id, d.local_day, sum(d.cost) AS cost
    FROM today t JOIN runs_usageday d ON d.organization_id = t.organization_id
        AND d.day >= t.local_day - {WEEKS * 7 + 1}
        AND d.local_day >= t.local_day - {WEEKS * 7} AND d.local_day < t.local_day
    GROUP BY 1, 2 HAVING sum(d.cost) > 0
)
SELECT t.organization_id, t.local_day, t.cost, b.mean
FROM today t JOIN (
    -- Days on which nothing was spent count as such.
    SELECT organization_id, sum(cost) / {WEEKS * 7} AS mean,
        sqrt(greatest(sum(cost * cost) / {WEEKS * 7} - (sum(cost) / {WEEKS * 7}) ^ 2, 0)) AS spread,
        max(cost) AS highest
    FROM before GROUP BY 1 HAVING count(*) >= {LEAST_DAYS}
) b USING (organization_id)
WHERE t.cost > b.mean + {DEVIATIONS} * b.spread AND t.cost > b.highest
ORDER BY t.organization_id LIMIT {MOST_AT_ONCE}
"""


def tell_of_run(run: Run, usual: float | None) -> None:
    """Tell owners and admins of a run that cost far more than its task usually does. Call in its
    terminal transaction."""
    if run.cost is None or not usual or run.cost < LEAST_COST:
        return
    times = float(run.cost) / usual
    if times <= TIMES_USUAL:
        return
    notices.tell_of_trouble(
        run,
        role=Role.ADMIN,
        title=f"A run of “{run.task.name}” cost {money(run.cost)}, {times:,.0f} times the usual",
        text=f"Its last runs cost {money(Decimal(usual))} each, in the middle.",
        path=run.get_absolute_url(),
    )


def tell_of_days() -> int:
    """Tell owners and admins of each organization, once a day, whose day costs more than the weeks
    before let one expect; returns of how many."""
    with connection.cursor() as cursor:
        cursor.execute(_DAYS)
        found = cursor.fetchall()
    return sum(_tell_of_day(*row) for row in found)


@transaction.atomic
def _tell_of_day(pk: int, day: date, cost: Decimal, mean: Decimal) -> bool:
    locked = Organization.objects.select_for_update(skip_locked=True, no_key=True)
    organization = locked.filter(pk=pk).exclude(unusual_told_on=day).first()
    if organization is None:  # another worker tells it
        return False
    organization.unusual_told_on = day
    organization.save(update_fields=["unusual_told_on"])
    dearest = Run.objects.filter(organization=organization).ended_within(day, day)
    run = dearest.filter(cost__isnull=False).order_by("-cost").first()
    if run is None:
        return False
    notices.tell_of_trouble(
        run,
        role=Role.ADMIN,
        title=f"{money(cost)} spent today; a day usually costs {money(mean)}",
        text="It is more than on any day of the four weeks before. The dearest run so far cost "
        f"{money(run.cost)}.",
        path=f"{reverse('runs:usage')}?period=custom&start={day}&end={day}&by=teammate",
    )
    return True
