"""Files of a thread: written as versions, read."""

import hashlib
import mimetypes
from collections.abc import Iterable

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection, transaction

from config.compiled import Hole, compiled
from teammates.errors import Invalid
from threads.models import File, FileQuerySet, Thread

LARGEST_FILE = 20 * 1024 * 1024
mimetypes.add_type("image/webp", ".webp")  # Python 3.11 knows it only where the system does


def write_file(thread: Thread, *, name: str, content: bytes) -> File:
    """Store `content` as the next version of `name`; the same content again is the same version.

    Holds the thread's row. Raises `Invalid` for a bad name or more than 20 MiB.
    """
    check_name(name)
    if len(content) > LARGEST_FILE:
        raise Invalid(f"{name} is larger than {LARGEST_FILE // 2**20} MiB.")
    sha256 = hashlib.sha256(content).hexdigest()
    with transaction.atomic():
        Thread.objects.select_for_update(no_key=True).get(pk=thread.pk)
        last = File.objects.filter(thread=thread, name=name).order_by("-version").first()
        if last is not None and last.sha256 == sha256:
            return last
        path = f"{thread.organization_id}/{sha256[:2]}/{sha256}"
        # Named by content: a crash between here and the commit leaves a file, never a row without.
        _lock_path(path)
        return File.objects.create(
            thread=thread,
            name=name,
            version=last.version + 1 if last else 1,
            size=len(content),
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            sha256=sha256,
            stored_as=_store(path, content),
        )


def delete_file(file: File) -> None:
    """Delete one version, and its content if nothing else has it."""
    file.delete()
    delete_unused([file.stored_as])


def delete_unused(paths: Iterable[str]) -> None:
    """Delete stored contents that no file has any more."""
    for path in sorted(set(paths)):
        with transaction.atomic():
            _lock_path(path)
            if not File.objects.filter(stored_as=path).exists():
                default_storage.delete(path)


def hold_paths(paths: Iterable[str]) -> None:
    """Keep contents from being deleted until the end of the transaction."""
    for path in sorted(set(paths)):
        _lock_path(path)


def _lock_path(path: str) -> None:
    """Held to the end of the transaction: nobody deletes a content while it is written again."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(44, hashtext(%s))", [path])


def _store(path: str, content: bytes) -> str:
    """Under which name the content is stored: `path`, or what the storage made of it."""
    if default_storage.exists(path) and default_storage.size(path) == len(content):
        return path
    return default_storage.save(path, ContentFile(content))


def free_name(thread: Thread, name: str, sha256: str) -> str:
    """`name`, or, where another file of the thread has it, that with a number: report-2.pdf."""
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    taken = dict(
        File.objects.filter(thread=thread, name__startswith=stem)
        .order_by("version")
        .values_list("name", "sha256")
    )
    number, free = 1, name
    while taken.get(free, sha256) != sha256:
        number += 1
        free = f"{stem}-{number}{ending}"
    return free


def read_file(file: File) -> bytes:
    with default_storage.open(file.stored_as) as stored:
        content: bytes = stored.read()
    return content


def current_files(thread: Thread) -> list[File]:
    """The newest version of each name, by name."""
    return _current_files.all(thread_id=thread.pk)


@compiled
def _current_files(thread_id: Hole) -> FileQuerySet:
    return File.objects.filter(thread=thread_id).current()


def find_file(thread: Thread, name: str) -> File | None:
    return File.objects.filter(thread=thread, name=name).order_by("-version").first()


def check_name(name: str) -> None:
    """A flat, printable basename."""
    if not 1 <= len(name) <= 255 or name in (".", "..") or any(c in name for c in "/\\"):
        raise Invalid(f"{name!r} is not a file name; give one without folders.")
    if not name.isprintable() or name != name.strip():
        raise Invalid("A file name must be printable and not begin or end with a space.")
