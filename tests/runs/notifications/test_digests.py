"""What was used, by mail: each day or each week, to whoever wants it, of what they may see."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from runs.budgets import definitions
from runs.models import Notice, NoticeKind, Run
from runs.notifications import digests
from runs.usage import days
from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import Membership
from teammates.people import members
from tests.factories import browser_of
from tests.runs.execution.working import work_until
from tests.runs.usage.spending import ended

pytestmark = pytest.mark.django_db(transaction=True)
MONDAY = datetime(2026, 6, 8, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what time it is."""

    def to(at: datetime) -> None:
        monkeypatch.setattr("django.utils.timezone.now", lambda: at)

    yield to
    monkeypatch.undo()


def used_on(access: Access, cost: str | None, *, before: datetime) -> None:
    """A run that ended on the day before."""
    run = ended(access, cost)
    Run.objects.filter(pk=run.pk).update(finished_at=before - timedelta(days=1))
    days.rebuild_days()


def titles(access: Access) -> list[str]:
    rows = Notice.objects.filter(user=access.user, kind=NoticeKind.DIGEST)
    return list(rows.order_by("pk").values_list("title", flat=True))


def test_a_day_is_mailed_once_to_whoever_wants_it(alice: Access, bob: Access, clock: Any) -> None:
    used_on(alice, "1.50", before=MONDAY)
    members.choose_mails(alice, not_mailed=[], digest="daily")
    clock(MONDAY.replace(hour=6))
    assert digests.write_due() == 0  # it is night
    clock(MONDAY)
    assert digests.write_due() == 1
    assert digests.write_due() == 0
    assert titles(alice) == ["Alice's organization: $1.50 on Sunday, 7 June"]
    assert titles(bob) == []
    text = Notice.objects.get().text
    assert "Runs: 1" in text
    assert "By teammate:" in text
    clock(MONDAY + timedelta(days=1))
    digests.write_due()  # nothing was used on Monday
    assert len(titles(alice)) == 1


def test_what_has_no_price_is_nowhere_said_to_cost_nothing(alice: Access, clock: Any) -> None:
    used_on(alice, "1.50", before=MONDAY)
    for cost in ("0.50", None):
        used_on(alice, cost, before=MONDAY - timedelta(days=1))
    members.choose_mails(alice, not_mailed=[], digest="daily")
    clock(MONDAY)
    assert digests.write_due() == 1
    assert "over $0.50 the day before" in Notice.objects.get().text


def test_a_week_is_mailed_on_mondays(alice: Access, clock: Any) -> None:
    used_on(alice, "1.50", before=MONDAY)
    definitions.set_budget(alice, period="total", amount="10", action="tell")
    members.choose_mails(alice, not_mailed=[], digest="weekly")
    Membership.objects.update(digest_on=MONDAY.date() - timedelta(days=7))
    clock(MONDAY - timedelta(days=1))
    assert digests.write_due() == 0
    clock(MONDAY + timedelta(days=1))  # nobody worked on Monday
    assert digests.write_due() == 1
    assert digests.write_due() == 0
    said = "Alice's organization: $1.50 from Monday, 1 June to Sunday, 7 June"
    assert titles(alice) == [said]
    assert "Budgets:\n- $" in Notice.objects.get().text


def test_those_who_are_not_due_keep_nobody_waiting(
    alice: Access, bob: Access, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOST_AT_ONCE", 1)
    used_on(bob, "1", before=MONDAY)
    members.choose_mails(alice, not_mailed=[], digest="weekly")
    members.choose_mails(bob, not_mailed=[], digest="daily")
    Membership.objects.filter(user=alice.user).update(digest_on=MONDAY.date())
    clock(MONDAY)
    assert digests.write_due() == 1
    assert len(titles(bob)) == 1


def test_members_are_told_of_their_own(alice: Access, bob: Access, clock: Any) -> None:
    used_on(alice, "5", before=MONDAY)
    used_on(bob, "0.25", before=MONDAY)
    definitions.set_budget(alice, period="total", amount="10", action="tell")
    members.choose_mails(bob, not_mailed=[], digest="daily")
    clock(MONDAY)
    digests.write_due()
    assert "$0.25" in titles(bob)[0]
    assert "Budgets" not in Notice.objects.get().text


def test_its_hours_are_the_organizations(alice: Access, clock: Any) -> None:
    alice.organization.timezone = "Asia/Tokyo"
    alice.organization.save()
    used_on(alice, "1", before=MONDAY - timedelta(hours=9))
    members.choose_mails(alice, not_mailed=[], digest="daily")
    clock(datetime(2026, 6, 7, 22, 30, tzinfo=UTC))  # Monday, 7:30 in Tokyo
    digests.write_due()
    assert len(titles(alice)) == 1


def test_nobody_who_left_is_mailed(alice: Access, bob: Access, clock: Any) -> None:
    used_on(alice, "1", before=MONDAY)
    members.choose_mails(bob, not_mailed=[], digest="daily")
    assert bob.user is not None
    bob.user.is_active = False
    bob.user.save()
    clock(MONDAY)
    assert digests.write_due() == 0


def test_a_worker_mails_it(alice: Access, clock: Any) -> None:
    used_on(alice, "1.50", before=MONDAY)
    members.choose_mails(alice, not_mailed=[], digest="daily")
    clock(MONDAY)
    digests.write_due()
    clock(datetime.now(UTC))
    work_until(lambda: bool(mail.outbox))
    [message] = mail.outbox
    assert "$1.50 on Sunday, 7 June" in message.subject
    assert "/usage/?period=custom&start=2026-06-07&end=2026-06-07" in message.body


def test_it_is_chosen_in_the_settings(alice: Access) -> None:
    browser = browser_of(alice)
    assert "Every Monday" in browser.get("/settings/notifications/").content.decode()
    browser.post("/settings/notifications/", {"mailed": ["trouble"], "digest": "weekly"})
    assert Membership.objects.get(user=alice.user).digest == "weekly"
    assert browser.get("/settings/notifications/").content.decode().count(" selected") == 1
    with pytest.raises(Invalid):
        members.choose_mails(alice, not_mailed=[], digest="hourly")
