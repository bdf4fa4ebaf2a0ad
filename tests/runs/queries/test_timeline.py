"""The axis of a run's timeline: places of instants, with long waits drawn short."""

from datetime import UTC, datetime, timedelta

import pytest

from runs.queries import timeline
from runs.queries.timeline import AXIS, Axis
from teammates.access import Access
from tests.factories import make_run

BEGAN = datetime(2026, 11, 1, 9, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def test_without_a_fold_places_are_in_proportion() -> None:
    axis = Axis(BEGAN, at(100), [])
    assert [axis.place(at(s)) for s in (0, 25, 50, 100)] == [0, AXIS / 4, AXIS / 2, AXIS]


def test_what_lies_outside_is_drawn_at_the_edge() -> None:
    axis = Axis(BEGAN, at(10), [])
    assert (axis.place(at(-5)), axis.place(at(99))) == (0, AXIS)


def test_a_day_of_waiting_leaves_room_for_the_work_around_it() -> None:
    day = 24 * 3600
    axis = Axis(BEGAN, at(day + 20), [(at(10), at(day + 10))])
    before, after = axis.place(at(10)), axis.place(at(day + 10))
    assert before == pytest.approx(AXIS - after, abs=0.2)
    assert after - before < AXIS / 2
    middle = axis.place(at(10 + day / 2))
    assert before < middle < after


def test_places_never_go_back() -> None:
    folded = [(at(5), at(400)), (at(500), at(9000))]
    axis = Axis(BEGAN, at(10_000), folded)
    places = [axis.place(at(s)) for s in range(0, 10_001, 50)]
    assert places == sorted(places)
    assert places[-1] == AXIS


def test_no_tick_stands_inside_a_fold_and_each_fold_says_how_long_it_is() -> None:
    axis = Axis(BEGAN, at(7300), [(at(60), at(7260))])
    assert [label for _, label in axis.folds()] == ["2 h"]
    inside = [label for _, label in axis.ticks() if label not in ("0 s",)]
    assert all(label.endswith(("s", "min")) for label in inside)
    fold = axis.folds()[0][0]
    assert all(abs(place - fold) > 0.5 for place, _ in axis.ticks())


def test_a_bar_of_no_length_can_be_seen_and_stays_on_the_axis() -> None:
    axis = Axis(BEGAN, at(100), [])
    bar = axis.bar(at(100), at(100), "model")
    assert bar.width > 0
    assert bar.x + bar.width <= AXIS


def test_a_run_that_began_and_ended_at_once_is_drawn() -> None:
    axis = Axis(BEGAN, BEGAN, [])
    assert axis.place(BEGAN) == 0
    assert axis.ticks()


@pytest.mark.django_db
def test_a_run_without_steps_has_an_empty_timeline(alice: Access) -> None:
    assert timeline.draw(make_run(alice)).rows == []
