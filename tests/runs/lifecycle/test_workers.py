"""The workers that are there: their heartbeats."""

from runs.lifecycle import workers
from teammates.access import Access
from teammates.models import Organization
from tests.factories import make_run
from tests.runs.lifecycle.helpers import _claimed


def test_an_organization_that_is_alone_takes_every_place(alice: Access) -> None:
    workers.beat("w", running=0, capacity=20)
    Organization.objects.update(max_running=100)
    for _ in range(25):
        make_run(alice)
    assert _claimed(20) == {alice.organization.pk: 20}


def test_one_place_is_still_somebodys(alice: Access, eve: Access) -> None:
    workers.beat("w", running=0, capacity=1)
    make_run(eve)
    make_run(eve)
    assert _claimed(1) == {eve.organization.pk: 1}
