"""Outgoing webhooks: where events of runs are sent, and what people do about deliveries."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.models import (
    EndpointPauseReason,
    Notice,
    RunStatus,
    WebhookEndpoint,
)
from runs.webhooks import deliveries, endpoints
from teammates.access import Access
from teammates.errors import Forbidden, Invalid
from teammates.models import Role
from tests.factories import bring_to, make_bob, make_run
from tests.receivers import Receiver
from tests.runs.webhooks.receiving import deliver, make_all_due, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_one_that_a_person_paused_hears_nothing(alice: Access) -> None:
    endpoint = make_endpoint(alice, "https://example.com")
    endpoints.update_endpoint(alice, endpoint, active=False)
    make_run(alice)
    assert not endpoint.deliveries.exists()


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
