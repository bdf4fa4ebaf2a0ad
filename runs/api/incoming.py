"""What other systems call without a key: the webhooks of tasks and teammates (contract v2 5.2)."""

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from ninja import Router, Status

from runs import incoming, wording
from runs.incoming import Call, Received
from runs.models import FiringStatus, RunStatus, Skip
from teammates.api.schemas import takes_any_query
from teammates.errors import Conflict, DomainError, Invalid, NotFound, TooLarge, TooMany

router = Router(auth=None, tags=["webhooks"])

# Where senders put the id of an event, best known first.
EVENT_ID_HEADERS = (
    "X-M8tes-Event-Id", "Webhook-Id", "Idempotency-Key", "X-GitHub-Delivery", "X-Event-Id",
)  # fmt: skip


@router.post("/webhooks/tasks/{int:task_id}/{token}", response={202: dict[str, Any]})
@takes_any_query
def task_webhook(request: HttpRequest, task_id: int, token: str) -> Any:
    """Start the task; the body, if there is one, is given to its run as context."""
    return _answer(incoming.receive_for_task(task_id, token, _call_of(request)))


@router.post("/webhooks/mates/{int:agent_id}/{token}", response={202: dict[str, Any]})
@takes_any_query
def mate_webhook(request: HttpRequest, agent_id: int, token: str) -> Any:
    """Start the teammate with the body's `message`; what else is in it is given as context."""
    return _answer(incoming.receive_for_teammate(agent_id, token, _call_of(request)))


def _call_of(request: HttpRequest) -> Call:
    try:
        body: bytes | None = request.body
    except RequestDataTooBig:
        body = None
    event_id = next(filter(None, map(request.headers.get, EVENT_ID_HEADERS)), "")
    return Call(
        body, request.headers.get("Content-Type", ""), event_id,
        source=request.META.get("REMOTE_ADDR", ""),
    )  # fmt: skip


def _answer(received: Received) -> Any:
    entry = received.first or received.firing
    if entry.status == FiringStatus.SKIPPED and entry.reason not in (Skip.OVERLAP, Skip.REPLACED):
        raise _refused(Skip(entry.reason), entry.detail)
    run = entry.run
    status = wording.V2_STATUS[RunStatus(run.status)] if run is not None else entry.status
    shown = {"run_id": entry.run_id, "status": status, "duplicate": received.first is not None}
    return Status(202, shown | ({"reason": entry.reason} if entry.reason else {}))


def _refused(reason: Skip, detail: str) -> DomainError:
    match reason:
        case Skip.TOKEN:
            return NotFound("There is no such webhook.", code="webhook_not_found")
        case Skip.PAUSED:
            return Conflict("This webhook is paused.", code="webhook_paused")
        case Skip.RATE:
            return TooMany("Too many calls within a minute.", retry_after=30)
        case Skip.SIZE:
            return TooLarge(f"The body must have at most {incoming.LARGEST_BODY // 1024} KB.")
        case Skip.BODY:
            return Invalid(detail)
    return Conflict(detail or f"Nothing was started: {reason.label}.", code="not_started")
