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

from runs.usage import report as usage_report
from runs.usage.periods import FIRST_YEAR, Span
from runs.usage.report import GROUPS, MEASURES, PERIODS, UsageGroup, UsageReport
from runs.usage.totals import LONGEST_SERIES
from teammates.templatetags.muster import money, short
from teammates.web import charts
from teammates.web.pages import PageRequest, count_export, csv_download

SAYING: dict[str, charts.Say] = {
    "cost": lambda value: money(Decimal(value)),
    "runs": lambda value: f"{value:g}",
    "tokens": lambda value: short(int(value)),
}
LAST_YEAR = 2200
SERIES = 7  # of a chart, besides the others together


@require_GET
def usage_page(request: PageRequest) -> HttpResponse:
    query = request.GET
    by = query.get("by", "")
    measure = query.get("measure", "")
    span, period, problem = _span(query)
    report = usage_report.report(
        request.access,
        span,
        by=by if by in GROUPS else "model",
        measure=measure if measure in MEASURES else "",
    )
    if query.get("format") == "csv":
        count_export(request.access)
        return _as_csv(report)
    sees_all = request.access.may("data.usage.read")
    return render(
        request,
        "usage/usage.html",
        {
            "report": report,
            "period": period,
            "periods": PERIODS.items(),
            "problem": problem,
            "groups": [
                (name, label) for name, (_, label) in GROUPS.items() if sees_all or name != "member"
            ],
            "measures": MEASURES.items(),
            "sees_all": sees_all,
            "rows": [(group, _runs_url(group, report)) for group in report.groups],
            "by_label": GROUPS[report.by][1],
            "chart": _chart(report),
            "keep": {
                name: query[name]
                for name in ("period", "by", "measure", "start", "end")
                if query.get(name)
            },
        },
        status=422 if problem else 200,
    )


def _span(query: Any) -> tuple[Span, str, str]:
    """The days that are asked for, the name of the period, and what is wrong with the dates."""
    period = query.get("period", "")
    if period != "custom":
        period = period if period in PERIODS else usage_report.DEFAULT_PERIOD
        return usage_report.span_of(period), period, ""
    default = usage_report.span_of(usage_report.DEFAULT_PERIOD)
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
    runs = reverse("runs:run_list")
    return charts.stacked(
        f"{MEASURES[report.measure]} by {GROUPS[report.by][1].lower()}, day by day",
        [f"{day:%-d %b}" for day in report.span.days],
        series,
        say=say,
        urls=[f"{runs}?{urlencode({'q': f'on:{day}'})}" for day in report.span.days],
    )


def _runs_url(group: UsageGroup, report: UsageReport) -> str:
    """The runs behind a row, as far as the list can name them."""
    words = {
        "model": "model",
        "teammate": "teammate",
        "member": "by",
        "end_user": "user",
    }
    if report.by not in words or group.key in (None, ""):
        return ""
    name = group.name.replace('"', "")
    query = f'{words[report.by]}:"{name}" since:{report.span.start} until:{report.span.end}'
    return f"{reverse('runs:run_list')}?{urlencode({'q': query})}"


def _as_csv(report: UsageReport) -> HttpResponse:
    """The table that is shown, and nothing else."""
    name = f"usage-{report.span.start}-{report.span.end}-by-{report.by}.csv"
    return csv_download(_lines(report), name=name)


def _lines(report: UsageReport) -> Iterator[list[Any]]:
    yield [
        GROUPS[report.by][1],
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
