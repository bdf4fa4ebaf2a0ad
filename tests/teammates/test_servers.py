"""Servers of tools: what may be registered, and by whom."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teammates import servers
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid
from teammates.tools.base import Tool
from teammates.tools.masking import MASK, masked, unmasked
from teammates.tools.servers import tool_name
from tests.factories import make_bob

pytestmark = pytest.mark.django_db

HOSTILE = [
    "http://localhost/x", "http://127.0.0.1", "http://10.0.0.1", "http://2130706433",
    "http://0x7f.1", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/x",
    "http://x.internal", "http://printer.local", "http://a:b@example.com", "ftp://example.com",
    "nonsense", "http://", "http://exa mple.com:port",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_private_and_broken_addresses_are_refused_without_a_look_into_the_dns(
    alice: Access, url: str, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(Invalid, match="url"):
        servers.add_server(alice, name="x", url=url)
    assert servers.add_server(alice, name="x", url="https://api.example.com/v1").slug == "x"


def test_only_those_who_run_the_machine_name_programs_and_private_addresses(
    alice: Access, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(Forbidden, match="Programs"):
        servers.add_server(alice, name="x", kind="mcp_stdio", command=["ls"])
    with pytest.raises(Invalid, match="url"):
        servers.add_server(alice, name="x", url="http://10.0.0.1", may_be_private=True)
    alice.organization.is_home = True
    alice.organization.save()
    assert servers.add_server(alice, name="x", url="http://10.0.0.1", may_be_private=True)
    with pytest.raises(Forbidden):
        servers.add_server(make_bob(alice), name="y", url="https://example.com")


def test_names_and_slugs(alice: Access) -> None:
    server = servers.add_server(alice, name="Acme  Billing", url="https://example.com")
    assert (server.name, server.slug) == ("Acme Billing", "acme-billing")
    with pytest.raises(Conflict, match="acme-billing"):
        servers.add_server(alice, name="acme billing", url="https://example.com")
    for name in ("memory", "write_file"):
        with pytest.raises(Conflict):
            servers.add_server(alice, name=name, url="https://example.com", slug=name)
    with pytest.raises(Invalid, match="built in"):
        servers.check_tools(alice.organization, None, ["memory"])


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
        servers.add_server(alice, name="x", url="https://example.com", tool_defs=[good, definition])


def test_names_of_tools_are_what_vendors_take_and_unique() -> None:
    names = [tool_name("my-shop", op) for op in ("get.order", "get_order", "x" * 80, "x" * 81)]
    assert len(set(names)) == 4
    for name in names:
        assert len(name) <= 64
        assert name.replace("_", "").replace("-", "").isalnum()


def test_a_broken_schema_of_a_server_is_the_models_news() -> None:
    tool = Tool("x", "X", "", {"type": "object", "properties": {"a": {"type": "nonsense"}}},
                lambda a: "", "person")  # fmt: skip
    assert "cannot be used" in tool.check({"a": 1})


SECRET = {"password": "hunter2", "nested": [{"api_key": "k"}], "text": "sk-abcdefghijklmnop"}


def test_secrets_are_masked_by_name_and_by_look() -> None:
    assert masked(SECRET) == {"password": MASK, "nested": [{"api_key": MASK}], "text": MASK}
    harmless = {"max_tokens": 5, "to": "kim", "subject": "the password of the month", "n": None}
    assert masked(harmless) == harmless


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["password", "to", "token", "n"]),
                       st.one_of(st.text(max_size=20), st.integers(), st.none())))  # fmt: skip
def test_an_edit_that_changes_nothing_gives_the_original_back(value: dict[str, Any]) -> None:
    assert unmasked(masked(value), value) == value
