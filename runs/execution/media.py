"""What a model is shown of the files in a conversation, looked at once an attempt: as much as one
request holds, the newest of it."""

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
    Turn,
    UserMessage,
    estimate_tokens,
)
from teammates.quoting import as_data
from teammates.tools.reading import LARGEST_READ, READ_SECONDS
from threads import files
from threads.models import File

# Of one request
MOST_SHOWN = 20  # files
MOST_BYTES = 15 * 1024 * 1024  # of all of them: 20 MB on the wire
SHARE = 0.5  # of the model's window, for all of them; a PDF has half of that
NO_LONGER = "[{}: no longer shown, to save space; read_file reads it again.]"


async def show(attempt: Attempt, loaded: LoadedRun) -> None:
    """Put into the conversation what the model is shown, or reads instead."""
    every = [one for said in loaded.conversation for one in said.media]
    if not every:
        return
    takes = await _takes(loaded.route)
    room = int(loaded.route.context_window * SHARE)
    looked = await _newest(attempt, every[loaded.not_shown :], takes, room=room)
    if loaded.not_shown + len(looked) < len(every):
        # Half of it goes at once: with each that went alone, a provider's cache would be lost.
        looked = _within(looked, MOST_SHOWN // 2, MOST_BYTES // 2, room // 2) or looked[-1:]
        loaded.not_shown = len(every) - len(looked)
        loaded.counted = None  # of a request that had more
    attempt.looked_at = {(one.file_id, takes): one for one in looked}
    gone = [
        replace(one, content=b"", text=NO_LONGER.format(one.name), tokens=0)
        for one in every[: loaded.not_shown]
    ]
    shown = iter([*gone, *looked])
    conversation: list[ChatMessage] = []
    for said in loaded.conversation:
        if isinstance(said, Turn) or not said.media:
            conversation.append(said)
            continue
        now = replace(said, media=[next(shown) for _ in said.media])
        if said is loaded.request and isinstance(now, UserMessage):
            loaded.request = now
        conversation.append(now)
    loaded.conversation = conversation


async def _takes(route: Model) -> Takes:
    try:
        return (await open_client(route.provider.connection)).takes(route.name)
    except ProviderError:  # the call that follows says so
        return Takes()


async def _newest(
    attempt: Attempt, every: Sequence[Media], takes: Takes, *, room: int
) -> list[Media]:
    """The newest files that one request holds, in order, looked at; what is older is not read."""
    newest: list[Media] = []
    for one in reversed(every):
        known = attempt.looked_at.get((one.file_id, takes))
        looked = known or await _look_at(one, takes, most_tokens=room // 2)
        fitting = _within([looked, *newest], MOST_SHOWN, MOST_BYTES, room)
        if len(fitting) <= len(newest):
            break
        newest = fitting
    return newest


def _within(looked: list[Media], count: int, size: int, tokens: int) -> list[Media]:
    """The last of them that are no more than that."""
    kept: list[Media] = []
    for one in reversed(looked):
        count, size, tokens = count - 1, size - len(one.content), tokens - one.tokens
        if min(count, size, tokens) < 0:
            break
        kept.insert(0, one)
    return kept


async def _look_at(one: Media, takes: Takes, *, most_tokens: int) -> Media:
    """A file as the model is shown it, or with what it reads instead."""
    content = await in_db(_content, one.file_id)
    if content is None:
        return _read_instead(one, f"[{one.name} was deleted.]")
    try:
        if one.kind == "picture":
            if not takes.pictures:
                return replace(one, content=b"", tokens=0)
            fitted = await timebox.awaited(READ_SECONDS, media.picture_for_model, content)
            return replace(one, content=fitted[0], media_type=fitted[1], tokens=fitted[2])
        why = "this model takes no PDFs."
        if takes.pdfs:
            try:
                tokens = await timebox.awaited(READ_SECONDS, media.tokens_of_pdf, content)
            except file_text.Unreadable as problem:
                why = f"it {problem}"
            else:
                if tokens <= most_tokens:
                    return replace(
                        one, content=content, media_type="application/pdf", tokens=tokens
                    )
                why = "it is too long for this model to be shown it."
        text = await timebox.awaited(READ_SECONDS, file_text.text_of, one.name, content)
    except file_text.Unreadable as problem:
        return _read_instead(one, f"[{one.name} {problem}]")
    except timebox.TooCostly:
        return _read_instead(one, f"[{one.name} is too complicated to be read.]")
    rest = ""
    if len(text) > LARGEST_READ:
        text = text[:LARGEST_READ]
        rest = f" Its first {LARGEST_READ} characters; read_file reads the rest."
    said = f"[{one.name} as text: {why}{rest}]\n{as_data(text, f'the file {one.name}')}"
    return _read_instead(one, said)


def _read_instead(one: Media, text: str) -> Media:
    return replace(one, content=b"", text=text, tokens=estimate_tokens(text))


def _content(file_id: int) -> bytes | None:
    file = File.objects.filter(pk=file_id).first()
    try:
        return files.read_file(file) if file else None
    except FileNotFoundError:
        return None
