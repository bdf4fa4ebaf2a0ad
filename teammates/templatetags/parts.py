"""The parts that pages are composed of. `/design/` shows each in its states; the sheet is
`static/css/parts.css`. Built into every template."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django import template
from django.conf import settings
from django.template.loader import render_to_string
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from teammates.text import visible
from teammates.tools.masking import masked
from teammates.tools.python import program_of
from teammates.web import charts, markdown

register = template.Library()

LUCIDE = "vendor/lucide-1.62.0"
STATUS_ICONS = {
    "queued": "clock",
    "running": "loader-circle",
    "waiting": "hand",
    "paused": "pause",
    "completed": "check",
    "failed": "x",
    "cancelled": "ban",
    "closed": "ban",
}
AVATAR_TONES = 6


@register.filter
def program(call: Any) -> str:
    """The program that a tool call runs, without secrets; empty if it runs none."""
    return program_of(call.name, masked(call.arguments))


@register.filter
def python(code: str) -> SafeString:
    """A Python program: nothing in it is unseen."""
    return markdown.program(visible(code), "python")


@dataclass(frozen=True)
class Tab:
    """One of a page's views: `count` stands beside its name unless it is None."""

    label: str
    url: str
    is_current: bool = False
    count: int | None = None


# --- signs --------------------------------------------------------------------------------------


@register.simple_tag
@cache
def icon(name: str) -> SafeString:
    """An icon of Lucide, drawn in the colour of the text around it; hidden from screen readers."""
    drawn = (settings.BASE_DIR / "static" / LUCIDE / f"{name}.svg").read_text()
    shapes = drawn[drawn.index(">", drawn.index("<svg")) + 1 : drawn.rindex("</svg>")]
    return mark_safe(
        '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="1.9" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        f"{' '.join(shapes.split())}</svg>"
    )


@register.simple_tag
def status(state: str, label: str, *, id: str = "", oob: bool = False) -> SafeString:
    """A run's state as icon, word and colour. `id`, `oob`: for the live page, which replaces it."""
    name = format_html(' id="{}"', id) if id else ""
    swap = mark_safe(' hx-swap-oob="true"') if oob else ""
    sign = icon(STATUS_ICONS[state])
    return format_html('<span{}{} class="chip {}">{}{}</span>', name, swap, state, sign, label)


@register.simple_tag
def avatar(name: str, size: str = "") -> SafeString:
    """The first letter of a name on one of six colours, always the same for the same name."""
    letter = name.strip()[:1].upper() or "?"
    tone = zlib.crc32(name.encode()) % AVATAR_TONES
    return format_html(
        '<span class="avatar tone-{} {}" aria-hidden="true">{}</span>', tone, size, letter
    )


@register.simple_tag
def copy(text: Any, label: str = "Copy") -> SafeString:
    words = label or mark_safe('<span class="sr-only">Copy</span>')
    return format_html(
        '<button type="button" class="quiet little" data-copy="{}">{}{}</button>',
        text,
        icon("copy"),
        words,
    )


# --- boxes --------------------------------------------------------------------------------------


@register.simple_block_tag
def empty(content: str, title: str, icon: str = "", look: str = "") -> SafeString:
    """Nothing here yet, or nothing that matches: a sentence, and what one can do."""
    return _part("_empty", content=content, title=title, icon=icon, look=look)


@register.simple_block_tag
def dialog(content: str, id: str, title: str, look: str = "") -> SafeString:
    """A window that a button with `{% opens id %}` shows, without script too."""
    return _part("_dialog", content=content, id=id, title=title, look=look)


@register.simple_tag
def opens(id: str) -> SafeString:
    """The attributes of a button that shows a dialog."""
    return format_html(
        'type="button" commandfor="{}" command="show-modal" aria-haspopup="dialog"', id
    )


@register.simple_block_tag
def menu(
    content: str, label: str, icon: str = "ellipsis", side: str = "", *, shows_label: bool = False
) -> SafeString:
    """A button with more to do behind it. `side`: left, up."""
    return _part(
        "_menu", content=content, label=label, icon=icon, side=side, shows_label=shows_label
    )


@register.simple_tag
def tabs(items: Sequence[Tab], label: str, look: str = "") -> SafeString:
    return _part("_tabs", items=items, label=label, look=look)


@register.simple_tag
def diff(lines: Sequence[Sequence[str]], label: str) -> SafeString:
    """Lines of `diffs.changed_lines`."""
    return _part("_diff", lines=lines, label=label)


@register.simple_tag
def pager(
    newest: str | None, older: str | None, first: str = "Newest", following: str = "Older"
) -> SafeString:
    """Links to the first page and to the next one; None where there is none."""
    return _part("_pager", newest=newest, older=older, first=first, following=following)


@register.simple_tag
def tile(label: str, value: Any, note: str = "", url: str = "") -> SafeString:
    """A number with its name, as a link where it leads somewhere."""
    return _part("_tile", label=label, value=value, note=note, url=url)


# --- charts -------------------------------------------------------------------------------------


@register.simple_tag
def spark(values: Sequence[float], label: str) -> SafeString:
    """A small row of bars; `label` says in words what it shows."""
    return _part("_spark", bars=charts.spark(values), label=label, width=charts.SPARK_WIDTH)


@register.simple_tag
def bars(chart: "charts.Bars") -> SafeString:
    """Stacked bars over time. The page shows the same numbers as a table."""
    return _part("_bars", chart=chart)


@register.simple_tag
def bars_column(one: "charts.Column", foot: float) -> SafeString:
    """One column of `bars`, with its name `foot` below the top. No template of its own: a chart has
    hundreds of shapes."""
    shapes = mark_safe(
        "".join(
            f'<rect class="{escape(box.series)}" x="{box.x}" y="{box.y}" width="{box.width}"'
            f' height="{box.height}" rx="1.5"/>'
            for box in one.boxes
        )
    )
    drawn = format_html(
        '<title>{}: {}{}</title><rect class="hit" x="{}" y="{}" width="{}" height="{}"/>{}',
        one.label,
        one.total,
        "".join(f" {box.label}" for box in one.boxes),
        one.hit.x,
        one.hit.y,
        one.hit.width,
        one.hit.height,
        shapes,
    )
    if one.axis:
        axis = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        drawn += format_html(axis, one.middle, foot, one.axis)
    if not one.url:
        return format_html("<g>{}</g>", drawn)
    link = '<a href="{}" aria-label="{}: {}">{}</a>'
    return format_html(link, one.url, one.label, one.total, drawn)


@register.simple_tag
def share(part: float) -> SafeString:
    """A bar that is filled to `part` (0 to 1)."""
    width = round(min(max(part, 0), 1) * 100, 1)
    return format_html(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="series-0" width="{}" height="8"/></svg>',
        width,
    )


def _part(name: str, **context: Any) -> SafeString:
    return render_to_string(f"parts/{name}.html", context)
