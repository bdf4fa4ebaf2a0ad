"""The registry of providers. A vendor's package is imported when the first run needs it."""

import asyncio
import importlib
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from teammates.providers.base import ModelClient, ModelRequest, ProviderError, Takes, UserMessage
from teammates.providers.kinds import KINDS


@dataclass(frozen=True)
class Connection:
    """Where a provider is and the key for it."""

    kind: str
    base_url: str = ""
    api_key: str = ""
    may_be_private: bool = False  # else only public addresses are reached

    @property
    def address(self) -> str:
        return self.base_url or KINDS[self.kind].address


_clients: dict[Connection, ModelClient] = {}


async def open_client(connection: Connection) -> ModelClient:
    """The process's client of a provider. Raises `ProviderError` if a key is missing."""
    if connection not in _clients:
        _clients[connection] = await _make_client(connection)
    return _clients[connection]


async def _make_client(connection: Connection) -> ModelClient:
    client: ModelClient = (await module_of(connection)).make_client(connection)
    return client


async def module_of(connection: Connection) -> Any:
    """The module that speaks a provider's API. Raises `ProviderError` if a key is missing."""
    kind = KINDS[connection.kind]
    if kind.needs_key and not connection.api_key:
        raise ProviderError(
            "config.missing",
            f"{kind.label} has no key. Save one in Models & prices, and try again.",
        )
    # In a thread: importing a vendor's package takes seconds, and leases are renewed here.
    return await asyncio.to_thread(importlib.import_module, kind.module)


async def close_clients() -> None:
    """Close what `open_client` opened on this event loop."""
    clients = list(_clients.values())
    _clients.clear()
    for client in clients:
        await client.close()


async def what_they_take(connection: Connection, names: Iterable[str]) -> dict[str, Takes]:
    """What models of a provider may be shown at most, by name; no call is made. Raises
    `ProviderError` if a key is missing."""
    client = await _make_client(connection)  # of this call's own event loop
    try:
        return await asyncio.to_thread(lambda: dict(_takes(client, names)))
    finally:
        await client.close()


def _takes(client: ModelClient, names: Iterable[str]) -> Iterator[tuple[str, Takes]]:
    for name in names:
        with suppress(ProviderError):  # a name that its library does not take
            yield name, client.takes(name)


@dataclass(frozen=True)
class Tested:
    milliseconds: int
    text: str = ""
    error: str = ""
    error_class: str = ""
    context_window: int | None = None  # tokens, if the provider tells


async def try_out(connection: Connection, model: str) -> Tested:
    """One small call, to see whether a key and a model work; at most 30 seconds."""
    began = time.monotonic()
    request = ModelRequest(
        model=model, instructions="", conversation=[UserMessage("Say OK.")], max_output_tokens=64
    )
    try:
        async with asyncio.timeout(30):
            client = await _make_client(connection)  # of this call's own event loop
            try:
                async with client.call(request) as call:
                    async for _ in call:
                        pass
                    text = " ".join(call.turn.text.split())[:80]
            finally:
                await client.close()
    except TimeoutError:
        return Tested(30_000, error="It did not answer within 30 seconds.")
    except ProviderError as error:
        return Tested(0, error=str(error), error_class=error.error_class)
    return Tested(int((time.monotonic() - began) * 1000), text)
