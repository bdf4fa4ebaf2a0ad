"""What a run consumed is booked once, in the transaction that ends it.

So the sums of `UsageDay` are those of the runs. Months and days are UTC's.
"""

import json
from collections.abc import Iterable
from datetime import UTC
from decimal import Decimal

from django.db import connection

from runs.models import CALLS_A_MODEL, Run, Usage
from runs.usage.totals import LANES
from teammates.types import JSON

_LANES = ", ".join(LANES)
# What run `r` used of each model, the first one first; a step without a price makes the cost of its
# model unknown rather than wrong.
USED = f"""(
    SELECT jsonb_agg(used ORDER BY used.first) FROM (
        SELECT model_name, min(number) AS first, {", ".join(f"sum({n}) AS {n}" for n in LANES)},
               CASE WHEN count(*) = count(cost) THEN sum(cost)::text END AS cost,
               bool_or(usage_estimated) AS estimated
        FROM runs_step s
        WHERE s.run_id = r.id AND s.kind IN ({", ".join(f"'{kind}'" for kind in CALLS_A_MODEL)})
        GROUP BY model_name
    ) used
)"""
_ADD = f"""
INSERT INTO runs_usageday (organization_id, day, end_user_id, teammate_id, created_by_id, is_api,
    model_name, runs, {_LANES}, cost, last_at)
SELECT organization_id, day, end_user_id, teammate_id, created_by_id, is_api, model_name,
    sum(runs), {", ".join(f"sum({lane})" for lane in LANES)}, sum(cost), max(last_at)
FROM jsonb_to_recordset(%s::jsonb) d(organization_id bigint, day date, end_user_id bigint,
    teammate_id bigint, created_by_id bigint, is_api boolean, model_name text, runs int,
    {", ".join(f"{lane} bigint" for lane in LANES)}, cost numeric, last_at timestamptz)
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY 1, 2, 3, 4, 5, 6, 7 -- two transactions lock the same days in the same order
ON CONFLICT (organization_id, day, end_user_id, teammate_id, created_by_id, is_api, model_name)
DO UPDATE SET runs = runs_usageday.runs + excluded.runs,
    {", ".join(f"{lane} = runs_usageday.{lane} + excluded.{lane}" for lane in LANES)},
    cost = runs_usageday.cost + excluded.cost,
    last_at = greatest(runs_usageday.last_at, excluded.last_at)
"""
_NOTHING: JSON = {"model_name": "", "cost": Decimal(0), **dict.fromkeys(LANES, 0)}


def usage_of(run: Run, used: str | None) -> list[Usage]:
    """A row per model, not saved yet, of what `USED` says."""
    return [
        Usage(
            run=run,
            organization_id=run.organization_id,
            model_name=one["model_name"],
            **{lane: one[lane] for lane in LANES},
            cost=None if one["cost"] is None else Decimal(one["cost"]),
            estimated=one["estimated"],
        )
        for one in json.loads(used or "[]")
    ]


def totals_of(rows: Iterable[Usage]) -> JSON:
    """The columns of a run that say what it used; one unknown cost makes the sum unknown."""
    rows = list(rows)
    costs = [row.cost for row in rows if row.cost is not None]
    return {
        **{lane: sum(getattr(row, lane) for row in rows) for lane in LANES},
        "cost": sum(costs, Decimal(0)) if len(costs) == len(rows) else None,
        "usage_estimated": any(row.estimated for row in rows),
    }


def add_to_days(ended: Iterable[tuple[Run, list[Usage]]]) -> None:
    """Add finished runs to their days. Locks rows of days: call last in a transaction.

    What the transaction refers to is locked before: the keys of rows that it made are checked now
    and not at its end, or two transactions wait for a run and a day in a ring.
    """
    rows = [
        {
            "organization_id": run.organization_id,
            "day": run.finished_at.astimezone(UTC).date(),
            "end_user_id": run.end_user_id,
            "teammate_id": run.teammate_id,
            "created_by_id": run.created_by_id,
            "is_api": run.is_api,
            "runs": int(number == 0),
            **one,
            "cost": one["cost"] or 0,
            "last_at": run.finished_at,
        }
        for run, usage in ended
        if run.finished_at is not None
        for number, one in enumerate([_sums(row) for row in usage] or [_NOTHING])
    ]
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(_ADD, [json.dumps(rows, default=str)])


def _sums(row: Usage) -> JSON:
    return {name: getattr(row, name) for name in ("model_name", "cost", *LANES)}
