"""Each verb, called as everybody who might try: the rule is in the verb, whatever calls it.

A member's things are read and changed by that member and by admins; what an organization sets up by
admins, some of it by its owner alone. To everybody else a row does not exist, or its change is
forbidden.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from runs import feedback
from runs.creation import conversation, requests, retries
from runs.creation.options import Options
from runs.gates import decisions, opening
from runs.gates.decisions import Decision
from runs.inbox import gateway
from runs.lifecycle import endings, flags
from runs.models import DecidedVia, GateStatus, RunStatus
from runs.retention import closed_accounts
from runs.sharing import artifacts, links
from runs.tasks import staffing, tasks
from runs.triggers import definitions
from runs.webhooks import endpoints
from teammates.access import Access
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.integrations import checks, servers, tool_policies
from teammates.knowledge import skills
from teammates.llm import catalog
from teammates.models import Membership, Model
from teammates.people import api_keys, end_users, invitations, members, organizations
from teammates.roster import channels, editing, lookup
from teammates.trust import audit
from tests.factories import default_teammate, make_bob, make_eve, make_gate, make_run
from threads import conversations, files

pytestmark = pytest.mark.django_db

MINE = {"member", "admin", "owner"}  # of a member's own run, thread, task or teammate
HIS = {"member"}  # what even admins leave to whoever it is
ADMINS = {"admin", "owner"}
OWNERS = {"owner"}
ANYBODY = {"member", "colleague", "admin", "owner"}  # who may start something of their own


@dataclass
class World:
    """Somebody's organization with a member who has things, and everybody who might try."""

    owner: Access
    member: Access
    people: dict[str, Access] = field(default_factory=dict)

    def run(self, **fields: Any) -> Any:
        return make_run(self.member, **fields)

    def done(self) -> Any:
        return self.run(status=RunStatus.COMPLETED)

    def task(self) -> Any:
        agent = default_teammate(self.owner.organization)
        return tasks.create_task(self.member, agent, instructions="x")

    def agent(self) -> Any:
        return editing.create_teammate(self.member, name="His", visibility="organization")

    def server(self) -> Any:
        return servers.add_server(
            self.owner, servers.NewServer(name="S", url="https://example.com")
        )

    def model(self) -> Any:
        return Model.objects.filter(organization=self.owner.organization).first()

    def provider(self) -> Any:
        return catalog.create_provider(self.owner, name="P", kind="openai", api_key="k")

    def endpoint(self) -> Any:
        return endpoints.add_endpoint(self.owner, url="https://example.com")

    def membership(self) -> Any:
        assert self.people["colleague"].user is not None
        return Membership.objects.get(user=self.people["colleague"].user)

    def end_user(self) -> Any:
        return end_users.find_or_create(self.owner, "cust_1")

    def kept(self) -> Any:
        run = self.done()
        file = files.write_file(run.thread, name="a.txt", content=b"x")
        run.run_files.create(file=file)
        return artifacts.keep_file(self.member, run, "a.txt")


@pytest.fixture
def world(alice: Access) -> World:
    member = make_bob(alice)
    made = World(alice, member)
    end_user = end_users.find_or_create(alice, "another")
    made.people = {
        "owner": alice,
        "admin": make_bob(alice, role="admin", email="admin@example.com"),
        "member": member,
        "colleague": make_bob(alice, email="colleague@example.com"),
        "viewer": make_bob(alice, role="viewer", email="viewer@example.com"),
        "stranger": make_eve(),
        "end user": replace(member, end_user=end_user),
    }
    return made


def _decide(access: Access, gate: Any) -> Any:
    return decisions.decide(access, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.PAGE)


Verb = Callable[[Access, Any], Any]
Row = Callable[[World], Any]
NOTHING: Row = lambda world: None  # noqa: E731

VERBS: dict[str, tuple[set[str], Row, Verb]] = {
    # --- runs
    "stop a run": (MINE, World.run, lambda a, row: endings.stop_run(a, row)),
    "archive a run": (MINE, World.done, lambda a, row: flags.set_archived(a, row, archived=True)),
    "close a run": (ADMINS, World.run, lambda a, row: endings.close_run(a, row)),
    "switch the mode": (MINE, World.run, lambda a, row: decisions.switch_mode(a, row, "approval")),
    "edit a queued message": (HIS, World.run, lambda a, row: conversation.edit_queued(a, row, "y")),
    "reply": (
        MINE,
        World.done,
        lambda a, row: requests.reply_to_run(a, row, message="x", options=Options()),
    ),
    "fork": (MINE, World.done, lambda a, row: conversation.fork_thread(a, row)),
    "retry": (
        MINE,
        lambda world: world.run(status=RunStatus.CANCELLED),
        lambda a, row: retries.retry_run(a, row),
    ),
    "let others wait": (MINE, World.run, lambda a, row: conversation.stop_others(a, row)),
    "share a run": (MINE, World.done, lambda a, row: links.share(a, row)),
    "revoke a link": (MINE, World.done, lambda a, row: links.unshare(a, row)),
    "ask from outside": (
        MINE,
        World.run,
        lambda a, row: opening.ask_outside(a, row, tool_name="x", arguments={}),
    ),
    "decide": (MINE, lambda world: make_gate(world.member), _decide),
    "report": (MINE, World.done, lambda a, row: feedback.file_report(a, "odd", run=row)),
    # --- threads and tasks
    "rename a thread": (
        MINE,
        lambda world: world.run().thread,
        lambda a, row: conversations.rename_thread(a, row, title="x"),
    ),
    "delete a thread": (
        MINE,
        lambda world: world.run().thread,
        lambda a, row: conversations.delete_thread(a, row),
    ),
    "star a thread": (
        HIS,
        lambda world: world.run().thread,
        lambda a, row: conversations.star_thread(a, row, starred=True),
    ),
    "write in a thread": (
        MINE,
        lambda world: world.done().thread,
        lambda a, row: conversation.run_in_thread(a, row, message="x"),
    ),
    "run a task": (MINE, World.task, lambda a, row: requests.run_task(a, row, options=Options())),
    "change a task": (MINE, World.task, lambda a, row: tasks.update_task(a, row, name="x")),
    "archive a task": (MINE, World.task, lambda a, row: tasks.archive_task(a, row)),
    "schedule a task": (
        MINE,
        World.task,
        lambda a, row: definitions.add_schedule(a, row, interval_seconds=3600),
    ),
    "give a task a webhook": (MINE, World.task, lambda a, row: definitions.make_webhook(a, row)),
    # --- teammates and what they know
    "create a teammate": (
        ANYBODY | {"stranger", "end user"},
        NOTHING,
        lambda a, row: editing.create_teammate(a, name="x"),
    ),
    "change a teammate": (
        MINE | {"end user"},
        World.agent,
        lambda a, row: editing.update_teammate(a, row, role="x"),
    ),
    "archive a teammate": (
        MINE | {"end user"},
        World.agent,
        lambda a, row: staffing.archive_teammate(a, row),
    ),
    "pause a teammate": (
        MINE | {"end user"},
        World.agent,
        lambda a, row: staffing.set_enabled(a, row, enabled=False),
    ),
    "give a teammate an inbox": (
        MINE | {"end user"},
        World.agent,
        lambda a, row: channels.set_inbox(a, row, enabled=False),
    ),
    "give a teammate a mailbox": (
        MINE | {"end user"},
        World.agent,
        lambda a, row: channels.set_fetchmail(a, row, enabled=True),
    ),
    "give a teammate a webhook": (
        MINE | {"end user"},
        World.agent,
        lambda a, row: channels.make_webhook(a, row),
    ),
    "make a teammate the default": (
        ADMINS,
        World.agent,
        lambda a, row: lookup.make_default(a, row),
    ),
    "add a skill": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: skills.add_skill(a, name="x", description="y", body="z"),
    ),
    # --- what an organization sets up
    "add an app": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: servers.add_server(
            a, servers.NewServer(name="N", url="https://example.com")
        ),
    ),
    "change an app": (ADMINS, World.server, lambda a, row: servers.update_server(a, row, name="x")),
    "say who uses an app": (
        ADMINS,
        World.server,
        lambda a, row: servers.set_users(a, row, used_by="members"),
    ),
    "ask an app": (ADMINS, World.server, lambda a, row: checks.ask_server(a, row)),
    "remove an app": (ADMINS, World.server, lambda a, row: servers.delete_server(a, row)),
    "connect a provider": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: catalog.create_provider(a, name="n", kind="openai", api_key="k"),
    ),
    "change a provider": (
        ADMINS,
        World.provider,
        lambda a, row: catalog.update_provider(a, row, api_key="x"),
    ),
    "disconnect a provider": (
        ADMINS,
        World.provider,
        lambda a, row: catalog.delete_provider(a, row),
    ),
    "set a default model": (ADMINS, World.model, lambda a, row: catalog.set_default_model(a, row)),
    "test a model": (ADMINS, World.model, lambda a, row: checks.ask_model(a, row)),
    "price a model": (
        ADMINS,
        World.model,
        lambda a, row: catalog.set_price(
            a, row, uncached_input="1", cache_read="1", cache_write="1", output="1"
        ),
    ),
    "set a tool": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: tool_policies.set_tool(a, "web_fetch", mode="ask"),
    ),
    "allow a tool": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: tool_policies.allow_tool(a, "web_fetch"),
    ),
    "add a webhook": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: endpoints.add_endpoint(a, url="https://example.com"),
    ),
    "change a webhook": (
        ADMINS,
        World.endpoint,
        lambda a, row: endpoints.update_endpoint(a, row, active=False),
    ),
    "remove a webhook": (ADMINS, World.endpoint, lambda a, row: endpoints.delete_endpoint(a, row)),
    "test a webhook": (ADMINS, World.endpoint, lambda a, row: endpoints.send_test(a, row)),
    "open the door for mails": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: gateway.make_token(a),
    ),
    "change settings": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: organizations.update_settings(a, name="x"),
    ),
    "change an end user": (
        ADMINS,
        World.end_user,
        lambda a, row: end_users.update_end_user(a, row, name="x"),
    ),
    "forget an end user": (ADMINS, World.end_user, lambda a, row: end_users.remove_profile(a, row)),
    # --- people and keys
    "invite": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: invitations.invite(a, email="new@example.com", role="member"),
    ),
    "give a role": (ADMINS, World.membership, lambda a, row: members.change_role(a, row, "viewer")),
    "remove a member": (
        ADMINS | {"colleague"},
        World.membership,  # or leave
        lambda a, row: members.remove_member(a, row),
    ),
    "make a key": (
        ANYBODY | {"stranger", "end user"},
        NOTHING,
        lambda a, row: api_keys.create_key(a, name="x"),
    ),
    "rotate a key": (
        HIS | {"end user"},
        lambda world: api_keys.create_key(world.member, name="x")[0],
        lambda a, row: api_keys.rotate_key(a, row),
    ),
    "revoke the default key": (
        ADMINS | {"stranger"},
        NOTHING,
        lambda a, row: api_keys.revoke_default_key(a),
    ),
    "read the audit log": (ADMINS | {"stranger"}, NOTHING, lambda a, row: audit.list_entries(a)),
    "close the account": (
        OWNERS | {"stranger"},
        NOTHING,
        lambda a, row: closed_accounts.close_account(a),
    ),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_refuses_everybody_whose_affair_it_is_not(world: World, name: str) -> None:
    from django.db import transaction

    allowed, row_of, verb = VERBS[name]
    for who, access in world.people.items():
        with transaction.atomic():
            row = row_of(world)
            refused: DomainError | None = None
            try:
                verb(access, row)
            except DomainError as error:
                refused = error
            transaction.set_rollback(True)
        if who in allowed:
            assert refused is None, (name, who, refused)
        else:
            assert isinstance(refused, Forbidden | NotFound), (name, who, refused)


def test_a_teammate_that_became_somebody_elses_alone_works_for_nobody_else(alice: Access) -> None:
    bob = make_bob(alice)
    agent = editing.create_teammate(alice, name="Ada", visibility="organization")
    done = make_run(bob, teammate=agent, status=RunStatus.CANCELLED)
    task = tasks.create_task(bob, agent, instructions="x")
    editing.update_teammate(alice, agent, visibility="personal")
    for verb in (
        lambda: requests.reply_to_run(bob, done, message="x", options=Options()),
        lambda: retries.retry_run(bob, done),
        lambda: requests.run_task(bob, task, options=Options()),
        lambda: definitions.duplicate_task(bob, task),
    ):
        with pytest.raises(NotFound):
            verb()


def test_a_colleagues_look_does_not_keep_a_result_from_being_mailed(alice: Access) -> None:
    run = make_run(make_bob(alice), status=RunStatus.COMPLETED)
    assert flags.mark_viewed(alice, run).last_viewed_at is None


def test_apps_and_permissions_of_end_users_are_for_who_manages_them(alice: Access) -> None:
    from tests.factories import browser_of

    customer = replace(alice, end_user=end_users.find_or_create(alice, "cust_1"))
    server = servers.add_server(
        customer, servers.NewServer(name="Customers", url="https://example.com")
    )
    tool_policies.allow_tool(customer, "pretend_send")
    viewer = make_bob(alice, role="viewer")
    for path in ("/settings/apps/", "/settings/permissions/"):
        assert "cust_1" not in browser_of(viewer).get(path).content.decode()
        assert "cust_1" in browser_of(alice).get(path).content.decode()
    assert browser_of(viewer).get(f"/settings/apps/{server.pk}/").status_code == 404
