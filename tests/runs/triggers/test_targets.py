"""What happened, and what it is to start."""

import pytest

from runs.models import (
    Task,
)
from runs.tasks import staffing
from teammates.models import Membership, Teammate
from teammates.people import members
from teammates.roster import channels
from tests.factories import make_alice, make_bob
from tests.runs.triggers.schedules import at, look, make_schedule

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("way", ["webhook", "waking the webhook", "inbox", "teammate"])
def test_switching_on_what_starts_it_takes_a_teammate_over(way: str) -> None:
    alice = make_alice()
    bob = make_bob(alice)
    mate = make_schedule(bob).task.teammate
    Teammate.objects.filter(pk=mate.pk).update(created_by=bob.user)
    channels.make_webhook(bob, mate)
    channels.pause_webhook(bob, mate, paused=True)
    members.remove_member(alice, Membership.objects.get(user=bob.user))
    match way:
        case "webhook":
            channels.make_webhook(alice, mate)
        case "waking the webhook":
            channels.pause_webhook(alice, mate, paused=False)
        case "inbox":
            channels.set_inbox(alice, mate, enabled=True)
        case "teammate":
            staffing.set_enabled(alice, mate, enabled=True)
    mate.refresh_from_db()
    assert mate.created_by == alice.user


def test_a_task_that_no_person_made_runs_for_the_organization() -> None:
    alice = make_alice()
    schedule = make_schedule(alice)
    Task.objects.filter(pk=schedule.task_id).update(created_by=None)
    (firing,) = look(at(schedule, 1))
    assert firing.run is not None
    assert firing.run.created_by is None
