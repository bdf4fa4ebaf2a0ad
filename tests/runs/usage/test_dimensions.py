"""Usage by one or two dimensions: every sum is that of the runs that it leads to."""

import random
from decimal import Decimal
from itertools import combinations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.budgets import definitions
from runs.models import Channel, Run, RunStatus, Task, Usage
from runs.queries import query_language
from runs.queries.query_language import Term
from runs.usage import report as usage_report
from runs.usage.dimensions import DIMENSIONS
from runs.usage.periods import Span
from runs.usage.report import UsageGroup
from teammates.access import Access
from teammates.models import APIKey
from teammates.people import end_users
from tests import factories
from tests.factories import bring_to, browser_of, make_key, make_run, make_thread
from tests.runs.usage.spending import spend

pytestmark = pytest.mark.django_db
SPAN = Span.last(7)
LABELS = [name for name, one in DIMENSIONS.items() if one.kind]
PAIRS = list(combinations(DIMENSIONS, 2))


@pytest.fixture
def runs(alice: Access, bob: Access, eve: Access) -> list[Run]:
    """Runs of two people and of strangers, of keys and end users of one name, of tasks and none."""
    chance = random.Random(3)
    for _ in range(2):
        make_key(alice)
    APIKey.objects.update(name="the same name")
    keys = [None, *APIKey.objects.values_list("pk", flat=True)]
    kim, lee = (end_users.create_end_user(alice, name, name="Kim") for name in ("kim", "lee"))
    made = []
    for number in range(40):
        who = chance.choice([alice, alice, bob, eve])
        end_user = chance.choice([None, kim, lee]) if who is alice else None
        run = make_run(
            who, thread=make_thread(who, end_user=end_user), channel=chance.choice(Channel.values)
        )
        if number % 3 == 0:
            Task.objects.filter(pk=run.task_id).update(is_ad_hoc=False, name="Weekly")
        spend(run, chance, api_key=chance.choice(keys) if who is alice else None)
        made.append(bring_to(run, chance.choice([RunStatus.COMPLETED, RunStatus.FAILED])))
    return [run for run in made if run.organization_id == alice.organization.pk]


def behind(access: Access, group: UsageGroup) -> list[Run]:
    """The runs that a row of the page leads to."""
    days = f"{SPAN.start}..{SPAN.end}"
    terms = [*group.terms, ("ended", days), ("is", "any")]
    query = query_language.written([Term("", key, value) for key, value in terms])
    parsed = query_language.parse(query)
    assert not [term.problem for term in parsed if term.problem]
    return list(query_language.apply(Run.objects.visible_to(access), parsed))


def cost_of(runs: list[Run], model: str | None = None) -> Decimal:
    used = Usage.objects.filter(run__in=runs)
    used = used if model is None else used.filter(model_name=model)
    return sum((row.cost for row in used if row.cost is not None), Decimal(0))


@pytest.mark.parametrize("by", [*((name,) for name in DIMENSIONS), *PAIRS], ids="-".join)
def test_each_sum_is_that_of_the_runs_behind_it(
    alice: Access, runs: list[Run], by: tuple[str, ...]
) -> None:
    report = usage_report.report(alice, SPAN, by=by)
    assert len(report.groups) > 0
    for group in report.groups:
        found = behind(alice, group)
        models = [value for key, value in group.terms if key == "used"]
        if not models:
            assert len(found) == group.sums.runs
            assert cost_of(found) == group.sums.cost
        else:  # a run of two models is behind both, and counted once
            assert len(found) >= group.sums.runs
            assert cost_of(found, models[0]) == group.sums.cost
    if not {*by} & {*LABELS}:
        assert sum(group.sums.runs for group in report.groups) == report.sums.runs == len(runs)
        assert sum(group.sums.cost for group in report.groups) == report.sums.cost
    assert report.sums.cost == cost_of(runs)


def test_sums_are_narrowed_to_a_tool_and_a_tag(alice: Access, runs: list[Run]) -> None:
    browser = browser_of(alice)
    page = browser.get("/usage/?period=7d&by=teammate&only=tool:web_fetch&only=tag:customer=acme")
    assert "Tag: customer=acme" in page.content.decode()
    report = page.context["report"]
    listed = browser.get(page.context["all_runs"]).context["runs"]
    assert len(listed) == report.sums.runs > 0
    assert cost_of(listed) == report.sums.cost == sum(group.sums.cost for group in report.groups)


def test_the_sum_of_all_has_runs_that_are_gone(alice: Access, runs: list[Run]) -> None:
    before = usage_report.report(alice, SPAN, by=["tool"])
    Run.objects.filter(pk__in=[run.pk for run in runs[::2]]).delete()
    report = usage_report.report(alice, SPAN, by=["tool", "teammate"])
    assert (report.sums, report.saved_by_cache) == (before.sums, before.saved_by_cache)


def test_labels_stand_alone_where_there_are_too_many_runs(
    alice: Access, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.usage.from_runs.MOST_RUNS", 3)
    for path, title in (
        ("by=tool&and=teammate", "<h2>By tool</h2>"),
        ("by=teammate&and=tool", "<h2>By teammate</h2>"),
        ("by=model&only=tag:customer=acme", "<h2>By model</h2>"),
        ("by=tool&only=teammate:1", "<h2>By tool</h2>"),
    ):
        page = browser_of(alice).get(f"/usage/?{path}").content.decode()
        assert title in page
        assert "tools and tags stand alone" in page
        assert "Narrowed to" not in page
    assert "stand alone" not in browser_of(alice).get("/usage/?by=tool").content.decode()


def test_members_see_labels_of_their_own_runs(alice: Access, bob: Access, runs: list[Run]) -> None:
    for by in (["tool", "teammate"], ["trigger", "tag"]):
        report = usage_report.report(bob, SPAN, by=by)
        assert len(report.groups) > 0
        for group in report.groups:
            found = behind(bob, group)
            assert cost_of(found) == group.sums.cost
            assert all(run.created_by_id == bob.user.pk for run in found)


def test_what_is_gone_keeps_its_sums(alice: Access, runs: list[Run]) -> None:
    before = usage_report.report(alice, SPAN, by=["key"]).sums
    APIKey.objects.all().delete()
    report = usage_report.report(alice, SPAN, by=["key"])
    assert report.sums == before
    assert {group.name for group in report.groups} == {"No key", "Deleted"}


def test_the_page_shows_two_dimensions(alice: Access, runs: list[Run]) -> None:
    page = browser_of(alice).get("/usage/?by=teammate&and=trigger").content.decode()
    assert "<h2>By teammate and trigger</h2>" in page
    name = factories.default_teammate(alice.organization).name
    assert f"{name} · A schedule" in page
    tags = browser_of(alice).get("/usage/?by=trigger&and=tag").content.decode()
    assert "<h2>By trigger and tag</h2>" in tags
    assert "A run counts with each tag of its own" in tags
    again = browser_of(alice).get("/usage/?by=tool&period=custom&start=2020-01-01&end=2020-01-02")
    assert "Nothing was used in these days" in again.content.decode()


def test_sums_are_narrowed_and_lead_to_the_runs_of_both(alice: Access, runs: list[Run]) -> None:
    teammate = factories.default_teammate(alice.organization)
    browser = browser_of(alice)
    page = browser.get("/usage/?by=trigger").content.decode()
    assert "only=trigger%3Aschedule" in page
    page = browser.get(f"/usage/?by=model&only=trigger:schedule&only=teammate:{teammate.pk}")
    shown = page.content.decode()
    assert "Trigger: A schedule" in shown
    assert f"Teammate: {teammate.name}" in shown
    narrowed = usage_report.report(alice, SPAN, by=["model"], only={"trigger": "schedule"})
    assert narrowed.sums.runs == len([run for run in runs if run.channel == "schedule"])
    assert narrowed.sums.cost == cost_of([run for run in runs if run.channel == "schedule"])
    of_nobody = usage_report.report(alice, SPAN, by=["model"], only={"key": None})
    assert of_nobody.sums.runs == len([run for run in runs if run.api_key_id is None])
    odd = ["x:1", "trigger:foo", "trigger:none", "teammate:x", "tool:x", "", "teammate:" + "9" * 30]
    for one in odd:
        assert browser.get(f"/usage/?only={one}").status_code == 200


def test_a_narrowed_page_asks_as_often_for_one_row_as_for_many(
    alice: Access, runs: list[Run]
) -> None:
    teammate = factories.default_teammate(alice.organization)
    browser, counts = browser_of(alice), []
    path = f"/usage/?only=teammate:{teammate.pk}&only=member:{alice.user.pk}"  # type: ignore[union-attr]
    for by in ("by=teammate", "by=trigger&and=task"):
        browser.get(f"{path}&{by}")
        with CaptureQueriesContext(connection) as queries:
            page = browser.get(f"{path}&{by}").content.decode()
        counts.append((page.count('class="title"'), len(queries)))
    (one, few), (many, more) = counts
    assert many > one
    assert more <= few + 1  # the names of a second dimension


def test_what_a_page_is_narrowed_to_may_be_gone(alice: Access, runs: list[Run]) -> None:
    key = APIKey.objects.values_list("pk", flat=True)[0]
    APIKey.objects.all().delete()
    assert "Key: Deleted" in browser_of(alice).get(f"/usage/?only=key:{key}").content.decode()
    assert "Key: No key" in browser_of(alice).get("/usage/?only=key:none").content.decode()


def test_the_budget_of_the_month_stands_above(alice: Access, runs: list[Run]) -> None:
    definitions.set_budget(alice, period="month", amount="100", action="pause")
    page = browser_of(alice).get("/usage/").content.decode()
    assert "Budget of this month" in page
    assert "At the cap, runs stop and ask." in page


def test_members_see_dimensions_of_their_own_runs(
    alice: Access, bob: Access, runs: list[Run]
) -> None:
    mine = [run for run in runs if run.created_by_id == bob.user.pk]
    for by in DIMENSIONS:
        report = usage_report.report(bob, SPAN, by=[by])
        assert report.sums.cost == cost_of(mine)
        assert all(set(behind(bob, group)) <= set(mine) for group in report.groups)
    page = browser_of(bob).get("/usage/?by=member").content.decode()
    assert "<h2>By model</h2>" in page


def test_what_does_not_fit_into_the_table_is_one_row(
    alice: Access, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.views.usage.MOST_ROWS", 1)
    page = browser_of(alice).get("/usage/?by=trigger").content.decode()
    assert "All others; the CSV names more" in page
    assert page.count('class="title"') == 1
    lines = browser_of(alice).get("/usage/?by=trigger&format=csv").content.decode().splitlines()
    assert len(lines) == 7
