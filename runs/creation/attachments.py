"""Files that come with a message."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from runs.models import Run, RunFile
from teammates.errors import Invalid
from threads import files
from threads.models import File, Thread

MOST_ATTACHMENTS = 20  # of a message


@dataclass(frozen=True)
class Attachment:
    """A file that comes with a message."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def write_attachments(thread: Thread, attachments: Sequence[Attachment]) -> list[File]:
    """Store files in a thread; one that would hide another gets a name of its own."""
    if len(attachments) > MOST_ATTACHMENTS:
        raise Invalid(f"files: at most {MOST_ATTACHMENTS} come with a message.")
    written = []
    for one in attachments:
        name = files.free_name(thread, one.name, one.sha256)
        written.append(files.write_file(thread, name=name, content=one.content))
    return written


def attach(run: Run, written: Sequence[File]) -> None:
    for file in written:
        RunFile.objects.get_or_create(run=run, file=file, defaults={"is_attachment": True})
