"""A day or two, hour by hour: each bar is of the runs that it leads to."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest

from runs.models import Run, RunStatus, Task, Usage
from runs.queries import query_language
from runs.usage import days, from_runs
from runs.usage import report as usage_report
from runs.usage.dimensions import DIMENSIONS
from runs.usage.periods import Span
from runs.views import usage_chart
from teammates.access import Access
from tests.factories import bring_to, browser_of, make_run
from tests.runs.usage.spending import spend

pytestmark = pytest.mark.django_db
CLOCKS_CHANGE = date(2026, 10, 25)  # in Berlin; that day has 25 hours
BY = [*((name,) for name in DIMENSIONS), ("model", "member")]
TWO_DAYS = Span(CLOCKS_CHANGE - timedelta(days=1), CLOCKS_CHANGE)


@pytest.fixture
def runs(alice: Access, bob: Access, eve: Access) -> list[Run]:
    """Runs of two days, each hour of which is in Berlin's."""
    for one in (alice, bob, eve):
        one.organization.timezone = "Europe/Berlin"
        one.organization.save()
    chance, made = random.Random(5), []
    for number in range(40):
        who = chance.choice([alice, alice, bob, eve])
        run = make_run(who)
        Task.objects.filter(pk=run.task_id).update(is_ad_hoc=False, name=f"Task {number}")
        spend(run, chance)
        made.append(bring_to(run, chance.choice([RunStatus.COMPLETED, RunStatus.FAILED])))
        ended = datetime(2026, 10, 23, 21, 59, tzinfo=UTC) + timedelta(
            minutes=chance.randint(0, 3200)
        )
        Run.objects.filter(pk=run.pk).update(finished_at=ended)
    for one in (alice, eve):
        days.remake_days(one.organization)
    return [run for run in made if run.organization_id == alice.organization.pk]


@pytest.mark.parametrize("by", BY, ids="-".join)
def test_the_hours_of_each_group_add_up_to_its_sum(
    alice: Access, runs: list[Run], by: tuple[str, ...]
) -> None:
    report = usage_report.report(alice, TWO_DAYS, by=by, measure="cost")
    assert report.is_hourly
    assert len(report.buckets) == 24 + 25
    assert len(report.groups) > 0
    for group in report.groups:
        assert sum(group.values) == group.sums.cost
    assert sum(report.values) == report.sums.cost > 0


def test_each_bar_leads_to_its_runs(alice: Access, runs: list[Run]) -> None:
    report = usage_report.report(alice, TWO_DAYS, by=["model"], measure="runs")
    page = browser_of(alice).get(_page(measure="runs"))
    columns = page.context["chart"].columns
    assert len(columns) == len(report.values)
    assert [column.label for column in columns[25:29]] == [
        "Sun 01:00",
        "Sun 02:00",
        "Sun 02:00",
        "Sun 03:00",
    ]
    for column, count in zip(columns, report.values, strict=True):
        assert len(_behind(alice, column.url)) == count
    assert "Hour by hour" in page.content.decode()


def test_narrowed_bars_lead_to_narrowed_lists(alice: Access, runs: list[Run]) -> None:
    one = Run.objects.visible_to(alice).ended_within(TWO_DAYS.start, TWO_DAYS.end).first()
    assert one is not None
    only = f"task:{one.task_id}"
    page = browser_of(alice).get(_page(measure="runs", only=only))
    report = page.context["report"]
    assert report.sums.runs == 1
    found = [run for column in page.context["chart"].columns for run in _behind(alice, column.url)]
    assert found == [one]
    assert _behind(alice, page.context["all_runs"]) == [one]


def test_a_member_sees_the_hours_of_own_runs(bob: Access, runs: list[Run]) -> None:
    report = usage_report.report(bob, TWO_DAYS, by=["model"], measure="runs")
    assert report.is_hourly
    mine = Run.objects.visible_to(bob).ended_within(TWO_DAYS.start, TWO_DAYS.end)
    assert sum(report.values) == len([run for run in mine if run.created_by_id == bob.user.pk]) > 0


def test_where_runs_are_gone_or_many_it_is_drawn_day_by_day(
    alice: Access, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_runs, "MOST_RUNS", 3)
    assert not usage_report.report(alice, TWO_DAYS, by=["model"]).is_hourly
    monkeypatch.undo()
    assert not usage_report.report(alice, Span.last(3), by=["model"]).is_hourly
    before = usage_report.report(alice, TWO_DAYS, by=["model"], measure="runs")
    Usage.objects.all().delete()
    report = usage_report.report(alice, TWO_DAYS, by=["model"], measure="runs")
    assert report.buckets == TWO_DAYS.days
    assert sum(report.values) == sum(before.values)


def test_an_hour_of_a_day_whose_clock_was_set_back_is_told_from_the_other(alice: Access) -> None:
    hours_of_it = Span(CLOCKS_CHANGE, CLOCKS_CHANGE).hours(ZoneInfo("Europe/Berlin"))
    assert len(set(hours_of_it)) == 25


def test_a_clock_that_is_set_by_half_an_hour_loses_nothing(alice: Access) -> None:
    alice.organization.timezone = "Australia/Lord_Howe"
    alice.organization.save()
    day = Span(date(2026, 10, 4), date(2026, 10, 4))  # of 23.5 hours
    for hour in range(24):
        run = bring_to(make_run(alice), RunStatus.COMPLETED)
        at = datetime(2026, 10, 3, 13, 45, tzinfo=UTC) + timedelta(hours=hour)
        Run.objects.filter(pk=run.pk).update(finished_at=at)
    days.remake_days(alice.organization)
    report = usage_report.report(alice, day, by=["model"], measure="runs")
    assert report.is_hourly
    assert sum(report.values) == report.sums.runs == 24
    page = browser_of(alice).get(f"/usage/?period=custom&start={day.start}&end={day.end}")
    columns = page.context["chart"].columns
    assert [len(_behind(alice, one.url)) for one in columns] == report.values


def test_groups_that_their_hours_do_not_add_up_to_are_drawn_day_by_day(
    alice: Access, runs: list[Run]
) -> None:
    assert usage_report.report(alice, TWO_DAYS, by=["task"]).is_hourly
    Task.objects.filter(pk__in=[run.task_id for run in runs]).update(is_ad_hoc=True)
    assert not usage_report.report(alice, TWO_DAYS, by=["task"]).is_hourly
    assert usage_report.report(alice, TWO_DAYS, by=["model"]).is_hourly


WRONG = ["2026-10-25T02:00", "2026-10-25T25:00+02:00", "9999-99-99T00:00Z", "T"]


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_hour_is_said_to_be_none(value: str) -> None:
    [term] = query_language.parse(f"ended:{value}")
    assert "an hour such as" in term.problem


def test_a_series_is_left_out_and_drawn_again(alice: Access, runs: list[Run]) -> None:
    client = browser_of(alice)
    page = client.get(_page(measure="tokens", by="model"))
    whole = page.context["chart"].series
    assert len(whole) > 2
    without = client.get(f"/usage/{whole[0].url}")
    series = without.context["chart"].series
    assert [one.is_off for one in series] == [True, *[False] * (len(whole) - 1)]
    assert sum(series[0].values) == 0
    assert series[0].total == whole[0].total
    assert [one.values for one in series[1:]] == [one.values for one in whole[1:]]
    again = client.get(f"/usage/{series[0].url}")
    assert again.context["chart"].series[0].values == whole[0].values


def test_the_others_together_are_a_series(alice: Access, runs: list[Run]) -> None:
    report = usage_report.report(alice, TWO_DAYS, by=["task"], measure="runs")
    assert len(report.groups) > usage_chart.SERIES
    page = browser_of(alice).get(_page(measure="runs", by="task", off="others"))
    others = page.context["chart"].series[-1]
    assert others.is_off
    assert others.total == str(report.sums.runs - usage_chart.SERIES)


def _page(**query: Any) -> str:
    given = {"period": "custom", "start": TWO_DAYS.start, "end": TWO_DAYS.end, **query}
    return "/usage/?" + "&".join(f"{name}={value}" for name, value in given.items())


def _behind(access: Access, url: str) -> list[Run]:
    [query] = parse_qs(urlsplit(url).query)["q"]
    terms = query_language.parse(query)
    assert not [term.problem for term in terms if term.problem]
    return list(query_language.apply(Run.objects.visible_to(access), terms))
