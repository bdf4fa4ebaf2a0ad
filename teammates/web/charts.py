"""Charts as numbers: where each bar of an SVG stands. Pages draw them; no script takes part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

SPARK_WIDTH, SPARK_HEIGHT = 100, 24
WIDTH, HEIGHT, LEFT, BOTTOM = 960, 200, 46, 22
ROUND = (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
Say = Callable[[float], str]  # writes one value


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    series: str = ""  # a class of the sheet: series-0 to series-7, or is-failed and the like
    label: str = ""


@dataclass(frozen=True)
class Column:
    """One bucket of time: its parts, the whole height to point at, and where a click leads."""

    label: str
    total: str
    hit: Box
    boxes: list[Box]
    url: str = ""
    axis: str = ""  # what stands below it, on every so many columns
    middle: float = 0


@dataclass(frozen=True)
class Series:
    """`url` leads to the page with it drawn or not; one that `is_off` has values of 0."""

    label: str
    look: str
    values: Sequence[float]
    total: str = ""
    url: str = ""
    is_off: bool = False


@dataclass(frozen=True)
class Bars:
    label: str
    columns: list[Column]
    lines: list[tuple[float, str]]  # height and label of each line behind the bars
    series: list[Series] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT

    @property
    def floor(self) -> float:
        return self.height - BOTTOM


def spark(values: Sequence[float]) -> list[Box]:
    """Bars of one small row; a zero is a thin line, so that the row shows its days."""
    highest = max(values, default=0) or 1
    step = SPARK_WIDTH / max(len(values), 1)
    return [
        Box(
            round(step * at + step * 0.12, 2),
            round(SPARK_HEIGHT - max(value / highest * SPARK_HEIGHT, 1), 2),
            round(step * 0.76, 2),
            round(max(value / highest * SPARK_HEIGHT, 1), 2),
            "" if value else "none",
        )
        for at, value in enumerate(values)
    ]


def stacked(
    label: str,
    names: Sequence[str],
    series: Sequence[Series],
    *,
    say: Say,
    urls: Sequence[str] = (),
    height: int = HEIGHT,
) -> Bars:
    """Stacked bars: `names` of the buckets in order, and for each series its values.

    `say` writes a value; `urls` has where a click on each bucket leads.
    """
    totals = [sum(one.values[at] for one in series) for at in range(len(names))]
    top = nice(max(totals, default=0))
    if top > 1 and all(float(total).is_integer() for total in totals):
        top += top % 2  # half of it is a whole number, too
    floor, step = height - BOTTOM, (WIDTH - LEFT) / max(len(names), 1)
    every = max(1, -(-len(names) // 12))
    columns = []
    for at, name in enumerate(names):
        x, y, boxes = LEFT + step * at, float(floor), []
        for one in series:
            tall = one.values[at] / top * (floor - 8) if top else 0
            if tall > 0:
                y -= tall
                boxes.append(
                    Box(
                        round(x + step * 0.14, 1),
                        round(y, 1),
                        round(min(step * 0.72, 46), 1),
                        round(max(tall, 0.8), 1),
                        one.look,
                        f"{one.label}: {say(one.values[at])}",
                    )
                )
        columns.append(
            Column(
                name,
                say(totals[at]),
                Box(round(x, 1), 8, round(step, 1), floor - 8),
                boxes,
                urls[at] if urls else "",
                name if at % every == 0 else "",
                round(x + min(step * 0.14 + min(step * 0.72, 46) / 2, step / 2), 1),
            )
        )
    parts = (0, 1) if top in (0.5, 1) else (0, 0.5, 1)  # a half of one thing is none
    lines = [(round(floor - part * (floor - 8), 1), say(top * part)) for part in parts]
    return Bars(label, columns, lines if top else lines[:1], list(series), WIDTH, height)


def nice(value: float) -> float:
    """The next round number above a value: 1, 2, 3 and the like, times a power of ten."""
    if value <= 0:
        return 0
    power = 10.0 ** (len(f"{int(value)}") - 1) if value >= 1 else 1.0
    while value < power / 2:
        power /= 10
    return next(power * part for part in ROUND if value <= power * part * 1.0001)
