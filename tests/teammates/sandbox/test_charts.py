"""Charts that code draws: SVG that runs nothing, or a sentence."""

from typing import Any
from xml.etree import ElementTree

import pytest

from teammates import timebox
from teammates.sandbox import charts
from teammates.sandbox.charts import NoChart
from tests.teammates.sandbox.test_monty import run

PAIRS = [(1, 2), (3, 4.5)]


def draw(*chart: Any) -> bytes:
    """Where charts are drawn: the library changes how its process imports."""
    return timebox.within(5, charts.draw, *chart)


@pytest.mark.parametrize("kind", ["bar", "line", "pie"])
def test_labels_and_values_are_drawn(kind: str) -> None:
    drawn = draw(kind, ["Jan", "Feb"], [3, 4.5], "Sales")
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert b"Sales" in drawn
    assert b"Feb" in drawn


def test_pairs_are_drawn() -> None:
    assert b"<circle" in draw("scatter", None, PAIRS, "")


def test_several_series_have_a_legend() -> None:
    drawn = draw("line", ["Jan", "Feb"], {"Tea": [1, None], "Coffee": [3, 4]}, "")
    assert b"Tea" in drawn
    assert b"Coffee" in drawn


@pytest.mark.parametrize("words", ["<script>alert(1)</script>", '"><image href="http://x/"/>'])
def test_words_are_only_words(words: str) -> None:
    for kind in charts.KINDS:
        labels, values = (None, PAIRS) if kind == "scatter" else ([words, "b"], [1, 2])
        root = ElementTree.fromstring(draw(kind, labels, {words: values}, words))
        names = {str(one.tag).rpartition("}")[2] for one in root.iter()}
        assert not names & {"script", "image", "foreignObject", "a", "use"}


@pytest.mark.parametrize(
    ("kind", "labels", "series", "why"),
    [
        ("bar", ["a"], ["x"], "no number"),
        ("bar", ["a"], [True], "no number"),
        ("bar", ["a"], [float("nan")], "too large"),
        ("bar", ["a"], [10**400], "too large"),
        ("bar", ["a"], [1e16], "too large"),
        ("bar", ["a", "b"], [1], "2 labels and 1 values"),
        ("bar", "ab", [1], "must be a list"),
        ("bar", [["a"]], [1], "no label"),
        ("bar", ["a"] * 6_000, [1] * 6_000, "at most 5000"),
        ("bar", ["a"], {str(n): [1] for n in range(30)}, "at most 20 series"),
        ("bar", ["a"] * 3_000, {"x": [1] * 3_000, "y": [1] * 3_000}, "at most 5000 points"),
        ("pie", ["a"], {"x": [1], "y": [2]}, "one series"),
        ("scatter", None, [1, 2], "pairs"),
    ],
)
def test_what_makes_no_chart_is_said(kind: str, labels: Any, series: Any, why: str) -> None:
    with pytest.raises(NoChart, match=why):
        draw(kind, labels, series, "")


@pytest.mark.parametrize("values", [[], [0, 0], [-1, 1], [1e15, -1e15], [1e-300, 0], [None, None]])
@pytest.mark.parametrize("kind", ["bar", "line", "pie"])
def test_odd_numbers_are_drawn_or_refused(kind: str, values: list[Any]) -> None:
    labels = [str(n) for n in range(len(values))]
    ElementTree.fromstring(draw(kind, labels, values, ""))


def test_code_draws_charts_into_its_folder() -> None:
    code = (
        "import charts, os\ncharts.bar(['a'], [1])\ncharts.scatter([(1, 2)], file='s.svg')\n"
        "print(sorted(os.listdir('.')))"
    )
    printed, ran = run(code)
    assert printed == "['chart.svg', 's.svg']\n"
    assert set(ran.files) == {"chart.svg", "s.svg"}


@pytest.mark.parametrize("file", ["../x.svg", "/tmp/x.svg", "x.html", "a/b.svg", 3])
def test_a_chart_goes_nowhere_else(file: object) -> None:
    _, ran = run(f"import charts\ncharts.bar(['a'], [1], file={file!r})")
    assert "file must be a name" in ran.error
    assert not ran.files


def test_charts_are_limited() -> None:
    _, ran = run("import charts\nfor i in range(30): charts.bar(['a'], [i], file=f'{i}.svg')")
    assert "At most 20 charts" in ran.error
    assert len(ran.files) == 20
