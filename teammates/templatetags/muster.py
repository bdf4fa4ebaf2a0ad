"""Tags of the pages: icons, times, money, Markdown."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince

from teammates import markdown as markdown_module
from teammates.tools import REGISTRY
from teammates.tools.masking import MASK

register = template.Library()

# Drawn on a 24 x 24 grid with a stroke of 1.75.
ICONS = {
    "home": "M3 11l9-8 9 8M5 10v10h5v-6h4v6h5V10",
    "hand": "M8 13V5.5a1.5 1.5 0 0 1 3 0V11m0-6.5a1.5 1.5 0 0 1 3 0V11m0-4.5a1.5 1.5 0 0 1 3 0V15"
    "a6 6 0 0 1-6 6 6 6 0 0 1-5-2.7L4 14.5a1.5 1.5 0 0 1 2.4-1.8L8 14.5",
    "talk": "M4 5h16v11H9l-5 4z",
    "people": "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 "
    "0 0 1 0 6.5M18 14.3a6.5 6.5 0 0 1 3.5 5.7",
    "runs": "M4 6h16M4 12h10M4 18h6M17 14l4 3-4 3z",
    "cog": "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM4 12h2m12 0h2M12 4v2m0 12v2M6.3 6.3l1.5 1.5m8.4 8.4 "
    "1.5 1.5m0-11.4-1.5 1.5m-8.4 8.4-1.5 1.5",
    "file": "M6 3h8l4 4v14H6zM14 3v4h4",
    "plus": "M12 5v14M5 12h14",
    "stop": "M7 7h10v10H7z",
    "clock": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3 2",
    "check": "M5 12.5l4.5 4.5L19 7.5",
    "cross": "M6 6l12 12M18 6L6 18",
    "pause": "M8 5v14M16 5v14",
    "turn": "M12 3a9 9 0 1 1-9 9",
    "none": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM6 6l12 12",
    "mark": "M4 19V6l8 7 8-7v13M4 6l8 13 8-13",
}
STATUS_ICONS = {
    "queued": "clock", "running": "turn", "waiting": "hand", "paused": "pause",
    "completed": "check", "failed": "cross", "cancelled": "none", "closed": "none",
}  # fmt: skip


@register.simple_tag
def icon(name: str) -> SafeString:
    return format_html(
        '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="{}"/></svg>',
        ICONS[name],
    )


@register.simple_tag
def status_icon(status: str) -> SafeString:
    return icon(STATUS_ICONS[status])


@register.simple_tag
def ago(at: datetime | None) -> SafeString:
    """A moment as people say it; the exact one on hover."""
    if at is None:
        return mark_safe("–")
    age = timezone.now() - at
    if age < timedelta(seconds=60):
        words = "just now"
    elif age < timedelta(days=7):
        words = f"{timesince(at, depth=1)} ago"
    else:
        words = f"{at:%-d %b %Y}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', at.isoformat(), f"{at:%a %-d %b %Y, %H:%M} UTC",
        words,
    )  # fmt: skip


@register.filter
def money(cost: Decimal | None) -> str:
    """Dollars: two digits that matter below a cent, else two decimals."""
    if cost is None:
        return "–"
    if cost == 0:
        return "$0.00"
    return f"${cost:.2g}" if cost < Decimal("0.01") else f"${cost:.2f}"


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
def label(name: str) -> str:
    """An argument's name as people read it."""
    words = name.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


@register.filter
def is_text(value: Any) -> bool:
    return isinstance(value, str)


@register.filter
def may_be_fixed(value: Any) -> bool:
    """Whether a standing permission can depend on an argument being exactly this."""
    is_short = isinstance(value, str) and 0 < len(value) < 200
    return is_short and "*" not in value and MASK not in value


@register.filter
def tool_title(name: str) -> str:
    tool = REGISTRY.get(name)
    return tool.title if tool else name


@register.filter
def markdown(text: str) -> SafeString:
    return markdown_module.render(text)


@register.filter
def initial(name: str) -> str:
    return name.strip()[:1].upper() or "?"


@register.filter
def filesize(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


@register.filter
def pretty(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)
