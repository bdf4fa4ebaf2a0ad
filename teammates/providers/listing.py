"""The models that a key can use, as its provider lists them."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx2

from teammates.providers import Connection
from teammates.providers.base import ProviderError, Takes
from teammates.providers.kinds import KINDS
from teammates.public_http import BlockedAddress, outside_client
from teammates.types import JSON

SECONDS = 8.0
MOST_MODELS = 1_000
LARGEST_LIST = 4 * 1024 * 1024  # bytes
# What providers call how many tokens a model reads at once.
_WINDOWS = (
    "max_input_tokens",  # Anthropic
    "inputTokenLimit",  # Google
    "max_context_length",  # Mistral
    "context_length",  # OpenRouter
    "context_window",  # Groq
    "max_model_len",  # vLLM
)


@dataclass(frozen=True)
class ListedModel:
    """`context_window`, in tokens, and what it takes are None where the provider does not tell."""

    name: str
    context_window: int | None = None
    takes: Takes | None = None


async def list_models(connection: Connection, *, embeddings: bool = False) -> list[ListedModel]:
    """By name; `embeddings`: those that make vectors, as far as their names tell. Raises
    `ProviderError`."""
    label = KINDS[connection.kind].label
    if not connection.api_key.isascii():
        raise ProviderError("provider.unauthorized", f"{label} refused the key. Check it.")
    url, headers = _asked_for(connection)
    client = outside_client(
        may_be_private=connection.may_be_private, timeout=SECONDS, most_bytes=LARGEST_LIST
    )
    try:
        async with asyncio.timeout(SECONDS), client:
            answer = await client.get(url, headers=headers)
    except (httpx2.HTTPError, BlockedAddress, TimeoutError) as error:
        raise ProviderError("provider.unreachable", f"{label} could not be reached.") from error
    if answer.status_code in (401, 403):
        raise ProviderError("provider.unauthorized", f"{label} refused the key. Check it.")
    try:
        listed: JSON = answer.raise_for_status().json()
        models = (
            [_read(one, str(one["id"])) for one in listed["data"] if not _is_retired(one)]
            if "data" in listed
            else _of_google(listed, "embedContent" if embeddings else "generateContent")
        )
    except (httpx2.HTTPStatusError, ValueError, KeyError, TypeError, AttributeError):
        raise ProviderError("provider.malformed", f"{label} does not list its models.") from None
    if embeddings:
        models = [one for one in models if "embed" in one.name.lower()] or models
    by_name = {one.name: one for one in models}
    return [by_name[name] for name in sorted(by_name)[:MOST_MODELS]]


async def context_window(connection: Connection, name: str) -> int | None:
    """How many tokens a model reads at once, as its provider lists it; None if that is not told."""
    try:
        listed = await list_models(connection)
    except ProviderError:
        return None
    return next((one.context_window for one in listed if one.name == name), None)


def _asked_for(connection: Connection) -> tuple[str, dict[str, str]]:
    address = connection.address.rstrip("/")
    if connection.kind == "anthropic":
        credential = {"x-api-key": connection.api_key, "anthropic-version": "2023-06-01"}
        return f"{address}/v1/models?limit={MOST_MODELS}", credential
    key = connection.api_key
    if connection.kind == "google":
        return f"{address}/v1beta/models?pageSize={MOST_MODELS}", {"x-goog-api-key": key}
    return f"{address}/models", {"Authorization": f"Bearer {key}"} if key else {}


def _of_google(listed: JSON, method: str) -> list[ListedModel]:
    """Those that write, or make vectors: others make pictures."""
    return [
        _read(one, str(one["name"]).removeprefix("models/"))
        for one in listed["models"]
        if method in one["supportedGenerationMethods"]
    ]


def _is_retired(one: dict[str, Any]) -> bool:
    return one.get("lifecycle") == "retired"  # Anthropic's


def _read(one: dict[str, Any], name: str) -> ListedModel:
    windows = [one.get(window) for window in _WINDOWS]
    window = next((size for size in windows if type(size) is int and size > 0), None)
    return ListedModel(name, window, _takes(one))


def _takes(one: dict[str, Any]) -> Takes | None:
    kinds = (_object(one, "architecture") or one).get("input_modalities")  # OpenRouter's
    if isinstance(kinds, list):
        return Takes(pictures="image" in kinds, pdfs="file" in kinds)
    told = _object(one, "capabilities")
    if "vision" in told:  # Mistral's
        return Takes(pictures=told["vision"] is True, pdfs=False)
    if "image_input" in told:  # Anthropic's
        pictures, pdfs = (_object(told, f"{kind}_input") for kind in ("image", "pdf"))
        return Takes(pictures=pictures.get("supported") is True, pdfs=pdfs.get("supported") is True)
    return None


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}
