"""What the tests of webhooks are given."""

from collections.abc import Iterator

import pytest

from teammates.access import Access
from tests.factories import make_alice
from tests.receivers import Receiver, serve_receiver


@pytest.fixture
def alice(db: None) -> Access:
    return make_alice()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as running:
        yield running
