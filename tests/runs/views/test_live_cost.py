"""What a run under way has cost so far, and what is reserved for it, where people watch it."""

from decimal import Decimal

import pytest

from runs.budgets import definitions
from runs.models import RunStatus
from teammates.access import Access
from tests.factories import bring_to, browser_of, make_run
from tests.runs.budgets.spending import begin, end
from tests.runs.usage.spending import add_call

pytestmark = pytest.mark.django_db


def test_the_thread_and_the_run_tell_what_is_spent_and_reserved(alice: Access) -> None:
    for period in ("month", "total"):  # each holds as much for one call
        definitions.set_budget(alice, period=period, amount="10", action="pause")
    run = make_run(alice, status=RunStatus.RUNNING)
    browser = browser_of(alice)
    thread, head = f"/threads/{run.thread_id}/panel/", f"/runs/{run.pk}/?part=head"

    def told(path: str) -> str:
        return " ".join(browser.get(path).content.decode().split())

    assert "$0.00 so far" in told(thread)
    step = begin(run.pk, 1, Decimal("0.17"))
    assert step is not None
    assert "$0.00 so far, $0.17 reserved" in told(thread)
    assert "$0.00 so far, $0.17 reserved for the call that it makes" in told(head)
    end(step, Decimal("0.05"))
    assert "$0.05 so far <" in told(thread)
    assert "reserved" not in told(head)


def test_a_call_without_a_price_is_not_said_to_cost_nothing(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.RUNNING)
    browser = browser_of(alice)
    add_call(run, 1, cost=None)
    for path in (f"/threads/{run.thread_id}/panel/", f"/runs/{run.pk}/?part=head"):
        assert "unknown so far" in " ".join(browser.get(path).content.decode().split())
    add_call(run, 2, cost=Decimal("0.25"))
    for path in (f"/threads/{run.thread_id}/panel/", f"/runs/{run.pk}/?part=head"):
        assert "over $0.25 so far" in " ".join(browser.get(path).content.decode().split())


def test_once_it_is_over_nothing_is_under_way(alice: Access) -> None:
    run = bring_to(make_run(alice), RunStatus.COMPLETED)
    page = browser_of(alice).get(f"/threads/{run.thread_id}/panel/").content.decode()
    assert "Under way" not in page
