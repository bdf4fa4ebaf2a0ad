"""Schedules in words: what people read before they save one."""

from datetime import UTC, datetime

import pytest

from runs.models import Trigger, TriggerKind
from runs.triggers import schedule_text
from tests.runs.triggers.clocks import LORD_HOWE


@pytest.mark.parametrize(
    ("cron", "after", "word"),
    [
        ("30 2 * * *", "2026-10-24T12:00:00+00:00", "02:30 happens twice, it runs once"),
        ("30 2 * * *", "2026-03-28T12:00:00+00:00", "02:00 to 03:00 does not exist, so it runs"),
        ("0 9 * * *", "2026-03-28T12:00:00+00:00", "does not exist that day"),
        ("0 9 * * *", "2026-10-24T12:00:00+00:00", "02:00 to 03:00 happens twice that day"),
        ("30 * * * *", "2026-10-25T00:45:00+00:00", "this is the second time"),
    ],
)
def test_a_preview_says_what_the_clocks_do(cron: str, after: str, word: str) -> None:
    trigger = Trigger(kind=TriggerKind.SCHEDULE, cron=cron, timezone="Europe/Berlin")
    first, *others = schedule_text.preview(trigger, after=datetime.fromisoformat(after))
    assert word in first.note
    assert len(others) == 9
    assert first.local.utcoffset() is not None
    assert others[-1].note == "" or cron == "30 * * * *"


def test_a_preview_knows_half_hours() -> None:
    trigger = Trigger(kind=TriggerKind.SCHEDULE, cron="45 1 * * *", timezone=LORD_HOWE)
    (due,) = schedule_text.preview(trigger, 1, datetime(2026, 4, 4, tzinfo=UTC))
    assert due.note == "The clocks go back: 01:45 happens twice, it runs once."
