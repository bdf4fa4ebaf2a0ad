"""Whether a call may be made, must be asked for, or is refused."""

from typing import Any

import pytest

from teammates.integrations import tool_policies

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("pattern", "arguments", "fits"),
    [
        ({}, {"to": "x"}, True),
        ({"to": "kim@acme.com"}, {"to": "kim@acme.com"}, True),
        ({"to": "kim@acme.com"}, {"to": "kim@acme.com.evil"}, False),
        ({"to": "*@acme.com"}, {"to": "kim@acme.com"}, True),
        ({"to": "*@acme.com"}, {"to": "kim@acmeXcom"}, False),
        ({"to": "*@acme.com"}, {}, False),
        ({"n": "5"}, {"n": 5}, True),
        ({"to": "a*"}, {"to": "a\nb"}, True),
    ],
)
def test_patterns_of_arguments(pattern: Any, arguments: Any, fits: bool) -> None:
    assert tool_policies.fits(pattern, arguments) is fits
