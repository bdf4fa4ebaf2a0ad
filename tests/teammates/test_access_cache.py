"""Sign-ins are kept for seconds, and forgotten in every process as soon as one changes."""

from typing import Any

import httpx2
import psycopg
import pytest

from teammates import access_cache
from teammates.access import Access
from teammates.access_cache import AccessCache
from teammates.errors import NotSignedIn
from teammates.people import api_keys
from tests.conftest import MakeServer, Server, wait_for
from tests.factories import make_key


class Listening:
    """Wake-ups that listen, without a server."""

    is_listening = True

    def subscribe(self, channel: str, listener: Any) -> None:
        self.tell = listener


@pytest.fixture
def wakeups(monkeypatch: pytest.MonkeyPatch) -> Listening:
    """The process's cache, as where a server runs."""
    wakeups = Listening()
    cache = AccessCache()
    cache.follow(wakeups)  # type: ignore[arg-type]
    monkeypatch.setattr(api_keys, "access_cache", cache)
    return wakeups


def test_a_kept_sign_in_costs_no_statement(
    alice: Access, wakeups: Listening, django_assert_num_queries: Any
) -> None:
    key = make_key(alice)
    api_keys.access_of_bearer(key)  # notes the use of the key
    api_keys.access_of_bearer(key)
    with django_assert_num_queries(0):
        assert api_keys.access_of_bearer(key).user == alice.user


def test_what_changed_is_asked_for_again(alice: Access, wakeups: Listening) -> None:
    key = make_key(alice)
    for _ in range(2):
        api_keys.access_of_bearer(key)
    api_keys.revoke_key(alice, alice.organization.api_keys.get(name="test"))
    wakeups.tell("")
    with pytest.raises(NotSignedIn):
        api_keys.access_of_bearer(key)


def test_nothing_is_kept_while_nobody_listens(alice: Access, wakeups: Listening) -> None:
    key = make_key(alice)
    for _ in range(2):
        api_keys.access_of_bearer(key)
    wakeups.is_listening = False
    api_keys.revoke_key(alice, alice.organization.api_keys.get(name="test"))
    with pytest.raises(NotSignedIn):
        api_keys.access_of_bearer(key)


def test_a_kept_key_expires(alice: Access, wakeups: Listening, monkeypatch: Any) -> None:
    key = make_key(alice)
    for _ in range(2):
        api_keys.access_of_bearer(key)
    monkeypatch.setattr("teammates.models.APIKey.is_valid", False)
    with pytest.raises(NotSignedIn):
        api_keys.access_of_bearer(key)


def test_what_was_read_before_a_change_is_not_kept_behind_it(alice: Access) -> None:
    wakeups, cache = Listening(), AccessCache()
    cache.follow(wakeups)  # type: ignore[arg-type]

    def read_then_changed() -> Access:
        wakeups.tell("")
        return alice

    assert cache.get("alice", read_then_changed) == alice
    asked_again: list[Access] = []
    cache.get("alice", lambda: asked_again.append(alice))
    assert asked_again


def test_callers_have_rows_of_their_own(alice: Access) -> None:
    wakeups, cache = Listening(), AccessCache()
    cache.follow(wakeups)  # type: ignore[arg-type]
    first = cache.get("alice", lambda: alice)
    assert first is not None
    first.organization.name = "Never saved"
    second = cache.get("alice", lambda: alice)
    assert second is not None
    assert second.organization.name != "Never saved"
    assert second == first


def test_without_a_listener_every_request_asks(
    alice: Access, django_assert_num_queries: Any
) -> None:
    assert access_cache.cache._wakeups is None
    key = make_key(alice)
    api_keys.access_of_bearer(key)
    with django_assert_num_queries(1):
        api_keys.access_of_bearer(key)


# --- over two processes: the server, and this one ------------------------------------------------
@pytest.fixture(scope="module")
def keeping(make_server: MakeServer) -> Server:
    return make_server("--no-worker", MUSTER_ACCESS_SECONDS="3600", MUSTER_REGISTRATION_OPEN="true")


CHANGES = {
    "key": "UPDATE teammates_apikey SET revoked_at = now() WHERE organization_id = %(org)s",
    "member": "DELETE FROM teammates_membership WHERE organization_id = %(org)s",
    "role": "UPDATE teammates_membership SET role = 'viewer' WHERE organization_id = %(org)s",
    "person": "UPDATE teammates_user SET is_active = false WHERE id = %(user)s",
    "organization": "UPDATE teammates_organization SET closed_at = now() WHERE id = %(org)s",
}


def _signed_up(server: Server, name: str) -> tuple[httpx2.Client, dict[str, int]]:
    """A client of an organization of its own, and the ids of that and of its owner."""
    client = server.client("none")
    body = {
        "email": f"{name}@example.com",
        "first_name": name,
        "password": "correct horse battery",
        "require_end_user_id": False,
    }
    key = client.post("/api/v2/signup", json=body).json()["api_key"]
    with psycopg.connect(server.database_url) as other:
        found = other.execute(
            "SELECT m.organization_id, m.user_id FROM teammates_membership m "
            "JOIN teammates_user u ON u.id = m.user_id WHERE u.email = %s",
            [body["email"]],
        ).fetchone()
    assert found is not None
    return server.client(key), {"org": found[0], "user": found[1]}


def _may_write(client: httpx2.Client) -> bool:
    return client.post("/v1/threads", json={}).status_code == 201


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_known_at_once_in_every_process(keeping: Server, what: str) -> None:
    client, ids = _signed_up(keeping, what)
    assert _may_write(client)
    assert _may_write(client)
    with psycopg.connect(keeping.database_url, autocommit=True) as other:
        other.execute(CHANGES[what], ids)
    wait_for(lambda: not _may_write(client), seconds=5)


def test_it_is_the_notification_that_says_so(keeping: Server) -> None:
    client, ids = _signed_up(keeping, "unsaid")
    assert _may_write(client)
    assert _may_write(client)
    with psycopg.connect(keeping.database_url, autocommit=True) as other:
        other.execute("SET session_replication_role = replica")  # no triggers
        other.execute(CHANGES["key"], ids)
        assert _may_write(client)
        other.execute("SET session_replication_role = DEFAULT")
        other.execute(
            "UPDATE teammates_organization SET name = 'Elsewhere' WHERE id = %(org)s", ids
        )
    wait_for(lambda: not _may_write(client), seconds=5)
