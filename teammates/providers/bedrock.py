"""Amazon Bedrock's models, with a key of Bedrock's: Claude as Anthropic speaks, with its thoughts
and its prompt cache, and the others by chat completions."""

import re
from urllib.parse import urlsplit

from anthropic import AsyncAnthropicBedrockMantle
from pydantic_ai.models import Model

from teammates.providers import Connection, anthropic, openai
from teammates.providers.adapting import Profile
from teammates.providers.vendor import VendorClient, make_http_client

# As the Messages API calls it, whatever region and version another API of Bedrock's wants.
_CLAUDE = re.compile(r"(?:(?:[a-z]{2,6}|us-gov)\.)?(anthropic\..+?)(?:-v\d+(?::\d+)?)?")
_RUNTIME = re.compile(r"bedrock-runtime(?:-fips)?\.([\w-]+)\.amazonaws\.com")


def make_client(connection: Connection) -> VendorClient:
    http = make_http_client(may_be_private=connection.may_be_private)
    client = AsyncAnthropicBedrockMantle(
        api_key=connection.api_key or "none",  # never what the server's environment has
        base_url=messages_address(connection.address),
        http_client=http,
        max_retries=0,  # the loop retries, visibly and within its budget
    )
    claude, others = anthropic.models_of(client), openai.models_of(connection, http)

    def make_model(name: str, profile: Profile) -> Model:
        found = _CLAUDE.fullmatch(name)
        return claude(found[1], profile) if found else others(name, profile)

    return VendorClient(make_model, "Amazon Bedrock", http)


def messages_address(address: str) -> str:
    """Where Claude is heard, for the address of chat completions in the same region."""
    parts = urlsplit(address)
    if found := _RUNTIME.fullmatch(parts.hostname or ""):
        return f"https://bedrock-mantle.{found[1]}.api.aws/anthropic"
    return f"{parts.scheme}://{parts.netloc}/anthropic"
