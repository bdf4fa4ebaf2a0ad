"""The chart of the page of usage, and where its bars and numbers lead."""

from datetime import date, datetime, tzinfo
from decimal import Decimal
from urllib.parse import urlencode

from django.http import QueryDict

from runs.usage.dimensions import DIMENSIONS
from runs.usage.periods import Span
from runs.usage.report import MEASURES, UsageGroup, UsageReport
from runs.views.run_links import Terms, list_url
from teammates.templatetags.muster import money, short
from teammates.web import charts

SAYING: dict[str, charts.Say] = {
    "cost": lambda value: money(Decimal(value)),
    "runs": lambda value: f"{value:g}",
    "tokens": lambda value: short(int(value)),
}
SERIES = 7  # of a chart, besides the others together
OTHER = "others"  # no key is called so


def chart(report: UsageReport, query: QueryDict, terms: Terms, zone: tzinfo) -> charts.Bars:
    """Stacked bars of the largest groups. Those that `query` has in `off` are not drawn; `terms`
    are of the runs that the report is narrowed to."""
    buckets = [one.astimezone(zone) if isinstance(one, datetime) else one for one in report.buckets]
    say, off = SAYING[report.measure], query.getlist("off")
    series = []
    for at, (name, key, values) in enumerate(_largest(report)):
        is_off = key in off
        series.append(
            charts.Series(
                name,
                f"series-{at}",
                [0.0 if is_off else float(value) for value in values],
                say(float(sum(values))),
                url=_toggled(query, key),
                is_off=is_off,
            )
        )
    pace = "hour by hour" if report.is_hourly else "day by day"
    return charts.stacked(
        f"{MEASURES[report.measure]} by {label_of(report)}, {pace}",
        [_called(bucket, report.span) for bucket in buckets],
        series,
        say=say,
        urls=[runs_url(_ended_in(bucket), terms) for bucket in buckets],
    )


def _largest(report: UsageReport) -> list[tuple[str, str, list[Decimal]]]:
    """Name, key and values of each series; what is not named comes last, as one."""
    shown, rest = report.groups[:SERIES], report.groups[SERIES:]
    series = [(group.name, _key(report, group), group.values) for group in shown]
    if rest and any(DIMENSIONS[name].kind for name in report.by):
        others = [sum(values, Decimal(0)) for values in zip(*(g.values for g in rest), strict=True)]
    elif rest:
        named = [sum(values) for values in zip(*(g.values for g in shown), strict=True)]
        others = [all_ - of for all_, of in zip(report.values, named, strict=True)]
    else:
        return series
    return [*series, ("Other", OTHER, others)]


def _key(report: UsageReport, group: UsageGroup) -> str:
    """What tells a group from the others, whatever its place is."""
    parts = zip(report.by, group.key, strict=True)
    return urlencode([(name, DIMENSIONS[name].text_of(key)) for name, key in parts])


def _toggled(query: QueryDict, key: str) -> str:
    """The page with a series drawn that was not, or the other way round."""
    changed, off = query.copy(), query.getlist("off")
    changed.setlist("off", [one for one in off if one != key] if key in off else [*off, key])
    return f"?{changed.urlencode()}#chart"


def _called(bucket: date | datetime, span: Span) -> str:
    if not isinstance(bucket, datetime):
        return f"{bucket:%-d %b}"
    return f"{bucket:%H:%M}" if span.length == 1 else f"{bucket:%a %H:%M}"


def label_of(report: UsageReport) -> str:
    """What it is grouped by."""
    return " and ".join(DIMENSIONS[name].label.lower() for name in report.by)


def days_term(span: Span) -> str:
    """`ended:` of the runs of these days."""
    return f"{span.start}" if span.length == 1 else f"{span.start}..{span.end}"


def _ended_in(bucket: date | datetime) -> str:
    if isinstance(bucket, datetime):
        return bucket.isoformat(timespec="minutes")
    return f"{bucket}"


def runs_url(ended: str, terms: Terms) -> str:
    """The list of the runs behind a number: those that ended then."""
    return list_url([*terms, ("ended", ended)])
