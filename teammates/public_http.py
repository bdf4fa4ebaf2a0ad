"""An HTTP client for addresses that users or models give: it reaches public hosts only.

The name is resolved once, every address is checked, and the connection goes to the checked one, so
a second answer of the name server cannot lead elsewhere. Redirects pass through the same check.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpcore2
import httpx2

from teammates.errors import Invalid

LONGEST_URL = 2000  # characters
LONGEST_EVENT_LINE = 4 * 1024 * 1024  # bytes: a longer one holds up the loop that reads it
LARGEST_ANSWER = 64 * 1024 * 1024  # bytes, of a model's stream too
LOCAL_ENDINGS = (".internal", ".local", ".localhost", ".home.arpa")
# What is not the public internet, after the registries of special-purpose addresses (IANA,
# RFC 6890 and its successors): a list of our own, for Python's changes between patch releases.
_SPECIAL = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001:db8::/32",
        "2620:4f:8000::/48",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
]
_NAT64, _SIX_TO_FOUR = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16")


class BlockedAddress(Exception):
    """The host is not on the public internet."""


def is_public(text: str) -> bool:
    """Whether an IP address is on the public internet, also when wrapped in an IPv6 one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif address in _SIX_TO_FOUR:
            address = ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
        elif address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return not any(address in network for network in _SPECIAL)


def check_url(
    url: str,
    *,
    may_be_private: bool,
    schemes: Sequence[str] = ("https", "http"),
    field: str = "url",
) -> None:
    """Refuse what is no address of the web, and hosts that are private by their name or number.
    Other names are resolved and checked at every call: to write one down needs no DNS.

    Raises `Invalid`.
    """
    try:
        httpx2.URL(url)  # what the client that calls it would choke on
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        _ = parts.port
        is_url = ".." not in host and not any(map(str.isspace, url))
    except (ValueError, httpx2.InvalidURL):
        is_url = False
    if not is_url:
        raise Invalid(f"{field} is not a URL.")
    if parts.scheme not in schemes or not host or len(url) > LONGEST_URL:
        words = " or ".join(f"{scheme}://" for scheme in schemes)
        raise Invalid(f"{field} must begin with {words} and have at most {LONGEST_URL} characters.")
    if parts.username or parts.password:
        raise Invalid(f"{field} must not hold a user name or a password.")
    if not may_be_private and not _may_be_public(host):
        raise Invalid(
            f"{field}: {host} is not on the public internet. Whoever runs Muster can allow private "
            "addresses (MUSTER_ALLOW_PRIVATE_ADDRESSES)."
        )


def _may_be_public(host: str) -> bool:
    try:
        return is_public(str(ipaddress.ip_address(host)))
    except ValueError:
        # A name, or a number in another guise, as 2130706433 or 0x7f.1.
        is_name = "." in host and not host.rpartition(".")[2].removeprefix("0x").isdigit()
        return is_name and not f".{host}".endswith(LOCAL_ENDINGS)


async def resolve_public(host: str, port: int) -> str:
    """An address of `host` to connect to. Raises `BlockedAddress` if any of them is private."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise BlockedAddress(f"The host {host} could not be found.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise BlockedAddress(f"{host} is not on the public internet; it is not fetched.")
    return addresses[0]


class _PublicBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._real = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = await resolve_public(host, port)
        return await self._real.connect_tcp(address, port, timeout, local_address, socket_options)

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        raise BlockedAddress("A socket of this machine is not fetched.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class PublicTransport(httpx2.AsyncHTTPTransport):
    def __init__(self) -> None:
        super().__init__(trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            network_backend=_PublicBackend(),
            max_connections=None,
            keepalive_expiry=30,
        )


class _BoundedTransport(httpx2.AsyncBaseTransport):
    """Ends an answer that is larger than `most` bytes; takes none that is compressed, since a
    small one unpacks to any size."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, most: int) -> None:
        self._inner, self._most = inner, most

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("It answers compressed, and was asked not to.")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        longest = LONGEST_EVENT_LINE if is_stream else self._most
        response.stream = _Bounded(response.stream, self._most, longest)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, most: int, longest_line: int) -> None:
        self._inner, self._left, self._longest = inner, most, longest_line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        line = 0
        async for piece in self._inner:
            self._left -= len(piece)
            line = len(piece) - piece.rfind(b"\n") - 1 + (0 if b"\n" in piece else line)
            if self._left < 0 or line > self._longest:
                raise httpx2.ReadError("Its answer is too large.")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def outside_client(
    *,
    may_be_private: bool,
    timeout: float | httpx2.Timeout,
    most_bytes: int = LARGEST_ANSWER,
    **options: Any,
) -> httpx2.AsyncClient:
    """A client for an address that somebody set up. It takes no proxies or keys from the
    environment, and follows no redirects: a credential goes to that address, and nowhere else. An
    answer of more than `most_bytes` breaks off."""
    direct = httpx2.AsyncHTTPTransport(trust_env=False) if may_be_private else PublicTransport()
    return httpx2.AsyncClient(
        transport=_BoundedTransport(direct, most_bytes),
        trust_env=False,
        follow_redirects=False,
        timeout=timeout,
        **options,
    )


def public_client() -> httpx2.AsyncClient:
    """A client without proxies, cookies or credentials from the environment."""
    return httpx2.AsyncClient(
        transport=PublicTransport(),
        trust_env=False,
        timeout=httpx2.Timeout(20),
        follow_redirects=True,
        max_redirects=5,
        headers={"user-agent": "Muster/0.1 (+web fetch)"},
    )
