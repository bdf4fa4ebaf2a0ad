"""What a run used of each model: booked once, in the transaction that ends it."""

import json
from collections.abc import Iterable
from decimal import Decimal

from runs.models import CALLS_A_MODEL, Run, Usage
from runs.usage.totals import LANES
from teammates.types import JSON

_LANES = ", ".join(LANES)
# What run `r` used of each model, the first one first: what is known of its cost, and how many
# calls had no price.
USED = f"""(
    SELECT jsonb_agg(used ORDER BY used.first) FROM (
        SELECT model_name, min(number) AS first, {", ".join(f"sum({n}) AS {n}" for n in LANES)},
               coalesce(sum(cost), 0)::text AS cost, count(*) - count(cost) AS unpriced_calls,
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
            cost=Decimal(one["cost"]),
            unpriced_calls=one["unpriced_calls"],
            estimated=one["estimated"],
        )
        for one in json.loads(used or "[]")
    ]


def totals_of(rows: Iterable[Usage]) -> JSON:
    """The columns of a run that say what it used; one unknown cost makes the sum unknown."""
    rows = list(rows)
    is_known = not any(row.unpriced_calls for row in rows)
    return {
        **{lane: sum(getattr(row, lane) for row in rows) for lane in LANES},
        "cost": sum((row.cost for row in rows), Decimal(0)) if is_known else None,
        "usage_estimated": any(row.estimated for row in rows),
    }
