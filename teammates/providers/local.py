"""Model servers on this machine: Ollama and whatever speaks OpenAI's dialect on its usual port."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx2

SECONDS = 0.8  # that each port is given to answer
MOST_MODELS = 50


@dataclass(frozen=True)
class LocalServer:
    name: str
    kind: str  # of `kinds.KINDS`
    base_url: str
    models: list[str] = field(default_factory=list)


# Name, kind, port, where it lists its models.
KNOWN = (
    ("Ollama", "ollama", 11434, "/api/tags"),
    ("LM Studio", "openai_compatible", 1234, "/v1/models"),
    ("llama.cpp", "openai_compatible", 8080, "/v1/models"),
    ("vLLM", "openai_compatible", 8000, "/v1/models"),
)


async def find_servers(host: str = "127.0.0.1", known: Any = KNOWN) -> list[LocalServer]:
    """Those of `known` that answer with a list of models, all asked at once."""
    async with httpx2.AsyncClient(timeout=SECONDS, trust_env=False) as client:
        asked = (_ask(client, host, *one) for one in known)
        return [found for found in await asyncio.gather(*asked) if found is not None]


async def _ask(
    client: httpx2.AsyncClient, host: str, name: str, kind: str, port: int, path: str
) -> LocalServer | None:
    try:
        asked = await client.get(f"http://{host}:{port}{path}")
        answer = asked.raise_for_status().json()
    except (httpx2.HTTPError, ValueError):
        return None
    is_ollama = kind == "ollama"
    listed = answer.get("models" if is_ollama else "data", "") if isinstance(answer, dict) else ""
    if is_ollama and listed is None:
        listed = []
    if not isinstance(listed, list):
        return None
    names = [str(one.get("name") or one.get("id") or "") for one in listed if isinstance(one, dict)]
    models = [model for model in names if model][:MOST_MODELS]
    return LocalServer(name, kind, f"http://{host}:{port}/v1", models)
