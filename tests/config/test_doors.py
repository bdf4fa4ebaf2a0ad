"""Doors that are closed by default: sign-up, foreign host names, links in mails, public links."""

import json
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core import mail as outbox
from django.test import Client
from django.utils import timezone

from runs.gates import answers
from runs.lifecycle import leases
from runs.models import Artifact, Run, RunStatus
from runs.retention import erasure
from runs.sharing import artifacts, links
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
from teammates.integrations import servers
from teammates.llm import catalog
from teammates.models import Organization
from teammates.people import invitations, members, sign_in
from teammates.roster import channels, webhook_tokens
from teammates.tools import masking
from tests.api import call
from tests.factories import (
    browser_of,
    claim,
    default_teammate,
    make_bob,
    make_gate,
    make_key,
    make_run,
)
from threads import conversations, files
from threads.models import Message, Thread

pytestmark = pytest.mark.django_db

SIGN_UPS = {
    "/v1/auth/register": {"login": "eve", "password": "correct horse 1", "email": "e@evil.test"},
    "/api/v2/signup": {"email": "e@evil.test", "first_name": "Eve", "password": "correct horse 1"},
    "/api/v1/auth/register": {
        "email": "e@evil.test",
        "password": "correct horse 1",
        "first_name": "Eve",
    },
}


def post(path: str, body: Any, **headers: str) -> Any:
    return Client().post(
        path, json.dumps(body), content_type="application/json", headers=headers or None
    )


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


@pytest.mark.parametrize("path", SIGN_UPS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_no_page_of_another_site_signs_anybody_up(db: None, path: str, kind: str) -> None:
    refused = Client().post(path, json.dumps(SIGN_UPS[path]), content_type=kind)
    assert refused.status_code == 422
    assert "application/json" in refused.content.decode()
    assert not Organization.objects.exists()


def test_whoever_comes_first_signs_up(db: None, settings: Any) -> None:
    settings.REGISTRATION_OPEN = False
    first = sign_in.register(email="a@example.com", password="correct horse 1")
    assert first.role == "owner"
    with pytest.raises(Forbidden, match="closed"):
        sign_in.register(email="b@example.com", password="correct horse 1")


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
        "/settings/invitations/new/",
        {"email": "new@example.com", "role": "member"},
        headers={"host": "evil.test"},
    )
    assert page.status_code == 200
    assert invitations.list_invitations(alice).count() == 1
    assert "https://muster.example/join/" in page.content.decode()
    assert "evil.test" not in outbox.outbox[0].body


def test_a_deleted_conversation_is_gone_for_links_programs_and_search(alice: Access) -> None:
    run = make_run(alice, message="the secret plan", status=RunStatus.COMPLETED)
    key = make_key(alice)
    path = links.path_of(links.share(alice, run)) or ""
    assert Client().get(path).status_code == 200
    words = "/search/?q=secret"
    assert f"/runs/{run.pk}/" in browser_of(alice).get(words).content.decode()
    conversations.delete_thread(alice, run.thread)
    assert Client().get(path).status_code == 404
    with pytest.raises(NotFound):
        links.find_shared(type(run), links.token_of(run) or "")
    for tail in ("", "/messages", "/files", "/permissions", "/outcome"):
        assert call(key, "GET", f"/api/v2/runs/{run.pk}{tail}").status_code == 404, tail
    assert call(key, "GET", f"/v1/runs/{run.uid}").status_code == 404
    assert call(key, "GET", "/api/v2/runs").json()["data"] == []
    assert f"/runs/{run.pk}/" not in browser_of(alice).get(words).content.decode()
    assert browser_of(alice).get(f"/runs/{run.pk}/").status_code == 404


def test_what_waits_in_a_deleted_conversation_is_closed_and_what_works_is_stopped(
    alice: Access,
) -> None:
    waiting = make_gate(alice).run
    busy = make_run(alice)
    claim(busy)
    for run in (waiting, busy):
        conversations.delete_thread(alice, run.thread)
    assert leases.close_orphans() == 1
    waiting.refresh_from_db()
    busy.refresh_from_db()
    assert (waiting.status, waiting.stop_reason) == ("closed", "closed:thread_deleted")
    assert busy.cancel_requested_at is not None


def test_the_words_of_a_deleted_conversation_are_erased_after_a_while(alice: Access) -> None:
    run = make_run(alice, message="the secret plan", status=RunStatus.COMPLETED)
    kept = make_run(alice, message="another plan", status=RunStatus.COMPLETED)
    silent = conversations.create_thread(alice)
    conversations.post_message(alice, silent, "never answered")
    for thread in (run.thread, silent):
        conversations.delete_thread(alice, thread)
    erasure.erase_said()
    assert Message.objects.filter(content="the secret plan").exists()
    Thread.objects.exclude(deleted_at=None).update(deleted_at=timezone.now() - timedelta(days=31))
    erasure.erase_said()
    assert set(Message.objects.filter(role="user").values_list("content", flat=True)) == {
        "(erased)",
        "another plan",
    }
    assert Run.objects.filter(pk=kept.pk, erased_at=None).exists()


def test_links_from_before_links_ended_get_an_end_and_a_maker(alice: Access) -> None:
    run = links.share(alice, make_run(alice, status=RunStatus.COMPLETED))
    file = files.write_file(run.thread, name="a.txt", content=b"x")
    artifact = Artifact.objects.create(
        organization=run.organization, run=run, file=file, name="a.txt", share_nonce="x"
    )
    Run.objects.update(shared_until=None, shared_by=None)
    import_module("runs.migrations.0012_links_end").end_links(apps, None)
    for row in (run, artifact):
        row.refresh_from_db()
        assert row.shared_by == alice.user
        assert row.shared_until is not None


def test_a_link_ends_with_its_time_and_with_the_membership_of_who_shared(alice: Access) -> None:
    bob = make_bob(alice)
    run = make_run(bob, status=RunStatus.COMPLETED)
    path = links.path_of(links.share(bob, run)) or ""
    assert Client().get(path).status_code == 200
    Run.objects.update(shared_until=timezone.now() - timedelta(seconds=1))
    assert Client().get(path).status_code == 404
    again = links.path_of(links.share(bob, run)) or ""
    assert again != path
    assert Client().get(again).status_code == 200
    assert bob.user is not None
    members.remove_member(alice, bob.user.memberships.get())
    assert Client().get(again).status_code == 404


def test_a_colleagues_public_file_is_not_listed(alice: Access) -> None:
    bob, carl = make_bob(alice), make_bob(alice, email="carl@example.com")
    run = make_run(carl, status=RunStatus.COMPLETED)
    file = files.write_file(run.thread, name="a.txt", content=b"x")
    run.run_files.create(file=file)
    links.share(carl, artifacts.keep_file(carl, run, "a.txt"))
    assert links.list_links(bob) == []
    assert len(links.list_links(carl)) == len(links.list_links(alice)) == 1


def test_admins_see_every_public_link_and_revoke_it_members_their_own(alice: Access) -> None:
    bob = make_bob(alice)
    of_bob = links.share(bob, make_run(bob, message="Bobs", status=RunStatus.COMPLETED))
    of_alice = links.share(alice, make_run(alice, message="hers", status=RunStatus.COMPLETED))
    page = "/settings/links/"
    assert links.path_of(of_alice) not in browser_of(bob).get(page).content.decode()
    seen = browser_of(alice).get(page).content.decode()
    assert links.path_of(of_bob) in seen
    assert links.path_of(of_alice) in seen
    browser_of(bob).post(f"{page}revoke/", {"kind": "run", "id": of_alice.pk})
    assert Client().get(links.path_of(of_alice) or "").status_code == 200
    browser_of(alice).post(f"{page}revoke/", {"kind": "run", "id": of_bob.pk})
    assert Client().get(links.path_of(of_bob) or "").status_code == 404


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


DEEP = "[" * 5_000
FAIRLY_DEEP = "[" * 400 + "]" * 400  # what a parser still takes, and a walk through it may not


@pytest.mark.parametrize("text", [DEEP, FAIRLY_DEEP, "[NaN]", "[1e999]"])
def test_json_that_cannot_be_walked_through_is_refused_at_every_door(
    alice: Access, text: str
) -> None:
    key, browser = make_key(alice), browser_of(alice)
    bearer = {"authorization": f"Bearer {key}"}

    def send(path: str, body: str) -> int:
        answer = Client().post(path, body, content_type="application/json", headers=bearer)
        return int(answer.status_code)

    assert send("/api/v2/runs", f'{{"message": "x", "metadata": {{"a": {text}}}}}') == 422
    assert send("/v1/threads", text) == 422
    token = channels.make_webhook(alice, default_teammate(alice.organization))
    path = webhook_tokens.path("mates", default_teammate(alice.organization).pk, token)
    assert send(path, text) == 422
    gate = make_gate(alice)
    run = Run.objects.get(pk=gate.run_id)
    with pytest.raises(Invalid):
        answers.answer_text(alice, run, f'{{"decision": "approve", "arguments": {text}}}')
    described = [{"name": "a", "method": "GET", "path": "/a", "description": "x"}]
    server = servers.add_server(
        alice, servers.NewServer(name="A", url="https://example.com", tool_defs=described)
    )
    form = {"name": "A", "kind": "rest_api", "url": server.url, "tool_defs": text}
    page = browser.post(f"/settings/apps/{server.pk}/", form)
    assert page.status_code == 422
    assert "This is not JSON" in page.content.decode()
    assert masking.masked_json(text) == {"unreadable": f"{len(text)} characters that are not JSON"}


def test_a_name_of_a_model_that_is_too_long_is_refused(alice: Access) -> None:
    provider = catalog.create_provider(alice, name="P", kind="openai", api_key="sk")
    for given in ({"alias": "x" * 201, "name": "x"}, {"alias": "", "name": "x" * 201}):
        with pytest.raises(Invalid, match="at most 200"):
            catalog.add_model(alice, provider, **given)


def test_the_description_of_an_api_is_made_once(db: None, monkeypatch: Any) -> None:
    first = Client().get("/api/v2/openapi.json")
    assert first.status_code == 200
    monkeypatch.setattr("ninja.NinjaAPI.get_openapi_schema", None)
    assert Client().get("/api/v2/openapi.json").json() == first.json()


def test_programs_do_not_pass_through_what_pages_need(alice: Access) -> None:
    page, description = Client().get("/login/"), Client().get("/api/v2/docs")
    answer = call(make_key(alice), "GET", "/v1/threads")
    probe = Client().get("/healthz")
    for shown in (page, description):
        assert "Content-Security-Policy" in shown.headers
        assert shown.headers["X-Frame-Options"] == "DENY"
    for told in (answer, probe):
        assert told.status_code == 200
        assert not hasattr(told.wsgi_request, "session")
        assert "Content-Security-Policy" not in told.headers
    for one in (page, description, answer, probe):
        assert one.headers["X-Content-Type-Options"] == "nosniff"
        assert "no-store" in one.headers["Cache-Control"]
