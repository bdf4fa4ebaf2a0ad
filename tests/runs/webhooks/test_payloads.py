"""What is sent to an endpoint: bodies, headers and signatures of both dialects."""

import json
import time

import pytest

from runs.lifecycle import endings
from runs.models import (
    Run,
    RunStatus,
    WebhookDelivery,
)
from teammates.access import Access
from tests.factories import make_gate, make_run
from tests.receivers import Receiver
from tests.runs.webhooks.receiving import deliver, make_endpoint

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_time_stamps_are_of_now(alice: Access, receiver: Receiver) -> None:
    make_endpoint(alice, f"{receiver.url}/ok", events=["run.started"])
    make_run(alice)
    assert Run.objects.count() == 1
    deliver()
    assert abs(int(receiver.seen[0].headers["Webhook-Timestamp"]) - time.time()) < 60
