"""Compiled scopes: the rows of `Access.scope`, for every kind of access."""

from dataclasses import replace
from typing import Any

import pytest

from teammates.access import Access
from teammates.errors import Forbidden
from teammates.models import EndUser, Role
from teammates.scoped_query import scoped_query
from tests.factories import make_eve, make_thread
from threads.models import Thread


@scoped_query
def titled(access: Access, title: Any) -> Any:
    return Thread.objects.visible_to(access).filter(title=title).order_by("pk")


@pytest.fixture
def kinds(alice: Access, bob: Access) -> dict[str, Access]:
    """Threads of everybody, all of one title, and those who look for them."""
    known = EndUser.objects.create(organization=alice.organization, external_id="known")
    other = EndUser.objects.create(organization=alice.organization, external_id="other")
    new = EndUser(organization=alice.organization, external_id="new")
    for access in (alice, bob, make_eve()):
        for end_user in (None, known, other):
            if end_user is None or access.organization == alice.organization:
                make_thread(access, title="Spring", end_user=end_user)
    return {
        "owner": alice,
        "member": bob,
        "viewer": replace(bob, role=Role.VIEWER),
        "owner for an end user": replace(alice, end_user=known),
        "member for an end user": replace(bob, end_user=known),
        "for one that was never seen": replace(alice, end_user=new),
        "key of nobody": replace(alice, user=None),
        "member without a person": replace(bob, user=None),
        "words from outside": replace(alice, origin="email:x@example.com", reached={}),
    }


def test_every_kind_of_access_finds_what_the_scope_has(kinds: dict[str, Access]) -> None:
    found = {name: titled.all(access, title="Spring") for name, access in kinds.items()}
    wanted = {
        name: list(Thread.objects.visible_to(access).filter(title="Spring").order_by("pk"))
        for name, access in kinds.items()
    }
    assert found == wanted
    counts = {name: len(rows) for name, rows in found.items()}
    assert (counts["owner"], counts["member"], counts["owner for an end user"]) == (6, 3, 2)
    assert not counts["words from outside"]
    assert not counts["for one that was never seen"]


def test_a_key_that_may_not_read_such_rows_is_refused(alice: Access) -> None:
    from tests.factories import with_key

    limited = with_key(alice)
    assert limited.api_key is not None
    limited.api_key.scopes = ["data.usage.read"]
    with pytest.raises(Forbidden):
        titled.all(limited, title="Spring")
