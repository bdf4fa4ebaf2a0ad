"""What every request passes through: its id, the edges of the APIs, sign-in and errors of pages."""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.gzip import GZipMiddleware
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone

from config.api import envelope_for, error_response, status_of
from runs.inbox import gateway
from teammates.access import Access
from teammates.api.bearer import access_of_request
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, NotSignedIn
from teammates.models import User
from teammates.trust import audit, client
from teammates.web.pages import access_of_session

logger = logging.getLogger("muster.audit")

DOORS = (
    ("/v1/", "v1"),
    ("/api/v1/webhooks/", "webhook"),
    ("/api/v1/mail/", "mail"),
    ("/api/", "v2"),
    ("/decide/", "link"),
    ("/shared/", "link"),
)
MAIL_DOOR = "/api/v1/mail/"
PROBES = ("/healthz", "/readyz", "/health")
GetResponse = Callable[[HttpRequest], HttpResponse]


def compressed_pages(get_response: GetResponse) -> GetResponse:
    """Pages leave compressed; streams, whose pieces must leave at once, and downloads do not."""
    gzip = GZipMiddleware(get_response)

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        is_page = response.get("Content-Type", "").startswith("text/html")
        if is_page and not response.streaming:
            gzip.process_response(request, response)
        return response

    return middleware


FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")


def real_client(get_response: GetResponse) -> GetResponse:
    """Who sent the request is known to all that follows; what a stranger claims of it is not."""

    def middleware(request: HttpRequest) -> HttpResponse:
        peer = str(request.META.get("REMOTE_ADDR") or "")
        forwarded_for = str(request.META.get("HTTP_X_FORWARDED_FOR") or "")
        request.META["REMOTE_ADDR"] = client.real_address(peer, forwarded_for)
        if not client.is_trusted(peer):
            for name in FORWARDED:
                request.META.pop(name, None)
        sender = client.Client(
            address=request.META["REMOTE_ADDR"],
            door=_door(request.path),
            agent=request.headers.get("User-Agent", "")[:200],
        )
        with client.acting(sender):
            return get_response(request)

    return middleware


def _door(path: str) -> str:
    return next((door for prefix, door in DOORS if path.startswith(prefix)), "page")


def known_host(get_response: GetResponse) -> GetResponse:
    """Nothing is done for a request that names a host which is not ours. Probes name addresses."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path not in PROBES:
            try:
                request.get_host()
            except DisallowedHost:
                return HttpResponse(
                    "This host name is not answered here; ALLOWED_HOSTS names those that are.",
                    status=400,
                    content_type="text/plain; charset=utf-8",
                )
        return get_response(request)

    return middleware


def kept_by_no_cache(get_response: GetResponse) -> GetResponse:
    """What is answered is for whoever asked: no proxy and no browser keeps it. Static files, which
    are not answered here, are kept."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    return middleware


def head_like_get(get_response: GetResponse) -> GetResponse:
    """HEAD is answered like GET, without the body."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method != "HEAD":
            return get_response(request)
        request.method = "GET"
        request.is_head = True  # type: ignore[attr-defined]  # a stream is not begun
        response = get_response(request)
        response.close()
        return HttpResponse(status=response.status_code, headers=dict(response.items()))

    return middleware


def request_id(get_response: GetResponse) -> GetResponse:
    """Each request has an id, in its response's headers and in its error envelope."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.trace_id = secrets.token_hex(16)  # type: ignore[attr-defined]
        response = get_response(request)
        response["X-Trace-Id"] = response["X-Request-Id"] = request.trace_id  # type: ignore[attr-defined]
        return response

    return middleware


def api_edges(get_response: GetResponse) -> GetResponse:
    """Both slash forms of an API's path are one; whatever is refused has the API's envelope."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if envelope_for(request.path) is None:
            return get_response(request)
        if len(request.path_info) > 1:
            request.path_info = request.path_info.rstrip("/")
        response = get_response(request)
        kind = response.get("Content-Type", "")
        if response.status_code < 400 or kind.startswith("application/json"):
            return response
        return _in_envelope(request, response)

    return middleware


def _in_envelope(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    status = response.status_code
    if status == 404:
        return error_response(request, NotFound(f"There is no {request.path} here."))
    if status == 405:
        refusal = DomainError(
            f"{request.method} is not allowed here.", code="http.method_not_allowed"
        )
        answer = error_response(request, refusal, 405)
        answer["Allow"] = response.get("Allow", "")
        return answer
    sorry = "Something went wrong inside Muster." if status >= 500 else "The request was refused."
    return error_response(request, DomainError(sorry), status)


def signed_uploads(get_response: GetResponse) -> GetResponse:
    """A large body is read of somebody alone whose credential is good: taking a form of a hundred
    megabytes apart costs seconds of a thread."""

    def middleware(request: HttpRequest) -> HttpResponse:
        size = request.META.get("muster.body_bytes") or request.META.get("CONTENT_LENGTH") or 0
        if int(size) > settings.MAX_JSON_BYTES:
            try:
                _require_credential(request)
            except DomainError as error:
                return error_response(request, error)
        return get_response(request)

    return middleware


def _require_credential(request: HttpRequest) -> None:
    """Raises `NotSignedIn`, `NotFound` (no such door for mails)."""
    if request.path.startswith(MAIL_DOOR):
        gateway.organization_of_token(request.path.removeprefix(MAIL_DOOR).strip("/"))
    elif envelope_for(request.path) is not None:
        access_of_request(request)
    elif not request.user.is_authenticated:
        raise NotSignedIn("Sign in before you send so much.")


AUDITED = "/api/v2/"
# Of these a read is no entry: their contracts have no log of their own.
AUDITED_CHANGES = ("/v1/", "/api/v1/")
READING = ("GET", "HEAD", "OPTIONS")


def audit_log(get_response: GetResponse) -> GetResponse:
    """Every request to v2 that somebody signed is written down with how it ended, and whatever a
    program or a person changed through another door."""

    def middleware(request: HttpRequest) -> HttpResponse:
        began = time.monotonic()
        response = get_response(request)
        by_program, by_person = getattr(request, "auth", None), getattr(request, "access", None)
        access = None
        is_change = request.method not in READING
        if isinstance(by_program, Access) and (
            request.path.startswith(AUDITED)
            or (is_change and request.path.startswith(AUDITED_CHANGES))
        ):
            access = by_program
        elif isinstance(by_person, Access) and is_change:
            access = by_person
        if access is not None:
            try:
                audit.record(
                    access,
                    method=request.method or "",
                    status=getattr(request, "refused_with", response.status_code),
                    path=_without_prefix(request.path_info),
                    duration_ms=int((time.monotonic() - began) * 1000),
                )
            except DatabaseError:  # what was asked is done: its answer must not be lost
                logger.exception("%s %s is not in the audit log", request.method, request.path)
        return response

    return middleware


def _without_prefix(path: str) -> str:
    for prefix in (AUDITED, *AUDITED_CHANGES):
        path = path.removeprefix(prefix)
    return path.removeprefix("/")


def _texts(request: HttpRequest) -> Iterator[str]:
    for given in (request.GET, request.POST):
        for values in given.lists():
            yield from map(str, values[1])


class page_access:  # noqa: N801  # named like the other middlewares
    """Pages need a session: `request.access` says whose. A `DomainError` becomes a message."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            timezone.deactivate()

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        if envelope_for(request.path) is not None or getattr(view, "is_public", False):
            return None
        user = request.user
        access = access_of_session(user, request.session) if isinstance(user, User) else None
        if access is None:
            target = f"{reverse(settings.LOGIN_URL)}?next={quote(request.get_full_path())}"
            if request.headers.get("HX-Request"):
                response = HttpResponse()
                response["HX-Redirect"] = target
                return response
            return HttpResponseRedirect(target)
        request.access = access  # type: ignore[attr-defined]
        timezone.activate(access.organization.timezone)
        if any("\x00" in text for text in _texts(request)):  # PostgreSQL takes none
            return self.process_exception(request, Invalid("A text must not contain NUL."))
        whose = request.headers.get("X-Organization") or request.POST.get("of_organization")
        is_stale = bool(whose) and whose != str(access.organization.uid)
        if is_stale and request.method != "POST":  # a part of a page that asks for itself again
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        if is_stale:
            return self.process_exception(
                request,
                Conflict(
                    f"Nothing was done: you have gone to {access.organization.name} in another "
                    "tab.",
                    code="pages.other_organization",
                ),
            )
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DomainError) or envelope_for(request.path) is not None:
            return None
        status = status_of(error)
        is_fragment = bool(request.headers.get("HX-Request"))
        if isinstance(error, NotFound | Forbidden) and not is_fragment:
            return render(request, "errors/error.html", {"error": error}, status=status)
        if is_fragment:  # the page's script shows it where it was caused
            return JsonResponse({"message": error.message}, status=status)
        messages.error(request, error.message)
        request.refused_with = status  # type: ignore[attr-defined]  # for the audit log
        back = request.headers.get("Referer") or request.path
        return (
            redirect(back)
            if request.method == "POST"
            else render(request, "errors/error.html", {"error": error}, status=status)
        )
