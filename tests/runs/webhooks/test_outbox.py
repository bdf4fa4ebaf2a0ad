"""Outgoing webhooks, the rows: what is to be sent is written in the transaction of its
event, in the words and with the signature of the endpoint's dialect (contracts v2 5.1, v1 2.11).
"""

import pytest
from django.db import connection, transaction

from runs.creation import options, requests
from runs.models import (
    RunStatus,
    WebhookDelivery,
)
from teammates.access import Access
from teammates.people import end_users
from tests.factories import make_run
from tests.runs.webhooks.receiving import _Counter, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_without_endpoints_a_run_costs_one_query_more_for_each_state(alice: Access) -> None:
    with connection.execute_wrapper(_count := _Counter()):
        make_run(alice, status=RunStatus.COMPLETED)
    assert sum("runs_webhookendpoint" in sql for sql in _count.said) == 2
    assert not any("runs_webhookdelivery" in sql for sql in _count.said)
