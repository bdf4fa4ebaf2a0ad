"""`run_python`: a teammate computes, its output is seen while it comes, its files are kept."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.template.loader import render_to_string
from django.test import override_settings

from runs.creation.attachments import Attachment
from runs.execution import sandboxes
from runs.lifecycle import endings
from runs.models import Event, Run, RunFile, RunStatus, ToolCall
from runs.streams.transcript import CallBlock, with_transcripts
from runs.tools.toolbox import tools_of_run
from teammates import sandbox
from teammates.access import Access
from teammates.integrations import tool_policies
from teammates.sandbox import base, monty
from teammates.sandbox.container import Container
from teammates.tools.python import program_of
from tests import docker_program
from tests.factories import browser_of, make_run
from tests.fake_models import FakeModels, chat
from tests.runs.execution.calling import call_of, wait
from tests.runs.execution.working import finish, run_on, types, work_until
from threads.files import read_file
from threads.models import File

pytestmark = pytest.mark.django_db(transaction=True)


def running(access: Access, models: FakeModels, code: str, **fields: Any) -> Run:
    """A run whose model has that code run, and then says that it is done."""
    call = {"name": "run_python", "arguments": json.dumps({"code": code})}
    delta = {"tool_calls": [{"index": 0, "id": "c1", "function": call}]}
    models.answers = [chat(delta, finish="tool_calls"), chat({"content": "Done."})]
    model = f"ok-{Run.objects.count()}"
    return run_on(access, models, "openai", model, **({"message": "Compute"} | fields))


def test_a_teammate_computes_a_table_and_draws_its_chart(alice: Access, models: FakeModels) -> None:
    code = (
        "import csv, charts\n"
        "rows = list(csv.DictReader(open('sales.csv')))\n"
        "print(sum(int(row['sold']) for row in rows))\n"
        "charts.bar([row['month'] for row in rows], [int(row['sold']) for row in rows])\n"
        "open('total.txt', 'w').write('done')"
    )
    table = Attachment("sales.csv", b"month,sold\nJan,23\nFeb,42\n")
    run = finish(running(alice, models, code, attachments=[table]))
    assert run.status == RunStatus.COMPLETED, run.error_message
    said = models.requests[1]["body"]["messages"][-1]["content"]
    assert "65" in said
    assert "Wrote chart.svg" in said
    made = RunFile.objects.filter(run=run, is_attachment=False)
    assert {one.file.name for one in made} == {"chart.svg", "total.txt"}
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    chart = File.objects.get(name="chart.svg")
    assert f'src="/files/{chart.uid}/"' in page
    assert "DictReader" in page


def test_a_chart_is_served_as_a_picture_that_can_run_nothing(
    alice: Access, models: FakeModels
) -> None:
    run = finish(running(alice, models, "import charts\ncharts.bar(['a'], [1])"))
    chart = File.objects.get(name="chart.svg")
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    address = page.split('<img src="')[1].split('"')[0]
    answer = browser_of(alice).get(address)
    assert answer["Content-Type"] == "image/svg+xml"
    assert "sandbox" in answer["Content-Security-Policy"]
    assert answer.content == read_file(chart)


def test_what_it_prints_is_seen_while_it_runs(alice: Access, models: FakeModels) -> None:
    code = "print('first')\nx = 0\nfor i in range(2_000_000): x += i\nprint('second')"
    run = finish(running(alice, models, code))
    output = Event.objects.filter(run=run, type="tool.output")
    assert "".join(event.data["delta"] for event in output) == "first\nsecond\n"
    order = types(run)
    assert order.index("tool.call") < order.index("tool.output") < order.index("tool.result")
    assert call_of(run, "run_python").result == "first\nsecond"


def test_a_page_that_is_opened_meanwhile_shows_what_was_printed(
    alice: Access, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running(alice, models, "print('so far')\nwhile True: pass")
    seen: list[str] = []

    def look() -> bool:
        if not Event.objects.filter(run=run, type="tool.output").exists():
            return False
        page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
        seen.append(page.split("-output")[1][:40])
        return True

    work_until(look)
    assert "so far" in seen[0]


def test_pieces_of_output_are_not_read_once_the_call_is_over(
    alice: Access, models: FakeModels
) -> None:
    run = finish(running(alice, models, "print('only once')"))
    shown = with_transcripts([Run.objects.get(pk=run.pk)])[0].transcript  # type: ignore[attr-defined]
    [call] = [one for one in shown.blocks.values() if getattr(one, "code", "")]
    assert (call.output, call.result) == ("", "only once")


def test_much_output_goes_into_a_file_and_little_of_it_into_events(
    alice: Access, models: FakeModels
) -> None:
    run = finish(running(alice, models, "for i in range(1500): print('x' * 99)"))
    output = Event.objects.filter(run=run, type="tool.output")
    assert sum(len(event.data["delta"]) for event in output) == 50_000
    result = call_of(run, "run_python").result
    assert result["file"].startswith("run_python-")


def test_a_program_that_fails_is_the_models_news(alice: Access, models: FakeModels) -> None:
    run = finish(running(alice, models, "print('before')\nnot_there()"))
    call = call_of(run, "run_python")
    assert call.status == "failed"
    assert "NameError" in call.error
    assert "before" in call.error


def test_endless_code_fails_and_the_run_goes_on(
    alice: Access, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monty, "SECONDS", 0.5)
    run = finish(running(alice, models, "while True: pass"))
    assert run.status == RunStatus.COMPLETED
    assert call_of(run, "run_python").error == base.TOO_SLOW


def test_a_cancel_ends_the_code_at_once(alice: Access, models: FakeModels) -> None:
    run = running(alice, models, "print('on')\nwhile True: pass")
    asked: list[bool] = []

    def is_over() -> bool:
        if not asked and Event.objects.filter(run=run, type="tool.output").exists():
            endings.cancel_run(Run.objects.get(pk=run.pk))
            asked.append(True)
        return Run.objects.get(pk=run.pk).is_finished

    work_until(is_over)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert (run.finished_at - run.cancel_requested_at).total_seconds() < monty.SECONDS


def test_a_teammate_that_asks_first_asks_with_the_program(
    alice: Access, models: FakeModels
) -> None:
    run = running(alice, models, "open('a.txt', 'w').write('a')")
    Run.objects.filter(pk=run.pk).update(permission_mode="approval")
    gate = wait(run)
    assert gate.tool_name == "run_python"
    assert not File.objects.exists()
    page = browser_of(alice).get("/needs-you/").content.decode()
    assert "open" in page


def test_where_no_code_can_run_the_tool_is_not_offered_and_its_page_says_why(
    alice: Access,
) -> None:
    run = make_run(alice)
    assert tools_of_run(run).get("run_python") is not None
    sandbox.current.cache_clear()
    try:
        with override_settings(SANDBOX="off"):
            assert tools_of_run(run).get("run_python") is None
            page = browser_of(alice).get("/settings/tools/").content.decode()
            assert "MUSTER_SANDBOX is off" in page
    finally:
        sandbox.current.cache_clear()


def test_an_organization_switches_code_off(alice: Access) -> None:
    tool_policies.set_tool(alice, "run_python", mode="off")
    assert tools_of_run(make_run(alice)).get("run_python") is None


def test_files_of_another_thread_are_not_there(alice: Access, models: FakeModels) -> None:
    finish(running(alice, models, "open('private.txt', 'w').write('p')"))
    run = finish(running(alice, models, "import os\nprint(os.listdir('.'))"))
    assert call_of(run, "run_python").result == "[]"


def test_a_file_that_cannot_be_kept_takes_no_other_along(alice: Access, models: FakeModels) -> None:
    code = "for name in ('a.txt', ' odd ', 'z.txt'): open(name, 'w').write('x')\nprint('done')"
    finish(running(alice, models, code))
    result = ToolCall.objects.get().result
    assert result is not None
    assert result.startswith("done\n")
    assert "Not kept" in result
    assert set(File.objects.values_list("name", flat=True)) == {"a.txt", "z.txt"}


@pytest.mark.parametrize("code", [7, True, None, ["x"], {"a": 1}, "print(1)"])
def test_a_code_of_another_tool_is_no_program(code: Any, alice: Access) -> None:
    call = ToolCall(name="lock__open", call_id="c1", arguments={"code": code, "password": "pw"})
    block = CallBlock("id", "Open", "Open it", call.arguments, code=program_of(call.name, {}))
    shown = render_to_string("transcript/_call.html", {"block": block})
    assert "password" in shown
    detail = render_to_string("run_detail/_call_detail.html", {"call": call})
    assert "password" in detail
    assert "&quot;pw&quot;" not in detail


def test_containers_of_runs_that_are_over_are_removed(
    alice: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Container(str(docker_program.install(tmp_path)), "muster-sandbox", "owner")
    monkeypatch.setattr(sandbox, "current", lambda: place)
    done, going = finish(make_run(alice)), make_run(alice)
    for uid in (done.uid, going.uid, uuid4()):
        (tmp_path / f"muster-owner-{uid.hex}").mkdir()
    asyncio.run(sandboxes.tidy())
    assert [one.name for one in tmp_path.iterdir() if one.is_dir()] == [
        f"muster-owner-{going.uid.hex}"
    ]
    shutil.rmtree(tmp_path)
    asyncio.run(sandboxes.tidy())  # a program that is gone stops no worker
