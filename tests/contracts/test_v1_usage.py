"""v1's usage routes (contract v1 2.9)."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import RunStatus, Usage, UsageDay
from teammates.access import Access
from tests.api import call
from tests.factories import claim, make_key, make_run
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, run_on
from tests.runs.usage.spending import add_call, ended

pytestmark = pytest.mark.django_db(transaction=True)
SUMS = ["input_tokens", "output_tokens", "cost_usd", "record_count", "unpriced_count"]


def today() -> str:
    return timezone.now().date().isoformat()


@pytest.fixture
def used(alice: Access, models: FakeModels) -> Any:
    """A run of Alice's that used something."""
    return finish(run_on(alice, models, "openai_compatible", "ok"))


def span(start: str = "", end: str = "") -> str:
    return f"?start={start or today()}&end={end or today()}"


@pytest.mark.parametrize("whose", ["me", "orgs/{}", "accounts/{}"])
def test_every_report_has_its_shape(alice: Access, used: Any, whose: str) -> None:
    key, place = make_key(alice), f"/v1/{whose.format(alice.organization.uid)}/usage"
    month = call(key, "GET", place).json()
    assert month == {
        "org_id": str(alice.organization.uid),
        "account_id": str(alice.organization.uid),
        "year": timezone.now().year,
        "month": timezone.now().month,
        "total_input_tokens": 100,
        "total_output_tokens": 7,
        "total_cache_creation_tokens": 0,
        "total_cache_read_tokens": 40,
        "total_cached_tokens": 40,
        "total_cost_usd": float(used.cost),
        "record_count": 1,
        "unpriced_count": 0,
    }
    [day] = call(key, "GET", f"{place}/daily{span()}").json()
    assert list(day) == ["date", *SUMS]
    assert (day["date"], day["cost_usd"]) == (today(), float(used.cost))
    [hour] = call(key, "GET", f"{place}/hourly{span()}").json()
    assert list(hour) == ["hour", *SUMS]
    assert hour["hour"].endswith(":00:00.000000Z")
    [model] = call(key, "GET", f"{place}/by-model").json()
    assert model == {
        "model": "ok",
        "input_tokens": 100,
        "output_tokens": 7,
        "cache_creation_tokens": 0,
        "cache_read_tokens": 40,
        "cached_tokens": 40,
        "cost_usd": float(used.cost),
        "record_count": 1,
        "unpriced_count": 0,
    }


def test_costs_that_nobody_knows_are_counted_and_not_as_nothing(
    alice: Access, home: Access
) -> None:
    for cost in ("0.25", None):
        ended(home, cost)
    key = make_key(home)
    for place in ("me/usage", f"orgs/{home.organization.uid}/usage", "admin/usage"):
        months = "/summary" if place == "admin/usage" else ""
        month = call(key, "GET", f"/v1/{place}{months}").json()
        assert (month["total_cost_usd"], month["unpriced_count"]) == (0.25, 1)
        (day,) = call(key, "GET", f"/v1/{place}/daily{span()}").json()
        models = call(key, "GET", f"/v1/{place}/by-model").json()
        for rows in ([day], models):
            found = [sum(row[name] for row in rows) for name in SUMS[2:]]
            assert found == [0.25, 2, 1]


def test_records_are_counted_alike_in_every_report(home: Access) -> None:
    run = make_run(home)
    lease = claim(run)
    for number, (model, cost) in enumerate([("a", "0.25"), ("b", None), ("c", None)], start=1):
        add_call(run, number, model_name=model, cost=cost)
    endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED))
    endings.finish_run(claim(make_run(home)), [], Outcome(RunStatus.CANCELLED))  # called none
    key = make_key(home)
    month = call(key, "GET", "/v1/me/usage").json()
    assert (month["record_count"], month["unpriced_count"]) == (3, 2)
    for report in (f"daily{span()}", f"hourly{span()}", "by-model"):
        rows = call(key, "GET", f"/v1/me/usage/{report}").json()
        sums = [sum(row[name] for row in rows) for name in SUMS[2:]]
        assert sums == [0.25, 3, 2], report


def test_days_without_anything_are_left_out_and_the_end_is_included(
    alice: Access, used: Any
) -> None:
    key = make_key(alice)
    week = (timezone.now() - timedelta(days=7)).date().isoformat()
    assert len(call(key, "GET", f"/v1/me/usage/daily{span(week)}").json()) == 1
    assert call(key, "GET", f"/v1/me/usage/daily{span(week, week)}").json() == []


def test_members_have_their_own_and_no_organizations(alice: Access, bob: Access, used: Any) -> None:
    key = make_key(bob)
    assert call(key, "GET", "/v1/me/usage").json()["record_count"] == 0
    assert call(key, "GET", f"/v1/me/usage/hourly{span()}").json() == []
    refused = call(key, "GET", f"/v1/orgs/{alice.organization.uid}/usage")
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")


def test_another_organization_is_refused(alice: Access, eve: Access, used: Any) -> None:
    key = make_key(eve)
    for place in ("", "/by-model", f"/daily{span()}", f"/hourly{span()}"):
        refused = call(key, "GET", f"/v1/orgs/{alice.organization.uid}/usage{place}")
        assert refused.status_code == 403
    assert call(key, "GET", "/v1/me/usage").json()["record_count"] == 0


def test_all_organizations_are_for_whoever_runs_the_installation(
    home: Access, eve: Access, models: FakeModels
) -> None:
    finish(run_on(eve, models, "openai_compatible", "ok"))
    key, hers = make_key(home), make_key(eve)
    all_ = call(key, "GET", "/v1/admin/usage/summary").json()
    own = {name: str(home.organization.uid) for name in ("org_id", "account_id")}
    assert all_ == call(hers, "GET", "/v1/me/usage").json() | own
    for place in (f"daily{span()}", "by-model"):
        all_ = call(key, "GET", f"/v1/admin/usage/{place}").json()
        assert all_ == call(hers, "GET", f"/v1/me/usage/{place}").json()
        assert len(all_) == 1
    theirs = make_key(eve)
    for place in ("summary", "by-model", f"daily{span()}"):
        assert call(theirs, "GET", f"/v1/admin/usage/{place}").status_code == 403


@pytest.mark.parametrize(
    "asked",
    [
        "?year=1999",
        "?month=13",
        "/daily",
        "/daily?start=x&end=2026-01-01",
        "/daily?start=2026-02-01&end=2026-01-01",
        "/daily?start=2020-01-01&end=2026-01-01",
        "/hourly?start=2026-01-01&end=2026-03-01",
        "/hourly?start=9999-12-31&end=9999-12-31",
        "/daily?start=0001-01-01&end=0001-01-01",
        "/by-model?month=0",
    ],
)
def test_bad_parameters_are_named(alice: Access, asked: str) -> None:
    refused = call(make_key(alice), "GET", f"/v1/me/usage{asked}")
    assert refused.status_code == 422
    assert refused.json()["code"] == "validation.error"


def test_the_sums_of_the_days_are_those_of_the_records(alice: Access, used: Any) -> None:
    days = sum(day.cost for day in UsageDay.objects.all())
    assert days == sum(one.cost or 0 for one in Usage.objects.all())
