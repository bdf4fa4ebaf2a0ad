"""Outgoing webhooks: endpoints, what was sent to them, and how it was answered."""

import json
import shlex
from datetime import timedelta

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.models import (
    DeliveryAttempt,
    DeliveryStatus,
    Dialect,
    WebhookDelivery,
    WebhookEndpoint,
)
from runs.views.forms.webhooks import EndpointForm
from runs.webhooks import deliveries, endpoints, outbox, payloads, sender
from teammates.errors import DomainError, Invalid
from teammates.text import read_json
from teammates.types import Context
from teammates.web.pages import PageRequest, add_refusal, number_of, page_of

PAGE_SIZE = 50
MOST_SHOWN = 50  # attempts of a delivery
SINCE = {"1": "the last hour", "24": "the last 24 hours", "168": "the last 7 days"}


@require_GET
def webhook_list(request: PageRequest) -> HttpResponse:
    """Endpoints of all scopes, with how their last day went."""
    page = page_of(
        request, endpoints.list_endpoints(request.access, every_scope=True), "-id", size=25
    )
    health = endpoints.health_of(page.rows)
    return render(
        request,
        "webhooks/webhook_list.html",
        {
            "rows": [(one, health.get(one.pk, endpoints.EndpointHealth())) for one in page.rows],
            "page": page,
        },
    )


@require_http_methods(["GET", "POST"])
def webhook_new(request: PageRequest) -> HttpResponse:
    request.access.require("data.webhooks.manage")
    form = EndpointForm(
        request.POST or None,
        initial={
            "events": endpoints.DEFAULT_EVENTS,
            "dialect": Dialect.TEAMMATES,
        },
    )
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            made = endpoints.add_endpoint(
                request.access,
                url=given["url"],
                events=given["events"],
                description=given["description"],
                dialect=given["dialect"] or Dialect.TEAMMATES,
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            return _detail(request, made, secret=made.secret)
    samples = [
        (event, json.dumps(json.loads(_sample(event)), indent=2))
        for event in outbox.EVENT_OF.values()
    ]
    context = {"form": form, "samples": dict(samples).items()}
    return render(request, "webhooks/webhook_new.html", context, status=422 if form.errors else 200)


def _sample(event: str) -> str:
    return payloads.body_of(WebhookEndpoint(dialect=Dialect.TEAMMATES), event, "evt_…", None)


@require_GET
def webhook_detail(request: PageRequest, webhook_id: int) -> HttpResponse:
    return _detail(request, _find(request, webhook_id))


def _find(request: PageRequest, webhook_id: int) -> WebhookEndpoint:
    return endpoints.get_endpoint(request.access, every_scope=True, pk=webhook_id)


def _detail(request: PageRequest, endpoint: WebhookEndpoint, *, secret: str = "") -> HttpResponse:
    """An endpoint with its deliveries. `secret`: shown in full, this once."""
    query = request.GET
    rows = deliveries.with_order(endpoint.deliveries.all())
    status, event = query.get("status", ""), query.get("event", "")
    if status in DeliveryStatus.values:
        rows = rows.filter(status=status)
    if event:
        rows = rows.filter(event_type=event)
    if run := number_of(query.get("run", "")):
        rows = rows.filter(run=run)
    now = timezone.now()
    until = endpoint.old_secret_until
    return render(
        request,
        "webhooks/webhook_detail.html",
        {
            "endpoint": endpoint,
            "secret": secret,
            "page": page_of(request, rows, "-id", size=PAGE_SIZE),
            "health": endpoints.health_of([endpoint]).get(endpoint.pk, endpoints.EndpointHealth()),
            "status": status,
            "event": event,
            "run": run,
            "statuses": DeliveryStatus.choices,
            "events": sorted(set(endpoint.events) | {outbox.TEST}),
            "is_filtered": bool(status or event or run),
            "since": SINCE.items(),
            "both_until": until if until is not None and until > now else None,
        },
    )


@require_http_methods(["GET", "POST"])
def webhook_change(request: PageRequest, webhook_id: int) -> HttpResponse:
    endpoint = _find(request, webhook_id)
    form = EndpointForm(
        request.POST or None,
        initial={
            "url": endpoint.url,
            "description": endpoint.description,
            "events": endpoint.events,
        },
    )
    del form.fields["dialect"]
    if request.method == "POST" and form.is_valid():
        try:
            endpoints.update_endpoint(request.access, endpoint, **form.wanted())
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect(endpoint)
    context = {"form": form, "endpoint": endpoint}
    return render(request, "webhooks/webhook_new.html", context, status=422 if form.errors else 200)


@require_POST
def webhook_act(request: PageRequest, webhook_id: int) -> HttpResponse:
    """Test, pause, resume, rotate, resend what failed, delete."""
    access, endpoint = request.access, _find(request, webhook_id)
    match request.POST.get("act", ""):
        case "test":
            made = endpoints.send_test(access, endpoint)
            messages.success(request, "A test is on its way.")
            return redirect("runs:delivery_detail", endpoint.pk, made.pk)
        case "pause":
            endpoints.update_endpoint(access, endpoint, active=False)
            messages.success(
                request, "It is paused: what happens until you resume it is not kept for it."
            )
        case "resume":
            waits = endpoint.deliveries.filter(status=DeliveryStatus.PENDING).count()
            endpoints.update_endpoint(access, endpoint, active=True)
            sent = f" {waits} that waited are sent now, in order." if waits else ""
            messages.success(request, f"It hears events again.{sent}")
        case "rotate":
            changed = endpoints.update_endpoint(access, endpoint, rotate_secret=True)
            return _detail(request, changed, secret=changed.secret)
        case "resend":
            hours = request.POST.get("hours", "")
            if hours not in SINCE:
                raise Invalid("Choose since when.")
            since = timezone.now() - timedelta(hours=int(hours))
            count = deliveries.resend_failed(access, endpoint, since=since)
            messages.success(request, f"{count} are sent again, one after the other.")
        case "delete":
            endpoints.delete_endpoint(access, endpoint)
            messages.success(request, "The webhook is gone.")
            return redirect("runs:webhook_list")
        case _:
            raise Invalid("Choose what to do.")
    return redirect(endpoint)


# --- one delivery -------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def delivery_detail(request: PageRequest, webhook_id: int, delivery_id: int) -> HttpResponse:
    """What was sent and how it was answered; htmx asks for it beside the list. Posting sends it
    again, gives it up, or checks a secret."""
    endpoint = _find(request, webhook_id)
    delivery = deliveries.get_delivery(endpoint, delivery_id)
    verdict = ""
    if request.method == "POST":
        match request.POST.get("act", ""):
            case "resend":
                deliveries.resend(request.access, delivery)
                messages.success(request, "It is sent again.")
            case "skip":
                deliveries.skip(request.access, delivery)
            case "verify":
                verdict = _verdict(delivery, request.POST.get("secret", "").strip())
            case _:
                raise Invalid("Choose what to do.")
        if not verdict:
            return redirect("runs:delivery_detail", endpoint.pk, delivery.pk)
    # As many as the row counts: another may have been written since it was read.
    attempts = list(delivery.log.order_by("id")[: delivery.attempts])[: -MOST_SHOWN - 1 : -1]
    context: Context = {
        "endpoint": endpoint,
        "delivery": delivery,
        "attempts": attempts,
        "last": attempts[0] if attempts else None,
        "body": _pretty(delivery.body),
        "curl": _curl(delivery, attempts[0]) if attempts else "",
        "verdict": verdict,
        "most_attempts": len(sender.DELAYS) + 1,
    }
    is_part = request.headers.get("HX-Target") == "peek"
    name = "webhooks/_delivery.html" if is_part else "webhooks/delivery_detail.html"
    return render(request, name, context)


def _pretty(text: str) -> str:
    try:
        return json.dumps(read_json(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _curl(delivery: WebhookDelivery, attempt: DeliveryAttempt) -> str:
    """The last request, as one can make it again in a shell."""
    headers = [
        f"  -H {shlex.quote(f'{name}: {value}')}" for name, value in attempt.request_headers.items()
    ]
    lines = [f"curl -X POST {shlex.quote(delivery.endpoint.url)}", *headers]
    return " \\\n".join([*lines, f"  --data-raw {shlex.quote(delivery.body)}"])


def _verdict(delivery: WebhookDelivery, secret: str) -> str:
    """Whether the last request was signed with this secret, and if not, what is wrong."""
    last = delivery.log.order_by("-id").first()
    if last is None:
        return "Nothing was sent yet."
    if not delivery.body:
        return "Its words were erased, so nothing can be checked."
    is_v1 = delivery.endpoint.dialect == Dialect.THREADS
    prefix = "X-Arkloop" if is_v1 else "Webhook"
    at = int(last.request_headers.get(f"{prefix}-Timestamp", 0))
    expected = payloads.headers_of(delivery, secret, at)[f"{prefix}-Signature"]
    if expected != last.request_headers.get(f"{prefix}-Signature"):
        return "Wrong: it was signed with another secret."
    age = timezone.now() - last.at
    minutes = int(age.total_seconds() // 60)
    return f"Right: this secret signed it, {minutes} min ago. Check the age too: up to 5 min."
