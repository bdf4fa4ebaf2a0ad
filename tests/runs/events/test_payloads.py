"""What an event says: its data, cut to what an event holds, without secrets."""

import pytest

from runs.events.log import Batch, append
from runs.events.payloads import NewEvent, fitting, fitting_json, size_of
from teammates.access import Access
from tests.factories import make_run
from tests.runs.events.helpers import WIDE


@pytest.mark.parametrize("piece", WIDE.values(), ids=WIDE)
def test_what_is_cut_for_an_event_fits_as_it_is_written(alice: Access, piece: str) -> None:
    text = piece * 100_000
    shown = fitting(text)
    assert shown.endswith("[cut]")
    assert 40_000 < size_of(shown) < 49_000
    run = make_run(alice)
    data = {"tool_call_id": "c", "result": fitting_json({"rows": [text, text]})}
    assert append([Batch(run.pk, None, [NewEvent("tool.result", data)])])
    assert fitting(piece * 10) == piece * 10
