"""The demo model: a script, no AI. Which words in the message do what is in `WORDS`.

Deterministic: the same conversation gives the same turn, so a step that is made again after a
crash says the same. It is what a fresh install, the tests and the benchmarks run on.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from teammates.providers import Connection
from teammates.providers.base import (
    Delta,
    ModelRequest,
    Part,
    Takes,
    TextPart,
    Thinking,
    TokenUsage,
    ToolRequest,
    Turn,
    UserMessage,
    estimate_tokens,
)
from teammates.providers.demo_script import next_stage

# Shown on the page "What the demo model understands"; a test holds it against the script.
# For whoever does not know yet what to say.
EXAMPLES = (
    "Say hello, please think and show me everything",
    "Write the file report.csv and tell me what is in it",
    "Make a plan for a spring party and ask me before you begin",
)
WORDS: list[tuple[str, str]] = [
    ("think", "thinks aloud before it answers"),
    ("todo", "keeps a to-do list while it works"),
    ("file", "writes report.csv (or the file name you give) into the thread"),
    ("chart", "calculates with Python and draws a chart"),
    ("read", "lists the files of the thread and reads the first one"),
    ("fetch https://…", "fetches that address (public addresses only)"),
    ("ask", "asks you a question and uses the answer"),
    ("approve", "asks for your approval of an action (it only pretends to act)"),
    ("slow 200 10ms", "answers in 200 pieces with 10 ms between them (any numbers)"),
    ("remember", "keeps your message for later runs; recall looks up what is kept"),
    ("document guide.md", "keeps a document that later runs read"),
    ("lesson", "keeps what stands behind it for later runs of the same task"),
    ("notify", "tells you something on the home page and by e-mail"),
    ("delegate", "saves a task and starts it in a thread of its own"),
    ("complain", "reports an issue to those who run Muster"),
    ('use shop__list_orders {"limit": 3}', "calls that tool of a connected app"),
    ("wonder", "ends with a question to you"),
    ("stumble", "does its work, and fails when it should say what happened"),
    ("fail", "fails like a model that refuses the request"),
    ("flaky", "fails once like an overloaded provider, then works"),
    ("swamped", "is overloaded five times in a row; only what nobody watches waits that long"),
    ("hello", "does one of each: a to-do list, a question, an approval and a file"),
]


def make_client(connection: Connection) -> "DemoClient":
    return DemoClient()


class DemoClient:
    def takes(self, model: str) -> Takes:
        return Takes()

    async def close(self) -> None:
        """Nothing is open."""

    @asynccontextmanager
    async def call(self, request: ModelRequest) -> AsyncIterator["DemoCall"]:
        yield DemoCall(request)


class DemoCall:
    def __init__(self, request: ModelRequest) -> None:
        self._request = request
        self._said: list[Part] = []
        self._finished = False

    async def __aiter__(self) -> AsyncIterator[Delta]:
        stage = next_stage(self._request)
        for piece in stage.thinking:
            await asyncio.sleep(stage.delay)
            self._grow(Thinking, piece)
            yield Delta("thinking", piece)
        for piece in stage.text:
            await asyncio.sleep(stage.delay)
            self._grow(TextPart, piece)
            yield Delta("text", piece)
        turn_number = sum(isinstance(said, Turn) for said in self._request.conversation)
        for number, (name, arguments) in enumerate(stage.tools):
            call = ToolRequest(f"call_{turn_number}_{number}_{name}", name, json.dumps(arguments))
            self._said.append(call)
            yield Delta("tool", call.arguments, call.call_id, call.name)
        self._finished = True

    def _grow(self, kind: type[TextPart] | type[Thinking], piece: str) -> None:
        if self._said and type(self._said[-1]) is kind:
            last = self._said.pop()
            assert isinstance(last, TextPart | Thinking)
            piece = last.text + piece
        self._said.append(kind(piece))

    @property
    def turn(self) -> Turn:
        return Turn(list(self._said), "stop" if self._finished else "cancelled")

    @property
    def usage(self) -> TokenUsage | None:
        if not self._said and not self._finished:
            return None
        sent = "".join(
            said.text if isinstance(said, UserMessage | Turn) else said.content
            for said in self._request.conversation
        )
        answered = "".join(
            part.arguments if isinstance(part, ToolRequest) else part.text for part in self._said
        )
        return TokenUsage(
            input=estimate_tokens(self._request.instructions + sent),
            output=estimate_tokens(answered),
        )
