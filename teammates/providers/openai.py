"""OpenAI's models, and those of any server that speaks its chat completions (Ollama too)."""

from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from teammates.providers import Connection
from teammates.providers.vendor import VendorClient, make_http_client

LABELS = {"openai": "OpenAI", "ollama": "Ollama", "openai_compatible": "The model server"}


def make_client(connection: Connection) -> VendorClient:
    http = make_http_client(may_be_private=connection.may_be_private)
    client = AsyncOpenAI(
        api_key=connection.api_key or "none",
        base_url=connection.base_url or "https://api.openai.com/v1",
        http_client=http,
        max_retries=0,  # the loop retries, visibly and within its budget
    )
    provider: OpenAIProvider | OllamaProvider = (
        OllamaProvider(openai_client=client)
        if connection.kind == "ollama"
        else OpenAIProvider(openai_client=client)
    )
    return VendorClient(
        lambda name: OpenAIChatModel(name, provider=provider), LABELS[connection.kind], http
    )
