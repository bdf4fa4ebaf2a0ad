"""The models that a key can use, as its provider lists them."""

import asyncio

import httpx2

from teammates.providers import Connection
from teammates.providers.base import ProviderError
from teammates.providers.kinds import KINDS
from teammates.public_http import BlockedAddress, outside_client
from teammates.types import JSON

SECONDS = 8.0
MOST_MODELS = 1_000
LARGEST_LIST = 4 * 1024 * 1024  # bytes


async def list_models(connection: Connection, *, embeddings: bool = False) -> list[str]:
    """Their names, sorted; `embeddings`: of those that make vectors, as far as their names tell.
    Raises `ProviderError`."""
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
        names = (
            {str(one["id"]) for one in listed["data"]}
            if "data" in listed
            else _of_google(listed, "embedContent" if embeddings else "generateContent")
        )
    except (httpx2.HTTPStatusError, ValueError, KeyError, TypeError):
        raise ProviderError("provider.malformed", f"{label} does not list its models.") from None
    if embeddings:
        names = {name for name in names if "embed" in name.lower()} or names
    return sorted(names)[:MOST_MODELS]


def _asked_for(connection: Connection) -> tuple[str, dict[str, str]]:
    address = connection.address.rstrip("/")
    if connection.kind == "anthropic":
        credential = {"x-api-key": connection.api_key, "anthropic-version": "2023-06-01"}
        return f"{address}/v1/models?limit={MOST_MODELS}", credential
    key = connection.api_key
    if connection.kind == "google":
        return f"{address}/v1beta/models?pageSize={MOST_MODELS}", {"x-goog-api-key": key}
    return f"{address}/models", {"Authorization": f"Bearer {key}"} if key else {}


def _of_google(listed: JSON, method: str) -> set[str]:
    """Those that write, or make vectors: others make pictures."""
    return {
        str(one["name"]).removeprefix("models/")
        for one in listed["models"]
        if method in one["supportedGenerationMethods"]
    }
