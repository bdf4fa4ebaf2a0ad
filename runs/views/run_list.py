"""The list of runs: its query bar, what it looks like as a whole, acts on several, and exports."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from runs.budgets.counting import began_at
from runs.creation import retries
from runs.lifecycle import endings, flags
from runs.models import Channel, Run, RunStatus
from runs.models.run_query import RunQuerySet
from runs.queries import lookup, query_language, saved_views
from runs.queries.cost import costs_of_models, costs_since
from runs.queries.histogram import SERIES, errors, survey
from runs.queries.query_language import Term, with_term
from runs.usage.dimensions import NONE
from teammates.access import Access
from teammates.errors import DomainError, Invalid
from teammates.roster.lookup import teammate_names
from teammates.web import charts
from teammates.web.pages import (
    PageRequest,
    count_export,
    csv_download,
    number_of,
    numbers_of,
    text_download,
)

PAGE_SIZE = 50
MOST_EXPORTED = 10_000
MOST_AT_ONCE = 500
MOST_WATCHED = 60  # rows whose state is asked for again
MENUS = (
    (
        "Status",
        "status",
        [
            ("running", "Running"),
            ("needs-you", "Needs you"),
            ("completed", "Completed"),
            ("failed", "Failed"),
            ("cancelled", "Cancelled"),
            ("queued", "Queued"),
        ],
    ),
    (
        "Started",
        "since",
        [
            ("1h", "Last hour"),
            ("24h", "Last 24 hours"),
            ("7d", "Last 7 days"),
            ("30d", "Last 30 days"),
            ("90d", "Last 90 days"),
        ],
    ),
    (
        "From",
        "channel",
        [
            ("app", "A page"),
            ("api", "A program"),
            ("cli", "The command line"),
            ("schedule", "A schedule"),
            ("webhook", "A webhook"),
            ("email", "An e-mail"),
        ],
    ),
    (
        "More",
        "has",
        [
            ("approval", "Asked somebody"),
            ("file", "Has files"),
            ("tool", "Used a tool"),
            ("error", "Has an error"),
        ],
    ),
)


@require_GET
def run_list(request: PageRequest) -> HttpResponse:
    """Newest first, narrowed by `q`; without it, by what most people look for."""
    access = request.access
    sought = request.GET.get("q", query_language.DEFAULT)
    terms = query_language.parse(sought)
    filtered = query_language.apply(Run.objects.visible_to(access), terms)
    if problems := [term.problem for term in terms if term.problem]:
        filtered = filtered.none()  # what was meant is not known: nothing can be acted on
    if kind := request.GET.get("format"):
        _refuse_problems(terms)
        count_export(request.access)
        return _export(filtered, kind)
    by_error = request.GET.get("group") == "error"
    begins, ends = query_language.span_of(terms)
    budget = next((number_of(one.value) for one in terms if one.key == "budget"), None)
    models = [one.value for one in terms if one.key == "used" and one.value != NONE]
    with query_language.planned(terms):
        rows = [] if by_error else _behind(access, filtered, request.GET.get("after", ""))
        whole = survey(filtered, begins=begins, ends=ends or timezone.now())
        is_part = budget is not None or bool(models)  # of the costs of these runs
        costs = costs_of_models(models) if budget is None else costs_since(began_at(budget))
        unknown = [run for run in rows if run.is_finished and run.cost is None]
        costs.say(rows, of=rows if is_part else unknown)
        if not whole.is_cut and (is_part or whole.unpriced):
            whole = replace(whole, **costs.of(filtered))
        failures = errors(filtered) if by_error else []
    return render(
        request,
        "runs/run_list.html",
        {
            "sought": sought,
            "chips": [(term, query_language.without(terms, term)) for term in terms],
            "problems": problems,
            "menus": [
                (label, [(name, with_term(terms, key, value)) for value, name in choices])
                for label, key, choices in (
                    *MENUS,
                    ("Teammate", "teammate", teammate_names(access)),
                )
                if choices
            ],
            "runs": rows[:PAGE_SIZE],
            "news_url": _news_url(sought, rows, is_first=not request.GET.get("after")),
            "errors": [(one, with_term(terms, "error", one["error_class"])) for one in failures],
            "by_error": by_error,
            "newest": f"?{urlencode({'q': sought})}" if request.GET.get("after") else None,
            "older": f"?{urlencode({'q': sought, 'after': rows[PAGE_SIZE - 1].pk})}"
            if len(rows) > PAGE_SIZE
            else None,
            "whole": whole,
            "chart": _chart(whole, terms),
            "views": saved_views.list_views(access),
            "has_any": bool(rows) or Run.objects.visible_to(access).exists(),
            "most_at_once": MOST_AT_ONCE,
            "shows_archived": query_language.asks_for_archived(terms),
        },
    )


def _behind(access: Access, runs: RunQuerySet, after: str) -> list[Run]:
    if number := number_of(after):
        last = Run.objects.visible_to(access).filter(pk=number).first()
        runs = runs.older_than(last) if last else runs
    return lookup.page(runs.newest_first(), PAGE_SIZE + 1)


def _chart(whole: Any, terms: list[Term]) -> charts.Bars | None:
    starts = whole.starts
    if not starts:
        return None
    series = []
    for status, look in SERIES:
        values = [whole.buckets.get(at, {}).get(status, 0) for at in starts]
        if any(values):
            series.append(charts.Series(RunStatus(status).label, look, values, str(sum(values))))
    form = "%-d %b" if whole.width >= timedelta(days=1) else "%-d %b %H:%M"
    page = reverse("runs:run_list")
    rest = [term for term in terms if term.key not in ("since", "until", "on")]

    def url(at: Any) -> str:
        ends = at + whole.width
        narrowed = query_language.written(
            [
                *rest,
                Term("", "since", f"{at:%Y-%m-%dT%H:%M}"),
                Term("", "until", f"{ends:%Y-%m-%dT%H:%M}"),
            ]
        )
        return f"{page}?{urlencode({'q': narrowed})}"

    # Days are UTC's, as in the query bar.
    is_days = whole.width >= timedelta(days=1)
    names = [f"{at if is_days else timezone.localtime(at):{form}}" for at in starts]
    return charts.stacked(
        "Runs over time by state",
        names,
        series,
        say=lambda value: f"{value:g}",
        urls=[url(at) for at in starts],
        height=110,
    )


def _news_url(sought: str, rows: list[Run], *, is_first: bool) -> str:
    """Where a list asks what is new and how its rows stand; empty if nothing is to be asked."""
    newest = rows[0].pk if rows and is_first else None
    watched = [str(row.pk) for row in rows[:MOST_WATCHED] if not row.is_finished]
    if newest is None and not watched:
        return ""
    asked = {"q": sought, "newest": newest or "", "rows": ",".join(watched)}
    return f"{reverse('runs:run_news')}?{urlencode(asked)}"


@require_GET
def run_news(request: PageRequest) -> HttpResponse:
    """How many runs came to the list since it was drawn, and how its rows stand now."""
    access = request.access
    terms = query_language.parse(request.GET.get("q", query_language.DEFAULT))
    new = 0
    if newest := number_of(request.GET.get("newest", "")):
        filtered = query_language.apply(Run.objects.visible_to(access), terms)
        with query_language.planned(terms):
            new = filtered.filter(pk__gt=newest)[:100].count()
    ids = numbers_of(request.GET.get("rows", "").split(","))
    rows = Run.objects.visible_to(access).filter(pk__in=ids[:MOST_WATCHED])
    context = {"new": new, "runs": rows}
    return render(request, "runs/_news.html", context)


# --- several at once ----------------------------------------------------------------------------


@require_POST
def runs_act(request: PageRequest) -> HttpResponse:
    """Cancel, try again or archive the chosen runs, or all that fit the query (`all`)."""
    access = request.access
    access.require("data.runs.write")
    act = ACTS.get(request.POST.get("act", ""))
    if act is None:
        raise Invalid("Choose what to do.")
    runs = Run.objects.visible_to(access)
    if request.POST.get("all"):
        terms = query_language.parse(request.POST.get("q", query_language.DEFAULT))
        _refuse_problems(terms)
        runs = query_language.apply(runs, terms)
    else:
        chosen = numbers_of(request.POST.getlist("run"))
        runs = runs.filter(pk__in=chosen[:MOST_AT_ONCE])
    word, verb = act
    done = 0
    skipped: dict[str, list[Run]] = {}
    for run in runs.for_list().newest_first()[:MOST_AT_ONCE]:
        try:
            is_done = verb(access, run)
        except DomainError as refusal:
            skipped.setdefault(refusal.message, []).append(run)
        else:
            done += is_done
            if not is_done:
                skipped.setdefault("Nothing to do.", []).append(run)
    if done:
        messages.success(request, f"{done} {word}.")
    for why, which in list(skipped.items())[:5]:
        messages.warning(request, f"{len(which)} left as they were: {why}")
    sought = request.POST.get("q", "")[: query_language.LONGEST]
    return redirect(f"{reverse('runs:run_list')}?{urlencode({'q': sought})}")


def _refuse_problems(terms: list[Term]) -> None:
    """A term that is not understood narrows nothing: nobody acts on what is left then."""
    for term in terms:
        if term.problem:
            raise Invalid(term.problem)


def _cancel(access: Access, run: Run) -> bool:
    if run.is_finished:
        return False
    endings.stop_run(access, run)
    return True


def _retry(access: Access, run: Run) -> bool:
    return retries.retry_run(access, run, channel=Channel.APP)[1]


def _archive(access: Access, run: Run) -> bool:
    flags.set_archived(access, run, archived=True)
    return True


def _unarchive(access: Access, run: Run) -> bool:
    flags.set_archived(access, run, archived=False)
    return True


ACTS: dict[str, tuple[str, Callable[[Access, Run], bool]]] = {
    "cancel": ("stopped", _cancel),
    "retry": ("tried again", _retry),
    "archive": ("archived", _archive),
    "unarchive": ("back in the list", _unarchive),
}


# --- exports ------------------------------------------------------------------------------------

COLUMNS: dict[str, Callable[[Run], Any]] = {
    "id": lambda run: run.pk,
    "status": lambda run: run.status,
    "title": lambda run: run.title,
    "teammate": lambda run: run.teammate.name,
    "version": lambda run: run.teammate_version.number,
    "thread_id": lambda run: run.thread_id,
    "channel": lambda run: run.channel,
    "started_by": lambda run: str(run.created_by or run.api_key or ""),
    "end_user": lambda run: run.end_user.external_id if run.end_user else "",
    "model": lambda run: run.model_name,
    "created_at": lambda run: run.created_at.isoformat(),
    "finished_at": lambda run: run.finished_at.isoformat() if run.finished_at else "",
    "duration_ms": lambda run: run.duration_ms,
    "input_tokens": lambda run: run.input_tokens,
    "output_tokens": lambda run: run.output_tokens,
    "cost_usd": lambda run: None if run.cost is None else str(run.cost),
    "error_class": lambda run: run.error_class,
    "error": lambda run: run.error_message,
}


def _export(runs: RunQuerySet, kind: str) -> HttpResponse:
    """Exactly the runs of the list, its newest `MOST_EXPORTED`, as CSV or as JSON lines."""
    rows = (
        {name: read(run) for name, read in COLUMNS.items()}
        for run in runs.for_list().newest_first()[:MOST_EXPORTED]
    )
    if kind == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return text_download(text, kind="application/x-ndjson", name="runs.jsonl")
    if kind != "csv":
        raise Invalid("format must be csv or jsonl.")
    return csv_download([COLUMNS, *(row.values() for row in rows)], name="runs.csv")


# --- saved views --------------------------------------------------------------------------------


@require_POST
def view_save(request: PageRequest) -> HttpResponse:
    sought = request.POST.get("q", "")
    view = saved_views.save_view(
        request.access,
        name=request.POST.get("name", ""),
        query=sought,
        is_shared=bool(request.POST.get("is_shared")),
    )
    messages.success(request, f"{view.name} is among your views.")
    return redirect(f"{reverse('runs:run_list')}?{urlencode({'q': sought})}")


@require_POST
def view_delete(request: PageRequest, view_id: int) -> HttpResponse:
    saved_views.delete_view(request.access, view_id)
    return redirect("runs:run_list")
