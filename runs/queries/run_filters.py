"""The filters of the list of runs: what follows `status:`, `cost:`, `ended:` and the others."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from django.contrib.postgres.fields import ArrayField
from django.db.models import (
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    Func,
    OuterRef,
    Q,
    TextField,
    Value,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast
from django.utils import timezone

from runs.budgets.counting import COUNTED, began_at
from runs.models import (
    CALLS_A_MODEL,
    Channel,
    Gate,
    RunFile,
    RunStatus,
    Step,
    StepStatus,
    ToolCall,
    Usage,
)
from runs.models.run_query import RunQuerySet
from runs.usage.days import tags_of
from runs.usage.dimensions import NONE
from teammates.errors import Invalid
from teammates.web.pages import number_of

Filter = Callable[[RunQuerySet, str], RunQuerySet]
# The words for states; the rest are the states' own.
STATES = {
    "running": [RunStatus.QUEUED, RunStatus.RUNNING],
    "needs-you": [RunStatus.WAITING, RunStatus.PAUSED],
    "cancelled": [RunStatus.CANCELLED, RunStatus.CLOSED],
    "active": [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED],
}
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
COMPARED = {">": "gt", "<": "lt", ">=": "gte", "<=": "lte", "": "gte"}


def _status(runs: RunQuerySet, value: str) -> RunQuerySet:
    states = [state for word in value.split(",") for state in STATES.get(word, [word])]
    unknown = [state for state in states if state not in RunStatus.values]
    if unknown:
        known = ", ".join(sorted({*STATES, *RunStatus.values}))
        raise Invalid(f"it is one of {known}.")
    return runs.filter(status__in=states)


def _named(relation: str, *names: str) -> Filter:
    """By one of the names of what a run is related to; by `name#id`, which is the only one; `none`
    finds the runs without one."""

    def narrow(runs: RunQuerySet, value: str) -> RunQuerySet:
        if not value:
            raise Invalid("a name must follow.")
        if value == NONE:
            return runs.filter(**{relation: None})
        number = number_of(value.rpartition("#")[2]) if "#" in value else None
        wanted = Q() if number is None else Q(**{relation: number})
        for name in names:
            wanted |= Q(**{f"{relation}__{name}": value})
        return runs.filter(wanted)

    return narrow


def _task(runs: RunQuerySet, value: str) -> RunQuerySet:
    """By its name or its id; every run has one, and those of `none` are not saved."""
    if value == NONE:
        return runs.filter(task__is_ad_hoc=True)
    number = number_of(value)
    found = _named("task", "name")(runs, value)
    return found | runs.filter(task=number) if number is not None else found


def _version(runs: RunQuerySet, value: str) -> RunQuerySet:
    if "#" in value:
        return _named("teammate_version")(runs, value)
    return _number_of("teammate_version__number")(runs, value)


def _model(runs: RunQuerySet, value: str) -> RunQuerySet:
    """Runs that used it, also beside others, or are to use it; by its name or its alias."""
    if value == NONE:
        return _used(runs, value)
    is_used = Exists(Usage.objects.filter(run=OuterRef("pk"), model_name=value))
    return runs.filter(Q(model_name=value) | Q(route__alias=value) | is_used)


def _used(runs: RunQuerySet, value: str) -> RunQuerySet:
    """Runs that ended and called the model of exactly this name, also beside others; or none."""
    used = Usage.objects.filter(run=OuterRef("pk"))
    if value == NONE:
        return runs.filter(~Exists(used)).exclude(finished_at=None)
    return runs.filter(Exists(used.filter(model_name=value)))


def _unpriced(runs: RunQuerySet, value: str) -> RunQuerySet:
    """Runs that ended and called the model of exactly this name while it had no price."""
    return runs.filter(
        Exists(Usage.objects.filter(run=OuterRef("pk"), model_name=value, unpriced_calls__gt=0))
    )


def _budget(runs: RunQuerySet, value: str) -> RunQuerySet:
    """Runs that spent what counts against a budget now: in its day, week or month, or ever."""
    number = number_of(value)
    if number is None:
        raise Invalid("a number must follow.")
    since = began_at(number)
    if since is not None:
        runs = runs.filter(Q(finished_at=None) | Q(finished_at__gte=since))
    return runs.filter(pk__in=RawSQL(COUNTED, [number, since]))


def _channel(runs: RunQuerySet, value: str) -> RunQuerySet:
    if value not in Channel.values:
        raise Invalid(f"it is one of {', '.join(Channel.values)}.")
    return runs.filter(channel=value)


def _is(runs: RunQuerySet, value: str) -> RunQuerySet:
    match value:
        case "top":
            return runs.filter(started_by=None)
        case "archived":
            return runs.exclude(archived_at=None)
        case "retry":
            return runs.exclude(retry_of=None)
        case "shared":
            return runs.exclude(share_nonce="")
        case "new":
            return runs.filter(last_viewed_at=None).exclude(finished_at=None)
        case "any":
            return runs
    raise Invalid("it is one of top, archived, any, retry, shared, new.")


def _has(runs: RunQuerySet, value: str) -> RunQuerySet:
    mine = {"run": OuterRef("pk")}
    match value:
        case "approval":
            return runs.filter(Exists(Gate.objects.filter(**mine)))
        case "file":
            return runs.filter(Exists(RunFile.objects.filter(**mine)))
        case "tool":
            return runs.filter(Exists(ToolCall.objects.filter(**mine)))
        case "error":
            return runs.exclude(error_class="")
        case "cache":
            return runs.filter(cache_read_tokens__gt=0)
        case "retry":
            broke_off = Step.objects.filter(kind__in=CALLS_A_MODEL, status=StepStatus.STOPPED)
            return runs.filter(Exists(broke_off.filter(**mine)))
    raise Invalid("it is one of approval, file, tool, error, cache, retry.")


def _tool(runs: RunQuerySet, value: str) -> RunQuerySet:
    return runs.filter(Exists(ToolCall.objects.filter(run=OuterRef("pk"), name=value)))


def _tag(runs: RunQuerySet, value: str) -> RunQuerySet:
    """By one key of its metadata."""
    key, sign, wanted = value.partition("=")
    if not key or not sign:
        raise Invalid("a key and its value must follow, as tag:customer=acme.")
    # Not Django's lookup, which takes a key of digits for a place in a list.
    found = Func(
        F("metadata"),
        Cast(Value(key), TextField()),
        arg_joiner=" ->> ",
        template="(%(expressions)s)",
        output_field=TextField(),
    )
    return runs.alias(tag=found).filter(tag=wanted)


def _counted(runs: RunQuerySet, value: str) -> RunQuerySet:
    """Runs that sums of usage count with a tag: one of many tags may be beyond those."""
    tags = Func(
        F("metadata"),
        template=f"ARRAY({tags_of('%(expressions)s')})",
        output_field=ArrayField(TextField()),
    )
    return _tag(runs, value).alias(tags=tags).filter(Q(tags__contains=[value]))


def _number_of(field: str) -> Filter:
    def narrow(runs: RunQuerySet, value: str) -> RunQuerySet:
        if (number := number_of(value)) is None:
            raise Invalid("a number must follow.")
        return runs.filter(**{field: number})

    return narrow


def _error(runs: RunQuerySet, value: str) -> RunQuerySet:
    if not value:
        raise Invalid("a name must follow.")
    return runs.filter(error_class=value)


def _cost(runs: RunQuerySet, value: str) -> RunQuerySet:
    if value == "unknown":
        return runs.filter(cost=None, finished_at__isnull=False)
    sign, amount = _compared(value)
    try:
        dollars = Decimal(amount.removeprefix("$"))
    except InvalidOperation:
        raise Invalid("dollars must follow, as cost:>0.5, or unknown.") from None
    exponent = dollars.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -12 or abs(dollars) >= 10**8:
        raise Invalid("dollars must follow, as cost:>0.5, or unknown.")
    return runs.filter(**{f"cost__{COMPARED[sign]}": dollars})


def _duration(runs: RunQuerySet, value: str) -> RunQuerySet:
    sign, amount = _compared(value)
    found = re.fullmatch(r"(\d{1,7}(?:\.\d+)?)(ms|s|m|h)?", amount)
    if found is None:
        raise Invalid("a length must follow, as duration:>30s or duration:<5m.")
    length = timedelta(seconds=float(found[1]) * SECONDS[found[2] or "s"])
    worked = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    return runs.annotate(worked=worked).filter(**{f"worked__{COMPARED[sign]}": length})


def _compared(value: str) -> tuple[str, str]:
    found = re.fullmatch(r"(>=|<=|>|<|)(.+)", value)
    if found is None:
        raise Invalid("a value must follow.")
    return found[1], found[2]


def _since(runs: RunQuerySet, value: str) -> RunQuerySet:
    return runs.filter(created_at__gte=days_of(value)[0])


def _until(runs: RunQuerySet, value: str) -> RunQuerySet:
    return runs.filter(created_at__lt=days_of(value)[1])


def _on(runs: RunQuerySet, value: str) -> RunQuerySet:
    first, behind = days_of(value)
    return runs.filter(created_at__gte=first, created_at__lt=behind)


def _ended(runs: RunQuerySet, value: str) -> RunQuerySet:
    """On a day of the organization's, or on one of several; or in an hour."""
    first, _, last = value.partition("..")
    try:
        if "T" in value:
            hour = datetime.strptime(value, "%Y-%m-%dT%H:%M%z")
            return runs.filter(finished_at__gte=hour, finished_at__lt=hour + timedelta(hours=1))
        return runs.ended_within(date.fromisoformat(first), date.fromisoformat(last or first))
    except (ValueError, OverflowError):
        raise Invalid(
            "a day such as 2026-11-30, several such as 2026-11-01..2026-11-30, or an hour such as "
            "2026-11-30T14:00+01:00."
        ) from None


def days_of(value: str) -> tuple[datetime, datetime]:
    """The instants that a day begins and ends at (UTC); of `24h` or `7d`, that long ago, twice."""
    if found := re.fullmatch(r"(\d{1,4})([mhdw])", value):
        at = timezone.now() - timedelta(**{UNITS[found[2]]: int(found[1])})
        return at, at
    try:
        day = date.fromisoformat(value)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return at, at + timedelta(days=1)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise Invalid("a day such as 2026-11-30, or a length such as 24h or 7d.") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return at, at


FILTERS: dict[str, Filter] = {
    "status": _status,
    "teammate": _named("teammate", "name", "key"),
    "task": _task,
    "by": _named("created_by", "name", "email"),
    "user": _named("end_user", "external_id", "name"),
    "key": _named("api_key", "name"),
    "model": _model,
    "used": _used,
    "unpriced": _unpriced,
    "budget": _budget,
    "channel": _channel,
    "is": _is,
    "has": _has,
    "tool": _tool,
    "tag": _tag,
    "counted": _counted,
    "error": _error,
    "thread": _number_of("thread_id"),
    "version": _version,
    "cost": _cost,
    "duration": _duration,
    "since": _since,
    "until": _until,
    "on": _on,
    "ended": _ended,
}
