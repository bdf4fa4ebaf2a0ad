"""Files: what teammates made and people brought, found again, looked at, compared."""

import csv
import json
from contextlib import suppress
from io import StringIO
from uuid import UUID

from django.contrib import messages
from django.db.models import Exists, OuterRef, Subquery
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from runs.models import RunFile
from teammates.errors import NotFound
from teammates.searching import name_vector_of, name_words_of, query_of
from teammates.text import read_json
from teammates.types import Context
from teammates.web.diffs import changed_lines
from teammates.web.pages import PageRequest, page_of
from threads import files
from threads.downloads import IMAGES
from threads.models import File, FileQuerySet, Thread

PAGE_SIZE = 50
LARGEST_PREVIEW = 2_000_000  # bytes that are read to be shown
MOST_ROWS = 200  # of a table
LONGEST_SHOWN = 200_000  # characters
KINDS = (("", "All"), ("made", "Made by teammates"), ("brought", "Brought by people"))


@require_GET
def file_list(request: PageRequest) -> HttpResponse:
    """The newest version of each file, newest first."""
    sought, kind = request.GET.get("q", "").strip()[:200], request.GET.get("kind", "")
    rows = _visible(request)
    newer = File.objects.filter(
        thread=OuterRef("thread"), name=OuterRef("name"), version__gt=OuterRef("version")
    )
    rows = rows.filter(~Exists(newer))
    if (words := name_words_of(sought)) is not None:
        rows = rows.annotate(words=name_vector_of("name")).filter(words=query_of(words))
    if kind in ("made", "brought"):
        came = RunFile.objects.filter(file=OuterRef("pk"), is_attachment=kind == "brought")
        rows = rows.filter(Exists(came))
    return render(
        request,
        "files/file_list.html",
        {
            "page": page_of(request, _with_origin(rows), "-id", size=PAGE_SIZE),
            "sought": sought,
            "kind": kind,
            "kinds": KINDS,
        },
    )


@require_GET
def file_detail(request: PageRequest, uid: UUID) -> HttpResponse:
    """What is in a file, where it comes from, and its other versions."""
    file = _find(request, uid)
    versions = list(
        _with_origin(File.objects.filter(thread=file.thread, name=file.name)).order_by("-version")
    )
    other = next(
        (one for one in versions if str(one.version) == request.GET.get("compare", "")), None
    )
    return render(
        request,
        "files/file_detail.html",
        {
            "file": file,
            "versions": versions,
            "other": other,
            "diff": _diff(other, file) if other else None,
            "preview": None if other else _preview(file),
            "runs": [
                row.run
                for row in RunFile.objects.filter(file=file).select_related(
                    "run__prompt", "run__task", "run__teammate"
                )[:20]
            ],
        },
    )


@require_GET
def file_page(request: PageRequest, uid: UUID) -> HttpResponse:
    """A generated page, where it can run nothing, load nothing and reach nothing of ours."""
    file = _find(request, uid)
    if file.content_type != "text/html":
        raise NotFound("This file is no page.")
    return HttpResponse(
        files.read_file(file),
        content_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
            "img-src data:; frame-ancestors 'self'",
            "X-Frame-Options": "SAMEORIGIN",
            "X-Content-Type-Options": "nosniff",
        },
    )


@require_POST
def file_delete(request: PageRequest, uid: UUID) -> HttpResponse:
    """Delete one version; the others stay."""
    request.access.require("data.threads.write")
    file = _find(request, uid)
    files.delete_file(file)
    messages.success(request, f"Version {file.version} of {file.name} is deleted.")
    return redirect("runs:file_list")


def _visible(request: PageRequest) -> FileQuerySet:
    threads = Thread.objects.visible_to(request.access)
    return File.objects.filter(thread__in=threads).select_related("thread")


def _with_origin(rows: FileQuerySet) -> FileQuerySet:
    """With the newest run that has it, and its teammate."""
    came = RunFile.objects.filter(file=OuterRef("pk")).order_by("-run_id")
    return rows.annotate(
        run_number=Subquery(came.values("run_id")[:1]),
        mate=Subquery(came.values("run__teammate__name")[:1]),
        is_brought=Subquery(came.values("is_attachment")[:1]),
    )


def _find(request: PageRequest, uid: UUID) -> File:
    found: File | None = _with_origin(_visible(request)).filter(uid=uid).first()
    if found is None:
        raise NotFound("There is no such file.", code="files.not_found")
    return found


def _preview(file: File) -> Context:
    """What a page can show of a file: `kind` says how."""
    if file.content_type in IMAGES:
        return {"kind": "image"}
    if file.content_type == "text/html":
        return {"kind": "page"}
    if file.size > LARGEST_PREVIEW:
        return {"kind": "none", "why": "It is too large to be shown here."}
    text = _text(file)
    if text is None:
        return {"kind": "none", "why": "It is no text; download it to look at it."}
    if file.name.endswith(".csv"):
        try:
            rows = list(csv.reader(StringIO(text[:LONGEST_SHOWN], newline="")))
        except csv.Error:  # then it is shown as it is
            rows = []
        if rows:
            return {
                "kind": "table",
                "head": rows[0],
                "rows": rows[1 : MOST_ROWS + 1],
                "more": max(len(rows) - 1 - MOST_ROWS, 0),
            }
    if file.name.endswith((".md", ".markdown")):
        return {"kind": "prose", "text": text[:LONGEST_SHOWN]}
    if file.name.endswith(".json"):
        with suppress(ValueError):
            tidy = json.dumps(read_json(text), indent=2, ensure_ascii=False)
            tidy.encode()  # a lone surrogate cannot be shown
            text = tidy
    return {"kind": "text", "text": text[:LONGEST_SHOWN], "is_cut": len(text) > LONGEST_SHOWN}


def _text(file: File) -> str | None:
    try:
        text = files.read_file(file).decode()
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def _diff(before: File, after: File) -> list[tuple[str, str]]:
    """Sign and line of what differs; one line that says so where it cannot be told."""
    if max(before.size, after.size) > LARGEST_PREVIEW // 4:
        return [(" ", "These versions are too large to be compared here.")]
    old, new = _text(before), _text(after)
    if old is None or new is None:
        return [(" ", "These versions are no texts; download both to compare them.")]
    return changed_lines(old, new) or [(" ", "They are the same.")]
