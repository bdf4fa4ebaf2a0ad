"""Usage and cost: one page for whoever pays, and for everybody what is theirs."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs.budgets import definitions
from runs.budgets import report as budgets
from runs.budgets.report import BudgetUse, percent_of
from runs.models import ACTIVE, BudgetPeriod, Run
from runs.usage import caps, from_runs, periods
from runs.usage import report as usage_report
from runs.usage.caps import Cap
from runs.usage.dimensions import DIMENSIONS
from runs.usage.periods import FIRST_YEAR, LAST_YEAR, Span
from runs.usage.report import MEASURES, PERIODS, Sums, UsageGroup, UsageReport
from runs.usage.totals import LONGEST_SERIES
from runs.views import usage_chart
from runs.views.run_links import Terms
from runs.views.usage_chart import days_term, label_of, runs_url
from teammates.access import Access
from teammates.web.pages import PageRequest, count_export, csv_download

TOO_MANY = (
    f"With their days before, these days have more than {from_runs.MOST_RUNS:,} runs: tools and "
    "tags stand alone. Choose fewer days to see them beside something else."
)
MOST_ROWS, MOST_EXPORTED = 200, 5_000  # groups that are named


@require_GET
def usage_page(request: PageRequest) -> HttpResponse:
    query, access = request.GET, request.access
    measure = query.get("measure", "")
    span, period, problem = _span(access, query)
    sees_all = access.may("data.usage.read")
    choices = {name: one.label for name, one in DIMENSIONS.items() if sees_all or name != "member"}
    only, by = _only(query, choices), _by(query, choices)
    note = ""
    if from_runs.are_needed(by, only) and not _may_be_read(access, span):
        by, note = by[:1], TOO_MANY
        only = {} if DIMENSIONS[by[0]].kind else _without_labels(only)
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
    capped, budget = _budgets(access, report, only) if sees_all else ({}, None)
    shared = [DIMENSIONS[name].label.lower() for name in by if DIMENSIONS[name].kind]
    narrowed = _names_of(only)
    terms = [DIMENSIONS[name].term(key, narrowed[name]) for name, key in only.items()]
    return render(
        request,
        "usage/usage.html",
        {
            "report": report,
            "period": period,
            "periods": PERIODS.items(),
            "problem": problem,
            "choices": choices.items(),
            "seconds": [one for one in choices.items() if one[0] != by[0]],
            "measures": MEASURES.items(),
            "sees_all": sees_all,
            "zone": access.organization.timezone,
            "rows": [_row(report, group, only, terms, capped) for group in report.groups],
            "has_caps": bool(capped),
            "chips": _chips(query, only, narrowed),
            "under_way": Run.objects.visible_to(access).filter(status__in=ACTIVE).count(),
            "budget": budget,
            "likely": percent_of(budget.budget.amount, report.month_end.likely)
            if budget and report.month_end
            else None,
            "others": None if shared else _others(report),
            "by_label": label_of(report),
            "shared": " and ".join(shared),
            "note": note,
            "chart": usage_chart.chart(report, query, terms, access.organization.zone),
            **_led_to(report, terms),
            "keep": {
                name: query[name]
                for name in ("period", "by", "and", "measure", "start", "end")
                if query.get(name)
            },
            "narrowed": query.getlist("only"),
        },
        status=422 if problem else 200,
    )


def _led_to(report: UsageReport, terms: Terms) -> dict[str, Any]:
    """Where the numbers above the table lead; `terms` are what the sums are narrowed to."""
    days = days_term(report.span)
    return {
        "all_runs": runs_url(days, terms),
        "runs_before": runs_url(days_term(report.span.before), terms),
        "cached_runs": runs_url(days, [*terms, ("has", "cache")]),
        "lost": [
            (how, sums, runs_url(days, [("status", how)])) for how, sums in report.lost.items()
        ],
        "unpriced": [
            one | {"url": runs_url(days, [("unpriced", one["model_name"])])}
            for one in report.unpriced
        ],
    }


def _by(query: Any, choices: dict[str, str]) -> list[str]:
    """One or two of `choices`."""
    first, second = query.get("by", ""), query.get("and", "")
    first = first if first in choices else "model"
    return [first] if second not in choices or second == first else [first, second]


def _only(query: Any, choices: dict[str, str]) -> dict[str, Any]:
    """What the sums are narrowed to: `only=teammate:12`, any number of them."""
    only: dict[str, Any] = {}
    for text in query.getlist("only")[: len(DIMENSIONS)]:
        name, _, key = text.partition(":")
        if name in choices:
            with suppress(ValueError):
                only[name] = DIMENSIONS[name].key_of(key)
    return only


def _may_be_read(access: Access, span: Span) -> bool:
    """Whether the runs of these days and of those before them are few enough."""
    return from_runs.are_few(access, Span(span.before.start, span.end))


def _without_labels(only: dict[str, Any]) -> dict[str, Any]:
    return {name: key for name, key in only.items() if not DIMENSIONS[name].kind}


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
    report: UsageReport,
    group: UsageGroup,
    only: dict[str, Any],
    terms: Terms,
    capped: dict[Any, Cap],
) -> tuple[UsageGroup, str, list[str], Cap | None]:
    """A group, where its runs are, what the page narrows to that goes into it, and its cap."""
    narrower = only | dict(zip(report.by, group.key, strict=True))
    return (
        group,
        runs_url(days_term(report.span), [*group.terms, *terms]),
        _written(narrower) if narrower != only else [],
        capped.get(group.key[0]),
    )


def _budgets(
    access: Access, report: UsageReport, only: dict[str, Any]
) -> tuple[dict[Any, Cap], BudgetUse | None]:
    """The caps of the groups, if the days are up to now, and the budget of this month that stands
    above sums of all runs."""
    is_now = report.span.end >= periods.today(access.organization.zone)
    has_caps = is_now and caps.column_of(report.by) is not None
    uses = budgets.uses(access, looks_back=False) if has_caps or not only else []
    capped = caps.of_groups(access, report, uses) if has_caps else {}
    return capped, None if only else _budget_of_the_month(uses)


def _budget_of_the_month(uses: list[BudgetUse]) -> BudgetUse | None:
    """The one that all runs of a month count against."""
    for use in uses:
        is_of_all = not any(getattr(use.budget, f"{name}_id") for name in definitions.COLUMNS)
        if is_of_all and use.budget.period == BudgetPeriod.MONTH:
            return use
    return None


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


def _as_csv(report: UsageReport) -> HttpResponse:
    """The table that is shown, and nothing else."""
    by = "-and-".join(report.by)
    name = f"usage-{report.span.start}-{report.span.end}-by-{by}.csv"
    return csv_download(_lines(report), name=name)


def _lines(report: UsageReport) -> Iterator[list[Any]]:
    yield [
        label_of(report).capitalize(),
        "Runs",
        "Uncached input tokens",
        "Cache read tokens",
        "Cache write tokens",
        "Output tokens",
        "Cost USD",
        "Without a price",
        "Cost USD before",
        "Without a price before",
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
            sums.unpriced,
            group.before.cost,
            group.before.unpriced,
        ]
