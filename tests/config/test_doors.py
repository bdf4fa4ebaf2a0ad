"""Doors that are closed by default: sign-up, foreign host names, links in mails, public links."""

import json
from typing import Any

import pytest
from django.core import mail as outbox
from django.test import Client

from runs import sharing
from runs.models import RunStatus
from teammates import accounts, members
from teammates.access import Access
from teammates.errors import Forbidden, NotFound
from teammates.models import Organization
from tests.factories import browser_of, make_key, make_run
from threads import conversations

pytestmark = pytest.mark.django_db

SIGN_UPS = {
    "/v1/auth/register": {"login": "eve", "password": "correct horse 1", "email": "e@evil.test"},
    "/api/v2/signup": {"email": "e@evil.test", "first_name": "Eve", "password": "correct horse 1"},
    "/api/v1/auth/register": {
        "email": "e@evil.test", "password": "correct horse 1", "first_name": "Eve",
    },
}  # fmt: skip


def post(path: str, body: Any, **headers: str) -> Any:
    return Client().post(
        path, json.dumps(body), content_type="application/json", headers=headers or None
    )  # fmt: skip


@pytest.mark.parametrize("path", SIGN_UPS)
def test_strangers_do_not_sign_up_where_somebody_lives(
    alice: Access, settings: Any, path: str
) -> None:
    settings.REGISTRATION_OPEN = False
    assert post(path, SIGN_UPS[path]).status_code == 403
    assert list(Organization.objects.all()) == [alice.organization]
    assert not outbox.outbox
    settings.REGISTRATION_OPEN = True
    assert post(path, SIGN_UPS[path]).status_code == 201


def test_whoever_comes_first_signs_up(db: None, settings: Any) -> None:
    settings.REGISTRATION_OPEN = False
    first = accounts.register(email="a@example.com", password="correct horse 1")
    assert first.role == "owner"
    with pytest.raises(Forbidden, match="closed"):
        accounts.register(email="b@example.com", password="correct horse 1")


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/v1/me", "/api/v2/runs"])
def test_a_foreign_host_is_refused_before_anything_is_done(
    alice: Access, settings: Any, path: str
) -> None:
    settings.ALLOWED_HOSTS = ["muster.example"]
    answer = browser_of(alice).get(path, headers={"host": "evil.test"})
    assert answer.status_code == 400
    assert "evil.test" not in answer.content.decode()
    refused = post("/api/v2/signup", SIGN_UPS["/api/v2/signup"], host="evil.test")
    assert refused.status_code == 400
    assert Organization.objects.count() == 1
    assert Client().get("/healthz", headers={"host": "10.0.0.7"}).status_code == 200


def test_links_in_mails_lead_to_the_public_address_alone(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.PUBLIC_URL = ["*"], "https://muster.example"
    made = post("/api/v2/signup", SIGN_UPS["/api/v2/signup"], host="evil.attacker.test")
    assert made.status_code == 201
    (sent,) = outbox.outbox
    assert "https://muster.example/verify/" in sent.body
    assert "evil.attacker.test" not in sent.body


def test_an_invitation_leads_to_the_public_address(alice: Access, settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.PUBLIC_URL = ["*"], "https://muster.example"
    page = browser_of(alice).post(
        "/settings/invitations/new/", {"email": "new@example.com", "role": "member"},
        headers={"host": "evil.test"},
    )  # fmt: skip
    assert page.status_code == 200
    assert members.list_invitations(alice).count() == 1
    assert "https://muster.example/join/" in page.content.decode()
    assert "evil.test" not in outbox.outbox[0].body


def test_a_deleted_conversation_is_no_longer_public(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    path = sharing.path_of(sharing.share(alice, run)) or ""
    assert Client().get(path).status_code == 200
    conversations.delete_thread(alice, run.thread)
    assert Client().get(path).status_code == 404
    with pytest.raises(NotFound):
        sharing.find_shared(type(run), sharing.token_of(run) or "")


def test_strangers_learn_nothing_of_a_database_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from config import health

    def broken(*_: Any) -> Any:
        raise OperationalError("host=db.internal user=muster password=hush")

    monkeypatch.setattr(health, "MigrationExecutor", broken)
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert "hush" not in answer.content.decode()


# --- large bodies -------------------------------------------------------------------------------


def send_form(browser: Client, path: str, **headers: str) -> Any:
    return browser.post(path, {"message": "x" * 3000}, headers=headers or None)


def test_a_large_form_is_read_of_nobody_who_has_no_credential(
    alice: Access, settings: Any, monkeypatch: Any
) -> None:
    settings.MAX_JSON_BYTES = 2000
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000

    def parsed(*_: Any) -> None:
        raise AssertionError("it was read")

    with monkeypatch.context() as patched:
        patched.setattr("django.core.handlers.wsgi.WSGIRequest._load_post_and_files", parsed)
        assert send_form(Client(), "/sign-in/").status_code == 401
        assert send_form(Client(), "/threads/new/", cookie="sessionid=made-up").status_code == 401
        assert send_form(Client(), "/api/v2/runs").status_code == 401
        made_up = f"Bearer m8_{'0' * 64}"
        assert send_form(Client(), "/api/v2/runs", authorization=made_up).status_code == 401
        assert send_form(Client(), "/api/v1/mail/mail_made_up").status_code == 404
    assert send_form(browser_of(alice), "/threads/new/").status_code == 302
    key = f"Bearer {make_key(alice)}"
    read = send_form(Client(), "/api/v2/runs", authorization=key)
    assert read.status_code == 422  # and found to be no run


def test_the_description_of_an_api_is_made_once(db: None, monkeypatch: Any) -> None:
    first = Client().get("/api/v2/openapi.json")
    assert first.status_code == 200
    monkeypatch.setattr("ninja.NinjaAPI.get_openapi_schema", None)
    assert Client().get("/api/v2/openapi.json").json() == first.json()
