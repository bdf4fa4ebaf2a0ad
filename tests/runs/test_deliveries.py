"""Outgoing webhooks: written with the event, sent at least once, in order, signed, for a day."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs.creation import options, requests
from runs.lifecycle import endings
from runs.models import (
    DeliveryAttempt,
    DeliveryStatus,
    Dialect,
    EndpointPauseReason,
    Notice,
    Run,
    RunStatus,
    WebhookDelivery,
    WebhookEndpoint,
)
from runs.retention import erasure
from runs.webhooks import deliveries, endpoints, outbox, sender
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, Unsuitable
from teammates.models import Organization, Role
from teammates.people import end_users
from teammates.public_http import outside_client
from tests.factories import bring_to, make_alice, make_bob, make_gate, make_run
from tests.receivers import Receiver, serve_receiver

pytestmark = pytest.mark.django_db(transaction=True)
ALL = list(outbox.EVENTS)


@pytest.fixture
def alice(db: None) -> Access:
    return make_alice()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as running:
        yield running


def make_endpoint(access: Access, url: str, **fields: Any) -> WebhookEndpoint:
    return endpoints.add_endpoint(access, url=url, **{"events": ALL} | fields)


def deliver(*, may_be_private: bool = True) -> None:
    """Send what is due, until nothing is."""

    async def send(claimed: list[WebhookDelivery]) -> list[list[sender.SendAttempt]]:
        async with outside_client(may_be_private=may_be_private, timeout=5) as client:
            return [await sender.send(client, one) for one in claimed]

    while claimed := sender.claim_due(20, {}):
        for one, attempts in zip(claimed, asyncio.run(send(claimed)), strict=True):
            sender.record(one.pk, attempts)


def make_all_due() -> None:
    WebhookDelivery.objects.filter(status=DeliveryStatus.PENDING).update(
        next_retry_at=timezone.now() - timedelta(seconds=1)
    )


# --- what is sent -------------------------------------------------------------------------------


def test_each_state_of_a_run_is_told_in_order(alice: Access, receiver: Receiver) -> None:
    make_endpoint(alice, f"{receiver.url}/ok")
    gate = make_gate(alice)
    endings.cancel_run(gate.run)
    deliver()
    bodies = [json.loads(request.body) for request in receiver.seen]
    assert [body["type"] for body in bodies] == [
        "run.started",
        "run.awaiting_input",
        "run.cancelled",
    ]
    assert [body["data"]["status"] for body in bodies] == [
        "running",
        "awaiting_approval",
        "cancelled",
    ]
    assert bodies[0]["data"]["run_id"] == gate.run_id
    assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {"success"}


def test_a_result_comes_with_its_words(alice: Access, receiver: Receiver) -> None:
    make_endpoint(alice, f"{receiver.url}/ok", events=["run.completed", "run.failed"])
    run = make_run(alice, status=RunStatus.COMPLETED)
    make_run(alice, status=RunStatus.FAILED)
    deliver()
    done, failed = (json.loads(request.body)["data"] for request in receiver.seen)
    assert done["output"] == done["headline"] == "An answer."
    assert (done["needs_reply"], done["needs_reply_count"]) == (False, 0)
    assert (done["run_id"], done["task_id"], done["error"]) == (run.pk, run.task_id, None)
    assert (failed["status"], failed["error"], failed["error_code"]) == (
        "failed",
        "It was refused.",
        "rejected",
    )


def test_the_signature_is_that_of_each_contract(alice: Access, receiver: Receiver) -> None:
    new = make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    old = make_endpoint(
        alice, f"{receiver.url}/ok/v1", events=["run.started"], dialect=Dialect.THREADS
    )
    run = make_run(alice)
    deliver()
    by_path = {request.path: request for request in receiver.seen}
    theirs = by_path["/ok"]
    event_id, at = theirs.headers["Webhook-Id"], theirs.headers["Webhook-Timestamp"]
    expected = hmac.new(
        new.secret.encode(), f"{event_id}.{at}.".encode() + theirs.body, hashlib.sha256
    ).hexdigest()
    assert theirs.headers["Webhook-Signature"] == f"v1={expected}"
    assert event_id == json.loads(theirs.body)["id"]
    theirs = by_path["/ok/v1"]
    at = theirs.headers["X-Arkloop-Timestamp"]
    expected = hmac.new(
        old.secret.encode(), f"{at}.".encode() + theirs.body, hashlib.sha256
    ).hexdigest()
    assert theirs.headers["X-Arkloop-Signature"] == f"sha256={expected}"
    assert theirs.headers["X-Arkloop-Event"] == "run.started"
    assert json.loads(theirs.body)["run_id"] == str(run.uid)
    assert set(json.loads(theirs.body)) == {
        "event",
        "run_id",
        "account_id",
        "thread_id",
        "status",
        "created_at",
    }


def test_scopes_do_not_mix_and_only_wanted_events_are_written(alice: Access) -> None:
    end_users.find_or_create(alice, "kim")
    theirs = make_endpoint(alice.for_end_user("kim"), "https://example.com/kim")
    ours = make_endpoint(alice, "https://example.com/ours", events=["run.completed"])
    nothing = make_endpoint(alice, "https://example.com/none", events=[])
    make_run(alice, status=RunStatus.COMPLETED)
    assert not theirs.deliveries.exists()
    assert [one.event_type for one in ours.deliveries.all()] == ["run.completed"]
    requests.create_run(alice, message="x", options=options.Options(), user_id="kim")
    assert [one.event_type for one in theirs.deliveries.all()] == ["run.started"]
    assert ours.deliveries.count() == 1
    assert not nothing.deliveries.exists()


def test_what_is_rolled_back_is_not_sent(alice: Access) -> None:
    make_endpoint(alice, "https://example.com")
    with transaction.atomic():
        make_run(alice)
        assert WebhookDelivery.objects.exists()
        transaction.set_rollback(True)
    assert not WebhookDelivery.objects.exists()


# --- nasty receivers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("broken", 500, "It answered 500."),
        ("away", 302, "Redirects are not followed"),
        ("silent", None, "did not answer within"),
        ("drip", None, "did not answer within"),
    ],
)
def test_what_does_not_answer_well_is_tried_again(
    alice: Access, receiver: Receiver, settings: Any, path: str, status: int | None, words: str
) -> None:
    settings.WEBHOOK_SECONDS = 0.6
    endpoint = make_endpoint(alice, f"{receiver.url}/{path}", events=["run.started"])
    make_run(alice)
    deliver()
    delivery = endpoint.deliveries.get()
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 1)
    assert (delivery.response_status, words in delivery.error) == (status, True)
    assert delivery.next_retry_at is not None
    assert delivery.next_retry_at > timezone.now() + timedelta(seconds=5)
    assert [request.path for request in receiver.seen] == [f"/{path}"]


def test_a_huge_answer_is_cut(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/huge", events=["run.started"])
    make_run(alice)
    deliver()
    delivery = endpoint.deliveries.get()
    assert delivery.status == DeliveryStatus.SUCCESS
    assert len(delivery.response_body) == sender.KEPT


def test_request_and_answer_of_each_attempt_are_kept(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    make_run(alice)
    deliver()
    attempt = DeliveryAttempt.objects.get(delivery__endpoint=endpoint)
    assert attempt.request_headers["Webhook-Id"] == endpoint.deliveries.get().event_id
    assert attempt.response_headers["server"].startswith("a receiver") or attempt.response_headers
    assert attempt.response_body == "thanks\ufffd"
    assert endpoint.secret not in json.dumps(attempt.request_headers)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/ok",
        "http://localhost:{port}/ok",
        "http://0x7f.1:{port}/ok",
        "http://2130706433:{port}/ok",
        "http://[::ffff:127.0.0.1]:{port}/ok",
    ],
)
def test_private_addresses_are_refused_when_something_is_sent(
    alice: Access, receiver: Receiver, url: str
) -> None:
    endpoint = make_endpoint(alice, "https://example.com", events=["run.started"])
    WebhookEndpoint.objects.update(url=url.format(port=receiver.server_port))
    make_run(alice)
    deliver(may_be_private=False)
    assert receiver.seen == []
    assert endpoint.deliveries.get().response_status is None
    assert endpoint.deliveries.get().error


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://localhost",
        "https://127.0.0.1",
        "https://10.0.0.1",
        "https://x.internal",
        "https://x.local",
        "https://2130706433",
        "https://0x7f.1",
        "https://[::1]",
        "https://kim:secret@example.com",
        "ftp://example.com",
        "nonsense",
        "",
    ],
)
def test_private_addresses_are_refused_when_one_is_entered(
    alice: Access, settings: Any, url: str
) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    with pytest.raises(Invalid, match="url"):
        make_endpoint(alice, url)


# --- at least once, in order --------------------------------------------------------------------


def test_retries_go_on_for_a_day_and_then_end(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken", events=["run.started"])
    make_run(alice)
    assert 24 * 3600 <= sum(sender.DELAYS) <= 25 * 3600
    waits = []
    for _ in range(len(sender.DELAYS) + 1):
        deliver()
        delivery = endpoint.deliveries.get()
        if delivery.next_retry_at:
            waits.append(round((delivery.next_retry_at - timezone.now()).total_seconds(), -1))
        make_all_due()
    assert waits == [round(delay, -1) for delay in sender.DELAYS]
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.FAILED, 7)
    deliver()
    assert len(receiver.seen) == 7
    bodies = {request.body for request in receiver.seen}
    assert len(bodies) == 1  # the same bytes each time


def test_a_later_event_of_a_run_waits_for_the_earlier_one(
    alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken")
    run = make_run(alice, status=RunStatus.COMPLETED)
    make_run(alice)
    deliver()
    sent = [json.loads(request.body) for request in receiver.seen]
    assert [one["type"] for one in sent] == ["run.started", "run.started"]  # of two runs
    receiver.is_broken = False
    make_all_due()
    deliver()
    types = [
        json.loads(request.body)["type"]
        for request in receiver.seen
        if json.loads(request.body)["data"]["run_id"] == run.pk
    ]
    assert types == ["run.started", "run.started", "run.completed"]
    assert not endpoint.deliveries.exclude(status="success").exists()


def test_who_dies_while_sending_leaves_it_to_be_sent_again(
    alice: Access, receiver: Receiver
) -> None:
    make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    make_run(alice)
    (claimed,) = sender.claim_due(20, {})
    assert sender.claim_due(20, {}) == []  # nobody else sends it meanwhile
    assert receiver.seen == []
    WebhookDelivery.objects.filter(pk=claimed.pk).update(next_retry_at=timezone.now())
    deliver()
    assert len(receiver.seen) == 1


def test_one_endpoint_does_not_take_all_places(alice: Access) -> None:
    slow = make_endpoint(alice, "https://example.com/slow", events=["run.started"])
    other = make_endpoint(alice, "https://example.com/other", events=["run.completed"])
    for _ in range(6):
        make_run(alice, status=RunStatus.COMPLETED)
    first = sender.claim_due(2, {})
    assert {one.endpoint_id for one in first} == {slow.pk, other.pk}  # one of each goes first
    make_all_due()
    claimed = sender.claim_due(100, {})
    counts = {pk: sum(one.endpoint_id == pk for one in claimed) for pk in (slow.pk, other.pk)}
    assert counts == {slow.pk: sender.AT_ONCE_TO_ONE, other.pk: sender.AT_ONCE_TO_ONE}
    rest = sender.claim_due(100, {slow.pk: sender.AT_ONCE_TO_ONE, other.pk: 3})
    assert [one.endpoint_id for one in rest] == [other.pk]


def test_what_is_behind_a_delivery_in_its_back_off_waits_with_it(
    alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(
        alice, f"{receiver.url}/broken", events=["run.started", "run.completed"]
    )
    make_run(alice, status=RunStatus.COMPLETED)
    deliver()
    first, second = endpoint.deliveries.order_by("id")
    assert (first.attempts, second.attempts) == (1, 0)
    assert second.next_retry_at == first.next_retry_at  # no look meets it before
    deliveries.skip(alice, deliveries.get_delivery(endpoint, first.pk))
    second.refresh_from_db()
    assert second.next_retry_at is not None
    assert second.next_retry_at <= timezone.now()


# --- pause, wake, resend ------------------------------------------------------------------------


def test_a_day_of_failures_pauses_it_and_its_people_are_told(
    alice: Access, receiver: Receiver
) -> None:
    ada = make_bob(alice, role=Role.ADMIN, email="ada@example.com")
    bob = make_bob(alice)
    endpoint = make_endpoint(alice, f"{receiver.url}/broken")
    run = make_run(bob)
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.failing_since is not None
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(hours=25))
    make_all_due()
    deliver()
    endpoint.refresh_from_db()
    assert (endpoint.active, endpoint.rests_because) == (False, EndpointPauseReason.FAILURES)
    told = Notice.objects.filter(kind="trouble")
    assert {notice.user for notice in told} == {alice.user, ada.user}
    assert all("/broken" not in notice.title for notice in told)
    # What happens meanwhile is kept, and sent in order when somebody wakes it.
    bring_to(run, RunStatus.COMPLETED)
    make_all_due()
    seen = len(receiver.seen)
    deliver()
    assert len(receiver.seen) == seen
    receiver.is_broken = False
    endpoints.update_endpoint(alice, endpoint, active=True)
    deliver()
    types = [json.loads(request.body)["type"] for request in receiver.seen[seen:]]
    assert types == ["run.started", "run.completed"]
    endpoint.refresh_from_db()
    assert (endpoint.failing_since, endpoint.rests_because) == (None, "")


def test_one_that_says_it_is_gone_is_paused_at_once(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/gone", events=["run.started"])
    make_run(alice)
    deliver()
    endpoint.refresh_from_db()
    assert (endpoint.active, endpoint.rests_because) == (False, EndpointPauseReason.GONE)


def test_one_that_a_person_paused_hears_nothing(alice: Access) -> None:
    endpoint = make_endpoint(alice, "https://example.com")
    endpoints.update_endpoint(alice, endpoint, active=False)
    make_run(alice)
    assert not endpoint.deliveries.exists()


def test_resend_sends_the_same_event_again(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    make_run(alice)
    deliver()
    deliveries.resend(alice, endpoint.deliveries.get())
    deliver()
    first, second = receiver.seen
    assert first.headers["Webhook-Id"] == second.headers["Webhook-Id"]
    assert first.body == second.body
    assert endpoint.deliveries.get().attempts == 2
    endpoints.update_endpoint(alice, endpoint, active=False)
    with pytest.raises(Unsuitable, match="paused"):
        deliveries.resend(alice, deliveries.get_delivery(endpoint, endpoint.deliveries.get().pk))


def test_all_that_failed_since_is_sent_again_one_after_the_other(
    alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken", events=["run.started"])
    for _ in range(3):
        make_run(alice)
    old = endpoint.deliveries.order_by("id").first()
    assert old is not None
    endpoint.deliveries.update(status=DeliveryStatus.FAILED, next_retry_at=None)
    endpoint.deliveries.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=3))
    since = timezone.now() - timedelta(days=1)
    assert deliveries.resend_failed(alice, endpoint, since=since) == 2
    first, second = endpoint.deliveries.filter(status="pending").order_by("id")
    assert first.next_retry_at is not None
    assert second.next_retry_at is not None
    apart = second.next_retry_at - first.next_retry_at
    assert apart == timedelta(seconds=deliveries.RESENT_EVERY)


def test_what_is_skipped_lets_the_next_one_go(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken")
    make_run(alice, status=RunStatus.COMPLETED)
    deliver()
    receiver.is_broken = False
    first = endpoint.deliveries.order_by("id").first()
    assert first is not None
    deliveries.skip(alice, first)
    deliver()
    assert [one.status for one in endpoint.deliveries.order_by("id")] == ["failed", "success"]


def test_a_day_of_failures_begins_anew_when_what_failed_is_given_up(
    alice: Access, receiver: Receiver
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken", events=["run.started"])
    make_run(alice)
    deliver()
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=3))
    deliveries.skip(alice, endpoint.deliveries.select_related("endpoint").get())
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None


def test_a_test_is_tried_once_also_on_a_paused_endpoint(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/broken")
    endpoints.update_endpoint(alice, endpoint, active=False)
    made = endpoints.send_test(alice, endpoint)
    deliver()
    made.refresh_from_db()
    assert (made.status, made.event_type, made.run_id) == ("failed", "webhook.test", None)
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None
    assert json.loads(receiver.seen[0].body)["type"] == "webhook.test"


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["new", "old"])
def test_for_a_day_after_a_rotation_both_secrets_are_good(
    alice: Access, receiver: Receiver, known: str
) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/strict", events=["run.started"])
    before = endpoint.secret
    rotated = endpoints.update_endpoint(alice, endpoint, rotate_secret=True)
    assert rotated.secret != before
    receiver.secret = rotated.secret if known == "new" else before
    make_run(alice)
    deliver()
    assert endpoint.deliveries.get().status == "success"
    assert len(receiver.seen) == (1 if known == "new" else 2)
    WebhookEndpoint.objects.update(old_secret_until=timezone.now() - timedelta(seconds=1))
    receiver.secret = before
    make_run(alice)
    deliver()
    assert endpoint.deliveries.latest("id").status == "pending"


def test_what_is_to_be_erased_is_kept_until_it_is_sent(alice: Access, receiver: Receiver) -> None:
    Organization.objects.update(
        retention_mode="metadata_only", metadata_only_since=timezone.now() - timedelta(days=1)
    )
    endpoint = make_endpoint(alice, f"{receiver.url}/broken", events=["run.completed"])
    make_run(alice, status=RunStatus.COMPLETED)
    deliver()
    Run.objects.update(finished_at=timezone.now() - timedelta(minutes=3))
    erasure.erase_said()
    assert "An answer." in endpoint.deliveries.get().body
    receiver.is_broken = False
    make_all_due()
    deliver()
    assert "An answer." in receiver.seen[-1].body.decode()
    delivery = endpoint.deliveries.select_related("endpoint").get()
    assert delivery.body == ""
    assert delivery.response_body == ""
    assert delivery.log.latest("id").response_body == ""
    with pytest.raises(Unsuitable, match="erased"):
        deliveries.resend(alice, delivery)


def test_members_do_not_manage_webhooks(alice: Access) -> None:
    bob = make_bob(alice)
    endpoint = make_endpoint(alice, "https://example.com")
    for act in (
        lambda: make_endpoint(bob, "https://example.com"),
        lambda: endpoints.send_test(bob, endpoint),
        lambda: deliveries.resend_failed(bob, endpoint, since=timezone.now()),
    ):
        with pytest.raises(Forbidden):
            act()


# --- the courier --------------------------------------------------------------------------------


def test_a_worker_sends_what_is_due(alice: Access, receiver: Receiver) -> None:
    from config.wakeups import WakeUps

    endpoint = make_endpoint(alice, f"{receiver.url}/slow")
    runs = [make_run(alice, status=RunStatus.COMPLETED) for _ in range(3)]

    async def work() -> None:
        from config.database import in_db

        wakeups = WakeUps()
        tasks = [
            asyncio.create_task(wakeups.run()),
            asyncio.create_task(sender.Sender(wakeups).run()),
        ]
        async with asyncio.timeout(30):
            while await in_db(endpoint.deliveries.exclude(status="success").exists):
                await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(work())
    for run in runs:
        mine = [
            json.loads(request.body)["type"]
            for request in receiver.seen
            if json.loads(request.body)["data"]["run_id"] == run.pk
        ]
        assert mine == ["run.started", "run.completed"]


def test_without_endpoints_a_run_costs_one_query_more_for_each_state(alice: Access) -> None:
    with connection.execute_wrapper(_count := _Counter()):
        make_run(alice, status=RunStatus.COMPLETED)
    assert sum("runs_webhookendpoint" in sql for sql in _count.said) == 2
    assert not any("runs_webhookdelivery" in sql for sql in _count.said)


class _Counter:
    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        self.said.append(sql)
        return execute(sql, *args)


def test_time_stamps_are_of_now(alice: Access, receiver: Receiver) -> None:
    make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    make_run(alice)
    assert Run.objects.count() == 1
    deliver()
    assert abs(int(receiver.seen[0].headers["Webhook-Timestamp"]) - time.time()) < 60
