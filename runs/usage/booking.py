"""What a run used of each model: booked once, in the transaction that ends it."""

import json
from collections.abc import Iterable
from decimal import Decimal

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
