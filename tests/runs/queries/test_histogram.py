"""What a list of runs looks like as a whole."""

from datetime import UTC, datetime, timedelta

import pytest

from runs.models import Run, RunStatus
from runs.queries import histogram
from runs.queries.histogram import BUCKETS, WIDTHS, survey
from teammates.access import Access
from tests.factories import make_run


@pytest.mark.parametrize(
    "age",
    [
        timedelta(minutes=3),
        timedelta(minutes=47),
        timedelta(hours=5),
        timedelta(days=3),
        timedelta(days=47),
        timedelta(days=900),
    ],
)
def test_the_narrowest_buckets_that_fit_are_chosen(alice: Access, age: timedelta) -> None:
    old, _ = make_run(alice), make_run(alice)
    Run.objects.filter(pk=old.pk).update(created_at=datetime.now(UTC) - age)
    whole = survey(Run.objects.all(), begins=None, ends=datetime.now(UTC))
    assert whole.width == next(width for width in WIDTHS if age / width <= BUCKETS)
    assert sum(n for states in whole.buckets.values() for n in states.values()) == 2
    span = 1.9 * age
    asked = survey(Run.objects.all(), begins=datetime.now(UTC) - span, ends=datetime.now(UTC))
    assert asked.width == next(width for width in WIDTHS if span / width <= BUCKETS)


def test_of_too_many_runs_the_newest_are_counted(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histogram, "MOST", 3)
    begins = datetime.now(UTC) - timedelta(days=300)
    for _ in range(3):
        make_run(alice, status=RunStatus.COMPLETED)
    whole = survey(Run.objects.all(), begins=begins, ends=datetime.now(UTC))
    assert (whole.counted, whole.is_cut, whole.begins) == (3, False, begins)
    make_run(alice)
    whole = survey(Run.objects.all(), begins=begins, ends=datetime.now(UTC))
    assert (whole.counted, whole.is_cut, whole.begins) == (3, True, None)
    assert whole.width == WIDTHS[0]
