"""How pages say things: times, money, sizes, names, Markdown. Built into every template."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince, timeuntil

from teammates.integrations.app_catalog import display_name
from teammates.providers.base import UNFINISHED
from teammates.text import visible
from teammates.tools import REGISTRY
from teammates.tools.ask import PLAN_HEADER
from teammates.tools.masking import MASK, masked
from teammates.types import Context
from teammates.web import markdown as web_markdown

register = template.Library()

NOISE = ("trace_id", "attempt", "role", "route_id")  # of events: the same in all, or nobody's


@register.simple_tag
def ago(at: datetime | None) -> SafeString:
    """A moment as people say it; the exact one, here and in UTC, on hover."""
    if not at:
        return mark_safe("–")
    age = timezone.now() - at
    if age < timedelta(days=-7):
        words = f"{timezone.localtime(at):%a %-d %b %Y}"
    elif age < timedelta(seconds=-60):
        words = f"in {timeuntil(at, depth=1)}"
    elif age < timedelta(0):
        words = "in a moment"
    elif age < timedelta(seconds=60):
        words = "just now"
    elif age < timedelta(days=7):
        words = f"{timesince(at, depth=1)} ago"
    else:
        words = f"{timezone.localtime(at):%-d %b %Y}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', at.isoformat(), moment(at), words
    )


@register.filter
def moment(at: datetime | None) -> str:
    """An instant in full: Mon 3 Nov 2026, 09:00 (Berlin), 08:00 UTC."""
    if at is None:
        return "–"
    local, utc = timezone.localtime(at), at.astimezone(UTC)
    if local.utcoffset() == utc.utcoffset():
        return f"{utc:%a %-d %b %Y, %H:%M} UTC"
    return f"{local:%a %-d %b %Y, %H:%M} ({city()}), {utc:%H:%M} UTC"


@register.filter
def clock(at: datetime | None) -> str:
    """The time of a day with its place: 09:00 (Berlin); with the date unless that is today."""
    if at is None:
        return "–"
    local = timezone.localtime(at)
    is_today = local.date() == timezone.localdate()
    return f"{local:%H:%M} ({city()})" if is_today else f"{local:%a %-d %b, %H:%M} ({city()})"


@register.simple_tag
def city() -> str:
    """The place that names the organization's timezone: Berlin of Europe/Berlin."""
    return timezone.get_current_timezone_name().rpartition("/")[2].replace("_", " ")


@register.simple_tag
def exact(at: datetime | None) -> SafeString:
    """A moment to the second, as logs need it; how long ago it was, on hover."""
    if not at:
        return mark_safe("–")
    local = timezone.localtime(at)
    is_today = local.date() == timezone.localdate()
    words = f"{local:%H:%M:%S}" if is_today else f"{local:%-d %b %H:%M:%S}"
    age = f"{timesince(at, depth=1)} ago" if at <= timezone.now() else f"in {timeuntil(at)}"
    return format_html(
        '<time datetime="{}" title="{} ({}), {}">{}</time>',
        at.isoformat(),
        f"{local:%-d %b %Y %H:%M:%S}",
        city(),
        age,
        words,
    )


@register.filter
def money(cost: Any) -> str:
    """Dollars (a Decimal; of nothing, a dash): two digits that matter below a cent, else two
    decimals."""
    if cost is None or cost == "":
        return "–"
    if cost == 0:
        return "$0.00"
    return f"${cost:.2g}" if cost < Decimal("0.01") else f"${cost:.2f}"


@register.filter
def spent(sums: Any) -> str:
    """The `cost` of sums as `money`: what is known of it, where some were `unpriced`."""
    cost, unpriced = (
        (sums.get("cost"), sums.get("unpriced"))
        if isinstance(sums, dict)
        else (getattr(sums, "cost", None), getattr(sums, "unpriced", 0))
    )
    if not unpriced:
        return money(cost or Decimal(0))
    return f"over {money(cost)}" if cost else "unknown"


@register.filter
def price(dollars: Decimal) -> str:
    """Dollars with all their digits, two at least: a price is not rounded."""
    whole, _, rest = f"{dollars.normalize():f}".partition(".")
    return f"${whole}.{rest:0<2}"


@register.filter
def micros(amount: int | None) -> str:
    """Millionths of a dollar as `money`."""
    return money(None if amount is None else Decimal(amount) / 1_000_000)


@register.filter
def seconds(milliseconds: int | None) -> str:
    """A length of time: 40 ms, 1.4 s, 12 s, 3 min 5 s."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    whole = milliseconds / 1000
    if whole < 10:
        return f"{whole:.1f} s"
    if whole < 60:
        return f"{whole:.0f} s"
    minutes, rest = divmod(int(whole), 60)
    return f"{minutes} min {rest} s"


@register.filter
def uncapital(words: str) -> str:
    """To go on in a sentence: Write x becomes write x, CSV stays."""
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


@register.filter
def label(name: str) -> str:
    """An argument's name as people read it."""
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


@register.filter
def short(amount: int | None) -> str:
    """A count that fits: 812, 1.4 k, 38 k, 2.1 M."""
    if amount is None:
        return "–"
    for size, unit in ((1_000_000_000, " G"), (1_000_000, " M"), (1_000, " k")):
        if amount >= size:
            scaled = amount / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(amount)


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{round(share * 100)} %"


@register.filter
def named(prefix: str, pk: Any) -> str:
    """An element's id: {{ "revoke"|named:key.pk }}."""
    return f"{prefix}-{pk}"


@register.filter
def column(rows: list[Context], name: str) -> list[Any]:
    """One value of each row, for a chart."""
    return [row[name] for row in rows]


@register.filter
def attribute(thing: Any, name: str) -> Any:
    return getattr(thing, name)


@register.filter
def of(values: dict[Any, Any], key: Any) -> Any:
    return values.get(key)


@register.filter
def at(values: Sequence[Any], index: int) -> Any:
    return values[index]


@register.filter
def may_be_fixed(value: Any) -> bool:
    """Whether a standing permission can depend on an argument being exactly this."""
    is_short = isinstance(value, str) and 0 < len(value) < 200
    return is_short and "*" not in value and MASK not in value


CUT_SHORT = {
    "max_tokens": "The answer reached the model's output limit and was cut off.",
    "pause_turn": "The model stopped in the middle of its work.",
    "content_filter": "The provider's filter cut the answer off.",
    "refusal": "The model declined to answer.",
}


@register.filter
def cut_short(stop_reason: str | None) -> str:
    """What people should know about an answer that is not whole; empty if it is."""
    return CUT_SHORT.get(stop_reason or "", "")


@register.filter
def goes_on(stop_reason: str | None) -> bool:
    """Whether a model that stopped so writes the rest if it is asked to."""
    return stop_reason in UNFINISHED


@register.filter
def tool_title(name: str) -> str:
    tool = REGISTRY.get(name)
    return tool.title if tool else name


@register.filter
def app_name(name: str) -> str:
    return display_name(name)


@register.filter
def plain(text: str) -> str:
    """The words of Markdown in one line, for previews."""
    return " ".join(unescape(strip_tags(web_markdown.render(text))).split())


@register.filter
def markdown(text: str) -> SafeString:
    return web_markdown.render(text)


@register.filter
def filesize(size: int) -> str:
    """Bytes as people read them: 812 B, 1.4 kB."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


@register.filter
def closing(text: str) -> str:
    """The last line of a text, where a question to the reader stands."""
    return text.strip().rpartition("\n")[2][-160:]


@register.filter
def hidden(value: Any) -> Any:
    """A call's arguments or result without secrets."""
    return masked(value)


@register.filter
def in_line(data: Context) -> str:
    """What an event tells, in a line: the words alone if it has any."""
    said = next(
        (
            data[name]
            for name in ("message", "text", "content", "summary", "title")
            if isinstance(data.get(name), str) and data[name]
        ),
        None,
    )
    if said:
        return " ".join(said.split())
    return " ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in data.items()
        if name not in NOISE and value not in (None, "", [], {})
    )


@register.filter
def pretty(value: Any) -> str:
    """Text as it is, any other value as JSON, for people to read: nothing in it is unseen."""
    return visible(value if isinstance(value, str) else as_json(value))


register.filter("visible", visible)


@register.filter
def quoted(text: object) -> str:
    """In a mail: what others wrote, each further line marked, so that none passes for the mail's
    own."""
    return visible(str(text)).replace("\r", "").replace("\n", "\n> ")


@register.filter
def editable(value: Any) -> str:
    """What a textarea holds of a value: text as it is, the rest as JSON. HTML drops the first line
    break of a textarea, so that one stands before it."""
    return "\n" + (value if isinstance(value, str) else as_json(value))


@register.filter
def toggled(value: Any, word: str = "1") -> str | None:
    """For a query string: nothing where something is on, else the word that switches it on."""
    return None if value else word


LOOKS = {
    "high": "failed",
    "medium": "waiting",
    "low": "",
    "": "",
    "done": "completed",
    "running": "running",
}


@register.filter
def look(word: str | None) -> str:
    """The class of a chip for a risk, a severity or the state of a call."""
    return LOOKS.get(word or "", "failed")


@register.filter
def answer_hint(asked: Context) -> str:
    """What the field for one's own answer to a question says."""
    if asked.get("header") == PLAN_HEADER:
        return "What to change (optional)"
    return "Something else …" if asked.get("options") else "Your answer"


@register.filter
def as_json(value: Any) -> str:
    """A value as JSON that a form sends back."""
    return json.dumps(value, indent=2, ensure_ascii=False)
