"""What Ollama does beside the chat: it pulls models, and says how much they read at once."""

import json
from collections.abc import Callable

import httpx2

from teammates.providers import Connection
from teammates.providers.base import ProviderError
from teammates.public_http import BlockedAddress, outside_client
from teammates.types import JSON

SECONDS = 20.0  # for an answer
SILENCE_SECONDS = 120.0  # in the middle of a pull
LARGEST_PULL = 64 * 1024 * 1024  # bytes of what it says about a pull
LONGEST_SAID = 200  # characters
WORTH_PULLING = (  # to begin with, and what each is good for
    ("qwen3:4b", "small, calls tools"),
    ("qwen3:8b", "calls tools"),
    ("qwen3-vl:4b", "small, calls tools, looks at pictures"),
    ("llama3.2:3b", "small and fast"),
)


async def pull(connection: Connection, model: str, tell: Callable[[int, int], None]) -> None:
    """Have a model downloaded there; `tell` hears how many bytes of how many it has, of one of its
    parts. Raises `ProviderError`."""
    timeout = httpx2.Timeout(connect=10, read=SILENCE_SECONDS, write=10, pool=10)
    client = outside_client(
        may_be_private=connection.may_be_private, timeout=timeout, most_bytes=LARGEST_PULL
    )
    asked = {"model": model, "stream": True}
    said: JSON = {}
    try:
        async with client, client.stream("POST", _at(connection, "pull"), json=asked) as answer:
            async for line in answer.aiter_lines():
                said = json.loads(line) if line.strip() else {}
                if said.get("error"):
                    break
                if said.get("total"):
                    tell(int(said.get("completed") or 0), int(said["total"]))
    except (httpx2.HTTPError, BlockedAddress) as error:
        raise ProviderError("provider.unreachable", "Ollama broke the pull off.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ProviderError("provider.malformed", "Ollama does not pull models.") from error
    if said.get("status") != "success":
        why = str(said.get("error") or "it did not say why")[:LONGEST_SAID]
        raise ProviderError("provider.failed", f"{model} could not be pulled: {why}.")


async def context_window(connection: Connection, model: str) -> int | None:
    """How many tokens a model that is loaded reads at once there, which is mostly less than it
    could; None if that is not told."""
    client = outside_client(may_be_private=connection.may_be_private, timeout=SECONDS)
    try:
        async with client:
            answer = await client.get(_at(connection, "ps"))
        loaded = answer.raise_for_status().json()["models"]
        windows = {one["model"]: one.get("context_length") for one in loaded}
    except (httpx2.HTTPError, BlockedAddress, ValueError, KeyError, TypeError, AttributeError):
        return None
    window = windows.get(model) or windows.get(f"{model}:latest")
    return window if isinstance(window, int) and window > 0 else None


def _at(connection: Connection, route: str) -> str:
    """Its own API is beside OpenAI's."""
    return f"{connection.address.rstrip('/').removesuffix('/v1')}/api/{route}"
