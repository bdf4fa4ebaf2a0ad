"""What a tool declares, and what it is handed when it runs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import jsonschema


@dataclass(frozen=True)
class FileListing:
    name: str
    size: int


class ToolContext(Protocol):
    """The verbs of the domain that a tool may use, bound to its run."""

    async def list_files(self) -> list[FileListing]: ...

    async def read_file(self, name: str) -> bytes | None: ...

    async def write_file(self, name: str, content: bytes) -> FileListing: ...

    async def update_todos(self, items: list[dict[str, Any]]) -> None: ...


class ToolError(Exception):
    """The tool did not work; the message is for the model."""


Approval = Literal["never", "by_mode", "always"]


@dataclass(frozen=True)
class Tool:
    """A tool a teammate can use. `say` composes the sentence that a person approves."""

    name: str
    title: str
    description: str
    schema: dict[str, Any]
    say: Callable[[dict[str, Any]], str]
    run: Callable[[ToolContext, dict[str, Any]], Awaitable[Any]] | None = None  # None: a gate
    changes: bool = False  # else it only reads
    may_repeat: bool = True  # a second time does no harm
    safe_for_end_users: bool = True
    approval: Approval = "by_mode"
    demo_only: bool = False
    timeout: float = 60  # seconds

    def check(self, arguments: Any) -> str:
        """What is wrong with `arguments`, as a sentence for the model; empty if nothing."""
        errors = jsonschema.Draft202012Validator(self.schema).iter_errors(arguments)
        first = next(iter(errors), None)
        if first is None:
            return ""
        where = "/".join(str(part) for part in first.absolute_path)
        return f"{where or 'arguments'}: {first.message[:300]}"


def object_schema(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
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
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "string", "description": self.description,
            "minLength": 1, "maxLength": self.longest, **self.extra,
        }  # fmt: skip
