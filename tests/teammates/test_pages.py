"""The settings pages: who sees them, who changes them, and what they never show."""

import sys
from typing import Any

import pytest

from teammates.access import Access
from teammates.integrations import servers, tool_policies
from teammates.knowledge import memories, skills
from teammates.models import Memory, PermissionPolicy, Skill, ToolServer, ToolSetting
from teammates.roster import editing, lookup
from tests.factories import browser_of, make_bob

pytestmark = pytest.mark.django_db

PAGES = ["tools/", "tools/web_fetch/", "apps/", "permissions/", "memories/", "skills/"]


@pytest.fixture
def server(home: Access) -> ToolServer:
    return servers.add_server(
        home,
        servers.NewServer(
            name="Shop",
            url="https://example.com",
            auth_type="bearer",
            secret="hush-hush-1",
            tool_defs=[{"name": "buy", "method": "POST", "path": "/buy"}],
        ),
    )


def test_members_read_the_settings_and_change_nothing(home: Access, server: ToolServer) -> None:
    client = browser_of(make_bob(home))
    for path in [*PAGES, f"apps/{server.pk}/", "tools/shop__buy/"]:
        assert client.get(f"/settings/{path}").status_code == 200, path
    changes: list[tuple[str, dict[str, Any]]] = [
        ("tools/web_fetch/", {"mode": "off", "approvals": 1}),
        ("permissions/", {"tool": "x"}),
        ("apps/gmail/connect/", {"api_key": "k"}),
        (f"apps/{server.pk}/act/", {"act": "trust"}),
        (f"apps/{server.pk}/act/", {"act": "test"}),
        (f"apps/{server.pk}/act/", {"act": "delete"}),
        ("skills/new/", {"name": "a", "description": "b", "body": "c"}),
    ]
    for path, form in changes:
        assert client.post(f"/settings/{path}", form).status_code in (403, 422), path
    assert client.get("/settings/reports/").status_code == 403
    assert not ToolSetting.objects.exists()
    assert not PermissionPolicy.objects.exists()
    assert not Skill.objects.exists()
    assert list(ToolServer.objects.values_list("auto_approve", flat=True)) == [False]


def test_another_organization_sees_none_of_it(
    home: Access, server: ToolServer, eve: Access
) -> None:
    policy, _ = tool_policies.allow_tool(home, "shop__buy")
    memory = memories.add_memory(home, "Tea at four.")
    skill = skills.add_skill(home, name="Tea", description="x", body="y")
    client = browser_of(eve)
    for path in (f"apps/{server.pk}/", "tools/shop__buy/", f"skills/{skill.pk}/"):
        assert client.get(f"/settings/{path}").status_code == 404, path
    for path in (
        f"apps/{server.pk}/act/",
        f"permissions/{policy.pk}/revoke/",
        f"memories/{memory.pk}/forget/",
        f"skills/{skill.pk}/delete/",
    ):
        assert client.post(f"/settings/{path}", {"act": "delete"}).status_code == 404, path
    for path in ("apps/", "permissions/", "memories/", "skills/", "tools/"):
        page = client.get(f"/settings/{path}").content.decode()
        assert "Shop" not in page
        assert "Tea" not in page.replace("Teammates", "")
    assert (Memory.objects.count(), Skill.objects.count(), ToolServer.objects.count()) == (1, 1, 1)


def test_secrets_and_environments_are_never_on_a_page_and_survive_a_change(home: Access) -> None:
    server = servers.add_server(
        home,
        servers.NewServer(
            name="Weather",
            kind="mcp_stdio",
            command=[sys.executable, "-c", "1"],
            environment="STATION_KEY=hush-hush-2",
            secret="hush-hush-1",
        ),
    )
    client = browser_of(home)
    page = client.get(f"/settings/apps/{server.pk}/").content.decode()
    assert "STATION_KEY" in page
    assert "hush-hush" not in page
    form = {"name": "Wetter", "command": f"{sys.executable} -c 1", "auth_type": "none"}
    client.post(f"/settings/apps/{server.pk}/", form)
    server.refresh_from_db()
    assert (server.name, server.secret) == ("Wetter", "hush-hush-1")
    assert server.environment == "STATION_KEY=hush-hush-2"
    assert server.check_due_at is not None  # asked anew


def test_wrong_input_is_named_where_it_was_given(home: Access) -> None:
    client = browser_of(home)
    bad = {
        "name": "x",
        "kind": "rest_api",
        "url": "https://example.com",
        "auth_type": "none",
        "tool_defs": "{not json",
    }
    for change, says in [
        ({}, "This is not JSON"),
        ({"tool_defs": "{}"}, "must be a list"),
        ({"tool_defs": '[{"name": "a"}]'}, "tool_defs[0]: path"),
        ({"tool_defs": "[]", "url": "nonsense"}, "must begin with https:// or http://"),
        ({"tool_defs": "[]", "auth_type": "custom_header"}, "header_name"),
        ({"tool_defs": "[]", "command": '"unclosed'}, "not a command line"),
        ({"tool_defs": "[]", "name": "!!!"}, "letter or a digit"),
    ]:
        answer = client.post("/settings/apps/", bad | change)
        assert answer.status_code == 422, change
        assert says in answer.content.decode(), change
    answer = client.post("/settings/permissions/", {"tool": "forget", "argument": "to"})
    assert "Give both" in answer.content.decode()
    answer = client.post("/settings/permissions/", {"tool": "nope"})
    assert "not one of the available choices" in answer.content.decode()
    skill = {"name": "Tea", "description": "x", "body": "y"}
    assert client.post("/settings/skills/new/", skill).status_code == 302
    again = client.post("/settings/skills/new/", skill | {"description": "other"})
    assert "already; choose another name" in again.content.decode()
    assert Skill.objects.get().description == "x"
    assert not ToolServer.objects.exists()


def test_the_form_of_a_teammate_keeps_what_it_does_not_show(alice: Access) -> None:
    servers.add_server(alice, servers.NewServer(name="Shop", url="https://example.com"))
    teammate = editing.create_teammate(
        alice,
        name="Ada",
        tools=["gmail", "shop"],
        disabled_tools=["write_file", "web"],
        memory=True,
        history=False,
    )
    client = browser_of(alice)
    page = client.get(f"/teammates/{teammate.pk}/?tab=setup").content.decode()
    assert 'value="shop"' in page
    form = {
        "name": "Ada",
        "permission_mode": "autonomous",
        "apps": [],
        "built_in": [
            "ask",
            "plan",
            "files",
            "code",
            "memory",
            "web",
            "lessons",
            "skills",
            "notify",
            "mailbox",
            "task_setup_tools",
        ],
    }
    assert client.post(f"/teammates/{teammate.pk}/?tab=setup", form).status_code == 302
    teammate.refresh_from_db()
    version = lookup.get_teammate(alice, teammate.pk).current_version
    assert version.tools == ["gmail"]
    assert version.disabled_tools == ["write_file"]
    assert (version.memory, version.history, version.feedback) == (True, False, False)
    assert version.task_setup_tools is None


def test_a_forgotten_memory_can_be_brought_back(alice: Access) -> None:
    client = browser_of(alice)
    client.post("/settings/memories/", {"content": "Tea at four."})
    memory = Memory.objects.get()
    page = client.post(f"/settings/memories/{memory.pk}/forget/", follow=True).content.decode()
    assert "Undo" in page
    assert not Memory.objects.exists()
    client.post("/settings/memories/", {"content": "Tea at four."})
    assert Memory.objects.get().content == "Tea at four."
    again = client.post("/settings/memories/", {"content": "tea  at FOUR."})
    assert "remembered already" in again.content.decode()
