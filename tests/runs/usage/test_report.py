"""Daily sums and the limits of end users."""

import csv
import re
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import close_old_connections, transaction
from django.utils import timezone

from runs.budgets import definitions
from runs.creation import options, requests
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus, UsageDay
from runs.usage import limits, periods, totals
from runs.usage import report as usage_report
from runs.usage.days import remake_days
from teammates.access import Access
from teammates.errors import PaymentRequired, TooMany
from teammates.people import end_users
from tests import factories
from tests.factories import claim, make_run, make_thread
from tests.runs.usage.spending import add_call, ended


def finished(access: Access, *, models: tuple[str, ...] = ("a",), **fields: Any) -> Run:
    """A run that ended after one call of each of `models`."""
    run = make_run(access, **fields)
    lease = claim(run)
    for number, model in enumerate(models):
        add_call(run, number + 1, model_name=model, output_tokens=5, cost=Decimal("0.25"))
    return endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="Done."))


def test_the_sums_of_a_day_are_those_of_its_runs(alice: Access) -> None:
    finished(alice, models=("a", "b"))
    finished(alice, models=("a",))
    finished(alice, models=())
    rows = UsageDay.objects.order_by("model_name")
    assert [(row.model_name, row.runs, row.input_tokens) for row in rows] == [
        ("", 1, 0),
        ("a", 2, 20),
        ("b", 0, 10),
    ]
    sums = totals.this_month(alice)
    assert (sums["runs"], sums["cost"], sums["output_tokens"]) == (3, Decimal("0.75"), 15)


def test_members_see_their_own_usage(alice: Access) -> None:
    bob = factories.make_bob(alice)
    finished(alice)
    finished(bob)
    assert totals.this_month(alice)["runs"] == 2
    assert totals.this_month(bob)["runs"] == 1


def test_runs_that_end_at_once_are_all_counted(transactional_db: None) -> None:
    alice = factories.make_alice()
    runs = [make_run(alice) for _ in range(8)]
    leases = [claim(run) for run in runs]
    barrier = threading.Barrier(len(leases))

    def finish(lease: Any) -> None:
        barrier.wait()
        endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="Done."))
        close_old_connections()

    threads = [threading.Thread(target=finish, args=[lease]) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals.this_month(alice)["runs"] == len(runs)


def test_of_two_runs_at_the_last_place_one_is_made(transactional_db: None) -> None:
    alice = factories.make_alice()
    kim = end_users.create_end_user(alice, "kim", run_limit=1)
    barrier, made, refused = threading.Barrier(4), [], []

    def create() -> None:
        barrier.wait()
        try:
            made.append(
                requests.create_run(alice, message="x", options=options.Options(), user_id="kim")
            )
        except PaymentRequired as error:
            refused.append(error.code)
        close_old_connections()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), refused) == (1, ["END_USER_RUN_LIMIT_REACHED"] * 3)
    assert Run.objects.filter(end_user=kim).count() == 1


def test_a_limit_of_ones_own_is_stronger_than_the_accounts(alice: Access) -> None:
    alice.organization.per_end_user_run_limit = 0
    alice.organization.save()
    kim = end_users.create_end_user(alice, "kim", run_limit=5)
    lee = end_users.create_end_user(alice, "lee")
    with transaction.atomic():
        assert limits.check_limits(kim) is None
        with pytest.raises(PaymentRequired):
            limits.check_limits(lee)


def test_last_months_runs_do_not_count(alice: Access) -> None:
    kim = end_users.create_end_user(alice, "kim", run_limit=1, cost_limit_cents=10)
    run = finished(alice, thread=make_thread(alice, end_user=kim))
    assert UsageDay.objects.get().cost == Decimal("0.25")
    with transaction.atomic(), pytest.raises(PaymentRequired):
        limits.check_limits(kim)
    before = periods.midnight(periods.period()[0]) - timedelta(days=1)
    Run.objects.filter(pk=run.pk).update(created_at=before)
    with transaction.atomic(), pytest.raises(PaymentRequired, match="cents"):
        limits.check_limits(kim)
    UsageDay.objects.update(day=before.date())
    with transaction.atomic():
        limits.check_limits(kim)


def test_the_rate_says_when_the_next_may_start(alice: Access) -> None:
    kim = end_users.create_end_user(alice, "kim", rate_per_minute=2)
    thread = make_thread(alice, end_user=kim)
    assert make_run(alice, thread=thread).starts_left == 1
    run = make_run(alice, thread=thread)
    assert run.starts_left == 0
    with pytest.raises(TooMany) as refused:
        make_run(alice, thread=thread)
    assert 50 < refused.value.retry_after <= 61
    Run.objects.update(created_at=timezone.now() - timedelta(seconds=61))
    assert make_run(alice, thread=thread).starts_left == 1


def test_a_series_has_every_day(alice: Access) -> None:
    finished(alice)
    today = datetime.now(UTC).date()
    days = totals.series(alice, start=today - timedelta(days=3), end=today)
    assert [len(rows) for rows in days.values()] == [0, 0, 0, 1]


def test_what_has_no_price_is_nowhere_said_to_cost_nothing(alice: Access) -> None:
    run = finished(alice)
    second = ended(alice, None)
    browser = factories.browser_of(alice)
    teammate = run.teammate
    for path, told in (
        ("/", "over $0.25"),
        ("/teammates/", "over $0.25"),
        (teammate.get_absolute_url(), "over $0.25"),
        ("/usage/", "over $0.25"),
        ("/usage/?by=teammate", "over $0.25"),
        ("/runs/", "unknown"),
        (f"/runs/{second.pk}/", "not known"),
        (f"/threads/{second.thread_id}/", "cost unknown"),
        (f"/threads/{second.thread_id}/panel/", "unknown"),
    ):
        page = browser.get(path).content.decode()
        assert told in page, path
    assert ">unknown<" in browser.get("/usage/?by=model").content.decode()
    assert "over $0.25 spent" in " ".join(browser.get("/runs/").content.decode().split())
    head, *rows = csv.reader(
        browser.get("/usage/?by=model&format=csv").content.decode().splitlines()
    )
    at = head.index("Without a price")
    assert {row[0]: row[at] for row in rows} == {"a": "0", "m": "1"}


def test_what_failed_and_what_has_no_price_lead_to_their_runs(alice: Access) -> None:
    failed = factories.bring_to(make_run(alice), RunStatus.FAILED)
    unknown = ended(alice, None)
    ended(alice, "0.25")
    page = factories.browser_of(alice).get("/usage/")
    assert [(how, sums) for how, sums, _ in page.context["lost"]] == [
        ("failed", {"cost": 0, "unpriced": 0}),
        ("cancelled", {"cost": 0, "unpriced": 0}),
    ]
    [of_model] = page.context["unpriced"]
    for url, run in ((page.context["lost"][0][2], failed), (of_model["url"], unknown)):
        listed = factories.browser_of(alice).get(url).context["runs"]
        assert [one.pk for one in listed] == [run.pk]


def test_the_end_of_the_month_is_a_range(alice: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    first, today = date(2026, 11, 1), date(2026, 11, 4)
    monkeypatch.setattr(periods, "today", lambda zone=UTC: today)
    monkeypatch.setattr(periods, "period", lambda zone=UTC: (first, date(2026, 12, 1)))
    for day, cost in ((1, "1"), (2, "3"), (4, "4")):  # and nothing on the third
        run = ended(alice, cost)
        at = datetime(2026, 11, day, 12, tzinfo=UTC)
        Run.objects.filter(pk=run.pk).update(finished_at=at)
    remake_days(alice.organization)
    month_end = usage_report.report(alice, periods.Span(first, today), by=["model"]).month_end
    assert month_end is not None
    # Of days that are over, 1, 3 and 0; the fourth, today's, costs more than they do already.
    assert round(month_end.likely, 2) == round(Decimal(4 + 4 + 4 / 3 * 26), 2)
    assert round(month_end.spread, 2) == round(Decimal(7 / 3 * 27).sqrt(), 2)
    page = factories.browser_of(alice).get("/usage/?period=month").content.decode()
    assert "likely, ± $7.94</small>" in page
    definitions.set_budget(alice, period="month", amount="100", action="pause")
    page = factories.browser_of(alice).get("/usage/?period=month").content.decode()
    [(spent, likely)] = re.findall(r'<line x1="(\d+)" x2="(\d+)"', page)
    assert (int(spent), int(likely)) == (8, 42)
    ended(alice, None)
    Run.objects.filter(cost=None).update(finished_at=datetime(2026, 11, 2, 12, tzinfo=UTC))
    remake_days(alice.organization)
    page = factories.browser_of(alice).get("/usage/?period=month").content.decode()
    assert "and what has no price" in page
    for today in (first, date(2026, 11, 2)):  # one day says nothing of how days differ
        so_far = periods.Span(first, today)
        assert usage_report.report(alice, so_far, by=["model"]).month_end is None
