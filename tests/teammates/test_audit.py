"""The audit log: who changed what, with which credential, from where, through every door."""

import json
import re

import pytest
from django.contrib.auth.management.commands import changepassword
from django.core.management import call_command
from django.test import Client

from runs.gates import decisions
from runs.gates.decisions import Decision
from runs.inbox import gateway
from runs.models import DecidedVia, GateStatus, RunStatus
from runs.sharing import links
from runs.tasks import staffing, tasks
from runs.triggers import definitions
from runs.webhooks import endpoints
from teammates.access import Access
from teammates.errors import DomainError, NotSignedIn
from teammates.integrations import servers, tool_policies
from teammates.knowledge import documents, memories, skills
from teammates.llm import catalog
from teammates.models import AuditEntry
from teammates.people import api_keys, end_users, invitations, organizations, sessions
from teammates.people import sign_in as people_sign_in
from teammates.roster import channels, editing
from teammates.trust import audit, client
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
        f"/settings/members/{member.pk}/role/",
        {"role": "admin"},
        REMOTE_ADDR="203.0.113.9",
        headers={"user-agent": "Test/1"},
    )
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
    provider = catalog.create_provider(alice, name="P", kind="openai", api_key="sk-hush-1")
    catalog.update_provider(alice, provider, api_key="sk-hush-2")
    _, secret = api_keys.create_key(alice, name="x")
    endpoints.add_endpoint(alice, url="https://example.com/hook")
    token = channels.make_webhook(alice, default_teammate(alice.organization))
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
        ("POST", 201),
        ("POST", 201),
        ("DELETE", 204),
    ]
    assert {one.key_prefix for one in v1} == {key[:12]}


def test_sign_ins_and_wrong_passwords_are_in_the_log(alice: Access) -> None:
    def sign_in(password: str) -> None:
        Client().post(
            "/v1/auth/login",
            json.dumps({"login": "alice@example.com", "password": password}),
            content_type="application/json",
            REMOTE_ADDR="203.0.113.9",
        )

    sign_in("wrong")
    refused = last("session.wrong_password")
    assert (refused.status, refused.address, refused.organization) == (
        403,
        "203.0.113.9",
        alice.organization,
    )
    sign_in(PASSWORD)
    assert last("session.sign_in").user == alice.user


def test_decisions_say_who_decided_and_through_what(alice: Access) -> None:
    gate = make_gate(alice)
    with client.acting(client.Client(address="203.0.113.9", door="link")):
        decisions.decide(alice, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.MAIL)
    entry = last("approval.decide")
    assert (entry.door, entry.user) == ("link", alice.user)
    assert entry.changes is not None
    assert entry.changes["status"] == [None, "allowed"]


def test_what_is_refused_or_undone_leaves_no_change_in_the_log(alice: Access, bob: Access) -> None:
    with pytest.raises(DomainError):
        invitations.invite(bob, email="x@example.com", role="member")
    with pytest.raises(DomainError):
        invitations.invite(alice, email="nonsense", role="member")
    assert not AuditEntry.objects.filter(action="invitation.invite").exists()


def test_the_verbs_of_an_organization_are_in_its_log_alone(alice: Access, eve: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    agent = editing.create_teammate(alice, name="Ada")
    made = {
        "settings.update": lambda: organizations.update_settings(alice, name="New name"),
        "tool.set": lambda: tool_policies.set_tool(alice, "web_fetch", mode="ask"),
        "permission.create": lambda: tool_policies.allow_tool(alice, "web_fetch"),
        "link.share": lambda: links.share(alice, run),
        "link.revoke": lambda: links.unshare(alice, run),
        "door.open": lambda: gateway.make_token(alice),
        "agent.update": lambda: editing.update_teammate(alice, agent, name="Eda"),
        "agent.archive": lambda: staffing.archive_teammate(alice, agent),
        "key.create": lambda: api_keys.create_key(alice, name="x"),
    }
    for action, verb in made.items():
        verb()
        assert last(action).user == alice.user
    assert not audit.list_entries(eve).filter(method="", action__in=made).exists()
    assert last("settings.update").changes == {"name": ["Alice's organization", "New name"]}
    assert last("agent.update").subject == "Ada"


def test_commands_are_in_the_log_and_a_password_set_by_one_ends_what_is_signed_in(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alice.user is not None
    tokens = sessions.open_session(alice)
    monkeypatch.setattr(changepassword.Command, "_get_pass", lambda *_: "another horse 27")
    call_command("changepassword", "alice@example.com")
    entry = last("account.password")
    assert (entry.door, entry.user) == ("command", alice.user)
    with pytest.raises(NotSignedIn):
        sessions.access_of_token(tokens.access)
    people_sign_in.sign_in(login="alice@example.com", password="another horse 27")
    call_command("reencrypt")
    assert last("secrets.reencrypt").organization == alice.organization


def test_an_entry_is_about_what_was_made_or_changed_and_not_about_what_it_belongs_to(
    alice: Access, bob: Access
) -> None:
    assert bob.user is not None
    task = tasks.create_task(
        alice, default_teammate(alice.organization), name="T", instructions="x"
    )
    assert last("task.create").subject == "T"
    schedule = definitions.add_schedule(alice, task, interval_seconds=3600)
    made = last("trigger.create")
    assert made.resource_id == str(schedule.pk)
    assert made.changes is not None
    assert made.changes["interval_seconds"] == [None, 3600]
    definitions.update_trigger(alice, task, schedule, interval_seconds=7200)
    changed = last("trigger.update").changes
    assert changed is not None
    assert changed["interval_seconds"] == [3600, 7200]
    definitions.make_webhook(alice, task)
    definitions.pause_webhook(alice, task, paused=True)
    paused = last("trigger.pause_webhook").changes
    assert paused == {"enabled": [True, False], "hook_enabled": [True, False]}
    definitions.remove_webhook(alice, task)
    assert last("trigger.remove_webhook").resource_type == "trigger"
    definitions.allow_senders(alice, task, ["kim@example.com"])
    senders = last("task.senders").changes
    assert senders is not None
    assert senders["allowed_senders"] == [None, '["kim@example.com"]']
    provider = catalog.create_provider(alice, name="P", kind="openai", api_key="sk")
    model = catalog.add_model(alice, provider, alias="m", name="m")
    assert last("model.create").resource_id == str(model.pk)
    catalog.set_price(alice, model, uncached_input="7", cache_read="0", cache_write="0", output="9")
    price = last("model.price").changes
    assert price is not None
    assert price["uncached_input"][0] is None
    assert price["uncached_input"][1].startswith('"7')
    server = servers.add_server(
        alice,
        servers.NewServer(
            name="Bank",
            url="https://example.com",
            tool_defs=[
                {"name": "balance", "method": "GET", "path": "/balance", "description": "x"}
            ],
        ),
    )
    servers.set_users(alice, server, used_by="admins", people=[bob.user])
    users = last("server.users").changes
    assert users is not None
    assert users["used_by_people"] == [None, f"[{bob.user.pk}]"]


def test_changes_of_knowledge_are_in_the_log_without_what_is_private(alice: Access) -> None:
    memory = memories.add_memory(alice, "I am ill", audience="personal")
    memories.update_memory(alice, memory, content="I am well")
    memories.forget(alice, memory.pk)
    documents.write_document(alice, name="plan", content="of the coup")
    skills.add_skill(alice, name="Sell", description="x", body="y")
    end_users.create_end_user(alice, "kim", name="Kim")
    for action in (
        "memory.create",
        "memory.update",
        "memory.delete",
        "document.set",
        "skill.create",
        "user.create",
    ):
        assert last(action).user == alice.user
    everything = json.dumps(list(AuditEntry.objects.values()), default=str)
    assert not re.search("I am|coup|Kim", everything)


def test_the_page_shows_what_changed_and_programs_get_requests_alone(alice: Access) -> None:
    organizations.update_settings(alice, name="New name")
    page = browser_of(alice).get("/settings/audit/").content.decode()
    assert "What changed" in page
    assert "New name" in page
    shown = call(make_key(alice), "GET", "/api/v2/audit-logs").json()["data"]
    assert all(one["method"] for one in shown)
    bob = make_bob(alice)
    assert browser_of(bob).get("/settings/audit/").status_code == 403


UID = "01a22a13-79d5-73c5-8f40-c23698b1b47b"


@pytest.mark.parametrize(
    ("method", "path", "resource", "action"),
    [
        ("PATCH", f"threads/{UID}", UID, "thread.update"),
        ("DELETE", f"threads/{UID}", UID, "thread.delete"),
        ("POST", f"runs/{UID}:cancel", UID, "run.cancel"),
        ("POST", f"threads/{UID}/messages", UID, "thread.messages"),
        ("POST", "runs/7/cancel", "7", "run.cancel"),
        ("GET", "users/a:b", "a:b", "user.get"),
    ],
)
def test_a_request_is_named_by_what_it_did_and_its_id_is_beside_that(
    alice: Access, method: str, path: str, resource: str, action: str
) -> None:
    audit.record(alice, method=method, path=path, status=200, duration_ms=1)
    entry = AuditEntry.objects.latest("pk")
    assert (entry.resource_id, entry.action) == (resource, action)
