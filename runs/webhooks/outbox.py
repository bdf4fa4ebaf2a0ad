"""Outgoing webhooks, the rows: what is to be sent is written in the transaction of its event, in
the words and with the signature of the endpoint's dialect (contracts v2 5.1, v1 2.11)."""

from django.db.models import QuerySet
from django.utils import timezone

from config.compiled import Hole, compiled
from runs.events.channels import DELIVERIES_CHANNEL, notify
from runs.models import DeliveryStatus, Run, RunStatus, WebhookDelivery, WebhookEndpoint
from runs.webhooks.payloads import body_of
from teammates.fields import new_uid

EVENTS = (
    "run.started",
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.awaiting_input",
    "run.interrupted",
    "run.message_received",
    "run.message_cancelled",
    "balance.low",
    "balance.critical",
    "balance.depleted",
)
EVENT_OF = {
    RunStatus.QUEUED: "run.started",
    RunStatus.WAITING: "run.awaiting_input",
    RunStatus.COMPLETED: "run.completed",
    RunStatus.FAILED: "run.failed",
    RunStatus.CANCELLED: "run.cancelled",
    RunStatus.CLOSED: "run.cancelled",
}
TEST = "webhook.test"


@compiled
def _of_account(organization_id: Hole) -> "QuerySet[WebhookEndpoint]":
    subscribed = WebhookEndpoint.objects.subscribed()
    return subscribed.filter(organization=organization_id, end_user=None).order_by("id")


@compiled
def _of_end_user(end_user_id: Hole) -> "QuerySet[WebhookEndpoint]":
    return WebhookEndpoint.objects.subscribed().filter(end_user=end_user_id).order_by("id")


def queue(run: Run) -> None:
    """Write down for each endpoint of the run's scope that the run is in its state. Call in the
    transaction that brings it there."""
    event = EVENT_OF[RunStatus(run.status)]
    if run.end_user_id is None:
        subscribed = _of_account.all(organization_id=run.organization_id)
    else:
        subscribed = _of_end_user.all(end_user_id=run.end_user_id)
    wanted = [endpoint for endpoint in subscribed if event in endpoint.events]
    if not wanted:
        return
    event_id = f"evt_{new_uid().hex}"
    now = timezone.now()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            endpoint=endpoint,
            run=run,
            event_type=event,
            event_id=event_id,
            body=body_of(endpoint, event, event_id, run),
            next_retry_at=now,
        )
        for endpoint in wanted
    )
    notify_sender()


def call_followers(delivery: WebhookDelivery) -> None:
    """What is behind a delivery in its run waits as long as it does, and goes once it is over."""
    if delivery.run_id is None:
        return
    WebhookDelivery.objects.filter(
        endpoint=delivery.endpoint_id,
        run=delivery.run_id,
        pk__gt=delivery.pk,
        status=DeliveryStatus.PENDING,
    ).update(next_retry_at=delivery.next_retry_at or timezone.now())


def notify_sender() -> None:
    """Notify the sender when the transaction commits."""
    notify({DELIVERIES_CHANNEL: ""})
