"""Where the request at hand came from. Verbs that limit or record need it, and it is nobody's
argument: the middleware sets it once, and work that no request started has none."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")
IPV6_HOUSEHOLD = 64  # bits of an address that one customer of a network has to itself


@dataclass(frozen=True)
class Client:
    address: str = ""  # empty: no request, or a socket without one
    agent: str = ""
    door: str = ""  # v1, v2, page, link, mail, webhook, command; empty: Muster itself


NOBODY = Client()
_current: ContextVar[Client] = ContextVar("client", default=NOBODY)


def current() -> Client:
    return _current.get()


@contextmanager
def acting(client: Client) -> Iterator[None]:
    """What is done inside is asked for by `client`."""
    token = _current.set(client)
    try:
        yield
    finally:
        _current.reset(token)


def household() -> str:
    """The client's address as far as it tells customers of a network apart: limits count these."""
    return household_of(current().address)


def household_of(address: str) -> str:
    try:
        parsed = _parsed(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), IPV6_HOUSEHOLD), strict=False))
    return str(parsed)


def real_address(peer: str, forwarded_for: str) -> str:
    """Who really sent a request: behind proxies that an operator trusts, whom the last of them
    names in X-Forwarded-For."""
    address, named = peer, forwarded_for.split(",")
    while is_trusted(address) and named and (before := named.pop().strip()):
        address = _without_port(before)
    return address


def _without_port(named: str) -> str:
    """Some proxies name a client's port too: 1.2.3.4:5678, [2001:db8::1]:5678."""
    match = _WITH_PORT.fullmatch(named)
    return match[1] or match[2] if match else named


def is_trusted(address: str) -> bool:
    """Whether it is a proxy whose word about its clients counts (`MUSTER_TRUSTED_PROXIES`)."""
    try:
        parsed = _parsed(address)
    except ValueError:
        return not address  # a socket file: whoever may open it
    return any(parsed in network for network in _trusted(tuple(settings.TRUSTED_PROXIES)))


def _parsed(address: str) -> IPv4Address | IPv6Address:
    """An address; what a socket for both families calls ::ffff:1.2.3.4 is the IPv4 one. Raises
    `ValueError`."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


@cache
def _trusted(networks: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(network, strict=False) for network in networks]
