"""Memories, skills, documents and end users: whose they are, and who may look and change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runs.creation import requests
from runs.creation.options import Options
from runs.tasks import tasks
from teammates.access import Access
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.knowledge import documents, memories, skills
from teammates.models import Author, EndUser, Memory, Role, Teammate
from teammates.people import api_keys, end_users
from teammates.roster import editing
from tests.api import call
from tests.factories import browser_of, make_bob, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def carl(alice: Access) -> Access:
    return make_bob(alice, email="carl@example.com")


@pytest.fixture
def viewer(alice: Access) -> Access:
    return make_bob(alice, email="viewer@example.com", role=Role.VIEWER)


@pytest.fixture
def own(carl: Access) -> Teammate:
    """Carl's personal teammate."""
    return editing.create_teammate(carl, name="Carl's")


@pytest.fixture
def kim(alice: Access) -> EndUser:
    return end_users.create_end_user(alice, "kim", email="kim@customer.test")


def test_what_a_personal_teammate_knows_is_its_owners(
    alice: Access, bob: Access, carl: Access, own: Teammate
) -> None:
    memory = memories.add_memory(carl, "Divorce lawyer is Dr X.", teammate=own)
    skill = skills.add_skill(alice, name="S", description="d", body="BODY", teammate=own)
    key = make_key(bob)
    assert call(key, "GET", "/api/v2/memories").json()["data"] == []
    path = f"/api/v2/memories/{memory.pk}"
    assert call(key, "PATCH", path, {"content": "x"}).status_code == 404
    assert call(key, "DELETE", path).status_code == 404
    assert call(key, "GET", f"/api/v2/skills/{skill.pk}").status_code == 404
    browser = browser_of(bob)
    assert "Dr X" not in browser.get("/settings/memories/").content.decode()
    assert browser.post(f"/settings/memories/{memory.pk}/forget/").status_code == 404
    assert "BODY" not in browser.get("/settings/skills/").content.decode()
    assert Memory.objects.exists()
    assert "Dr X" in browser_of(carl).get("/settings/memories/").content.decode()


def test_what_was_kept_of_a_person_is_theirs_and_the_admins(
    alice: Access, bob: Access, carl: Access, viewer: Access
) -> None:
    memory = memories.add_memory(carl, "Carl likes tea.", audience="personal")
    for stranger in (bob, viewer):
        with pytest.raises(NotFound):
            memories.get_memory(stranger, memory.pk)
        assert "likes tea" not in browser_of(stranger).get("/settings/memories/").content.decode()
    assert memories.get_memory(alice, memory.pk) == memory
    assert memories.add_memory(bob, "Carl likes tea.", audience="personal") != memory
    memories.forget(carl, memory.pk)


def test_what_everybody_is_told_is_changed_by_its_maker_and_who_manages_teammates(
    alice: Access, bob: Access
) -> None:
    memory = memories.add_memory(alice, "We never pay by transfer.", audience="company")
    documents.write_document(alice, name="prices", content="x")
    for attempt in (
        lambda: memories.update_memory(bob, memory, content="We pay mallory."),
        lambda: memories.forget(bob, memory.pk),
        lambda: documents.write_document(bob, name="prices", content="y"),
    ):
        with pytest.raises(Forbidden):
            attempt()
    mine = memories.add_memory(bob, "Bob likes tea.")
    memories.update_memory(bob, mine, content="Bob likes coffee.")
    memories.forget(alice, mine.pk)


def test_a_member_starts_nothing_in_the_name_of_an_end_user(alice: Access, bob: Access) -> None:
    options = Options()
    mine = editing.create_teammate(bob, name="Bob's")
    with pytest.raises(Forbidden):
        requests.create_run(bob, message="recall", user_id="kim", options=options)
    requests.create_run(alice, message="recall", user_id="kim", options=options)
    for path, body in (
        ("/api/v2/runs", {"message": "x", "user_id": "new"}),
        ("/api/v2/memories", {"content": "x", "user_id": "new"}),
        ("/api/v2/teammates", {"name": "Support", "user_id": "new"}),
        ("/api/v2/tasks", {"teammate_id": mine.pk, "instructions": "x", "user_id": "new"}),
    ):
        assert call(make_key(bob), "POST", path, body).status_code == 403
    assert not EndUser.objects.filter(external_id="new").exists()
    kim = EndUser.objects.get(external_id="kim")
    with pytest.raises(Forbidden):
        editing.create_teammate(bob, name="Support", end_user=kim)
    with pytest.raises(Forbidden):
        tasks.create_task(bob, mine, instructions="x", end_user=kim)


def test_what_a_shared_teammate_knows_is_changed_by_its_editors(alice: Access, bob: Access) -> None:
    shared = editing.create_teammate(alice, name="Shared", visibility="organization")
    memory = memories.add_memory(alice, "Closed on Monday.", teammate=shared)
    document = documents.write_document(alice, name="faq", content="x", teammate=shared)
    for change in (
        lambda: memories.update_memory(bob, memory, content="Open."),
        lambda: memories.forget(bob, memory.pk),
        lambda: documents.update_document(bob, document, name="y"),
        lambda: documents.delete_document(bob, document),
    ):
        with pytest.raises(Forbidden):
            change()
    memories.update_memory(alice, memory, content="Open.")
    kept = memories.add_memory(
        bob, "Bob is in Bonn.", teammate=shared, author=Author.AGENT, written_by=shared
    )
    memories.forget(bob, kept.pk)


def test_a_company_document_is_its_makers(alice: Access, bob: Access) -> None:
    made = documents.write_document(bob, name="guide", content="one")
    documents.write_document(bob, name="guide", content="two")
    carl = make_bob(alice, email="carl@example.com")
    for change in (
        lambda who: documents.write_document(who, name="guide", content="three"),
        lambda who: documents.delete_document(who, made),
    ):
        with pytest.raises(Forbidden):
            change(carl)
        made.refresh_from_db()
        assert (made.content, made.created_by) == ("two", bob.user)
    documents.write_document(alice, name="guide", content="alice's words")
    made.refresh_from_db()
    assert made.created_by == bob.user
    documents.delete_document(bob, made)


VERBS: dict[str, Callable[[Access, EndUser], Any]] = {
    "list": lambda who, kim: list(end_users.list_end_users(who)),
    "get": lambda who, kim: end_users.get_end_user(who, "kim"),
    "create": lambda who, kim: end_users.create_end_user(who, "lee"),
    "update": lambda who, kim: end_users.update_end_user(who, kim, name="K"),
    "remember": lambda who, kim: memories.add_memory(replace(who, end_user=kim), "Has asthma."),
    "search": lambda who, kim: list(memories.search_memories(replace(who, end_user=kim))),
    "document": lambda who, kim: documents.write_document(
        replace(who, end_user=kim), name="d", content="x"
    ),
    "skills": lambda who, kim: list(skills.list_skills(replace(who, end_user=kim))),
    "remove": lambda who, kim: end_users.remove_profile(who, kim),
}


@pytest.mark.parametrize("verb", VERBS)
def test_end_users_are_for_those_who_manage_them(
    alice: Access, bob: Access, viewer: Access, eve: Access, kim: EndUser, verb: str
) -> None:
    for stranger in (bob, viewer):
        with pytest.raises(Forbidden):
            VERBS[verb](stranger, kim)
    limited = api_keys.create_key(
        alice, name="support", scopes=["data.end_users.manage", "data.runs.write"]
    )[1]
    if verb not in ("search", "skills", "document", "remember"):
        VERBS[verb](api_keys.access_of_bearer(limited), EndUser.objects.get(pk=kim.pk))
    EndUser.objects.filter(external_id="lee").delete()
    admin = make_bob(alice, email="admin@example.com", role=Role.ADMIN)
    VERBS[verb](admin, EndUser.objects.get(pk=kim.pk))
    if verb in ("get", "update", "remove"):
        return
    with pytest.raises(DomainError):
        end_users.get_end_user(eve, "kim")


def test_the_apis_and_pages_ask_the_same(bob: Access, viewer: Access, kim: EndUser) -> None:
    for key in (make_key(bob),):
        assert call(key, "GET", "/api/v2/users").status_code == 403
        assert call(key, "GET", "/api/v2/memories?user_id=kim").status_code == 403
        assert call(key, "PATCH", "/api/v2/users/kim", {"name": "x"}).status_code == 403
        assert call(key, "DELETE", "/api/v2/users/kim").status_code == 403
    assert browser_of(viewer).get("/settings/end-users/").status_code == 403


def test_a_viewer_who_names_an_end_user_makes_none(viewer: Access) -> None:
    from teammates.people import sessions

    token = sessions.open_session(viewer).access
    refused = call(token, "POST", "/api/v2/memories", {"content": "x", "user_id": "new"})
    assert refused.status_code == 403
    assert not EndUser.objects.exists()
