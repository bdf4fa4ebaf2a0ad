"""Threads and their messages: opened, renamed, deleted, spoken in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from config.compiled import CompiledInsert, Hole
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
from teammates.models import EndUser, Teammate
from teammates.scoped_query import scoped_query
from teammates.text import clean_text
from threads.files import current_files, hold_paths
from threads.models import File, Message, MessageRole, Thread

_THREAD = CompiledInsert(Thread, "thread")
_FIRST_MESSAGE = CompiledInsert(Message, "message", thread_id="(SELECT id FROM opened)")
_MESSAGE = CompiledInsert(Message, "message")
_OPEN = f"WITH opened AS ({_THREAD.sql}) {_FIRST_MESSAGE.sql}, (SELECT id FROM opened)"
# The first words name a thread until somebody does, which its row decides: somebody may be at it.
_POST = f"""WITH touched AS (
    UPDATE threads_thread SET updated_at = %(now)s,
        title = CASE WHEN title = '' THEN %(first_words)s ELSE title END WHERE id = %(thread)s
) {_MESSAGE.sql}"""
LONGEST_TITLE = 200  # bytes
LONGEST_MESSAGE = 1_000_000  # bytes


def create_thread(
    access: Access,
    *,
    title: str | None = None,
    is_private: bool = False,
    teammate: Teammate | None = None,
    end_user: EndUser | None = None,
) -> Thread:
    """Open a conversation. Raises `Invalid` for an overlong title."""
    made = _new_thread(
        access,
        title=_checked_title(title),
        is_private=is_private,
        teammate=teammate,
        end_user=end_user,
    )
    return _THREAD.save(made)


def _new_thread(access: Access, **fields: Any) -> Thread:
    access.require("data.threads.write")
    return Thread(organization=access.organization, created_by=access.user, **fields)


def _new_message(access: Access, thread: Thread, content: str) -> Message:
    return Message(thread=thread, created_by=access.user, role=MessageRole.USER, content=content)


def open_with(
    access: Access,
    text: str,
    *,
    title: str | None = None,
    teammate: Teammate | None = None,
    end_user: EndUser | None = None,
) -> tuple[Thread, Message]:
    """Open a conversation with its first message, whose first words name it unless it has a
    `title`. Raises `Invalid`."""
    content = checked_message(text)
    named = _checked_title(title) or _title_of(content)
    thread = _new_thread(access, title=named, teammate=teammate, end_user=end_user)
    message = _new_message(access, thread, content)
    *made, thread_id = _send(
        _OPEN, thread=_THREAD.value(thread), message=_FIRST_MESSAGE.value(message)
    )
    _THREAD.take(thread, [thread_id])
    message.thread = thread  # it has a number now
    return thread, _FIRST_MESSAGE.take(message, made)


# Of what programs do all day, as it is sent
_RENAME = "UPDATE threads_thread SET title = %(title)s, updated_at = %(now)s WHERE id = %(thread)s"
_DELETE = """UPDATE threads_thread SET deleted_at = %(now)s
    WHERE id = %(thread)s AND deleted_at IS NULL"""


def _send(sql: str, **values: str | int | datetime) -> tuple[Any, ...]:
    """What the statement returns of its one row, if anything."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone() if cursor.description else ()


def rename_thread(access: Access, thread: Thread, *, title: str | None) -> Thread:
    """Rename a thread, or remove its title. Raises `Invalid`."""
    access.require("data.threads.write", thread)
    thread.title, thread.updated_at = _checked_title(title), timezone.now()
    _send(_RENAME, title=thread.title, now=thread.updated_at, thread=thread.pk)
    return thread


def star_thread(access: Access, thread: Thread, *, starred: bool) -> Thread:
    """Keep a thread at the top of its maker's list, or no longer; again is fine. Raises
    `Forbidden` for anybody else, whose list it is not in."""
    access.require("data.threads.write", thread)
    if thread.created_by != access.user:
        raise Forbidden("Only whoever began a thread keeps it at the top.")
    thread.starred_at = (thread.starred_at or timezone.now()) if starred else None
    thread.save(update_fields=["starred_at"])
    return thread


def fork_thread(access: Access, thread: Thread, said: list[Message]) -> Thread:
    """A new thread of the same scope and teammate with copies of `said`, in order, and with the
    files of `thread` as they are now."""
    with transaction.atomic():
        fork = create_thread(access, teammate=thread.teammate, end_user=thread.end_user)
        Thread.objects.filter(pk=fork.pk).update(parent=thread, title=_copied(thread.title))
        for message in said:  # one by one: their numbers are their order
            Message.objects.create(
                thread=fork,
                created_by=message.created_by,
                role=message.role,
                content=message.content,
            )
        kept = current_files(thread)
        hold_paths(file.stored_as for file in kept)
        File.objects.bulk_create(
            File(
                thread=fork,
                name=file.name,
                size=file.size,
                content_type=file.content_type,
                sha256=file.sha256,
                stored_as=file.stored_as,
            )
            for file in kept
        )
        if Thread.objects.filter(pk=thread.pk, heard_outside=True).exists():  # now, not before
            mark_heard_outside(fork)
        fork.refresh_from_db()
    return fork


def _copied(title: str) -> str:
    sign = " (copy)"
    return title[: LONGEST_TITLE - len(sign)].removesuffix(sign) + sign if title else title


def mark_heard_outside(thread: Thread) -> None:
    """Note that somebody outside of the organization had a say in a thread. Again is fine."""
    Thread.objects.filter(pk=thread.pk, heard_outside=False).update(heard_outside=True)
    thread.heard_outside = True


def delete_thread(access: Access, thread: Thread) -> None:
    """Delete a thread: from now on nobody sees it, its runs or what they wrote, and its links are
    dead. Its words are erased after `ERASE_AFTER_DAYS`; what it cost stays on record."""
    access.require("data.threads.write", thread)
    _send(_DELETE, now=timezone.now(), thread=thread.pk)


@scoped_query
def _thread_by_uid(access: Access, uid: Hole) -> "QuerySet[Thread]":
    return Thread.objects.visible_to(access).select_related("created_by").filter(uid=uid)


@scoped_query
def _thread_by_pk(access: Access, pk: Hole) -> "QuerySet[Thread]":
    return Thread.objects.visible_to(access).select_related("created_by", "teammate").filter(pk=pk)


_BY = {"uid": _thread_by_uid, "pk": _thread_by_pk}


def get_thread(access: Access, **lookup: Any) -> Thread:
    """One by its `uid` or `pk`. Raises `NotFound`, or `Forbidden` for a colleague's thread
    (contract v1 1.3)."""
    (found_by,) = lookup
    thread = _BY[found_by].first(access, **lookup)
    if thread is not None:
        thread.organization = access.organization
        return thread
    if _BY[found_by].first(access.everything(), **lookup) is not None:
        raise Forbidden("This thread is a colleague's.")
    raise NotFound("There is no such thread.", code="threads.not_found")


def list_threads(
    access: Access,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
) -> list[Thread]:
    """Own threads, newest first; `before` is the last one's `updated_at` and `uid`."""
    threads = Thread.objects.visible_to(access).listed().filter(created_by=access.user)
    threads = threads.for_list()
    if before is not None:
        at, uid = before
        last = Thread.objects.visible_to(access).filter(uid=uid).first()
        if last is None:
            raise Invalid("before_id: there is no such thread.")
        threads = threads.filter(Q(updated_at__lt=at) | Q(updated_at=at, id__lt=last.pk))
    return list(threads.order_by("-updated_at", "-id")[:limit])


def post_message(access: Access, thread: Thread, content: str) -> Message:
    """Post a message as a person or program. It starts no run. Raises `Invalid`."""
    access.require("data.threads.write")
    content = checked_message(content)
    message, first_words = _new_message(access, thread, content), _title_of(content)
    posted = _send(
        _POST,
        message=_MESSAGE.value(message),
        now=timezone.now(),
        first_words=first_words,
        thread=thread.pk,
    )
    thread.title = thread.title or first_words
    return _MESSAGE.take(message, posted)


def list_messages(thread: Thread, *, limit: int) -> list[Message]:
    """The newest `limit` messages, oldest first."""
    newest = Message.objects.filter(thread=thread).select_related("created_by").order_by("-id")
    return list(newest[:limit])[::-1]


def checked_message(content: str) -> str:
    """`content` as it is stored. Raises `Invalid` if it is empty or over 1 MB."""
    content = clean_text(content)
    if not content.strip():
        raise Invalid("message must not be empty.")
    if len(content.encode()) > LONGEST_MESSAGE:
        raise Invalid("message must have at most 1 MB.")
    return content


def _title_of(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > 80:
        line = line[:79].rsplit(" ", 1)[0] + "…"
    return line[:200]


def _checked_title(title: str | None) -> str:
    title = clean_text(title or "").strip()
    if len(title.encode()) > LONGEST_TITLE:
        raise Invalid(f"title must have at most {LONGEST_TITLE} bytes.")
    return title
