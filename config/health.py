"""Health endpoints, and the pages of last resort."""

import logging
from typing import Any

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect, JsonResponse
from django.shortcuts import render
from django.templatetags.static import static

from config.api import envelope_for, error_response
from teammates.errors import DomainError, NotFound, Unavailable
from teammates.web.pages import public

logger = logging.getLogger("muster.health")


@public
def healthz(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@public
def health(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"status": "ok"})


@public
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and its schema is this version's (contract v1 1.8)."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 2000")
            cursor.execute("SELECT 1")
        executor = MigrationExecutor(connection)
    except DatabaseError:
        logger.exception("The database does not answer")
        return _not_ready(request, "The database does not answer; the log says why.")
    expected = len(executor.loader.graph.leaf_nodes())
    behind = executor.migration_plan(executor.loader.graph.leaf_nodes())
    applied = len(executor.loader.applied_migrations)
    if behind:
        return _not_ready(request, "The schema is not this version's; run manage.py migrate.")
    return JsonResponse(
        {
            "status": "ok",
            "schema_version": applied,
            "expected_schema_version": applied,
            "match": bool(expected),
        }
    )


def _not_ready(request: HttpRequest, reason: str) -> HttpResponse:
    return error_response(request, Unavailable(reason, code="health.not_ready", reason=reason))


@public
def robots(request: HttpRequest) -> HttpResponse:
    """Nothing here is for search engines, public links neither."""
    return HttpResponse("User-agent: *\nDisallow: /\n", content_type="text/plain; charset=utf-8")


@public
def favicon(request: HttpRequest) -> HttpResponse:
    return HttpResponsePermanentRedirect(static("icon.svg"))


@public
def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    if envelope_for(request.path) is not None:
        return error_response(request, NotFound(f"There is no {request.path} here."))
    error = NotFound("There is no such page.")
    return render(request, "errors/error.html", {"error": error}, status=404)


@public
def crashed(request: HttpRequest) -> HttpResponse:
    if envelope_for(request.path) is not None:
        return error_response(request, DomainError("Something went wrong inside Muster."), 500)
    return render(request, "errors/crashed.html", status=500)
