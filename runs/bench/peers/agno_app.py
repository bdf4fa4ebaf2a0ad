"""The peer agno: an AgentOS that keeps its sessions in SQLite, and a scripted model.

Run by the interpreter of the peer's own environment; Muster never imports it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from agno.agent import Agent
from agno.db.sqlite import AsyncSqliteDb
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.os import AgentOS

DELTAS = 200


@dataclass
class Scripted(Model):
    """Says a word for each delta, as fast as it is asked or with a pause before each."""

    id: str = "scripted"
    name: str = "Scripted"
    provider: str = "Scripted"
    pause: float = 0  # seconds

    def invoke(self, *args: object, **kwargs: object) -> ModelResponse:
        return ModelResponse(role="assistant", content="word " * DELTAS)

    async def ainvoke(self, *args: object, **kwargs: object) -> ModelResponse:
        return self.invoke()

    def invoke_stream(self, *args: object, **kwargs: object) -> Iterator[ModelResponse]:
        for _ in range(DELTAS):
            yield ModelResponse(role="assistant", content="word ")

    async def ainvoke_stream(self, *args: object, **kwargs: object) -> AsyncIterator[ModelResponse]:
        for _ in range(DELTAS):
            if self.pause:
                await asyncio.sleep(self.pause)
            yield ModelResponse(role="assistant", content="word ")

    def _parse_provider_response(self, response: object, **kwargs: object) -> object:
        return response

    def _parse_provider_response_delta(self, response: object) -> object:
        return response


kept = AsyncSqliteDb(db_file="agno.db")
agents = [
    Agent(id=name, name=name, model=Scripted(pause=pause), db=kept, telemetry=False)
    for name, pause in (("flat", 0), ("paced", 0.01))
]
app = AgentOS(agents=agents, telemetry=False).get_app()
