"""Teammates together with their tasks."""

import pytest

from runs.models import Task, TriggerKind
from runs.tasks import staffing
from runs.triggers import definitions
from teammates.access import Access
from teammates.people import api_keys
from teammates.roster import lookup
from teammates.roster.templates import CATALOG
from tests.factories import browser_of

pytestmark = pytest.mark.django_db

TEMPLATE = next(one for one in CATALOG.values() if one.tasks and not one.required_apps)


def test_a_template_brings_its_tasks(alice: Access) -> None:
    made = staffing.create_from_template(alice, TEMPLATE)
    names = list(made.tasks.order_by("id").values_list("name", flat=True))
    assert names == [task.name for task in TEMPLATE.tasks]


def test_what_a_limited_key_sets_up_may_do_no_more_than_the_key(alice: Access) -> None:
    _, secret = api_keys.create_key(alice, name="Narrow", scopes=["data.runs.write"])
    narrow = api_keys.access_of_bearer(secret)
    staffing.create_from_template(narrow, TEMPLATE)
    assert {task.api_key for task in Task.objects.saved()} == {narrow.api_key}


def test_a_teammate_that_is_paused_takes_its_webhooks_along_and_its_schedules_rest(
    alice: Access,
) -> None:
    task = Task.objects.create(
        organization=alice.organization,
        teammate=lookup.default_teammate(alice),
        created_by=alice.user,
        name="Look",
        instructions="Look.",
    )
    definitions.make_webhook(alice, task)
    definitions.add_schedule(alice, task, cron="0 9 * * *")
    staffing.set_enabled(alice, task.teammate, enabled=False)
    kinds = task.triggers.filter(enabled=True).values_list("kind", flat=True)
    assert list(kinds) == [TriggerKind.SCHEDULE]
    assert not task.triggers.active().exists()
    staffing.set_enabled(alice, task.teammate, enabled=True)
    assert [one.kind for one in task.triggers.active()] == [TriggerKind.SCHEDULE]


def test_the_page_offers_what_a_template_brings(alice: Access) -> None:
    page = browser_of(alice).post("/teammates/templates/", {"template": TEMPLATE.slug})
    assert page.status_code == 302
    assert Task.objects.saved().count() == len(TEMPLATE.tasks)
