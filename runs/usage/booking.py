"""What a run consumed is booked once, in the transaction that ends it.

So the sums of `UsageDay` are those of the runs. Months and days are UTC's.
"""

from datetime import UTC, datetime
from decimal import Decimal

from django.db import connection

from runs.models import CALLS_A_MODEL, Run, Step, Usage
from runs.usage.totals import LANES
from teammates.types import JSON

_ADD = f"""
INSERT INTO runs_usageday (organization_id, day, end_user_id, teammate_id, created_by_id, is_api,
    model_name, runs, {", ".join(LANES)}, cost, last_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, {", ".join(["%s"] * len(LANES))}, %s, %s)
ON CONFLICT (organization_id, day, end_user_id, teammate_id, created_by_id, is_api, model_name)
DO UPDATE SET runs = runs_usageday.runs + excluded.runs,
    {", ".join(f"{lane} = runs_usageday.{lane} + excluded.{lane}" for lane in LANES)},
    cost = runs_usageday.cost + excluded.cost,
    last_at = greatest(runs_usageday.last_at, excluded.last_at)
"""


def add_to_day(run: Run, rows: list[Usage], *, at: datetime) -> None:
    """Add a run that ends at `at` to its day. Locks rows of the day, in order of their models:
    call last in the terminal transaction of one run.

    What the transaction refers to is locked before: the keys of rows that it made are checked now
    and not at its end, or two transactions wait for a run and a day in a ring.
    """
    none = Usage(
        model_name="",
        cost=None,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
    )
    ordered = sorted(rows or [none], key=lambda row: row.model_name)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.executemany(
            _ADD,
            [
                (
                    run.organization_id,
                    at.astimezone(UTC).date(),
                    run.end_user_id,
                    run.teammate_id,
                    run.created_by_id,
                    run.is_api,
                    row.model_name,
                    int(number == 0),
                    *(getattr(row, lane) for lane in LANES),
                    row.cost or Decimal(0),
                    at,
                )
                for number, row in enumerate(ordered)
            ],
        )


def book_usage(run: Run) -> JSON:
    """Write one usage row per model; return the run's totals, and the `rows`."""
    totals: JSON = {
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cost": Decimal(0),
        "usage_estimated": False,
    }
    rows: dict[str, Usage] = {}
    # Without what was sent and answered: that is the whole conversation once for each step.
    numbers = ("model_name", "cost", "usage_estimated", *LANES)
    calls = Step.objects.filter(run=run, kind__in=CALLS_A_MODEL).only(*numbers)
    for step in calls.order_by("number"):
        row = rows.setdefault(
            step.model_name,
            Usage(
                run=run,
                organization_id=run.organization_id,
                model_name=step.model_name,
                input_tokens=0,
                output_tokens=0,
                cache_read_tokens=0,
                cache_write_tokens=0,
                cost=Decimal(0),
            ),
        )
        for lane in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
            setattr(row, lane, getattr(row, lane) + getattr(step, lane))
            totals[lane] += getattr(step, lane)
        # A step without a price makes the sum unknown rather than wrong.
        for total in (row.__dict__, totals):
            known = total["cost"] is not None and step.cost is not None
            total["cost"] = total["cost"] + step.cost if known else None
        row.estimated = row.estimated or step.usage_estimated
        totals["usage_estimated"] = totals["usage_estimated"] or step.usage_estimated
    return totals | {"rows": Usage.objects.bulk_create(rows.values())}
