"""Anthropic's models."""

import re
from typing import Any, cast

from anthropic import AsyncAnthropic
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from teammates.providers import Connection
from teammates.providers.adapting import NO_STRICT_TOOLS, Profile, native
from teammates.providers.base import ModelRequest
from teammates.providers.vendor import VendorClient, make_http_client
from teammates.providers.vendor_errors import said_by

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
    provider = AnthropicProvider(anthropic_client=client)

    def make_model(name: str, profile: Profile) -> AnthropicModel:
        return AnthropicModel(name, provider=provider, profile=cast(Any, _OURS | native(profile)))

    return VendorClient(make_model, "Anthropic", http, adapts=_adapt, has_strict_tools=True)


def _adapt(error: ModelHTTPError, request: ModelRequest) -> Profile:
    """Some schemas, and some models, are not held to."""
    if error.status_code != 400 or not any(tool.is_exact for tool in request.tools):
        return {}
    is_about_it = re.search(r"(?i)\bstrict\b|structured.outputs|schema", said_by(error))
    return {NO_STRICT_TOOLS: True} if is_about_it else {}
