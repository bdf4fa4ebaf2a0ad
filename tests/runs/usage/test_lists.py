"""What things cost stands beside them, whatever list they are in."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import Run
from runs.usage import days
from teammates.access import Access
from teammates.models import APIKey
from tests.factories import browser_of, make_key
from tests.runs.usage.spending import ended

pytestmark = pytest.mark.django_db


def row_of(access: Access, path: str, word: str) -> str:
    page = browser_of(access).get(path).content.decode()
    return next(row for row in page.split("<tr>")[1:] if word in row)


def test_members_and_keys_show_what_they_spent_this_month(alice: Access, bob: Access) -> None:
    ended(alice, "0.50")
    ended(bob, None)
    make_key(alice)
    key = APIKey.objects.get()
    Run.objects.filter(pk=ended(alice, "0.25").pk).update(api_key=key)
    days.remake_days(alice.organization)
    assert "$0.75" in row_of(alice, "/settings/members/", "alice@example.com")
    assert "unknown" in row_of(alice, "/settings/members/", "bob@example.com")
    row = row_of(alice, "/settings/keys/", key.prefix)
    assert "$0.25" in row
    assert f"only=key:{key.pk}" in row
    assert "This month" not in browser_of(bob).get("/settings/members/").content.decode()


def test_this_month_is_the_organizations(alice: Access) -> None:
    first = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    run = ended(alice, "0.50")
    Run.objects.filter(pk=run.pk).update(finished_at=first - timedelta(hours=4))
    alice.organization.timezone = "Asia/Tokyo"
    alice.organization.save()
    days.remake_days(alice.organization)
    row = row_of(alice, "/settings/members/", "alice@example.com")
    assert "$0.50" in row
    url = f"/usage/?period=month&only=member:{alice.user and alice.user.pk}"
    assert url in row
    assert f"{browser_of(alice).get(url).context['report'].sums.cost}" == "0.500000"


def test_threads_show_what_their_runs_cost(alice: Access) -> None:
    run = ended(alice, "0.50")
    ended(alice, None)
    page = browser_of(alice).get("/threads/").content.decode()
    assert page.count("$0.50") == 1
    assert run.thread.get_absolute_url() in page
