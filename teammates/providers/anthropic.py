"""Anthropic's models, at its own address."""

from collections.abc import Callable
from typing import Any, cast

from anthropic import AsyncAnthropic, AsyncAnthropicBedrockMantle
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from teammates.providers import Connection
from teammates.providers.adapting import Profile, native
from teammates.providers.vendor import VendorClient, make_http_client

# What is too complex for it is checked there, and then sent as any other tool.
_OURS = {"anthropic_enforces_strict_schema_limits": False}


def make_client(connection: Connection) -> VendorClient:
    http = make_http_client(may_be_private=connection.may_be_private)
    client = AsyncAnthropic(
        api_key=connection.api_key,
        base_url=connection.address,
        http_client=http,
        max_retries=0,  # the loop retries, visibly and within its budget
    )
    return VendorClient(models_of(client), "Anthropic", http, has_output_format=True)


def models_of(
    client: AsyncAnthropic | AsyncAnthropicBedrockMantle,
) -> Callable[[str, Profile], AnthropicModel]:
    """What makes a model of a name and what is known of it."""
    provider = AnthropicProvider(anthropic_client=client)

    def make_model(name: str, profile: Profile) -> AnthropicModel:
        return AnthropicModel(name, provider=provider, profile=cast(Any, _OURS | native(profile)))

    return make_model
