"""Outgoing webhooks, the sending: at least once, in order for each run, for a day."""

import asyncio
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.models import (
    DeliveryAttempt,
    DeliveryStatus,
    Dialect,
    EndpointPauseReason,
    RunStatus,
    WebhookDelivery,
    WebhookEndpoint,
)
from runs.webhooks import sender
from teammates.access import Access
from tests.factories import make_run
from tests.receivers import Receiver
from tests.runs.webhooks.receiving import deliver, make_all_due, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_one_that_says_it_is_gone_is_paused_at_once(alice: Access, receiver: Receiver) -> None:
    endpoint = make_endpoint(alice, f"{receiver.url}/gone", events=["run.started"])
    make_run(alice)
    deliver()
    endpoint.refresh_from_db()
    assert (endpoint.active, endpoint.rests_because) == (False, EndpointPauseReason.GONE)


def test_a_worker_sends_what_is_due(alice: Access, receiver: Receiver) -> None:
    from config.wakeups import WakeUps

    endpoint = make_endpoint(alice, f"{receiver.url}/slow")
    runs = [make_run(alice, status=RunStatus.COMPLETED) for _ in range(3)]

    async def work() -> None:
        from config.database import in_db

        wakeups = WakeUps()
        tasks = [
            asyncio.create_task(wakeups.run()),
            asyncio.create_task(sender.Sender(wakeups, asyncio.Event()).run()),
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
