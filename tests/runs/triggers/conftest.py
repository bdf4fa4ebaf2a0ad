"""What the tests of triggers are given."""

import pytest

from runs.models import Task
from runs.tasks import tasks
from teammates.access import Access
from teammates.models import Teammate
from teammates.roster import editing
from tests.factories import make_alice


@pytest.fixture
def alice(db: None) -> Access:
    return make_alice()


@pytest.fixture
def teammate(alice: Access) -> Teammate:
    return editing.create_teammate(alice, name="Ops")


@pytest.fixture
def task(alice: Access, teammate: Teammate) -> Task:
    return tasks.create_task(alice, teammate, instructions="Sort the order.")
