"""What a tool declares, and what it is handed when it runs."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from teammates.types import JSON

if TYPE_CHECKING:
    from teammates.tools.search import SearchConnection


@dataclass(frozen=True)
class FileListing:
    name: str
    size: int


class ToolContext(Protocol):
    """What a tool may use of its run."""

    @property
    def call_key(self) -> str:
        """The same for every attempt at this call: a server that knows it acts once."""
        ...

    @property
    def run_key(self) -> str:
        """The same for every call of the run, and no other's."""
        ...

    @property
    def organization_key(self) -> str:
        """The same for every run of the organization, and no other's."""
        ...

    @property
    def search_connection(self) -> "SearchConnection | None":
        """Where the organization searches the web; None: nowhere."""
        ...

    async def find_passages(self, query: str, document: str | None) -> tuple[list[JSON], str]:
        """The passages of documents that fit a query best, each with the number to cite it by; and
        what is to be said about the search, if anything."""
        ...

    async def list_files(self) -> list[FileListing]: ...

    async def read_file(self, name: str) -> bytes | None: ...

    async def read_files(self, most_bytes: int) -> tuple[dict[str, bytes], list[str]]:
        """The contents of the conversation's files by name, the newest of them while they are no
        more than that; the names of the rest."""
        ...

    def show_output(self, text: str) -> None:
        """Show people what the call prints while it runs."""
        ...

    async def show_file(self, name: str) -> bool:
        """Show the model a file with the call's result; False if it is no picture and no PDF."""
        ...

    async def write_file(self, name: str, content: bytes) -> FileListing: ...

    async def update_todos(self, items: list[JSON]) -> None: ...


class ToolError(Exception):
    """The tool did not work; the message is for the model."""


class UnknownEffect(Exception):
    """The call broke off after it was sent: nobody knows whether it had its effect."""


# never: it never asks. by_mode: it asks where the run's mode says so. always: in every mode.
Approval = Literal["never", "by_mode", "always"]
Risk = Literal["low", "medium", "high"]
# How a card shows what a call would do.
Preview = Literal["fields", "message", "file", "code", "request"]
Runner = Callable[[ToolContext, JSON], Awaitable[Any]]


class Means:
    """Two ways in which a tool works that are not a function."""

    # A person answers: the call is a gate.
    PERSON: Literal["person"] = "person"
    # A verb of the domain (`runs/tools/builtin.py`), in one transaction with the call's result.
    DOMAIN: Literal["domain"] = "domain"


@dataclass(frozen=True)
class Tool:
    """A tool a teammate can use. `say` composes the words that a person approves."""

    name: str
    title: str
    description: str
    schema: JSON
    say: Callable[[JSON], str]
    run: Runner | Literal["person", "domain"]
    group: str = "work"  # the switch it belongs to: memory, task_setup_tools, feedback, …
    changes: bool = False  # else it only reads
    may_repeat: bool = True  # a second time does no harm
    may_stop: bool = False  # cancelled in the middle, it leaves nothing half done
    safe_for_end_users: bool = True
    approval: Approval = "by_mode"
    risk: Risk = "low"
    may_remember: bool = True  # else a standing permission is ignored
    # Somebody of the organization agrees first, in every mode, where words from outside ask for it.
    guarded: bool = False
    # What it gives back was written by others: the model is told that it is data.
    gives_data: bool = False
    consequence: str = ""  # what follows from it, in a sentence
    preview: Preview = "fields"
    demo_only: bool = False
    timeout: float = 60  # seconds
    server: str = ""  # the slug of the server it comes from
    endpoint: str = ""  # of a REST API: method, host and path

    @property
    def asks_a_person(self) -> bool:
        return self.run == Means.PERSON

    @property
    def is_action(self) -> bool:
        """Whether doing it a second time would be felt outside of the run."""
        is_arranging = self.run == Means.DOMAIN and self.approval != "never"
        return self.changes and (is_arranging or not self.may_repeat)

    @cached_property
    def version(self) -> str:
        """Changes with what the tool takes and says about itself."""
        said = json.dumps([self.schema, self.description, self.changes], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def digest(self, arguments: Any) -> str:
        """What an approval is bound to: tool, version, arguments."""
        said = [self.name, self.version, _canonical(arguments)]
        call = json.dumps(said, sort_keys=True, default=str)
        return hashlib.sha256(call.encode(errors="replace")).hexdigest()

    @property
    def has_strangers_schema(self) -> bool:
        """Whether its schema came from a server or with a request."""
        return self.group in ("servers", "result")

    def check(self, arguments: Any) -> str:
        """What is wrong with `arguments`, as a sentence for the model that repeats none of their
        values; empty if nothing. Not on the event loop where `has_strangers_schema`."""
        from teammates.tools import schemas  # loaded with the first call

        if self.has_strangers_schema:
            return schemas.problem_of_strangers(self.schema, arguments)
        return schemas.problem(self.schema, arguments)


def _canonical(value: Any) -> Any:
    """The same for numbers that the database gives back in another form."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value


def object_schema(required: list[str], **properties: JSON) -> JSON:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class Text:
    """Shorthand for a string property of a tool's schema."""

    description: str
    longest: int = 1_000_000
    extra: JSON = field(default_factory=dict)

    @property
    def schema(self) -> JSON:
        return {
            "type": "string",
            "description": self.description,
            "minLength": 1,
            "maxLength": self.longest,
            **self.extra,
        }


def number(description: str) -> JSON:
    return {"type": "integer", "description": description, "minimum": 1}


def choice(description: str, *values: str) -> JSON:
    return {"type": "string", "description": description, "enum": list(values)}
