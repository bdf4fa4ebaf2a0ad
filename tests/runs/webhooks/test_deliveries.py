"""What people do about deliveries: looked at, sent again, skipped."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import (
    DeliveryStatus,
    Run,
    RunStatus,
    WebhookEndpoint,
)
from runs.retention import erasure
from runs.webhooks import deliveries, endpoints
from teammates.access import Access
from teammates.errors import Unsuitable
from teammates.models import Organization
from tests.factories import make_run
from tests.receivers import Receiver
from tests.runs.webhooks.receiving import deliver, make_all_due, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


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
