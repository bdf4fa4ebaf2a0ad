import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from teammates import public_http
from teammates.errors import Invalid
from teammates.public_http import BlockedAddress, is_public, resolve_public
from teammates.tools.base import ToolError
from teammates.tools.web import WEB_FETCH


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1%eth0",
        "fc00::1",
        "224.0.0.1",
        "2002:7f00:1::",
    ],
)
def test_addresses_that_are_not_on_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_addresses_on_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "127.1", "::1"])
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(BlockedAddress):
        asyncio.run(resolve_public(host, 80))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::1]/", "http://2130706433/", "http://localhost:8000/"]
)
def test_web_fetch_reaches_public_addresses_only(url: str) -> None:
    assert WEB_FETCH.run is not None
    with pytest.raises(ToolError, match="not on the public internet"):
        asyncio.run(WEB_FETCH.run(None, {"url": url}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, httpx2.ReadError),
        ({"content-encoding": "gzip"}, httpx2.DecodingError),
        ({"content-type": "text/event-stream"}, httpx2.ReadError),
    ],
)
def test_an_answer_that_is_too_large_or_compressed_breaks_off(
    headers: dict[str, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000

    answer = httpx2.MockTransport(
        lambda request: httpx2.Response(200, stream=Endless(), headers=headers)
    )

    monkeypatch.setattr(public_http, "LONGEST_EVENT_LINE", 10_000)

    async def fetch() -> None:
        most = 10**9 if "content-type" in headers else 10_000
        bounded = public_http._BoundedTransport(answer, most)
        async with httpx2.AsyncClient(transport=bounded) as client:
            await client.get("https://example.com")

    with pytest.raises(error):
        asyncio.run(fetch())


@pytest.mark.parametrize(
    "url",
    [
        "https://1.1.1.1/a\r\nX: y",
        "https://\x01.example",
        "https://[v1.a]/",
        "https://a..b/",
        "https://a.example/b c",
        "https:///x",
    ],
)
def test_what_no_client_could_call_is_refused_where_it_is_written_down(url: str) -> None:
    with pytest.raises(Invalid):
        public_http.check_url(url, may_be_private=False)
