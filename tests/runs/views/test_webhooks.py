"""The pages of outgoing webhooks and of mail."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from runs.models import DeliveryStatus, RunStatus, WebhookEndpoint
from runs.webhooks import endpoints
from teammates.access import Access
from teammates.models import Organization, Role
from tests.factories import browser_of, make_bob, make_eve, make_run
from tests.receivers import Receiver, serve_receiver
from tests.runs.views.test_tasks import text_of
from tests.runs.webhooks.receiving import deliver, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def page(alice: Access) -> Client:
    return browser_of(alice)


@pytest.fixture
def receiver() -> Any:
    with serve_receiver() as running:
        yield running


def act(page: Client, endpoint: WebhookEndpoint, **given: str) -> Any:
    return page.post(f"/webhooks/{endpoint.pk}/act/", given)


def test_a_webhook_is_made_and_its_secret_shown_once(page: Client) -> None:
    assert "No webhooks yet" in text_of(page.get("/webhooks/"))
    made = page.post("/webhooks/new/", {"url": "https://a.example", "events": ["run.failed"]})
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.secret in made.content.decode()
    assert endpoint.events == ["run.failed"]
    assert endpoint.secret not in page.get(f"/webhooks/{endpoint.pk}/").content.decode()
    changed = page.post(
        f"/webhooks/{endpoint.pk}/change/",
        {"url": "https://b.example", "description": "Shop", "events": ["run.completed"]},
    )
    assert changed.status_code == 302
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.description, endpoint.events) == (
        "https://b.example",
        "Shop",
        ["run.completed"],
    )
    wrong = page.post("/webhooks/new/", {"url": "ftp://a", "events": ["run.failed"]})
    assert wrong.status_code == 422
    assert "Address must begin with" in text_of(wrong)
    deaf = page.post("/webhooks/new/", {"url": "https://a.example"})
    assert "Choose at least one" in text_of(deaf)


def test_deliveries_are_listed_filtered_and_shown(
    page: Client, alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken")
    run = make_run(alice, status=RunStatus.COMPLETED)
    deliver()
    path = f"/webhooks/{endpoint.pk}/"
    shown = text_of(page.get(path))
    assert "run.started" in shown
    assert "Failing since" in shown
    assert "No delivery matches" in text_of(page.get(f"{path}?status=success"))
    assert "run.started" in text_of(page.get(f"{path}?status=pending&run={run.pk}"))
    delivery = endpoint.deliveries.order_by("id")[0]
    one = f"{path}deliveries/{delivery.pk}/"
    for answer in (
        page.get(one),
        page.get(one, headers={"HX-Request": "1", "HX-Target": "peek"}),
    ):
        said = answer.content.decode()
        assert "It answered 500." in said
        assert "Webhook-Signature: v1=" in said
        assert "curl -X POST" in said
    assert "100 %" not in text_of(page.get("/webhooks/"))


def test_send_again_give_up_and_check_a_secret(
    page: Client, alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken", events=["run.started"])
    make_run(alice)
    deliver()
    delivery = endpoint.deliveries.get()
    one = f"/webhooks/{endpoint.pk}/deliveries/{delivery.pk}/"
    assert "Right:" in text_of(page.post(one, {"act": "verify", "secret": endpoint.secret}))
    assert "Wrong:" in text_of(page.post(one, {"act": "verify", "secret": "x"}))
    page.post(one, {"act": "skip"})
    delivery.refresh_from_db()
    assert (delivery.status, delivery.error) == (DeliveryStatus.FAILED, "Skipped by Alice.")
    page.post(one, {"act": "resend"})
    receiver.is_broken = False
    deliver()
    delivery.refresh_from_db()
    assert delivery.status == DeliveryStatus.SUCCESS


def test_test_pause_resume_rotate_resend_and_remove(
    page: Client, alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    sent = act(page, endpoint, act="test")
    assert "/deliveries/" in sent["Location"]
    deliver()
    assert "200" in text_of(page.get(sent["Location"]))
    for what, is_active in (("pause", False), ("resume", True)):
        act(page, endpoint, act=what)
        endpoint.refresh_from_db()
        assert endpoint.active == is_active
    rotated = act(page, endpoint, act="rotate")
    endpoint.refresh_from_db()
    assert endpoint.secret in rotated.content.decode()
    assert "Two secrets are good until" in text_of(page.get(f"/webhooks/{endpoint.pk}/"))
    make_run(alice)
    endpoint.deliveries.update(status=DeliveryStatus.FAILED, next_retry_at=None)
    act(page, endpoint, act="resend", hours="24")
    assert endpoint.deliveries.filter(status=DeliveryStatus.PENDING).count() == 1
    act(page, endpoint, act="delete")
    assert page.get(f"/webhooks/{endpoint.pk}/").status_code == 404
    assert "No webhooks yet" in text_of(page.get("/webhooks/"))


def test_what_was_paused_by_itself_says_so(page: Client, alice: Access) -> None:
    endpoint = make_endpoint(alice, "https://a.example")
    WebhookEndpoint.objects.update(active=False, rests_because="failures")
    assert "it answered nothing for a day" in text_of(page.get(f"/webhooks/{endpoint.pk}/"))


def test_others_do_not_see_webhooks(alice: Access) -> None:
    endpoint = make_endpoint(alice, "https://a.example")
    endpoints.send_test(alice, endpoint)
    for other, status in ((make_bob(alice), 403), (make_eve(), 404)):
        theirs = browser_of(other)
        for path in (
            f"/webhooks/{endpoint.pk}/",
            f"/webhooks/{endpoint.pk}/change/",
            f"/webhooks/{endpoint.pk}/deliveries/{endpoint.deliveries.get().pk}/",
        ):
            assert theirs.get(path).status_code == status
        act(theirs, endpoint, act="delete")
    assert WebhookEndpoint.objects.exists()
    admin = make_bob(alice, role=Role.ADMIN, email="ada@example.com")
    assert browser_of(admin).get("/webhooks/").status_code == 200


def test_the_list_takes_the_same_queries_for_one_and_for_many(page: Client, alice: Access) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def count() -> int:
        with CaptureQueriesContext(connection) as found:
            assert page.get("/webhooks/").status_code == 200
        return len(found)

    make_endpoint(alice, "https://a.example")
    count()
    one = count()
    for number in range(6):
        make_endpoint(alice, f"https://a{number}.example")
    make_run(alice)
    assert count() == one


# --- mail ---------------------------------------------------------------------------------------


def test_mails_that_no_server_took_are_read_on_a_page(
    page: Client, alice: Access, settings: Any, tmp_path: Path
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path)
    assert "Kept mails" not in text_of(page.get("/settings/mail/"))  # not the host's own account
    Organization.objects.update(is_home=True)
    assert "No mails yet" in text_of(page.get("/settings/mail/"))
    page.post("/settings/notifications/test/")
    shown = page.get("/settings/mail/")
    assert "A test from Muster" in text_of(shown)
    link = re.search(r'href="(\?mail=[^"]+)"', shown.content.decode())
    assert link
    assert "reach you" in text_of(page.get(f"/settings/mail/{link[1]}"))
    assert page.get("/settings/mail/?mail=../../etc/passwd").status_code == 404
    bob = make_bob(alice, role=Role.ADMIN)
    assert "Kept mails" not in text_of(browser_of(bob).get("/settings/mail/"))
    assert browser_of(bob).get(f"/settings/mail/{link[1]}").status_code == 404
    cy = make_bob(alice, email="cy@example.com")
    assert browser_of(cy).get("/settings/mail/").status_code == 403


def test_the_door_for_mail_services_is_made_renewed_and_closed_on_the_page(
    page: Client, alice: Access
) -> None:
    def act(act: str) -> str:
        return text_of(page.post("/settings/mail/", {"act": act}, follow=True))

    assert "Make an address" in text_of(page.get("/settings/mail/"))
    first = re.search(r"http\S+/api/v1/mail/mail_[0-9a-f]{48}", act("gateway_open"))
    assert first
    later = text_of(page.get("/settings/mail/"))
    assert first[0] not in later
    assert re.search(r"/api/v1/mail/mail_\w{3}\*{4}", later)
    assert first[0] not in act("gateway_open")
    assert "Make an address" in act("gateway_close")


def test_tests_are_no_part_of_an_endpoints_health(
    page: Client, alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken")
    act(page, endpoint, act="test")
    deliver()
    assert endpoint.deliveries.get().status == DeliveryStatus.FAILED
    assert endpoints.health_of([endpoint]) == {}


def test_the_list_says_what_a_delivery_waits_for(
    page: Client, alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(
        alice, f"{receiver.url}/broken", events=["run.started", "run.completed"]
    )
    make_run(alice, status=RunStatus.COMPLETED)
    deliver()
    shown = text_of(page.get(f"/webhooks/{endpoint.pk}/"))
    assert "after the one before it" in shown
    WebhookEndpoint.objects.update(active=False, rests_because="failures")
    assert text_of(page.get(f"/webhooks/{endpoint.pk}/")).count("when it is woken") == 2
    woken = page.post(f"/webhooks/{endpoint.pk}/act/", {"act": "resume"}, follow=True)
    assert "2 that waited are sent now, in order." in text_of(woken)
    receiver.is_broken = False
    deliver()
    assert not endpoint.deliveries.exclude(status=DeliveryStatus.SUCCESS).exists()


def test_events_that_the_form_does_not_offer_stay(page: Client, alice: Access) -> None:
    endpoint = make_endpoint(alice, "https://a.example", events=["run.failed", "balance.low"])
    given = {"url": endpoint.url, "events": ["run.completed"]}
    assert page.post(f"/webhooks/{endpoint.pk}/change/", given).status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.events == ["run.completed", "balance.low"]
