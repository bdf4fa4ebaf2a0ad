"""v2's usage routes (contract v2 2.4, 2.7), in their exact shapes."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from runs.models import Run
from runs.usage.periods import period
from teammates.access import Access
from tests.api import call
from tests.factories import make_key
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, run_on
from tests.runs.usage.spending import ended

pytestmark = pytest.mark.django_db(transaction=True)
ZEROS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_tokens": 0,
    "cache_creation_tokens": 0,
    "total_tokens": 0,
    "cost_usd": "0",
    "unpriced_count": 0,
}


@pytest.fixture
def used(alice: Access, models: FakeModels) -> Run:
    """A run of Alice's that used something."""
    return finish(run_on(alice, models, "openai_compatible", "ok"))


def asked(access: Access, path: str) -> Any:
    answer = call(make_key(access), "GET", f"/api/v2{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_the_month_has_its_shape(alice: Access, used: Run) -> None:
    month = asked(alice, "/usage")
    assert Decimal(month.pop("cost_used")) == used.cost
    assert month.pop("period_end").startswith(period()[1].isoformat())
    assert month == {
        "plan": "inactive",
        "runs_used": 1,
        "runs_limit": 0,
        "unpriced_count": 0,
        "cost_limit": "0",
        "subscription_status": None,
        "free_path_available": False,
        "overage_enabled": False,
        "overage_used_cents": 0,
        "overage_cap_cents": 0,
        "overage_rate_cents": 1000,
        "trial_ends_at": None,
        "unlimited_runs": True,
        "subscription_billing_period": None,
        "concurrent_runs": 0,
        "concurrent_runs_limit": alice.organization.max_running,
    }


def test_the_days_have_their_shape(alice: Access, used: Run) -> None:
    today = timezone.now().date()
    series = asked(alice, "/usage/timeseries?group_by=model")
    assert list(series) == ["start_date", "end_date", "buckets", "totals"]
    assert series["start_date"] == (today - timedelta(days=29)).isoformat()
    assert series["end_date"] == today.isoformat()
    sums = ZEROS | {
        "input_tokens": 100,
        "output_tokens": 7,
        "cache_read_tokens": 40,
        "total_tokens": 107,
        "cost_usd": series["totals"]["cost_usd"],
    }
    assert Decimal(sums["cost_usd"]) == used.cost
    models = [{"model": "ok"} | sums]
    *before, last = series["buckets"]
    assert last == {"date": today.isoformat()} | sums | {"models": models}
    assert series["totals"] == sums | {"models": models}
    assert before == [{"date": one["date"]} | ZEROS | {"models": []} for one in before]
    assert "models" not in asked(alice, "/usage/timeseries")["totals"]


def test_an_end_users_usage_has_its_shape(alice: Access) -> None:
    key = make_key(alice)
    made = call(key, "POST", "/api/v2/users", {"user_id": "kim", "run_limit": 5})
    assert made.status_code == 201, made.content
    (row,) = asked(alice, "/usage/end-users")["data"]
    assert row.pop("period_end").startswith(period()[1].isoformat())
    assert row.pop("id")
    assert row == {
        "user_id": "kim",
        "runs_used": 0,
        "cost_used": "0",
        "unpriced_count": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "last_active_at": None,
        "runs_limit": 5,
        "cost_limit_cents": None,
        "rate_per_minute": None,
    }


def test_costs_that_nobody_knows_are_counted_and_not_as_nothing(alice: Access) -> None:
    for cost in ("0.25", None):
        ended(alice, cost)
    month = asked(alice, "/usage")
    assert (Decimal(month["cost_used"]), month["unpriced_count"]) == (Decimal("0.25"), 1)
    totals = asked(alice, "/usage/timeseries")["totals"]
    assert (Decimal(totals["cost_usd"]), totals["unpriced_count"]) == (Decimal("0.25"), 1)
