"""What other systems call without a key: the webhooks of tasks and teammates (contract v2 5.2), and
the gateway for mail services."""

import re
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.utils import getaddresses
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from ninja import Router, Status

from runs import wire
from runs.inbox import gateway, receiving
from runs.models import RunStatus
from runs.triggers import inbound_webhook
from runs.triggers.inbound_webhook import Received, WebhookCall
from teammates.api.schemas import takes_any_query
from teammates.errors import (
    Invalid,
    NotFound,
    TooLarge,
)
from teammates.text import read_json
from teammates.types import JSON

router = Router(auth=None, tags=["webhooks"])
MOST_RECIPIENTS = 50  # of one mail
LARGEST_HANDED_OVER = 2 * receiving.LARGEST_MAIL  # in a form, or escaped
# Where senders put the id of an event, best known first.
EVENT_ID_HEADERS = (
    "X-M8tes-Event-Id",
    "Webhook-Id",
    "Idempotency-Key",
    "X-GitHub-Delivery",
    "X-Event-Id",
)


@router.post("/webhooks/tasks/{int:task_id}/{token}", response={202: JSON})
@takes_any_query
def task_webhook(request: HttpRequest, task_id: int, token: str) -> Any:
    """Start the task; the body, if there is one, is given to its run as context."""
    return _answer(inbound_webhook.receive_for_task(task_id, token, _call_of(request)))


@router.post("/webhooks/mates/{int:agent_id}/{token}", response={202: JSON})
@takes_any_query
def mate_webhook(request: HttpRequest, agent_id: int, token: str) -> Any:
    """Start the teammate with the body's `message`; what else is in it is given as context."""
    return _answer(inbound_webhook.receive_for_teammate(agent_id, token, _call_of(request)))


def _call_of(request: HttpRequest) -> WebhookCall:
    try:
        body: bytes | None = request.body
    except RequestDataTooBig:
        body = None
    event_id = next(filter(None, map(request.headers.get, EVENT_ID_HEADERS)), "")
    return WebhookCall(
        body,
        request.headers.get("Content-Type", ""),
        event_id,
        source=request.META.get("REMOTE_ADDR", ""),
    )


def _answer(received: Received) -> Status[JSON]:
    if received.refusal is not None:
        raise received.refusal
    entry = received.first or received.firing
    run = entry.run
    status = wire.V2_STATUS[RunStatus(run.status)] if run is not None else entry.status
    shown = {"run_id": entry.run_id, "status": status, "duplicate": received.first is not None}
    return Status(202, shown | ({"reason": entry.reason} if entry.reason else {}))


# --- mail ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class InboundEnvelope:
    """A mail as a mail service hands it over."""

    raw: bytes
    recipients: list[str]
    sender: str | None = None  # of its envelope
    proven: frozenset[str] | None = None  # the domains that the service proved


@router.post("/mail/{token}", response=dict[str, list[str]], tags=["mail"])
@takes_any_query
def take_mail(request: HttpRequest, token: str) -> Any:
    """Take a mail from a mail service: as it is (`message/rfc822`, with `?to=`), or in the form of
    Mailgun, SendGrid or Postmark. Answers which recipients are known here; 404 if none is."""
    organization = gateway.organization_of_token(token)
    handed = _handed_over(request)
    if not handed.raw or not handed.recipients:
        raise Invalid("Give the mail as it is, as message/rfc822, and its recipients as ?to=.")
    if len(handed.raw) > receiving.LARGEST_MAIL:
        raise TooLarge(f"A mail may have {receiving.LARGEST_MAIL // 2**20} MiB.")
    inbound = receiving.Inbound(
        handed.raw, envelope_sender=handed.sender, proven_domains=handed.proven
    )
    taken, unknown = [], []
    for address in handed.recipients[:MOST_RECIPIENTS]:
        try:
            got = receiving.receive(address, inbound, organization=organization)
            if (why := receiving.what_holds_up(got)) is not None:
                raise why
            taken.append(address)
        except NotFound:
            unknown.append(address)
    if not taken:
        raise NotFound(f"Nobody has the address {', '.join(unknown)}.")
    return {"taken": taken, "unknown": unknown}


def _handed_over(request: HttpRequest) -> InboundEnvelope:
    """Raises `Invalid`, `TooLarge`."""
    content_type = request.headers.get("Content-Type", "")
    kind = content_type.partition(";")[0].strip().lower()
    body = request.read(LARGEST_HANDED_OVER + 1)
    if len(body) > LARGEST_HANDED_OVER:
        raise TooLarge(f"A mail may have {receiving.LARGEST_MAIL // 2**20} MiB.")
    if kind == "application/json":  # Postmark
        given = _json(body)
        raw = str(given.get("RawEmail") or "").encode(errors="replace")
        return InboundEnvelope(
            raw,
            _addresses(str(given.get("OriginalRecipient") or "")),
            proven=_proven_by_postmark(given.get("Headers")),
        )
    if not kind.startswith(("multipart/", "application/x-www-form")):
        return InboundEnvelope(body, request.GET.getlist("to"), request.GET.get("from"))
    form = _form(body, content_type)
    if "body-mime" in form:  # Mailgun
        sender = form["sender"].decode(errors="replace") if "sender" in form else None
        recipients = _addresses(form.get("recipient", b"").decode(errors="replace"))
        return InboundEnvelope(
            form["body-mime"], recipients, sender, _proven_by_mailgun(form, sender)
        )
    envelope = _json(form.get("envelope", b"{}"))  # SendGrid
    to = envelope.get("to")
    recipients = list(map(str, to)) if isinstance(to, list) else []
    sender = envelope.get("from")
    return InboundEnvelope(
        form.get("email", b""), recipients, sender, _proven_by_sendgrid(form, str(sender or ""))
    )


def _proven_by_mailgun(form: dict[str, bytes], sender: str | None) -> frozenset[str] | None:
    """Its own fields; None where it was not asked to check."""
    if "X-Mailgun-Spf" not in form:
        return None
    passed = form["X-Mailgun-Spf"].strip().lower() == b"pass"
    return frozenset([_domain(sender or "")]) if passed else frozenset()


def _proven_by_sendgrid(form: dict[str, bytes], sender: str) -> frozenset[str] | None:
    """`SPF` is a word, `dkim` like {@example.com : pass}."""
    if not {"SPF", "dkim"} & form.keys():
        return None
    signed = re.findall(r"@([\w.-]+)\s*:\s*pass\b", form.get("dkim", b"").decode(errors="replace"))
    passed = form.get("SPF", b"").strip().lower() == b"pass"
    return frozenset([*map(str.lower, signed), *([_domain(sender)] if passed else [])])


def _proven_by_postmark(headers: Any) -> frozenset[str] | None:
    """It adds `Received-SPF: Pass (…) … envelope-from=somebody@example.com` on top."""
    for one in headers if isinstance(headers, list) else []:
        if isinstance(one, dict) and str(one.get("Name")).lower() == "received-spf":
            value = str(one.get("Value"))
            named = re.search(r"envelope-from=\"?<?([^\s;>\"]+)", value)
            passed = value.strip().lower().startswith("pass")
            return frozenset([_domain(named[1])]) if passed and named else frozenset()
    return None


def _domain(address: str) -> str:
    return address.strip("<> ").rpartition("@")[2].lower()


def _form(body: bytes, content_type: str) -> dict[str, bytes]:
    """The fields of a form, byte for byte: a mail in one is of no single encoding."""
    if not content_type.lower().startswith("multipart/"):
        text = body.decode("latin-1")
        pairs = parse_qsl(text, keep_blank_values=True, encoding="latin-1")
        return {name: value.encode("latin-1") for name, value in pairs}
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    fields: dict[str, bytes] = {}
    for part in message_from_bytes(head + body, policy=policy.HTTP).walk():
        name = part.get_param("name", header="Content-Disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            fields[name] = content
    return fields


def _addresses(text: str) -> list[str]:
    return [address for _, address in getaddresses([text]) if address]


def _json(text: bytes) -> JSON:
    try:
        given = read_json(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Invalid("The body is not a JSON object.")
    return given
