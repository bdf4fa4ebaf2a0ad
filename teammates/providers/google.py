"""Google's Gemini models."""

from typing import Any, cast

import httpx2
from pydantic_ai.embeddings.google import GoogleEmbeddingModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from teammates.providers import Connection
from teammates.providers.adapting import Profile, native
from teammates.providers.vendor import VendorClient, make_http_client


def make_client(connection: Connection) -> VendorClient:
    http = make_http_client(may_be_private=connection.may_be_private)
    provider = _provider(connection, http)

    def make_model(name: str, profile: Profile) -> GoogleModel:
        return GoogleModel(name, provider=provider, profile=cast(Any, native(profile)) or None)

    return VendorClient(make_model, "Google", http, has_output_format=True)


def make_embedding_model(
    connection: Connection, name: str, http: httpx2.AsyncClient
) -> GoogleEmbeddingModel:
    return GoogleEmbeddingModel(name, provider=_provider(connection, http))


def _provider(connection: Connection, http: httpx2.AsyncClient) -> GoogleProvider:
    return GoogleProvider(api_key=connection.api_key, base_url=connection.address, http_client=http)
