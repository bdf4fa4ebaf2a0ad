"""Usage and cost: one page for whoever pays, and for everybody what is theirs."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

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
MOST_ROWS = 200  # of the table; the export has all
SERIES = 7  # of a chart, besides the others together


@require_GET
def usage_page(request: PageRequest) -> HttpResponse:
    query, access = request.GET, request.access
    measure = query.get("measure", "")
    span, period, problem = _span(access, query)
    sees_all = access.may("data.usage.read")
    choices = {name: one.label for name, one in DIMENSIONS.items() if sees_all or name != "member"}
    by = _by(query, choices)
    report = usage_report.report(
        access, span, by=by, measure=measure if measure in MEASURES else ""
    )
    if query.get("format") == "csv":
        count_export(access)
        return _as_csv(report)
    shown, rest = report.groups[:MOST_ROWS], report.groups[MOST_ROWS:]
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
            "rows": [(group, _runs_url(report.span, group.terms)) for group in shown],
            "others": _together(rest) if rest else None,
            "by_label": _label(report),
            "is_shared": bool(DIMENSIONS[by[0]].kind),
            "chart": _chart(report),
            "all_runs": _runs_url(report.span),
            "keep": {
                name: query[name]
                for name in ("period", "by", "and", "measure", "start", "end")
                if query.get(name)
            },
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


def _label(report: UsageReport) -> str:
    return " and ".join(DIMENSIONS[name].label.lower() for name in report.by)


def _together(groups: list[UsageGroup]) -> UsageGroup:
    """What does not fit into the table."""
    return UsageGroup(
        f"{len(groups)} others",
        [],
        Sums.of(vars(group.sums) for group in groups),
        Sums.of(vars(group.before) for group in groups),
        [sum(values, Decimal(0)) for values in zip(*(g.by_day for g in groups), strict=True)],
        sum(group.share for group in groups),
    )


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
    if rest:
        sums = [float(sum(values)) for values in zip(*(g.by_day for g in rest), strict=True)]
        series.append(charts.Series("Other", "series-7", sums, say(sum(sums))))
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
