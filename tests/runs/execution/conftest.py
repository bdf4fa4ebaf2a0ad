"""What the tests of execution are given."""

from collections.abc import Iterator

import pytest

from tests.fake_servers import FakeShop, serve_shop


@pytest.fixture
def shop() -> Iterator[FakeShop]:
    with serve_shop() as running:
        yield running
