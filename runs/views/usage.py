"""Usage and cost: one page for whoever pays, and for everybody what is theirs."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from runs.budgets import definitions
from runs.budgets import report as budgets
from runs.budgets.report import BudgetUse
from runs.models import ACTIVE, BudgetPeriod, Run
from runs.queries.query_language import Term, written
from runs.usage import report as usage_report
from runs.usage.dimensions import DIMENSIONS
from runs.usage.periods import FIRST_YEAR, Span
from runs.usage.report import MEASURES, PERIODS, Sums, UsageGroup, UsageReport
from runs.usage.totals import LONGEST_SERIES
from teammates.access import Access
from teammates.templatetags.muster import money, short
from teammates.web import charts
from teammates.web.pages import PageRequest, count_export, csv_download

SAYING: dict[str, charts.Say] = {
    "cost": lambda value: money(Decimal(value)),
    "runs": lambda value: f"{value:g}",
    "tokens": lambda value: short(int(value)),
}
LAST_YEAR = 2200
MOST_ROWS, MOST_EXPORTED = 200, 5_000  # groups that are named
SERIES = 7  # of a chart, besides the others together


@require_GET
def usage_page(request: PageRequest) -> HttpResponse:
    query, access = request.GET, request.access
    measure = query.get("measure", "")
    span, period, problem = _span(access, query)
    sees_all = access.may("data.usage.read")
    choices = {name: one.label for name, one in DIMENSIONS.items() if sees_all or name != "member"}
    only = _only(query, choices)
    if only:
        choices = {name: label for name, label in choices.items() if not DIMENSIONS[name].kind}
    by = _by(query, choices)
    measure = measure if measure in MEASURES else ""
    is_export = query.get("format") == "csv"
    report = usage_report.report(
        access,
        span,
        by=by,
        only=only,
        measure=measure,
        most=MOST_EXPORTED if is_export else MOST_ROWS,
    )
    if is_export:
        count_export(access)
        return _as_csv(report)
    is_shared = bool(DIMENSIONS[by[0]].kind)
    narrowed = _names_of(only)
    return render(
        request,
        "usage/usage.html",
        {
            "report": report,
            "period": period,
            "periods": PERIODS.items(),
            "problem": problem,
            "choices": choices.items(),
            "seconds": [
                (name, label)
                for name, label in choices.items()
                if name != by[0] and not DIMENSIONS[name].kind
            ],
            "measures": MEASURES.items(),
            "sees_all": sees_all,
            "zone": access.organization.timezone,
            "rows": [_row(report, group, only, narrowed) for group in report.groups],
            "chips": _chips(query, only, narrowed),
            "under_way": Run.objects.visible_to(access).filter(status__in=ACTIVE).count(),
            "budget": _budget_of_the_month(access) if sees_all and not only else None,
            "others": None if is_shared else _others(report),
            "by_label": _label(report),
            "is_shared": is_shared,
            "chart": _chart(report),
            "all_runs": _runs_url(report.span),
            "keep": {
                name: query[name]
                for name in ("period", "by", "and", "measure", "start", "end")
                if query.get(name)
            },
            "narrowed": query.getlist("only"),
        },
        status=422 if problem else 200,
    )


def _by(query: Any, choices: dict[str, str]) -> list[str]:
    """One or two of `choices`; tools and tags go with no other."""
    first, second = query.get("by", ""), query.get("and", "")
    first = first if first in choices else "model"
    if second not in choices or second == first:
        return [first]
    return [first] if DIMENSIONS[first].kind or DIMENSIONS[second].kind else [first, second]


def _only(query: Any, choices: dict[str, str]) -> dict[str, Any]:
    """What the sums are narrowed to: `only=teammate:12`, any number of them."""
    only: dict[str, Any] = {}
    for text in query.getlist("only")[: len(DIMENSIONS)]:
        name, _, key = text.partition(":")
        if name in choices and not DIMENSIONS[name].kind:
            with suppress(ValueError):
                only[name] = DIMENSIONS[name].key_of(key)
    return only


def _written(only: dict[str, Any]) -> list[str]:
    return [f"{name}:{DIMENSIONS[name].text_of(key)}" for name, key in only.items()]


def _names_of(only: dict[str, Any]) -> dict[str, str]:
    """What the sums are narrowed to, as people call it: a query for each."""
    return {
        name: DIMENSIONS[name].name_of(key, DIMENSIONS[name].names([key] if key else []))
        for name, key in only.items()
    }


def _chips(query: Any, only: dict[str, Any], names: dict[str, str]) -> list[tuple[str, str]]:
    """Each thing that the sums are narrowed to, and the query without it."""
    chips = []
    for name, said in names.items():
        rest = query.copy()
        rest.setlist("only", _written({one: key for one, key in only.items() if one != name}))
        chips.append((f"{DIMENSIONS[name].label}: {said}", f"?{rest.urlencode()}"))
    return chips


def _row(
    report: UsageReport, group: UsageGroup, only: dict[str, Any], names: dict[str, str]
) -> tuple[UsageGroup, str, list[str]]:
    """A group, where its runs are, and what the page narrows to that goes into it."""
    terms = [DIMENSIONS[name].term(key, names[name]) for name, key in only.items()]
    narrower = only | dict(zip(report.by, group.key, strict=True))
    is_narrowing = not any(DIMENSIONS[name].kind for name in report.by)
    return (
        group,
        _runs_url(report.span, [*group.terms, *terms]),
        _written(narrower) if is_narrowing and narrower != only else [],
    )


def _budget_of_the_month(access: Access) -> BudgetUse | None:
    """The one that all runs of a month count against."""
    for use in budgets.uses(access, looks_back=False):
        is_of_all = not any(getattr(use.budget, f"{name}_id") for name in definitions.COLUMNS)
        if is_of_all and use.budget.period == BudgetPeriod.MONTH:
            return use
    return None


def _label(report: UsageReport) -> str:
    return " and ".join(DIMENSIONS[name].label.lower() for name in report.by)


def _others(report: UsageReport) -> Sums | None:
    """What the groups that are named do not add up to."""
    if len(report.groups) < MOST_ROWS:
        return None
    named, rest = Sums.of(vars(group.sums) for group in report.groups), vars(report.sums)
    return Sums(**{name: value - getattr(named, name) for name, value in rest.items()})


def _span(access: Access, query: Any) -> tuple[Span, str, str]:
    """The days that are asked for, the name of the period, and what is wrong with the dates."""
    period = query.get("period", "")
    if period != "custom":
        period = period if period in PERIODS else usage_report.DEFAULT_PERIOD
        return usage_report.span_of(access, period), period, ""
    default = usage_report.span_of(access, usage_report.DEFAULT_PERIOD)
    try:
        start = date.fromisoformat(query.get("start", ""))
        end = date.fromisoformat(query.get("end", ""))
    except ValueError:
        return default, period, "Give both days, as 2026-11-30."
    span = Span(start, end)
    if start > end:
        return default, period, "The first day is after the last one."
    if span.length > LONGEST_SERIES or not FIRST_YEAR <= start.year <= LAST_YEAR:
        return default, period, f"At most {LONGEST_SERIES} days are shown at once."
    return span, period, ""


def _chart(report: UsageReport) -> charts.Bars:
    say = SAYING[report.measure]
    shown, rest = report.groups[:SERIES], report.groups[SERIES:]
    series = [
        charts.Series(
            group.name,
            f"series-{at}",
            [float(v) for v in group.by_day],
            say(float(sum(group.by_day))),
        )
        for at, group in enumerate(shown)
    ]
    others: list[float] = []
    if rest and not DIMENSIONS[report.by[0]].kind:
        named = [sum(values) for values in zip(*(g.by_day for g in shown), strict=True)]
        others = [float(all_ - of) for all_, of in zip(report.by_day, named, strict=True)]
    elif rest:
        others = [float(sum(values)) for values in zip(*(g.by_day for g in rest), strict=True)]
    if others:
        series.append(charts.Series("Other", "series-7", others, say(sum(others))))
    return charts.stacked(
        f"{MEASURES[report.measure]} by {_label(report)}, day by day",
        [f"{day:%-d %b}" for day in report.span.days],
        series,
        say=say,
        urls=[_runs_url(Span(day, day)) for day in report.span.days],
    )


def _runs_url(span: Span, terms: list[tuple[str, str]] | None = None) -> str:
    """The list of the runs behind a number: those that ended in these days."""
    days = f"{span.start}" if span.length == 1 else f"{span.start}..{span.end}"
    terms = [*(terms or []), ("ended", days), ("is", "any")]
    query = written([Term("", key, value) for key, value in terms])
    return f"{reverse('runs:run_list')}?{urlencode({'q': query})}"


def _as_csv(report: UsageReport) -> HttpResponse:
    """The table that is shown, and nothing else."""
    by = "-and-".join(report.by)
    name = f"usage-{report.span.start}-{report.span.end}-by-{by}.csv"
    return csv_download(_lines(report), name=name)


def _lines(report: UsageReport) -> Iterator[list[Any]]:
    yield [
        _label(report).capitalize(),
        "Runs",
        "Uncached input tokens",
        "Cache read tokens",
        "Cache write tokens",
        "Output tokens",
        "Cost USD",
        "Cost USD before",
    ]
    for group in report.groups:
        sums = group.sums
        yield [
            group.name,
            sums.runs,
            sums.uncached_tokens,
            sums.cache_read_tokens,
            sums.cache_write_tokens,
            sums.output_tokens,
            sums.cost,
            group.before.cost,
        ]
