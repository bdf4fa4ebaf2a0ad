"""What strangers wrote costs what it is given, and holds up nobody else."""

import asyncio
import json
import time
from typing import Any

import pytest
from django.test import Client

from runs.inbox import parsing, receiving
from teammates import timebox
from teammates.access import Access
from teammates.errors import Invalid
from teammates.html import read_html
from teammates.integrations import servers
from teammates.roster import editing
from teammates.tools import schemas
from teammates.tools.masking import masked
from teammates.tools.result import submit_result
from teammates.web import diffs, markdown
from tests.conftest import MakeServer, wait_for
from tests.costly import eat, search, work
from tests.fake_models import serve


def test_work_that_takes_too_long_is_killed_wherever_it_is() -> None:
    with pytest.raises(timebox.TooCostly):
        timebox.within(0.2, search, "^(a+)+$", "a" * 60 + "b")
    assert timebox.within(5, search, "^a+$", "aaa")


def test_work_that_takes_too_much_memory_is_refused() -> None:
    with pytest.raises(timebox.TooCostly):
        timebox.within(5, eat, 4 * timebox.LARGEST)


def test_a_killed_piece_of_work_takes_nothing_else_along() -> None:
    async def both() -> list[Any]:
        bombs = [timebox.awaited(0.2, work, 60) for _ in range(4)]
        good = [timebox.awaited(20, work, 0.5) for _ in range(2)]
        return await asyncio.gather(*bombs, *good, return_exceptions=True)

    *bombs, first, second = asyncio.run(both())
    assert all(isinstance(one, timebox.TooCostly) for one in bombs)
    assert [first, second] == ["done", "done"]


def test_errors_of_the_work_are_raised_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        timebox.within(1, divmod, 1, 0)


def ref_bomb(levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {"d0": {"type": "object"}}
    for level in range(1, levels):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"allOf": [below, below]}
    return {"type": "object", "$defs": definitions, "$ref": f"#/$defs/d{levels - 1}"}


SCHEMAS = {
    "pattern": (
        {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"a" * 60 + "b": 1},
    ),
    "references": (ref_bomb(40), {}),
    "many patterns": (
        {"type": "object", "patternProperties": {f"^(a+)+{n}$": {} for n in range(400)}},
        {f"{'a' * 60}{n}b": 1 for n in range(400)},
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_never_ends_is_a_bad_call(name: str) -> None:
    schema, value = SCHEMAS[name]
    assert "takes too long" in schemas.problem_of_strangers(schema, value)
    assert submit_result(schema).check(value) == schemas.problem_of_strangers(schema, value)


def test_a_bombs_schema_is_refused_where_it_is_set_up(alice: Access) -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(900):
        deep = {"type": "object", "properties": {"a": deep}}
    with pytest.raises(Invalid, match="tool_defs"):
        servers.add_server(
            alice,
            servers.NewServer(
                name="Deep",
                url="https://example.com",
                tool_defs=[{"name": "a", "path": "/", "parameters": deep}],
            ),
        )


PAGES = {
    "silent": "<svg>" * 20_000 + "</style>" * 20_000,
    "deep": "<div>" * 200_000,
    "comments": "<!--" * 200_000,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_read_in_the_time_that_its_size_takes(name: str) -> None:
    timebox.within(4, read_html, PAGES[name])


ANSWERS = {
    "code": "```cpp\n" + 'R"(' * 20_000 + "\n```",
    "brackets": "[" * 60_000,
    "stars": "*_" * 30_000,
    "table": "|a" * 8000 + "\n" + "|-" * 8000 + "\n" + "|b" * 8000,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_takes_too_long_is_shown_as_it_is_and_tried_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = markdown.render(ANSWERS[name])
    assert html.startswith(("<pre>", "<p>", "<table>", "<div"))
    monkeypatch.setattr(timebox, "within", None)  # what was drawn is kept
    assert markdown.render(ANSWERS[name]) == html


def test_texts_that_cannot_be_compared_say_so() -> None:
    before = "\n".join(f"{n % 150}" for n in range(60_000))
    after = "\n".join(f"{n * 7 % 150}" for n in range(60_000))
    assert diffs.changed_lines(before, after) == [diffs.TOO_DIFFERENT]
    assert diffs.changed_lines("a\nb", "a\nc")[-1] == ("+", "c")


def test_secrets_are_looked_for_in_one_pass() -> None:
    timebox.within(3, masked, "eyJ-" * 100_000)
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"
    assert masked(f"a {token} b") == "a ••• b"


@pytest.mark.django_db
def test_the_body_of_a_strangers_mail_is_not_read(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = editing.create_teammate(alice, name="Ops", email_inbox=True)
    inbound = receiving.Inbound(b"From: stranger@nowhere.test\n\n" + b"x" * 1000)
    monkeypatch.setattr(receiving, "read_email", None)
    got = receiving.receive(ops.email_address or "", inbound)
    assert got.pk is not None


@pytest.mark.django_db
def test_a_mail_made_to_keep_its_reader_busy_starts_nothing(alice: Access) -> None:
    ops = editing.create_teammate(alice, name="Ops", email_inbox=True)
    head = b"From: alice@example.com\nContent-Type: text/html\n\n"
    body = b"<a b='" + b"<!-- x='" * 200_000
    receiving.receive(ops.email_address or "", receiving.Inbound(head + body))
    comments = b"From: " + b"(" * 60_000 + b" alice@example.com\n\nx"
    assert parsing.read_head(comments).sender == ""


@pytest.mark.django_db(transaction=True)
def test_the_server_answers_while_bombs_go_off(make_server: MakeServer) -> None:
    """The review's, scaled down: a schema, an answer drawn in a page and on a public link."""
    server = make_server(MUSTER_ALLOW_PRIVATE_ADDRESSES="true")
    with serve() as models, server.client() as client:
        schema = {
            "type": "object",
            "patternProperties": {"^(a+)+$": {}},
            "additionalProperties": False,
        }
        added = client.post(
            "/api/v2/mcp-servers",
            json={
                "name": "Bomb",
                "url": f"{models.url}/x",
                "tool_defs": [{"name": "go", "path": "/go", "parameters": schema}],
            },
        )
        assert added.status_code == 201, added.text
        call = json.dumps({"a" * 60 + "b": 1})
        run = client.post(
            "/api/v2/runs",
            json={
                "message": f"use bomb__go {call}",
                "stream": False,
                "tools": ["bomb"],
            },
        ).json()
        for _ in range(30):  # any of these would have waited for ever
            assert client.get("/healthz", timeout=10).status_code == 200
            time.sleep(0.1)
        wait_for(lambda: client.get(f"/api/v2/runs/{run['id']}").json()["status"] == "completed")


def test_an_anonymous_reader_of_a_bomb_costs_one_drawing(
    alice: Access, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runs.models import RunStatus
    from runs.sharing import links
    from tests.factories import make_run

    run = make_run(alice, status=RunStatus.COMPLETED)
    assert run.answer is not None
    run.answer.content = ANSWERS["code"]
    run.answer.save()
    path = links.path_of(links.share(alice, run)) or ""
    assert client.get(path).status_code == 200
    monkeypatch.setattr(timebox, "within", None)
    assert client.get(path).status_code == 200
