"""How much of its cap each row of the page of usage has used."""

from typing import Any

import pytest

from runs.budgets import definitions
from runs.models import Run
from runs.usage import days
from runs.usage.caps import Cap
from teammates.access import Access
from teammates.people import end_users
from tests.factories import browser_of
from tests.runs.usage.spending import ended

pytestmark = pytest.mark.django_db


def caps_by(access: Access, dimension: str) -> dict[str, Cap]:
    page = browser_of(access).get(f"/usage/?by={dimension}")
    caps = {group.name: cap for group, _, _, cap in page.context["rows"] if cap}
    assert ("Cap used" in page.content.decode()) == bool(caps)
    return caps


def set_budget(access: Access, amount: str, period: str = "month", **whose: Any) -> None:
    definitions.set_budget(access, amount=amount, period=period, action="tell", **whose)


def test_the_fullest_budget_of_each_row_is_shown(alice: Access) -> None:
    run = ended(alice, "0.50")
    assert run.teammate is not None
    set_budget(alice, "100", teammate=run.teammate)
    set_budget(alice, "1", "day", teammate=run.teammate)
    set_budget(alice, "0.60", "run", teammate=run.teammate)  # of each run
    set_budget(alice, "0.60")  # of all
    set_budget(alice, "0.60", teammate=run.teammate, member=alice.user)  # of some of its runs
    [cap] = caps_by(alice, "teammate").values()
    assert (cap.percent, cap.said.startswith("$0.50 of $1 a day")) == (50, True)


def test_rows_without_a_budget_have_no_cap(alice: Access, bob: Access) -> None:
    ended(alice, "0.50")
    ended(bob, "0.50")
    set_budget(alice, "2", member=bob.user)
    assert bob.user is not None
    assert [*caps_by(alice, "member")] == [bob.user.display_name]
    assert caps_by(alice, "model") == {}
    assert caps_by(alice, "teammate") == {}


def test_what_an_end_user_may_spend_in_a_month_is_a_cap(alice: Access) -> None:
    kim = end_users.create_end_user(alice, "kim", cost_limit_cents=200)
    lee = end_users.create_end_user(alice, "lee")
    for one in (kim, lee):
        Run.objects.filter(pk=ended(alice, "0.50").pk).update(end_user=one)
    days.remake_days(alice.organization)
    assert {name: cap.percent for name, cap in caps_by(alice, "end_user").items()} == {"kim": 25}
    set_budget(alice, "1", end_user=lee)
    set_budget(alice, "100", end_user=kim)
    percents = {name: cap.percent for name, cap in caps_by(alice, "end_user").items()}
    assert percents == {"kim": 25, "lee": 50}


def test_members_see_no_caps(alice: Access, bob: Access) -> None:
    run = ended(bob, "0.50")
    set_budget(alice, "1", teammate=run.teammate)
    assert caps_by(bob, "teammate") == {}
