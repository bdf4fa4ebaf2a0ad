"""What the tests of execution are given."""

from collections.abc import Iterator

import pytest

from teammates.access import Access
from tests.fake_models import FakeModels, serve
from tests.fake_servers import FakeShop, serve_shop


@pytest.fixture
def models() -> Iterator[FakeModels]:
    with serve() as server:
        yield server


@pytest.fixture
def home(alice: Access) -> Access:
    """Alice, as an admin of the installation's own organization."""
    alice.organization.is_home = True
    alice.organization.save()
    return alice


@pytest.fixture
def shop() -> Iterator[FakeShop]:
    with serve_shop() as running:
        yield running
