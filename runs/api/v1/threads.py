"""v1: threads and messages (contract v1 2.3, 2.4)."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from django.db.models import Q
from ninja import Router, Status
from pydantic import Field

from runs.models import ACTIVE, Run
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.errors import Invalid
from teammates.types import JSON
from threads import conversations
from threads.models import Message, Thread

router = Router(tags=["threads"])


class ThreadIn(Input):
    title: str | None = None
    is_private: bool = False
    project_id: UUID | None = None


class ThreadPatch(Input):
    title: str | None = None
    project_id: UUID | None = None


class MessageIn(Input):
    content: str | None = None
    content_json: JSON | None = None


@router.post("/threads", response={201: JSON})
def create_thread(request: ApiRequest, payload: ThreadIn | None = None) -> Status[JSON]:
    request.auth.require("data.threads.write")
    payload = payload or ThreadIn()
    _refuse_project(payload.project_id)
    thread = conversations.create_thread(
        request.auth, title=payload.title, is_private=payload.is_private
    )
    return Status(201, thread_out(thread))


@router.get("/threads")
def list_threads(
    request: ApiRequest,
    limit: Annotated[int, Field(ge=1, le=200)] = 50,
    before: str | None = None,
    before_updated_at: datetime | None = None,
    before_created_at: datetime | None = None,
    before_id: UUID | None = None,
    project_id: UUID | None = None,
) -> list[JSON]:
    """Own threads, newest first. The cursor is the last item: its id as `before`, or both its
    `updated_at` and id as `before_updated_at` and `before_id`."""
    request.auth.require("data.threads.read")
    _refuse_project(project_id)
    at = before_updated_at or before_created_at
    if (at is None) != (before_id is None):
        raise Invalid(
            "before_updated_at and before_id belong together.", reason="cursor_incomplete"
        )
    cursor = (at, before_id) if at and before_id else None
    if before is not None:
        cursor = _cursor(request, before)
    threads = conversations.list_threads(request.auth, limit=limit, before=cursor)
    active = _active_run_uids(threads)
    return [thread_out(thread, active.get(thread.pk)) for thread in threads]


@router.get("/threads/{thread_id}")
def get_thread(request: ApiRequest, thread_id: UUID) -> JSON:
    request.auth.require("data.threads.read")
    return thread_out(conversations.get_thread(request.auth, uid=thread_id))


@router.patch("/threads/{thread_id}")
def update_thread(request: ApiRequest, thread_id: UUID, payload: ThreadPatch) -> JSON:
    given = payload.model_fields_set
    if not given:
        raise Invalid("Give at least one of title, project_id.")
    _refuse_project(payload.project_id)
    thread = conversations.get_thread(request.auth, uid=thread_id)
    if "title" in given:
        conversations.rename_thread(request.auth, thread, title=payload.title)
    return thread_out(thread)


@router.delete("/threads/{thread_id}", response={204: None})
def delete_thread(request: ApiRequest, thread_id: UUID) -> Status[None]:
    thread = conversations.get_thread(request.auth, uid=thread_id)
    conversations.delete_thread(request.auth, thread)
    return Status(204, None)


@router.post("/threads/{thread_id}/messages", response={201: JSON})
def create_message(request: ApiRequest, thread_id: UUID, payload: MessageIn) -> Status[JSON]:
    """Post a message. It starts no run: post one for that."""
    thread = conversations.get_thread(request.auth, uid=thread_id)
    if (payload.content is None) == (payload.content_json is None):
        raise Invalid("Give either content or content_json.")
    text = payload.content if payload.content is not None else _text_of(payload.content_json or {})
    return Status(201, message_out(conversations.post_message(request.auth, thread, text), thread))


@router.get("/threads/{thread_id}/messages")
def list_messages(
    request: ApiRequest, thread_id: UUID, limit: Annotated[int, Field(ge=1, le=500)] = 50
) -> list[JSON]:
    """The newest `limit` messages, oldest first."""
    request.auth.require("data.threads.read")
    thread = conversations.get_thread(request.auth, uid=thread_id)
    messages = conversations.list_messages(thread, limit=limit)
    run_uids = _run_uids(messages)
    return [message_out(message, thread, run_uids.get(message.pk)) for message in messages]


def thread_out(thread: Thread, active_run_uid: UUID | None = None) -> JSON:
    organization = str(thread.organization.uid)
    return {
        "id": str(thread.uid),
        "org_id": organization,
        "account_id": organization,
        "created_by_user_id": str(thread.created_by.uid) if thread.created_by else None,
        "title": thread.title or None,
        "project_id": None,
        "created_at": iso(thread.created_at),
        "updated_at": iso(thread.updated_at),
        "active_run_id": str(active_run_uid) if active_run_uid else None,
        "is_private": thread.is_private,
        "parent_thread_id": None,
    }


def message_out(message: Message, thread: Thread, run_uid: UUID | None = None) -> JSON:
    organization = str(thread.organization.uid)
    return {
        "id": str(message.uid),
        "org_id": organization,
        "account_id": organization,
        "thread_id": str(thread.uid),
        "created_by_user_id": str(message.created_by.uid) if message.created_by else None,
        "run_id": str(run_uid) if run_uid else None,
        "role": message.role,
        "content": message.content,
        "content_json": None,
        "created_at": iso(message.created_at),
    }


def _run_uids(messages: list[Message]) -> dict[int, UUID]:
    """By message, the run that answered with it or was first asked by it. One query."""
    runs = Run.objects.filter(Q(prompt__in=messages) | Q(answer__in=messages)).order_by("-id")
    found: dict[int, UUID] = {}
    for prompt, answer, uid in runs.values_list("prompt", "answer", "uid"):
        found |= {prompt: uid, answer: uid}
    return found


def _text_of(content: JSON) -> str:
    parts = content.get("parts")
    if set(content) != {"parts"} or not isinstance(parts, list):
        raise Invalid("content_json must be {parts: […]}.", reason="content_json")
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise Invalid("content_json.parts: only text parts are taken.", reason="part_type")
        if not isinstance(part.get("text"), str):
            raise Invalid("content_json.parts: text must be a string.", reason="part_text")
        texts.append(part["text"])
    return "\n\n".join(texts)


def _cursor(request: ApiRequest, before: str) -> tuple[datetime, UUID]:
    try:
        uid = UUID(before)
    except ValueError:
        raise Invalid("before must be the id of the last thread.") from None
    last = Thread.objects.visible_to(request.auth).filter(uid=uid).first()
    if last is None:
        raise Invalid("before: there is no such thread.")
    return last.updated_at, last.uid


def _active_run_uids(threads: list[Thread]) -> dict[int, UUID]:
    """By thread, the run that is busy in it. One query."""
    busy = Run.objects.filter(thread__in=threads, status__in=ACTIVE)
    return dict(busy.order_by("-position").values_list("thread", "uid"))


def _refuse_project(project_id: UUID | None) -> None:
    if project_id is not None:
        raise Invalid("project_id: there is no such project.")
