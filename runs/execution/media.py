"""What a model is shown of the files in a conversation: the newest of them, looked at once an
attempt."""

from collections.abc import Sequence
from dataclasses import replace

from config.database import in_db
from runs.execution.attempt import Attempt, LoadedRun
from teammates import file_text, media, timebox
from teammates.models import Model
from teammates.providers import open_client
from teammates.providers.base import (
    ChatMessage,
    Media,
    ProviderError,
    Takes,
    ToolResult,
    UserMessage,
)
from teammates.quoting import as_data
from teammates.tools.reading import LARGEST_READ, READ_SECONDS
from threads import files
from threads.models import File

MOST_SHOWN = 20  # files in a conversation
MOST_BYTES = 15 * 1024 * 1024  # of all of them: 20 MB on the wire
UNSEEN = "[{}: a picture, which this model cannot see.]"
NO_LONGER = "[{}: no longer shown, to save space. read_file shows it again.]"


async def show(attempt: Attempt, loaded: LoadedRun) -> None:
    """Put into the conversation what the model is shown, or reads instead."""
    if not any(_media_of(said) for said in loaded.conversation):
        return
    takes = await _takes(loaded.route)
    count, size = MOST_SHOWN, MOST_BYTES
    shown: list[ChatMessage] = []
    for said in reversed(loaded.conversation):
        newest_first: list[Media] = []
        for one in reversed(_media_of(said)):
            looked = await _looked_at(attempt, one, takes) if count else one
            if count and len(looked.content) <= size:
                count, size = count - 1, size - len(looked.content)
            else:
                looked = replace(one, content=b"", text=NO_LONGER.format(one.name))
            newest_first.append(looked)
        shown.append(_with_media(said, newest_first[::-1]))
    loaded.conversation = shown[::-1]


def _media_of(said: ChatMessage) -> Sequence[Media]:
    return said.media if isinstance(said, UserMessage | ToolResult) else ()


def _with_media(said: ChatMessage, shown: Sequence[Media]) -> ChatMessage:
    return replace(said, media=shown) if isinstance(said, UserMessage | ToolResult) else said


async def _takes(route: Model) -> Takes:
    try:
        return (await open_client(route.provider.connection)).takes(route.name)
    except ProviderError:  # the call that follows says so
        return Takes()


async def _looked_at(attempt: Attempt, one: Media, takes: Takes) -> Media:
    """A file as the model is shown it, or with what it reads instead."""
    known = attempt.looked_at.get(one.file_id)
    if known is None or not (takes.shows(known) or known.text):
        known = attempt.looked_at[one.file_id] = await _look_at(one, takes)
    return known


async def _look_at(one: Media, takes: Takes) -> Media:
    content = await in_db(_content, one.file_id)
    if content is None:
        return replace(one, text=f"[{one.name} was deleted.]")
    try:
        if one.kind == "picture":
            if not takes.pictures:
                return replace(one, text=UNSEEN.format(one.name))
            fitted, media_type, tokens = await timebox.awaited(
                READ_SECONDS, media.picture_for_model, content
            )
            return replace(one, content=fitted, media_type=media_type, tokens=tokens)
        why = "this model takes no PDFs."
        if takes.pdfs:
            try:
                tokens = await timebox.awaited(READ_SECONDS, media.tokens_of_pdf, content)
                return replace(one, content=content, media_type="application/pdf", tokens=tokens)
            except file_text.Unreadable as problem:
                why = f"it {problem}"
        text = await timebox.awaited(READ_SECONDS, file_text.text_of, one.name, content)
    except file_text.Unreadable as problem:
        return replace(one, text=f"[{one.name} {problem}]", tokens=0)
    except timebox.TooCostly:
        return replace(one, text=f"[{one.name} is too complicated to be read.]", tokens=0)
    return replace(one, text=_as_text(one.name, text, why), tokens=0)


def _as_text(name: str, text: str, why: str) -> str:
    cut = len(text) > LARGEST_READ
    rest = f" Its first {LARGEST_READ} characters; read_file reads the rest." if cut else ""
    return f"[{name} as text: {why}{rest}]\n{as_data(text[:LARGEST_READ], f'the file {name}')}"


def _content(file_id: int) -> bytes | None:
    file = File.objects.filter(pk=file_id).first()
    return files.read_file(file) if file else None
