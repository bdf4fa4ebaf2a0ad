"""Searching the web: through each engine, set up and turned off by whoever manages keys."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runs.models import RunStatus
from runs.tools import toolbox
from teammates.access import Access
from teammates.errors import Forbidden, Invalid
from teammates.integrations import web_search
from teammates.models import AuditEntry, WebSearch
from teammates.tools.base import ToolError
from teammates.tools.search import ENGINES, SearchConnection, search
from tests import fake_models
from tests.factories import browser_of, make_bob, make_run
from tests.fake_models import chat
from tests.runs.execution.calling import call_of
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = [{"title": f"Page {n}", "url": f"https://example.com/{n}"} for n in range(3)]


class Engine(ThreadingHTTPServer):
    """A search engine that answers with `answer`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.status = 200
        self.answer: Any = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        self.server.asked.append({"path": self.path, "body": body, "headers": dict(self.headers)})
        answer = self.server.answer
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def rows(text: str) -> list[dict[str, str]]:
    return [page | {text: "Some words"} for page in PAGES]


ANSWERS = {
    "brave": {"type": "search", "web": {"type": "search", "results": rows("description")}},
    "tavily": {"query": "q", "results": [row | {"score": 0.9} for row in rows("content")]},
    "searxng": {"query": "q", "results": rows("content"), "answers": []},
}


async def ask(engine: Engine, kind: str, count: int = 8) -> Any:
    connection = SearchConnection(kind, "key-1", engine.url, may_be_private=True)
    return await search(connection, "blue whales", count)


@pytest.mark.parametrize("kind", ENGINES)
async def test_every_engine_is_asked_and_understood(engine: Engine, kind: str) -> None:
    engine.answer = ANSWERS[kind]
    wanted = [page | {"text": "Some words"} for page in PAGES]
    assert await ask(engine, kind) == wanted
    assert await ask(engine, kind, count=2) == wanted[:2]


async def test_each_engine_gets_query_and_key_as_it_wants_them(engine: Engine) -> None:
    for kind in ENGINES:
        engine.answer = ANSWERS[kind]
        await ask(engine, kind)
    brave, tavily, searxng = engine.asked
    assert brave["path"] == "/res/v1/web/search?q=blue+whales&count=8"
    assert brave["headers"]["X-Subscription-Token"] == "key-1"
    assert (tavily["path"], tavily["body"]) == (
        "/search",
        {"query": "blue whales", "max_results": 8},
    )
    assert tavily["headers"]["Authorization"] == "Bearer key-1"
    assert searxng["path"] == "/search?q=blue+whales&format=json"


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (401, {}, "refused the search"),
        (403, "<h1>Forbidden</h1>", "refused the search"),
        (429, {}, "allows no more searches right now"),
        (500, "", "answered 500"),
        (302, "", "something that is no results"),
        (200, "<html>", "something that is no results"),
        (200, [], "something that is no results"),
        (200, {"web": {"results": [{}]}, "results": [{}]}, "something that is no results"),
    ],
)
async def test_what_an_engine_refuses_is_a_sentence(
    engine: Engine, kind: str, status: int, answer: Any, said: str
) -> None:
    engine.status, engine.answer = status, answer
    with pytest.raises(ToolError, match=said):
        await ask(engine, kind)


async def test_an_engine_that_is_not_there_or_private_is_told() -> None:
    for private in (True, False):
        gone = SearchConnection("searxng", "", "http://127.0.0.1:9", may_be_private=private)
        with pytest.raises(ToolError, match="SearXNG could not be reached"):
            await search(gone, "q", 8)


def test_a_teammate_searches_and_is_told_that_it_is_data(home: Access, engine: Engine) -> None:
    engine.answer = ANSWERS["searxng"]
    web_search.set_up(home, kind="searxng", address=engine.url)
    asked = {"name": "web_search", "arguments": '{"query": "blue whales", "count": 2}'}
    called = {"index": 0, "id": "c1", "type": "function", "function": asked}
    with fake_models.serve() as models:
        models.answers = [chat({"tool_calls": [called]}, finish="tool_calls")]
        run = finish(run_on(home, models, "openai_compatible", "m"))
        told = models.requests[1]["body"]["messages"][-1]["content"]
    assert run.status == RunStatus.COMPLETED, run.error_message
    call = call_of(run, "web_search")
    assert [one["url"] for one in call.result["results"]] == [one["url"] for one in PAGES[:2]]
    assert call.summary == "Search the web for blue whales"
    assert len(engine.asked) == 1
    assert "no instruction to you" in told


def test_nobody_searches_until_an_engine_is_set_up(home: Access, engine: Engine) -> None:
    run = make_run(home)
    box = toolbox.tools_of_run(run)
    assert "web_search" not in box.tools
    assert "web_fetch" in box.tools
    web_search.set_up(home, kind="searxng", address=engine.url)
    assert "web_search" in toolbox.tools_of_run(make_run(home)).tools


def test_setting_up_refuses_what_cannot_work(alice: Access, settings: Any) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    for given, said in (
        ({"kind": "alta"}, "kind must be one of brave, tavily, searxng"),
        ({"kind": "brave"}, "Brave wants a key"),
        ({"kind": "brave", "api_key": "k", "address": "http://x"}, "leave this empty"),
        ({"kind": "searxng"}, "say where your SearXNG is"),
        ({"kind": "searxng", "address": "ftp://x"}, "address"),
        ({"kind": "searxng", "address": "http://127.0.0.1:80"}, "address"),
    ):
        with pytest.raises(Invalid, match=said):
            web_search.set_up(alice, **given)
    assert not WebSearch.objects.exists()


def test_a_key_goes_to_the_engine_that_it_was_given_for_alone(home: Access, engine: Engine) -> None:
    web_search.set_up(home, kind="brave", api_key="secret-brave")
    assert web_search.set_up(home, kind="brave").api_key == "secret-brave"
    with pytest.raises(Invalid, match="Tavily wants a key"):
        web_search.set_up(home, kind="tavily")
    assert web_search.set_up(home, kind="searxng", address=engine.url).api_key == ""
    changes = json.dumps(list(AuditEntry.objects.values("action", "changes")))
    assert "web_search.set" in changes
    assert "secret-brave" not in changes


def test_the_page_sets_changes_and_turns_it_off(home: Access, engine: Engine) -> None:
    browser = browser_of(home)
    assert "Off: choose an engine" in browser.get("/settings/tools/").content.decode()
    form = {"kind": "tavily", "api_key": "tvly-secret"}
    assert browser.post("/settings/web-search/", form).status_code == 302
    page = browser.get("/settings/tools/").content.decode()
    assert "Teammates search through Tavily." in page
    assert "tvly-secret" not in page
    wrong = browser.post("/settings/web-search/", {"kind": "searxng"})
    assert wrong.status_code == 422
    assert "Say where your SearXNG is" in wrong.content.decode()
    assert browser.post("/settings/web-search/", {"off": "1"}).status_code == 302
    assert not WebSearch.objects.exists()


def test_only_who_manages_keys_sets_it_up(alice: Access) -> None:
    bob = make_bob(alice)
    with pytest.raises(Forbidden):
        web_search.set_up(bob, kind="brave", api_key="k")
    found = web_search.set_up(alice, kind="brave", api_key="k")
    with pytest.raises(Forbidden):
        web_search.turn_off(bob, found)
    browser = browser_of(bob)
    assert "Web search</h2>" not in browser.get("/settings/tools/").content.decode()
    browser.post("/settings/web-search/", {"off": "1"})
    assert WebSearch.objects.exists()
