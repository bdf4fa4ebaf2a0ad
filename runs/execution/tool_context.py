"""What a tool may use of the run that calls it."""

from config.database import in_db
from runs.events.payloads import fitting
from runs.execution import call_journal
from runs.execution.attempt import Attempt
from runs.models import Run, ToolCall
from runs.tools import authority, knowledge
from teammates.knowledge import embedding
from teammates.media import kind_of
from teammates.providers.base import ProviderError
from teammates.text import clean
from teammates.tools.base import FileListing
from teammates.tools.search import SearchConnection
from teammates.types import JSON
from threads import files
from threads.models import File

LONGEST_OUTPUT = 50_000  # characters of what a call prints that are shown while it runs


def fitting_items(items: list[JSON]) -> list[JSON]:
    """Items with their texts cut so that all of them fit into one event."""
    longest = 40_000 // max(len(items), 1)
    return [item | {"text": fitting(item["text"], longest)} for item in items]


class RunToolContext:
    """What a tool may use (`tools.base.ToolContext`), bound to one call of one attempt."""

    def __init__(self, attempt: Attempt, run: Run, call: ToolCall) -> None:
        self._attempt = attempt
        self._run = run
        self._call = call
        self.run_key = run.uid.hex
        self.organization_key = str(run.organization_id)
        self.call_key = f"{run.uid}:{call.pk}"
        self._shown = 0  # characters of output

    @property
    def search_connection(self) -> SearchConnection | None:
        web_search = getattr(self._run.organization, "web_search", None)  # loaded with the run
        return web_search.connection if web_search else None

    async def find_passages(self, query: str, document: str | None) -> tuple[list[JSON], str]:
        vector, note = None, ""
        try:
            vector = await embedding.vector_of(self._run.organization, query)
        except ProviderError as error:
            note = f"Searched by words alone: {error}"
        found = await in_db(
            knowledge.find_passages,
            self._run,
            self._call,
            query,
            document=document,
            vector=vector,
        )
        return found, note

    async def list_files(self) -> list[FileListing]:
        current = await in_db(list, authority.readable_files(self._run).current())
        return [FileListing(file.name, file.size) for file in current]

    async def read_file(self, name: str) -> bytes | None:
        return await in_db(self._read, name)

    def _read(self, name: str) -> bytes | None:
        file = self._newest(name)
        return files.read_file(file) if file else None

    def _newest(self, name: str) -> File | None:
        versions = authority.readable_files(self._run).filter(name=name)
        newest: File | None = versions.order_by("-version").first()
        return newest

    async def read_files(self, most_bytes: int) -> tuple[dict[str, bytes], list[str]]:
        return await in_db(self._read_all, most_bytes)

    def _read_all(self, room: int) -> tuple[dict[str, bytes], list[str]]:
        contents: dict[str, bytes] = {}
        left_out: list[str] = []
        current = authority.readable_files(self._run).current()
        for file in sorted(current, key=lambda file: -file.pk):
            if file.size > room or len(file.name.encode()) > 255:
                left_out.append(file.name)
                continue
            try:
                contents[file.name] = files.read_file(file)
            except FileNotFoundError:  # deleted meanwhile
                continue
            room -= file.size
        return contents, left_out

    def show_output(self, text: str) -> None:
        text = clean(text)[: LONGEST_OUTPUT - self._shown]
        if text:
            self._shown += len(text)
            said = {"tool_call_id": self._call.call_id, "tool_name": self._call.name}
            self._attempt.events.delta("tool.output", said | {"delta": text}, "delta")

    async def show_file(self, name: str) -> bool:
        file = await in_db(self._newest, name)
        kind = kind_of(file.content_type) if file else None
        if file is None or kind is None:
            return False
        self._call.media.append({"name": file.name, "kind": kind, "file_id": file.pk})
        return True

    async def write_file(self, name: str, content: bytes) -> FileListing:
        file = await self._attempt.events.commit(
            call_journal.write_run_file, name=name, content=content
        )
        return FileListing(file.name, file.size)

    async def update_todos(self, items: list[JSON]) -> None:
        self._attempt.events.emit("todo.updated", {"items": fitting_items(items)})
