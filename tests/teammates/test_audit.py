"""The audit log: who changed what, with which credential, from where, through every door."""

import json

import pytest
from django.test import Client

from runs import gates, mail, sharing, webhooks
from runs.gates import Decision
from runs.models import DecidedVia, GateStatus, RunStatus
from teammates import accounts, audit, client, connections, keys, members, permissions, roster
from teammates.access import Access
from teammates.errors import DomainError
from teammates.models import AuditEntry
from tests.api import call
from tests.factories import (
    PASSWORD,
    browser_of,
    default_teammate,
    make_bob,
    make_gate,
    make_key,
    make_run,
)

pytestmark = pytest.mark.django_db


def last(action: str) -> AuditEntry:
    found = AuditEntry.objects.filter(action=action, method="").order_by("-id").first()
    assert found is not None, list(AuditEntry.objects.values_list("action", flat=True))
    return found


def test_a_change_says_who_from_where_and_what_was_before(alice: Access, bob: Access) -> None:
    assert bob.user is not None
    member = bob.user.memberships.get()
    browser = browser_of(alice)
    browser.post(
        f"/settings/members/{member.pk}/role/", {"role": "admin"}, REMOTE_ADDR="203.0.113.9",
        headers={"user-agent": "Test/1"},
    )  # fmt: skip
    entry = last("member.role")
    assert entry.user == alice.user
    assert (entry.door, entry.address, entry.agent) == ("page", "203.0.113.9", "Test/1")
    assert entry.changes == {"role": ["member", "admin"]}
    assert entry.is_change


def test_a_programs_change_names_its_key(alice: Access) -> None:
    key = make_key(alice)
    call(key, "POST", "/api/v2/webhooks", {"url": "https://example.com/hook"})
    entry = last("webhook.create")
    assert (entry.door, entry.key_prefix) == ("v2", key[:12])
    assert entry.changes is not None
    assert entry.changes["url"] == [None, "https://example.com/hook"]


def test_no_secret_is_in_the_log(alice: Access) -> None:
    provider = connections.create_provider(alice, name="P", kind="openai", api_key="sk-hush-1")
    connections.update_provider(alice, provider, api_key="sk-hush-2")
    _, secret = keys.create_key(alice, name="x")
    webhooks.add_endpoint(alice, url="https://example.com/hook")
    token = roster.make_webhook(alice, default_teammate(alice.organization))
    everything = json.dumps(list(AuditEntry.objects.values()), default=str)
    assert "hush" not in everything
    assert secret not in everything
    assert token not in everything
    changed = last("provider.update").changes
    assert changed is not None
    assert changed["api_key"][0] != changed["api_key"][1]


def test_every_door_writes_down_what_was_changed(alice: Access) -> None:
    key = make_key(alice)
    made = call(key, "POST", "/v1/threads", {}).json()["id"]
    call(key, "POST", f"/v1/threads/{made}/messages", {"content": "x"})
    call(key, "GET", f"/v1/threads/{made}")
    call(key, "DELETE", f"/v1/threads/{made}")
    v1 = AuditEntry.objects.filter(door="v1").exclude(method="").order_by("id")
    assert [(one.method, one.status) for one in v1] == [
        ("POST", 201), ("POST", 201), ("DELETE", 204)
    ]  # fmt: skip
    assert {one.key_prefix for one in v1} == {key[:12]}


def test_sign_ins_and_wrong_passwords_are_in_the_log(alice: Access) -> None:
    def sign_in(password: str) -> None:
        Client().post(
            "/v1/auth/login", json.dumps({"login": "alice@example.com", "password": password}),
            content_type="application/json", REMOTE_ADDR="203.0.113.9",
        )  # fmt: skip

    sign_in("wrong")
    refused = last("session.wrong_password")
    assert (refused.status, refused.address, refused.organization) == (
        403, "203.0.113.9", alice.organization
    )  # fmt: skip
    sign_in(PASSWORD)
    assert last("session.sign_in").user == alice.user


def test_decisions_say_who_decided_and_through_what(alice: Access) -> None:
    gate = make_gate(alice)
    with client.acting(client.Client(address="203.0.113.9", door="link")):
        gates.decide(alice, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.MAIL)
    entry = last("approval.decide")
    assert (entry.door, entry.user) == ("link", alice.user)
    assert entry.changes is not None
    assert entry.changes["status"] == [None, "allowed"]


def test_what_is_refused_or_undone_leaves_no_change_in_the_log(alice: Access, bob: Access) -> None:
    with pytest.raises(DomainError):
        members.invite(bob, email="x@example.com", role="member")
    with pytest.raises(DomainError):
        members.invite(alice, email="nonsense", role="member")
    assert not AuditEntry.objects.filter(action="invitation.invite").exists()


def test_the_verbs_of_an_organization_are_in_its_log_alone(alice: Access, eve: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    agent = roster.create_teammate(alice, name="Ada")
    made = {
        "settings.update": lambda: accounts.update_settings(alice, name="New name"),
        "tool.set": lambda: permissions.set_tool(alice, "web_fetch", mode="ask"),
        "permission.create": lambda: permissions.allow_tool(alice, "web_fetch"),
        "link.share": lambda: sharing.share(alice, run),
        "link.revoke": lambda: sharing.unshare(alice, run),
        "door.open": lambda: mail.make_door(alice),
        "agent.update": lambda: roster.update_teammate(alice, agent, name="Eda"),
        "agent.archive": lambda: roster.archive_teammate(alice, agent),
        "key.create": lambda: keys.create_key(alice, name="x"),
    }
    for action, verb in made.items():
        verb()
        assert last(action).user == alice.user
    assert not audit.list_entries(eve).filter(method="", action__in=made).exists()
    assert last("settings.update").changes == {"name": ["Alice's organization", "New name"]}
    assert last("agent.update").subject == "Ada"


def test_the_page_shows_what_changed_and_programs_get_requests_alone(alice: Access) -> None:
    accounts.update_settings(alice, name="New name")
    page = browser_of(alice).get("/settings/audit/").content.decode()
    assert "What changed" in page
    assert "New name" in page
    shown = call(make_key(alice), "GET", "/api/v2/audit-logs").json()["data"]
    assert all(one["method"] for one in shown)
    bob = make_bob(alice)
    assert browser_of(bob).get("/settings/audit/").status_code == 403
