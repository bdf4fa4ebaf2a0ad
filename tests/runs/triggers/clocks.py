"""What the tests of triggers share."""

from datetime import datetime
from itertools import islice

from runs.models import Trigger, TriggerKind
from runs.triggers import due_times


def times(count: int, after: str, **fields: object) -> list[str]:
    trigger = Trigger(kind=TriggerKind.SCHEDULE, **fields)
    found = islice(due_times.next_times(trigger, datetime.fromisoformat(after)), count)
    return [at.isoformat() for at in found]


LORD_HOWE = "Australia/Lord_Howe"  # its clocks change by half an hour
