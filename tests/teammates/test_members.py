"""People: invited, joined, given a role, removed."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone

from teammates.access import Access, access_of_member
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from teammates.models import Invitation, Membership, Role, User
from teammates.people import invitations, members
from tests.factories import PASSWORD, make_bob, make_eve
from threads.models import Thread


def membership_of(access: Access) -> Membership:
    return Membership.objects.get(organization=access.organization, user=access.user)


def test_an_invited_person_joins_once_with_the_given_role(alice: Access) -> None:
    invitation, token = invitations.invite(alice, email="Kim@Example.com", role=Role.ADMIN)
    user = invitations.join(invitations.find(token), name="Kim", password=PASSWORD)
    access = access_of_member(user)
    assert access is not None
    assert (access.organization, access.role) == (alice.organization, Role.ADMIN)
    with pytest.raises(NotFound):
        invitations.find(token)
    with pytest.raises(NotFound):
        invitations.accept(invitation, user=user)


def test_what_cannot_be_invited_is_refused(alice: Access, bob: Access) -> None:
    invitations.invite(alice, email="kim@example.com", role=Role.MEMBER)
    with pytest.raises(Conflict, match="invited already"):
        invitations.invite(alice, email="kim@example.com", role=Role.MEMBER)
    with pytest.raises(Conflict, match="member already"):
        invitations.invite(alice, email="bob@example.com", role=Role.MEMBER)
    with pytest.raises(Invalid):
        invitations.invite(alice, email="nobody", role=Role.MEMBER)
    with pytest.raises(Invalid):
        invitations.invite(alice, email="x@example.com", role="king")
    with pytest.raises(Forbidden):
        invitations.invite(bob, email="x@example.com", role=Role.MEMBER)


def test_a_link_dies_with_its_renewal_its_end_and_its_revocation(alice: Access) -> None:
    invitation, first = invitations.invite(alice, email="kim@example.com", role=Role.MEMBER)
    second = invitations.renew(alice, invitation)
    with pytest.raises(NotFound):
        invitations.find(first)
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(NotFound):
        invitations.find(second)
    third = invitations.renew(alice, invitation)
    invitations.revoke(alice, invitation)
    with pytest.raises(NotFound):
        invitations.find(third)


def test_somebody_else_cannot_use_an_invitation(alice: Access) -> None:
    invitation, _ = invitations.invite(alice, email="kim@example.com", role=Role.MEMBER)
    eve = make_eve()
    assert eve.user is not None
    with pytest.raises(Forbidden, match=r"kim@example\.com"):
        invitations.accept(invitation, user=eve.user)


def test_only_owners_make_and_remove_owners_and_one_stays(alice: Access) -> None:
    admin = make_bob(alice, role=Role.ADMIN)
    with pytest.raises(Forbidden):
        members.change_role(admin, membership_of(admin), Role.OWNER)
    with pytest.raises(Forbidden):
        members.remove_member(admin, membership_of(alice))
    with pytest.raises(Conflict, match="last owner"):
        members.change_role(alice, membership_of(alice), Role.MEMBER)
    with pytest.raises(Conflict, match="last owner"):
        members.remove_member(alice, membership_of(alice))
    members.change_role(alice, membership_of(admin), Role.OWNER)
    members.remove_member(alice, membership_of(alice))


def test_a_member_may_only_leave(alice: Access, bob: Access) -> None:
    kim = make_bob(alice, email="kim@example.com")
    with pytest.raises(Forbidden):
        members.remove_member(bob, membership_of(kim))
    with pytest.raises(Forbidden):
        members.change_role(bob, membership_of(bob), Role.ADMIN)
    members.remove_member(bob, membership_of(bob))
    assert access_of_member(User.objects.get(email="bob@example.com")) is None


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_leave_one() -> None:
    from tests.factories import make_alice

    alice = make_alice()
    other = make_bob(alice, role=Role.OWNER)

    def leave(access: Access) -> str:
        try:
            members.remove_member(access, membership_of(access))
        except DomainError as error:
            return error.code
        finally:
            connection.close()
        return "left"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(leave, [alice, other])) == ["left", "members.last_owner"]


def test_the_pages_invite_and_let_join(alice: Access) -> None:
    owner = Client()
    assert alice.user is not None
    owner.force_login(alice.user)
    page = owner.post(
        "/settings/invitations/new/", {"email": "kim@example.com", "role": "viewer"}
    ).content.decode()
    link = re.search(r"http://127\.0\.0\.1:8000(/join/[^/]+/)", page)
    assert link is not None
    assert link[1] in str(mail.outbox[0].body)
    kim = Client()
    assert "Join" in kim.get(link[1]).content.decode()
    weak = kim.post(link[1], {"name": "Kim", "password": "password"})
    assert weak.status_code == 422
    assert kim.post(link[1], {"name": "Kim", "password": PASSWORD})["Location"] == "/"
    assert kim.get("/").status_code == 200
    assert kim.get("/settings/members/").status_code == 403
    assert kim.post("/threads/new/", {"message": "x"}).status_code == 422
    assert kim.get(link[1]).status_code == 404


def test_a_browser_works_in_the_organization_that_it_chose(alice: Access) -> None:
    eve = make_eve()
    assert eve.user is not None
    invitation, _ = invitations.invite(alice, email=eve.user.email, role=Role.MEMBER)
    invitations.accept(invitation, user=eve.user)
    browser = Client()
    browser.force_login(eve.user)
    home = browser.get("/").content.decode()
    assert str(alice.organization.uid) in home
    browser.post("/organization/", {"organization": str(alice.organization.uid)})
    assert browser.get("/").context["access"].organization == alice.organization
    stale = {"message": "Hello", "of_organization": str(eve.organization.uid)}
    refused = browser.post("/threads/new/", stale, follow=True).content.decode()
    assert "in another tab" in refused
    assert not Thread.objects.exists()
    stranger = make_bob(make_bob_elsewhere(), email="z@example.com").organization
    browser.post("/organization/", {"organization": str(stranger.uid)})
    assert browser.get("/").context["access"].organization == alice.organization


def make_bob_elsewhere() -> Access:
    from tests.factories import make_alice

    return make_alice("zoe@example.com")
