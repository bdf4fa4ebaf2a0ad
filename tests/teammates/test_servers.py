"""Servers of tools: what may be registered, and by whom."""

import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.creation import options
from runs.tools import toolbox
from teammates import programs
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid
from teammates.integrations import discovery, server_lookup, servers, tool_policies
from teammates.models import PermissionPolicy, Role, ToolServer
from teammates.roster import editing
from teammates.tools.base import Tool
from teammates.tools.masking import MASK, masked, unmasked
from teammates.tools.servers import tool_name
from tests.factories import browser_of, check_server, make_bob, make_run, with_key

pytestmark = pytest.mark.django_db

HOSTILE = [
    "http://localhost/x",
    "http://127.0.0.1",
    "http://10.0.0.1",
    "http://2130706433",
    "http://0x7f.1",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://169.254.169.254/x",
    "http://x.internal",
    "http://printer.local",
    "http://a:b@example.com",
    "ftp://example.com",
    "nonsense",
    "http://",
    "http://exa mple.com:port",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_private_and_broken_addresses_are_refused_without_a_look_into_the_dns(
    alice: Access, url: str, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(Invalid, match="url"):
        servers.add_server(alice, servers.NewServer(name="x", url=url))
    assert (
        servers.add_server(
            alice, servers.NewServer(name="x", url="https://api.example.com/v1")
        ).slug
        == "x"
    )


def test_only_those_who_run_the_machine_name_programs_and_private_addresses(
    alice: Access, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    ours = [sys.executable, "-c", "1"]
    with pytest.raises(Forbidden, match="Programs"):
        servers.add_server(alice, servers.NewServer(name="x", kind="mcp_stdio", command=ours))
    with pytest.raises(Invalid, match="url"):
        servers.add_server(
            alice, servers.NewServer(name="x", url="http://10.0.0.1", may_be_private=True)
        )
    alice.organization.is_home = True
    alice.organization.save()
    assert servers.add_server(
        alice, servers.NewServer(name="x", url="http://10.0.0.1", may_be_private=True)
    )
    admin = make_bob(alice, role=Role.ADMIN, email="admin@example.com")
    for asker in (admin, with_key(alice)):
        with pytest.raises(Forbidden, match="Programs"):
            servers.add_server(asker, servers.NewServer(name="z", kind="mcp_stdio", command=ours))
    with pytest.raises(Forbidden, match="MUSTER_PROGRAMS"):
        servers.add_server(
            alice, servers.NewServer(name="z", kind="mcp_stdio", command=["/bin/sh", "-c", "id"])
        )
    assert servers.add_server(alice, servers.NewServer(name="z", kind="mcp_stdio", command=ours))
    with pytest.raises(Forbidden):
        servers.add_server(make_bob(alice), servers.NewServer(name="y", url="https://example.com"))


def test_names_and_slugs(alice: Access) -> None:
    server = servers.add_server(
        alice, servers.NewServer(name="Acme  Billing", url="https://example.com")
    )
    assert (server.name, server.slug) == ("Acme Billing", "acme-billing")
    with pytest.raises(Conflict, match="acme-billing"):
        servers.add_server(alice, servers.NewServer(name="acme billing", url="https://example.com"))
    for name in ("memory", "write_file"):
        with pytest.raises(Conflict):
            servers.add_server(
                alice, servers.NewServer(name=name, url="https://example.com", slug=name)
            )
    with pytest.raises(Invalid, match="built in"):
        server_lookup.check_tools(alice.organization, None, ["memory"])


@pytest.mark.parametrize(
    ("definition", "wrong"),
    [
        ("text", "object"),
        ({"name": "a b", "path": "/x"}, "name"),
        ({"name": "a", "path": "x"}, "path"),
        ({"name": "a", "path": "/../x"}, "path"),
        ({"name": "a", "path": "/x", "method": "BREW"}, "method"),
        ({"name": "a", "path": "/x", "odd": 1}, "odd"),
        ({"name": "a", "path": "/{id}", "parameters": {"type": "object"}}, "id"),
        ({"name": "a", "path": "/x", "parameters": {"type": "array"}}, "parameters"),
    ],
)
def test_an_operation_that_makes_no_sense_is_named(
    alice: Access, definition: Any, wrong: str
) -> None:
    good = {"name": "good", "path": "/good"}
    with pytest.raises(Invalid, match=rf"tool_defs\[1\].*{wrong}"):
        servers.add_server(
            alice,
            servers.NewServer(name="x", url="https://example.com", tool_defs=[good, definition]),
        )


def test_names_of_tools_are_what_vendors_take_and_unique() -> None:
    names = [tool_name("my-shop", op) for op in ("get.order", "get_order", "x" * 80, "x" * 81)]
    assert len(set(names)) == 4
    for name in names:
        assert len(name) <= 64
        assert name.replace("_", "").replace("-", "").isalnum()


def test_a_broken_schema_of_a_server_is_the_models_news() -> None:
    tool = Tool(
        "x",
        "X",
        "",
        {"type": "object", "properties": {"a": {"type": "nonsense"}}},
        lambda a: "",
        "person",
    )
    assert "cannot be used" in tool.check({"a": 1})


SECRET = {"password": "hunter2", "nested": [{"api_key": "k"}], "text": "sk-abcdefghijklmnop"}


def test_secrets_are_masked_by_name_and_by_look() -> None:
    assert masked(SECRET) == {"password": MASK, "nested": [{"api_key": MASK}], "text": MASK}
    harmless = {"max_tokens": 5, "to": "kim", "subject": "the password of the month", "n": None}
    assert masked(harmless) == harmless


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["password", "to", "token", "n"]),
        st.one_of(st.text(max_size=20), st.integers(), st.none()),
    )
)
def test_an_edit_that_changes_nothing_gives_the_original_back(value: dict[str, Any]) -> None:
    assert unmasked(masked(value), value) == value


# --- programs -----------------------------------------------------------------------------------


def test_a_program_runs_as_another_user_or_not_at_all(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PROGRAMS, settings.PROGRAMS_USER = ["/opt/tool"], ""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "root" in programs.refusal(["/opt/tool"])
    assert "MUSTER_PROGRAMS" in programs.refusal(["tool"])
    settings.PROGRAMS_USER = "nobody"
    assert programs.refusal(["/opt/tool"]) == ""
    command = programs.guarded(["/opt/tool", "x"])
    assert command[-3:] == ("--", "/opt/tool", "x")
    assert {"--no-new-privs", "--clear-groups"} < set(command)
    settings.PROGRAMS_USER = "no-such-user"
    assert "existing" in programs.refusal(["/opt/tool"])


def test_a_program_in_a_sandbox_sees_none_of_musters_data(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    settings.PROGRAMS, settings.PROGRAMS_USER = ["/opt/tool"], ""
    settings.DATA_FOLDER = tmp_path
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "bubblewrap" in programs.refusal(["/opt/tool"])
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert programs.refusal(["/opt/tool"]) == ""
    command = programs.guarded(["/opt/tool"])
    assert command[command.index(str(tmp_path)) - 1] == "--tmpfs"


def test_a_program_that_is_no_longer_named_is_not_started(alice: Access, settings: Any) -> None:
    alice.organization.is_home = True
    alice.organization.save()
    server = servers.add_server(
        alice, servers.NewServer(name="z", kind="mcp_stdio", command=[sys.executable, "-c", "1"])
    )
    settings.PROGRAMS = []
    assert "MUSTER_PROGRAMS" in check_server(server).error


# --- another server -----------------------------------------------------------------------------


def crm(alice: Access) -> ToolServer:
    server = servers.add_server(
        alice,
        servers.NewServer(
            name="CRM",
            url="https://crm.example/v1",
            auth_type="bearer",
            secret="SECRET",
            auto_approve=True,
            tool_defs=[{"name": "pay", "method": "POST", "path": "/pay"}],
        ),
    )
    tool_policies.allow_tool(alice, "crm__pay")
    tool_policies.allow_tool(alice, "crm")
    return server


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1",
        "http://crm.example/v1",
        "https://crm.example:8443/v1",
        "https://crm.example/another",
    ],
)
def test_another_address_gets_neither_credential_nor_trust(alice: Access, url: str) -> None:
    changed = servers.update_server(alice, crm(alice), url=url)
    assert (changed.secret, changed.auto_approve) == ("", False)
    assert not PermissionPolicy.objects.exists()


def test_the_same_address_again_keeps_them(alice: Access) -> None:
    server = crm(alice)
    changed = servers.update_server(alice, server, url=f" {server.url} ", name="Customers")
    assert (changed.secret, changed.auto_approve) == ("SECRET", True)
    assert PermissionPolicy.objects.count() == 2


def test_another_address_takes_the_credential_that_is_given_with_it(alice: Access) -> None:
    changed = servers.update_server(
        alice, crm(alice), url="https://other.example", secret="NEW", auto_approve=True
    )
    assert (changed.secret, changed.auto_approve) == ("NEW", True)
    assert not PermissionPolicy.objects.exists()


def test_a_server_whose_tools_changed_asks_again(alice: Access) -> None:
    server = crm(alice)
    ToolServer.objects.filter(pk=server.pk).update(kind="mcp_http")
    server.refresh_from_db()
    told = server.described
    discovery.record_check(server, discovery.ServerCheck(told))
    assert ToolServer.objects.get().auto_approve
    discovery.record_check(
        server, discovery.ServerCheck([replace(told[0], description="Pays mallory.")])
    )
    assert not ToolServer.objects.get().auto_approve
    assert not PermissionPolicy.objects.exists()


# --- who may use an app -------------------------------------------------------------------------


def bank(access: Access, **fields: Any) -> ToolServer:
    described = [{"name": "balance", "method": "GET", "path": "/balance", "description": "x"}]
    return servers.add_server(
        access,
        servers.NewServer(name="Bank", url="https://example.com", tool_defs=described, **fields),
    )


def has_bank(access: Access, **fields: Any) -> bool:
    run = make_run(access, options=options.Options(tools=["bank"]), **fields)
    found = toolbox.tools_of_run(run)
    assert ("bank__balance" in found.tools) != ("bank__balance" in found.missing)
    return "bank__balance" in found.tools


def test_an_app_is_used_by_its_maker_and_admins_until_somebody_says_who(
    alice: Access, bob: Access
) -> None:
    server = bank(alice)
    carl = make_bob(alice, email="carl@example.com")
    admin = make_bob(alice, role="admin", email="dora@example.com")
    assert has_bank(alice)
    assert has_bank(admin)
    assert not has_bank(bob)
    assert bob.user is not None
    servers.set_users(alice, server, used_by="admins", people=[bob.user])
    assert has_bank(bob)
    assert not has_bank(carl)
    servers.set_users(alice, server, used_by="members")
    assert has_bank(carl)


def test_an_app_can_be_for_some_teammates_alone(alice: Access) -> None:
    server = bank(alice)
    clerk = editing.create_teammate(alice, name="Clerk")
    servers.set_users(alice, server, used_by="members", teammates=[clerk])
    assert not has_bank(alice)
    assert has_bank(alice, teammate=clerk)


def test_only_who_connects_apps_says_who_uses_them_and_only_their_own_people(
    alice: Access, bob: Access, eve: Access
) -> None:
    server = bank(alice)
    with pytest.raises(Forbidden):
        servers.set_users(bob, server, used_by="members")
    assert eve.user is not None
    with pytest.raises(Invalid, match="people"):
        servers.set_users(alice, server, used_by="admins", people=[eve.user])
    theirs = editing.create_teammate(eve, name="X")
    with pytest.raises(Invalid, match="teammates"):
        servers.set_users(alice, server, used_by="admins", teammates=[theirs])
    with pytest.raises(Invalid, match="used_by"):
        servers.set_users(alice, server, used_by="nobody")


def test_the_page_of_an_app_says_who_uses_it_and_changes_that(alice: Access, bob: Access) -> None:
    server = bank(alice)
    browser, page = browser_of(alice), f"/settings/apps/{server.pk}/"
    assert "Owners, admins and whoever added it" in browser.get(page).content.decode()
    assert bob.user is not None
    form = {"used_by": "admins", "people": [bob.user.pk]}
    assert browser.post(f"{page}users/", form).status_code == 302
    assert has_bank(bob)
    assert browser_of(bob).post(f"{page}users/", {"used_by": "members"}).status_code == 403


def test_a_name_like_that_of_a_built_in_tool_is_free(alice: Access) -> None:
    new = servers.NewServer(name="Web fetch", url="https://example.com")
    assert servers.add_server(alice, new).slug == "web-fetch"
