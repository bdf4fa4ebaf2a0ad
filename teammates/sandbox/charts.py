"""Charts for code that has no library of its own for them. Called within a budget: what is drawn
comes from a model."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

KINDS = ("bar", "line", "pie", "scatter")
WIDTH, HEIGHT = 800, 450  # pixels
MOST_POINTS, MOST_SERIES = 5_000, 20  # of a chart
LARGEST = 1e15
LONGEST_WORDS = 200  # characters of a title or label
COLORS = ["#4f46e5", "#0d9488", "#d97706", "#dc2626", "#7c3aed", "#0284c7", "#65a30d", "#db2777"]


class NoChart(ValueError):
    """What was given makes no chart; the message says why."""


def draw(kind: str, labels: Any, series: Any, title: str) -> bytes:
    """A chart as SVG. `series`: numbers by the name of their series, or just numbers; of a scatter
    chart, pairs of numbers, without `labels`. Raises `NoChart`."""
    chart = _empty(kind, _words(title))
    named = series if isinstance(series, dict) else {"": series}
    if len(named) > MOST_SERIES:
        raise NoChart(f"A chart has at most {MOST_SERIES} series.")
    if sum(len(one) for one in named.values() if isinstance(one, list | tuple)) > MOST_POINTS:
        raise NoChart(f"A chart has at most {MOST_POINTS} points.")
    chart.show_legend = kind == "pie" or len(named) > 1
    if kind == "scatter":
        for name, points in named.items():
            chart.add(_words(name), [(_number(x), _number(y)) for x, y in _pairs(points)])
        return _drawn(chart)
    words = [_words(label) for label in _sequence(labels, "labels")]
    for name, values in named.items():
        numbers = [None if one is None else _number(one) for one in _sequence(values, "values")]
        if len(numbers) != len(words):
            raise NoChart(f"There are {len(words)} labels and {len(numbers)} values.")
        if kind == "pie":
            for label, number in zip(words, numbers, strict=True):
                chart.add(label, number)
        else:
            chart.add(_words(name), numbers)
    if kind == "pie" and len(named) > 1:
        raise NoChart("A pie chart has one series.")
    chart.x_labels = words
    return _drawn(chart)


def _empty(kind: str, title: str) -> Any:
    import pygal
    from pygal.style import Style

    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#3f3f46",
        foreground_strong="#18181b",
        foreground_subtle="#a1a1aa",
        guide_stroke_color="#e4e4e7",
        major_guide_stroke_color="#d4d4d8",
        guide_stroke_dasharray="0",
        major_guide_stroke_dasharray="0",
        font_family="Inter, system-ui, sans-serif",
        colors=COLORS,
        opacity=".9",
        opacity_hover="1",
        title_font_size=18,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=12,
    )
    kinds: dict[str, Any] = {
        "bar": pygal.Bar,
        "line": pygal.Line,
        "pie": pygal.Pie,
        "scatter": pygal.XY,
    }
    options: dict[str, Any] = {"pie": {"inner_radius": 0.5}, "scatter": {"stroke": False}}
    return kinds[kind](
        title=title or None,
        style=style,
        js=(),
        width=WIDTH,
        height=HEIGHT,
        explicit_size=True,
        margin=20,
        legend_at_bottom=True,
        truncate_legend=40,
        truncate_label=24,
        dots_size=2.5,
        no_data_text="No data",
        **options.get(kind, {}),
    )


def _drawn(chart: Any) -> bytes:
    chart.add_xml_filter(_without_scripts)
    drawn: bytes = chart.render(is_unicode=False)
    return drawn


def _without_scripts(root: "Element") -> "Element":
    for parent in root.iter():
        for child in [child for child in parent if str(child.tag).endswith("script")]:
            parent.remove(child)
    return root


def _sequence(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise NoChart(f"{name} must be a list.")
    if len(value) > MOST_POINTS:
        raise NoChart(f"{name} must have at most {MOST_POINTS} items.")
    return value


def _pairs(value: Any) -> Sequence[Any]:
    points = _sequence(value, "values")
    if not all(isinstance(point, list | tuple) and len(point) == 2 for point in points):
        raise NoChart("The values of a scatter chart are pairs of numbers.")
    return points


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoChart(f"A {type(value).__name__} is no number.")
    try:
        number = float(value)
    except OverflowError:
        raise NoChart("A number is too large to be drawn.") from None
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise NoChart("A number is too large to be drawn.")
    return number


def _words(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise NoChart(f"A {type(value).__name__} is no label.")
    return str(value)[:LONGEST_WORDS]
