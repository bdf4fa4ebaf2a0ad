"""Google's Gemini models."""

from typing import Any, cast

from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider

from teammates.providers import Connection
from teammates.providers.adapting import Profile, native
from teammates.providers.vendor import VendorClient, make_http_client


def make_client(connection: Connection) -> VendorClient:
    http = make_http_client(may_be_private=connection.may_be_private)
    provider = GoogleProvider(
        api_key=connection.api_key, base_url=connection.address, http_client=http
    )

    def make_model(name: str, profile: Profile) -> GoogleModel:
        return GoogleModel(name, provider=provider, profile=cast(Any, native(profile)) or None)

    return VendorClient(make_model, "Google", http)
