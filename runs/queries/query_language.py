"""The query bar of the list of runs: `status:failed teammate:Ops cost:>0.5 "refund"`.

A query is a list of terms. Each narrows the list; pages show each as a chip that can be taken away.
"""

import difflib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from django.db.models import DurationField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.utils import timezone

from runs.models import Channel, Gate, Run, RunFile, RunStatus, ToolCall
from runs.models.run_query import RunQuerySet
from runs.queries.search import runs_asked
from teammates.errors import Invalid
from teammates.web.pages import number_of

DEFAULT = "is:top since:7d"
LONGEST = 1000  # characters
MOST_TERMS = 20
# The words for states; the rest are the states' own.
STATES = {
    "running": [RunStatus.QUEUED, RunStatus.RUNNING],
    "needs-you": [RunStatus.WAITING, RunStatus.PAUSED],
    "cancelled": [RunStatus.CANCELLED, RunStatus.CLOSED],
    "active": [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED],
}
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
SAID = {
    "is:top": "Not started by a run",
    "is:archived": "Archived",
    "is:retry": "Tries again",
    "is:shared": "Shared",
    "is:new": "Not looked at",
    "since:1h": "Last hour",
    "since:24h": "Last 24 hours",
    "since:7d": "Last 7 days",
    "since:30d": "Last 30 days",
    "since:90d": "Last 90 days",
    "status:needs-you": "Needs you",
    "status:running": "Running",
    "status:completed": "Completed",
    "status:failed": "Failed",
    "status:cancelled": "Cancelled",
    "status:queued": "Queued",
    "has:approval": "Asked somebody",
    "has:file": "Has files",
    "has:tool": "Used a tool",
    "has:error": "Has an error",
    "channel:app": "From a page",
    "channel:api": "From a program",
}
COMPARED = {">": "gt", "<": "lt", ">=": "gte", "<=": "lte", "": "gte"}


@dataclass(frozen=True)
class Term:
    """One word of a query: `key` is empty for words that are searched."""

    text: str
    key: str = ""
    value: str = ""
    problem: str = ""

    @property
    def said(self) -> str:
        """As people say it, where a query has words of its own."""
        return SAID.get(self.text, self.text)


def parse(query: str) -> list[Term]:
    """The terms of a query; what is not understood says so in its `problem`."""
    terms = []
    for word in _words(query[:LONGEST])[:MOST_TERMS]:
        key, colon, value = word.partition(":")
        if " " in key or not colon or not re.fullmatch(r"[a-z]+", key):
            terms.append(Term(word, value=word))
        elif key not in FILTERS:
            terms.append(Term(word, key, value, _unknown(key)))
        else:
            terms.append(Term(word, key, value, _problem_of(key, value)))
    return terms


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, FILTERS, n=1)
    if near:
        return f"{key}: is not known. Did you mean {near[0]}:?"
    return f"{key}: is not known. Known are {', '.join(sorted(FILTERS))}."


def written(terms: list[Term]) -> str:
    """Terms as a query again."""
    return " ".join(_quoted(term) for term in terms)


def without(terms: list[Term], term: Term) -> str:
    return written([one for one in terms if one is not term])


def with_term(terms: list[Term], key: str, value: str) -> str:
    """The query with `key` set to `value`, whatever it was."""
    return written([*(one for one in terms if one.key != key), Term("", key, value)])


def apply(runs: RunQuerySet, terms: list[Term]) -> RunQuerySet:
    """The runs that fit all terms; one with a problem fits everything."""
    for term in terms:
        if term.key and not term.problem:
            runs = FILTERS[term.key](runs, term.value)
    # All words at once: looked up one by one, PostgreSQL reads what the most frequent one fits.
    runs = runs_asked(runs, " ".join(term.value for term in terms if not term.key))
    if not asks_for_archived(terms):
        runs = runs.filter(archived_at=None)
    return runs


def asks_for_archived(terms: list[Term]) -> bool:
    return any((term.key, term.value) == ("is", "archived") for term in terms)


def span_of(terms: list[Term]) -> tuple[datetime | None, datetime | None]:
    """From when to when the terms reach; None where they say nothing."""
    begins, ends = None, None
    for term in terms:
        if term.problem or term.key not in ("since", "until", "on"):
            continue
        first, last = _days(term.value)
        if term.key in ("since", "on"):
            begins = first
        if term.key in ("until", "on"):
            ends = last
    return begins, ends


def _words(query: str) -> list[str]:
    lexer = shlex.shlex(query, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape, lexer.quotes = True, "", "", '"'
    try:
        return list(lexer)
    except ValueError:  # a quote that does not end
        return query.replace('"', " ").split()


def _quoted(term: Term) -> str:
    value = term.value.replace('"', "")
    value = f'"{value}"' if not value or re.search(r"\s", value) else value
    return f"{term.key}:{value}" if term.key else value


def _problem_of(key: str, value: str) -> str:
    try:
        FILTERS[key](Run.objects.none(), value)
    except Invalid as error:
        return f"{key}:{value}: {error.message}"
    return ""


# --- filters ------------------------------------------------------------------------------------
def _status(runs: RunQuerySet, value: str) -> RunQuerySet:
    states = [state for word in value.split(",") for state in STATES.get(word, [word])]
    unknown = [state for state in states if state not in RunStatus.values]
    if unknown:
        known = ", ".join(sorted({*STATES, *RunStatus.values}))
        raise Invalid(f"it is one of {known}.")
    return runs.filter(status__in=states)


def _named(*fields: str) -> Callable[[RunQuerySet, str], RunQuerySet]:
    def narrow(runs: RunQuerySet, value: str) -> RunQuerySet:
        if not value:
            raise Invalid("a name must follow.")
        wanted = Q()
        for field in fields:
            wanted |= Q(**{field: value})
        return runs.filter(wanted)

    return narrow


def _task(runs: RunQuerySet, value: str) -> RunQuerySet:
    """By its name or its id."""
    number = number_of(value)
    found = _named("task__name")(runs, value)
    return found | runs.filter(task=number) if number is not None else found


def _model(runs: RunQuerySet, value: str) -> RunQuerySet:
    return runs.filter(Q(model_name=value) | Q(route__alias=value))


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
    raise Invalid("it is one of top, archived, retry, shared, new.")


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
    raise Invalid("it is one of approval, file, tool, error.")


def _tool(runs: RunQuerySet, value: str) -> RunQuerySet:
    return runs.filter(Exists(ToolCall.objects.filter(run=OuterRef("pk"), name=value)))


def _number_of(field: str) -> Callable[[RunQuerySet, str], RunQuerySet]:
    def narrow(runs: RunQuerySet, value: str) -> RunQuerySet:
        if (number := number_of(value)) is None:
            raise Invalid("a number must follow.")
        return runs.filter(**{field: number})

    return narrow


def _cost(runs: RunQuerySet, value: str) -> RunQuerySet:
    sign, amount = _compared(value)
    try:
        dollars = Decimal(amount.removeprefix("$"))
    except InvalidOperation:
        raise Invalid("dollars must follow, as cost:>0.5.") from None
    exponent = dollars.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -12 or abs(dollars) >= 10**8:
        raise Invalid("dollars must follow, as cost:>0.5.")
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
    return runs.filter(created_at__gte=_days(value)[0])


def _until(runs: RunQuerySet, value: str) -> RunQuerySet:
    return runs.filter(created_at__lt=_days(value)[1])


def _on(runs: RunQuerySet, value: str) -> RunQuerySet:
    first, behind = _days(value)
    return runs.filter(created_at__gte=first, created_at__lt=behind)


def _days(value: str) -> tuple[datetime, datetime]:
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


FILTERS: dict[str, Callable[[RunQuerySet, str], RunQuerySet]] = {
    "status": _status,
    "teammate": _named("teammate__name", "teammate__key"),
    "task": _task,
    "by": _named("created_by__name", "created_by__email"),
    "user": _named("end_user__external_id", "end_user__name"),
    "key": _named("api_key__name"),
    "model": _model,
    "channel": _channel,
    "is": _is,
    "has": _has,
    "tool": _tool,
    "error": _named("error_class"),
    "thread": _number_of("thread_id"),
    "version": _number_of("teammate_version__number"),
    "cost": _cost,
    "duration": _duration,
    "since": _since,
    "until": _until,
    "on": _on,
}
