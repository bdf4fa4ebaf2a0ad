"""The audit log: who did what, when, and how it ended."""

import json
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from teammates.models import APIKey
from teammates.people import members
from teammates.trust import audit
from teammates.types import Context
from teammates.web.pages import PageRequest, count_export, csv_download, number_of, page_of

PAGE_SIZE = 100
MOST_EXPORTED = 10_000
WAYS = (("all", "People and programs"), ("dashboard", "People"), ("api_key", "Programs"))
PLACES = {
    "run": "/runs/",
    "agent": "/teammates/",
    "thread": "/threads/",
}  # of the rows that have a page


@require_GET
def audit_log(request: PageRequest) -> HttpResponse:
    query = request.GET
    way = query.get("auth", "all")
    way = way if way in audit.AUTH else "all"
    wanted: Context = {"resource_type": query.get("resource") or None}
    if (user := number_of(query.get("user", ""))) is not None:
        wanted["user_id"] = user
    entries = audit.list_entries(request.access, auth=way, **wanted).select_related("user")
    if not query.get("reads"):
        entries = entries.exclude(method="GET")
    if query.get("failed"):
        entries = entries.filter(status__gte=400)
    if query.get("format") == "csv":
        count_export(request.access)
        return _as_csv(entries[:MOST_EXPORTED])
    page = page_of(request, entries, "-id", size=PAGE_SIZE)
    return render(
        request,
        "settings/audit_log.html",
        {
            "entries": [
                (
                    one,
                    audit.words_of(one),
                    f"{place}{one.resource_id}/"
                    if one.resource_id and (place := PLACES.get(one.resource_type))
                    else "",
                )
                for one in page.rows
            ],
            "key_names": dict(
                APIKey.objects.filter(
                    organization=request.access.organization,
                    prefix__in={one.key_prefix for one in page.rows},
                ).values_list("prefix", "name")
            ),
            "way": way,
            "ways": WAYS,
            "members": members.list_members(request.access),
            "user": wanted.get("user_id"),
            "resource": query.get("resource", ""),
            "is_filtered": any(query.get(n) for n in ("user", "resource", "failed", "auth")),
            "page": page,
            "kept_for": timedelta(days=settings.AUDIT_DAYS).days,
        },
    )


def _as_csv(entries: Any) -> HttpResponse:
    names = [
        "time",
        "who",
        "with",
        "door",
        "address",
        "action",
        "subject",
        "changes",
        "method",
        "path",
        "status",
        "ms",
    ]
    rows = (
        [
            one.created_at.isoformat(),
            one.user.email if one.user else "",
            one.key_prefix or "browser",
            one.door,
            one.address,
            one.action,
            one.subject,
            json.dumps(one.changes, ensure_ascii=False) if one.changes else "",
            one.method,
            one.path,
            one.status,
            one.duration_ms,
        ]
        for one in entries
    )
    return csv_download([names, *rows], name="audit.csv")
