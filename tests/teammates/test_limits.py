"""How often: sign-ins, sign-ups, mails, uploads, exports; who is locked out, and who is not."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail as outbox
from django.db import connection
from django.test import Client
from django.utils import timezone

from runs.creation import requests
from runs.creation.attachments import Attachment
from runs.creation.options import Options
from runs.models import Notice
from runs.notifications import mailer
from runs.tasks import tasks
from runs.triggers import definitions
from runs.webhooks import endpoints
from teammates.access import Access
from teammates.errors import DomainError, Forbidden, Invalid, NotFound, NotSignedIn, TooMany
from teammates.models import LimitCount, RefreshToken, User
from teammates.people import api_keys, invitations, passwords, sessions, verification
from teammates.people import sign_in as people_sign_in
from teammates.roster import channels, editing
from teammates.trust import client, limits
from teammates.trust.limits import Limit, Room
from tests.factories import PASSWORD, browser_of, default_teammate, make_gate, make_key

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def limited(settings: Any) -> None:
    settings.LIMITS = True


def sign_in(
    login: str,
    password: str,
    address: str = "10.0.0.9",
    browser: Client | None = None,
    path: str = "/v1/auth/login",
) -> Any:
    return (browser or Client()).post(
        path,
        json.dumps({"login": login, "password": password}),
        content_type="application/json",
        REMOTE_ADDR=address,
    )


# --- counting -----------------------------------------------------------------------------------


def test_a_limit_refuses_what_is_over_it_until_its_window_ends() -> None:
    limit = Limit("tries", 2, 60)
    for _ in range(2):
        limits.take((limit, "kim"))
    with pytest.raises(TooMany, match="Too many tries; try again in") as refused:
        limits.take((limit, "kim"))
    assert 1 <= refused.value.retry_after <= 60
    limits.take((limit, "lee"))
    LimitCount.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    limits.take((limit, "kim"))
    limits.forget_ended()
    assert LimitCount.objects.count() == 1
    assert "kim" not in str(LimitCount.objects.values())


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_no_more_than_the_limit_get_through() -> None:
    limit, other = Limit("tries", 5, 60), Limit("tries of all", 100, 60)

    def attempt(number: int) -> bool:
        pairs = [(limit, "kim"), (other, "all")]
        try:
            limits.take(*(pairs if number % 2 else reversed(pairs)))
        except TooMany:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 5


def test_limits_that_an_operator_switched_off_count_nothing(settings: Any) -> None:
    settings.LIMITS = False
    for _ in range(3):
        limits.take((Limit("tries", 1, 60), "kim"))
    assert not LimitCount.objects.exists()


def test_a_full_room_refuses_and_keeps_nobody_waiting() -> None:
    room = limits.Room("people sign in", 1)
    with room.place(), pytest.raises(TooMany, match="people sign in"), room.place():
        pass
    with room.place():
        pass


# --- sign-in ------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["alice@example.com", "nobody@example.com"])
def test_wrong_passwords_lock_alike_whether_there_is_such_an_account(
    alice: Access, login: str
) -> None:
    answers = [sign_in(login, "wrong") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert answers[0].json()["message"] == answers[9].json()["message"]
    locked = answers[10].json()
    assert locked["code"] == "auth.locked"
    assert int(answers[10]["Retry-After"]) > 0
    assert sign_in(login.upper(), PASSWORD).status_code == 429


def test_a_strangers_guesses_do_not_keep_an_owner_out(alice: Access) -> None:
    browser = Client()
    form = {"email": "alice@example.com", "password": PASSWORD}
    assert browser.post("/sign-in/", form).status_code == 302
    browser.post("/sign-out/")
    assert sign_in("alice@example.com", "wrong", "10.0.0.9").status_code == 401
    for _ in range(12):  # one source: locked, and nobody else is
        sign_in("alice@example.com", "wrong", "10.0.0.9")
    assert sign_in("alice@example.com", PASSWORD, "10.0.0.8").status_code == 200
    for number in range(110):  # a hundred sources: strange ones are locked, her browser is not
        sign_in("alice@example.com", "wrong", f"10.1.{number}.1")
    assert sign_in("alice@example.com", PASSWORD, "10.2.0.1").status_code == 429
    assert browser.post("/sign-in/", form).status_code == 302


def test_a_browser_that_is_known_for_one_account_is_a_stranger_to_another(
    alice: Access, bob: Access
) -> None:
    browser = Client()
    form = {"email": "bob@example.com", "password": PASSWORD}
    browser.post("/sign-in/", form)
    wrong = {"email": "alice@example.com", "password": "x"}
    for _ in range(10):
        assert "is wrong" in browser.post("/sign-in/", wrong).content.decode()
    assert "Too many wrong passwords" in browser.post("/sign-in/", wrong).content.decode()
    assert browser.post("/sign-in/", form).status_code == 302


def test_a_browser_is_a_stranger_again_once_all_sessions_were_ended(alice: Access) -> None:
    assert alice.user is not None
    browser = Client()
    form = {"email": "alice@example.com", "password": PASSWORD}
    browser.post("/sign-in/", form)
    sessions.end_all_sessions(alice.user)
    for number in range(101):
        sign_in("alice@example.com", "wrong", f"10.1.{number}.1")
    assert browser.post("/sign-in/", form).status_code == 422


def test_who_finds_no_place_to_hash_made_no_guess(alice: Access, monkeypatch: Any) -> None:
    monkeypatch.setattr(passwords, "_hashing", Room("people sign in", 1))
    with passwords._hashing.place():
        for _ in range(15):
            assert sign_in("alice@example.com", PASSWORD).status_code == 429
    assert sign_in("alice@example.com", PASSWORD).status_code == 200


def test_the_right_password_begins_the_count_anew(alice: Access) -> None:
    for _ in range(3):
        for _ in range(8):
            assert sign_in("alice@example.com", "wrong").status_code == 401
        assert sign_in("alice@example.com", PASSWORD).status_code == 200


def test_one_address_signs_in_so_often_and_an_ipv6_household_is_one(alice: Access) -> None:
    made = [sign_in(f"n{n}@example.com", "x", f"2001:db8::{n:x}") for n in range(1, 62)]
    assert [one.status_code for one in made] == [401] * 60 + [429]
    assert sign_in("alice@example.com", PASSWORD, "2001:db8:0:1::1").status_code == 200


def test_addresses_of_both_families_are_told_apart_on_one_socket(alice: Access) -> None:
    made = [sign_in(f"n{n}@example.com", "x", f"::ffff:10.0.0.{n}") for n in range(1, 63)]
    assert {one.status_code for one in made} == {401}
    assert client.is_trusted("::ffff:127.0.0.1")
    assert not client.is_trusted("::ffff:10.0.0.1")


def test_only_trusted_proxies_say_who_the_client_is(alice: Access, settings: Any) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]

    def guess(peer: str, forwarded: str) -> int:
        body = json.dumps({"login": "alice@example.com", "password": "x"})
        return int(
            Client()
            .post(
                "/v1/auth/login",
                body,
                content_type="application/json",
                REMOTE_ADDR=peer,
                headers={"x-forwarded-for": forwarded},
            )
            .status_code
        )

    behind = [guess("10.0.0.1", f"9.9.9.9, 203.0.113.{n}, 10.0.0.2") for n in range(11)]
    assert behind == [401] * 11
    forged = [guess("198.51.100.7", f"203.0.113.{n}") for n in range(11)]
    assert forged == [401] * 10 + [429]


@pytest.mark.parametrize("named", ["203.0.113.7", "203.0.113.7:4711"])
def test_a_port_in_what_a_proxy_says_is_not_part_of_the_address(named: str, settings: Any) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "2001:db8:1::/48"]
    assert client.real_address("10.0.0.1", named) == "203.0.113.7"
    assert client.real_address("10.0.0.1", f"{named}, [2001:db8:1::1]:80") == "203.0.113.7"


def test_strangers_do_not_say_that_the_connection_was_safe(settings: Any) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    seen = [
        Client()
        .get("/sign-in/", REMOTE_ADDR=peer, headers={"x-forwarded-proto": "https"})
        .wsgi_request.is_secure()
        for peer in ("10.0.0.1", "198.51.100.7")
    ]
    assert seen == [True, False]


# --- sign-up and mails --------------------------------------------------------------------------


def test_one_address_signs_up_so_often(alice: Access) -> None:
    def sign_up(number: int) -> Any:
        body = {"email": f"n{number}@example.com", "password": PASSWORD, "login": f"n{number}"}
        return Client().post("/v1/auth/register", json.dumps(body), content_type="application/json")

    answers = [sign_up(number) for number in range(11)]
    assert [answer.status_code for answer in answers] == [201] * 10 + [429]
    assert int(answers[10]["Retry-After"]) > 0


def test_nobody_is_mailed_again_and_again(alice: Access) -> None:
    stranger = people_sign_in.register(email="victim@corp.test", password=PASSWORD)
    assert stranger.user is not None
    for _ in range(5):
        verification.send_verification(stranger.user)
    with pytest.raises(TooMany, match="mails to this address"):
        verification.send_verification(stranger.user)
    assert len(outbox.outbox) == 5


def test_who_signs_up_has_an_account_even_where_mails_are_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "ASKED_MAILS", Limit("mails", 0, 60))
    body = json.dumps({"email": "kim@corp.test", "first_name": "Kim", "password": PASSWORD})
    made = Client().post("/api/v2/signup", body, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["api_key"]
    assert outbox.outbox == []


def test_whoever_has_mails_sent_to_an_address_keeps_nobody_from_a_new_password(
    alice: Access,
) -> None:
    assert alice.user is not None
    for _ in range(5):
        limits.take((limits.MAILS_TO, alice.user.email))
    passwords.ask_for_reset(alice.user.email)
    assert len(outbox.outbox) == 1


def test_no_words_of_a_stranger_are_in_the_mail_that_asks_to_confirm() -> None:
    name = "Click http://evil.test NOW"
    stranger = people_sign_in.register(email="victim@corp.test", password=PASSWORD, name=name)
    assert stranger.user is not None
    verification.send_verification(stranger.user)
    assert "evil.test" not in outbox.outbox[0].body + outbox.outbox[0].subject


def test_nothing_leaves_in_the_name_of_an_unconfirmed_account(alice: Access) -> None:
    stranger = people_sign_in.register(email="eve@evil.test", password=PASSWORD)
    agent = default_teammate(stranger.organization)
    task = tasks.create_task(stranger, agent, instructions="x")
    for attempt in (
        lambda: channels.make_webhook(stranger, agent),
        lambda: channels.set_fetchmail(stranger, agent, enabled=True),
        lambda: definitions.make_webhook(stranger, task),
        lambda: definitions.open_inbox(stranger, task, allowed_senders=None),
        lambda: invitations.invite(stranger, email="victim@corp.test", role="member"),
        lambda: endpoints.add_endpoint(stranger, url="https://example.com"),
        lambda: channels.set_inbox(stranger, agent, enabled=True),
    ):
        with pytest.raises(Forbidden, match="Confirm your e-mail"):
            attempt()
    assert stranger.user is not None
    verification.verify(stranger.user, by=stranger.user)
    invitations.invite(stranger, email="kim@corp.test", role="member")


def test_an_organization_invites_so_many_a_day(alice: Access, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "INVITATIONS", Limit("invitations", 2, 60))
    for number in range(2):
        invitations.invite(alice, email=f"n{number}@corp.test", role="member")
    with pytest.raises(TooMany, match="invitations"):
        invitations.invite(alice, email="n3@corp.test", role="member")


def test_mails_of_runs_wait_when_one_address_gets_too_many(alice: Access, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits, "NOTICES_TO", Limit("mails to this address", 2, 600))
    for _ in range(3):
        make_gate(alice)
    Notice.objects.update(due_at=timezone.now())
    assert len(mailer.claim_due()) == 2
    (waits,) = Notice.objects.filter(attempts=0)
    assert waits.due_at is not None
    assert waits.due_at > timezone.now() + timedelta(seconds=300)
    counted = limits.NOTICES.name(alice.organization.pk)
    assert LimitCount.objects.get(name=counted).taken == 2  # of what went out


# --- uploads and exports ------------------------------------------------------------------------


def test_uploads_are_counted_for_a_person_and_for_all(
    alice: Access, bob: Access, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limits, "UPLOADS", Limit("uploads", 2, 60))
    monkeypatch.setattr(limits, "UPLOADS_OF_ALL", Limit("uploads in your organization", 3, 60))

    def upload(access: Access) -> None:
        requests.create_run(
            access, message="x", options=Options(), attachments=[Attachment("a.txt", b"x")]
        )

    upload(alice)
    upload(alice)
    with pytest.raises(TooMany, match="Too many uploads;"):
        upload(alice)
    with pytest.raises(TooMany, match="in your organization"):
        upload(bob)
    requests.create_run(alice, message="nothing enclosed", options=Options())


@pytest.mark.parametrize(
    "path",
    [
        "/runs/?format=csv",
        "/usage/?format=csv",
        "/settings/audit/?format=csv",
    ],
)
def test_exports_are_counted(alice: Access, monkeypatch: Any, path: str) -> None:
    monkeypatch.setattr(limits, "EXPORTS", Limit("exports", 1, 60))
    browser = browser_of(alice)
    assert browser.get(path).status_code == 200
    assert browser.get(path).status_code == 429


# --- passwords ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "short 1",
        " " * 12,
        "aaaaaaaaaaaa",
        "abababababab",
        "kim.lee@corp.test",
        "kim.lee@corp",
        "password123",
    ],
)
def test_weak_passwords_are_refused(db: None, password: str) -> None:
    with pytest.raises(Invalid, match="password"):
        people_sign_in.register(email="kim.lee@corp.test", password=password, name="Kim Lee")
    assert not User.objects.exists()


def test_a_forgotten_password_is_set_anew_by_a_mail_once(alice: Access) -> None:
    assert alice.user is not None
    session = sessions.open_session(alice)
    browser = Client()
    told = browser.post("/forgot/", {"email": "Alice@example.com"}).content.decode()
    (sent,) = outbox.outbox
    assert sent.to == ["alice@example.com"]
    link = re.search(r"http://127\.0\.0\.1:8000(/reset/\S+/)", sent.body)
    assert link is not None
    unknown = browser.post("/forgot/", {"email": "nobody@example.com"}).content.decode()
    assert unknown.replace("nobody@example.com", "") == told.replace("Alice@example.com", "")
    assert len(outbox.outbox) == 1
    assert browser.post(link[1], {"password": "short"}).status_code == 422
    assert browser.post(link[1], {"password": "a new pass phrase"}).status_code == 302
    assert browser.get(link[1]).status_code == 404
    assert sign_in("alice@example.com", PASSWORD).status_code == 401
    assert sign_in("alice@example.com", "a new pass phrase").status_code == 200
    with pytest.raises(NotSignedIn):
        sessions.renew_session(session.refresh)


def test_a_new_password_ends_the_keys_of_whoever_registered_an_address(alice: Access) -> None:
    made = people_sign_in.register(email="victim@corp.test", password=PASSWORD)
    key = make_key(made)
    passwords.ask_for_reset("victim@corp.test")
    found = re.search(r"/reset/(\S+)/", str(outbox.outbox[0].body))
    assert found is not None
    passwords.reset_password(found[1], "a new pass phrase")
    with pytest.raises(NotSignedIn):
        api_keys.access_of_bearer(key)


def test_a_link_for_a_new_password_ends_with_time_and_is_not_made_up(
    alice: Access, monkeypatch: Any
) -> None:
    assert alice.user is not None
    passwords.ask_for_reset("alice@example.com")
    found = re.search(r"/reset/(\S+)/", str(outbox.outbox[0].body))
    assert found is not None
    assert passwords.user_of_reset(found[1]) == alice.user
    with pytest.raises(NotFound):
        passwords.user_of_reset(found[1][:-2] + "AA")
    monkeypatch.setattr(passwords, "RESET_LINK_HOURS", -1)
    with pytest.raises(NotFound):
        passwords.user_of_reset(found[1])


# --- sessions and claims ------------------------------------------------------------------------


def test_a_stolen_refresh_token_ends_the_session_when_it_is_used_again(alice: Access) -> None:
    stolen = sessions.open_session(alice).refresh
    _, renewed = sessions.renew_session(stolen)
    with pytest.raises(NotSignedIn):  # at once: a program that asked twice
        sessions.renew_session(stolen)
    sessions.access_of_token(renewed.access)
    RefreshToken.objects.update(renewed_at=timezone.now() - timedelta(minutes=5))
    with pytest.raises(NotSignedIn):
        sessions.renew_session(stolen)
    with pytest.raises(NotSignedIn):
        sessions.renew_session(renewed.refresh)
    with pytest.raises(NotSignedIn):
        sessions.access_of_token(renewed.access)


def test_a_stolen_refresh_token_ends_the_session_however_often_its_owner_renewed(
    alice: Access,
) -> None:
    stolen = sessions.open_session(alice).refresh
    _, once = sessions.renew_session(stolen)
    _, twice = sessions.renew_session(once.refresh)
    with pytest.raises(NotSignedIn):
        sessions.renew_session(stolen)
    with pytest.raises(NotSignedIn):
        sessions.renew_session(twice.refresh)


def test_nobody_ends_a_session_whose_number_they_guess(alice: Access) -> None:
    mine = sessions.open_session(alice).refresh
    number, _, rest = mine.partition(".")
    for made_up in (f"{number}.{rest[:-2]}AA", f"{number}.x:y", f"{number}.x", number):
        with pytest.raises(NotSignedIn):
            sessions.renew_session(made_up)
    sessions.renew_session(mine)


def test_a_session_stays_in_its_organization_when_it_is_renewed(alice: Access, eve: Access) -> None:
    assert eve.user is not None
    invitation, _ = invitations.invite(alice, email="eve@example.com", role="member")
    invitations.accept(invitation, user=eve.user)
    there = sessions.open_session(Access(alice.organization, "member", user=eve.user))
    access, _ = sessions.renew_session(there.refresh)
    assert access.organization == alice.organization


def test_a_click_confirms_no_account_that_somebody_else_registered(alice: Access) -> None:
    made = people_sign_in.register(email="victim@corp.test", password=PASSWORD)
    assert made.user is not None
    path = verification.verification_link(made.user)
    victim = Client()
    page = victim.get(path).content.decode()
    assert "Your password" in page
    assert victim.post(path, {"password": "what the victim has"}).status_code == 422
    made.user.refresh_from_db()
    assert made.user.email_verified_at is None
    assert victim.post(path, {"password": PASSWORD}).status_code == 302
    made.user.refresh_from_db()
    assert made.user.email_verified_at is not None


def test_whoever_claims_an_account_sees_what_a_program_set_up(alice: Access) -> None:
    made = people_sign_in.register(email="victim@corp.test", password=None)
    assert made.user is not None
    trojan = editing.create_teammate(made, name="Trojan")
    tasks.create_task(made, trojan, instructions="x", name="Tell me everything")
    with pytest.raises(DomainError, match="Confirm"):
        endpoints.add_endpoint(made, url="https://evil.test/")
    page = Client().get(verification.verification_link(made.user)).content.decode()
    assert "Teammate “Trojan”" in page
    assert "Task “Tell me everything”" in page
