"""Charts as numbers: where each bar stands."""

import pytest

from teammates.web.charts import BOTTOM, HEIGHT, SPARK_HEIGHT, Series, nice, spark, stacked


@pytest.mark.parametrize(
    ("value", "above"),
    [(0, 0), (0.003, 0.003), (0.02, 0.02), (0.7, 1), (1, 1), (7, 8), (99, 100), (1001, 1500)],
)
def test_the_top_of_a_chart_is_the_next_round_number(value: float, above: float) -> None:
    assert nice(value) == pytest.approx(above)


def test_what_is_stacked_touches_and_never_leaves_the_chart() -> None:
    chart = stacked(
        "Runs",
        ["Mon", "Tue"],
        [Series("Done", "series-0", [3, 0]), Series("Failed", "is-failed", [1, 4])],
        say=lambda value: f"{value:g}",
        urls=["/mon/", "/tue/"],
    )
    monday, tuesday = chart.columns
    done, failed = monday.boxes
    assert failed.y + failed.height == pytest.approx(done.y, abs=0.2)
    assert done.y + done.height == pytest.approx(HEIGHT - BOTTOM, abs=0.2)
    assert min(box.y for column in chart.columns for box in column.boxes) >= 0
    assert [box.look if hasattr(box, "look") else box.series for box in tuesday.boxes] == [
        "is-failed"
    ]
    assert (monday.total, tuesday.total, monday.url) == ("4", "4", "/mon/")


def test_the_lines_of_whole_numbers_are_whole_numbers() -> None:
    chart = stacked("Runs", ["a"], [Series("x", "y", [3])], say=lambda value: f"{value:g}")
    assert all(label.isdigit() for _, label in chart.lines)


def test_a_chart_of_nothing_has_a_floor_and_no_bars() -> None:
    chart = stacked("Runs", ["a", "b"], [Series("x", "y", [0, 0])], say=str)
    assert len(chart.lines) == 1
    assert [column.boxes for column in chart.columns] == [[], []]
    assert stacked("Runs", [], [], say=str).columns == []


def test_a_day_of_nothing_is_a_thin_line_in_a_small_row() -> None:
    idle, busy = spark([0, 5])
    assert (idle.series, idle.height) == ("none", 1)
    assert (busy.series, busy.height) == ("", SPARK_HEIGHT)
    assert spark([]) == []
