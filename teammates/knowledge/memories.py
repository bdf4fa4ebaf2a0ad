"""Memories: single facts; and which of them a run is told."""

import re
import unicodedata
from dataclasses import dataclass

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.knowledge.rights import require_knowledge_editor
from teammates.models import Audience, Author, Memory, Organization, Teammate
from teammates.trust import audit

LONGEST_MEMORY = 300  # characters
MOST_MEMORIES = 200  # in a scope
TOLD_MEMORIES = 40  # to one run
FITS, NEWEST = "fits the request", "among the newest"


@audit.recorded("memory.create", makes=Memory)
def add_memory(
    access: Access,
    content: str,
    *,
    audience: str | None = None,
    teammate: Teammate | None = None,
    author: Author = Author.API,
    written_by: Teammate | None = None,
    source_run_id: int | None = None,
) -> Memory:
    """Keep a fact in the scope of `access`; `teammate`: for that one alone.

    Raises `Invalid`, `Conflict` (known already, or the scope is full).
    """
    access.require("data.runs.write")
    content = _checked_content(content)
    audience = _checked_audience(audience)
    with transaction.atomic():
        # The organization's row is the lock of the capacity.
        Organization.objects.select_for_update(no_key=True).get(pk=access.organization.pk)
        if Memory.objects.visible_to(access).count() >= MOST_MEMORIES:
            raise Conflict(
                f"This scope holds {MOST_MEMORIES} memories already; forget some first.",
                code="memories.capacity",
            )
        return _saved(
            Memory(
                organization=access.organization,
                end_user=access.end_user,
                teammate=teammate,
                content=content,
                same_as=_normalised(content),
                audience=audience,
                author=author,
                created_by=access.user,
                written_by=written_by,
                source_run_id=source_run_id,
            )
        )


@audit.recorded("memory.update")
def update_memory(
    access: Access, memory: Memory, *, content: str | None = None, audience: str | None = None
) -> Memory:
    """Correct what is given. Raises `Invalid`, `Conflict` (another says the same)."""
    access.require("data.runs.write")
    require_knowledge_editor(access, memory)
    if content is None and audience is None:
        raise Invalid("Give content, audience, or both.")
    if content is not None:
        memory.content = _checked_content(content)
        memory.same_as = _normalised(memory.content)
    if audience is not None:
        if memory.teammate_id is not None:
            raise Invalid("audience: this memory is a teammate's own and has none.")
        memory.audience = _checked_audience(audience)
    return _saved(memory)


def forget(access: Access, memory_id: int) -> None:
    """Raises `NotFound`."""
    access.require("data.runs.write")
    memory = get_memory(access, memory_id)
    require_knowledge_editor(access, memory)
    with transaction.atomic():
        audit.note(access, "memory.delete", memory)
        memory.delete()


def get_memory(access: Access, memory_id: int) -> Memory:
    """Raises `NotFound`."""
    found: Memory | None = Memory.objects.visible_to(access).filter(pk=memory_id).first()
    if found is None:
        raise NotFound("There is no such memory.", code="memories.not_found")
    return found


def search_memories(access: Access, query: str = "") -> "QuerySet[Memory]":
    """The scope's memories that contain `query`, newest first."""
    found: QuerySet[Memory] = Memory.objects.visible_to(access).select_related("teammate")
    if query:
        found = found.filter(content__icontains=query)
    return found.order_by("-id")


@dataclass(frozen=True)
class RecalledMemories:
    """A memory that a run was told, and why."""

    memory: Memory
    why: str


def memories_for(access: Access, teammate: Teammate, prompt: str) -> list[RecalledMemories]:
    """What a run with this access should be told: what fits its prompt first, then the newest, up
    to `TOLD_MEMORIES`. Of exactly its own scope, and what its asker may open."""
    known: QuerySet[Memory] = Memory.objects.for_teammate(access, teammate)
    newest = list(known.order_by("-updated_at", "-id")[: TOLD_MEMORIES + 1])
    words = _words(prompt)
    if len(newest) <= TOLD_MEMORIES:  # all of them
        told = [RecalledMemories(memory, _why(memory, words)) for memory in newest]
        return sorted(told, key=lambda one: one.why != FITS)
    fitting: list[Memory] = []
    if words:
        query = SearchQuery(" | ".join(words), config="simple", search_type="raw")
        vector = SearchVector("content", config="simple")
        found = known.annotate(found=vector, rank=SearchRank(vector, query)).filter(found=query)
        fitting = list(found.order_by("-rank", "-id")[: TOLD_MEMORIES // 2])
    others = [memory for memory in newest if memory not in fitting]
    return [RecalledMemories(memory, FITS) for memory in fitting] + [
        RecalledMemories(memory, NEWEST) for memory in others[: TOLD_MEMORIES - len(fitting)]
    ]


def _why(memory: Memory, words: list[str]) -> str:
    return FITS if set(words) & set(_words(memory.content)) else NEWEST


def mark_used(memory_ids: list[int]) -> None:
    if not memory_ids:
        return
    with transaction.atomic():
        # In id order: two runs that were told the same never wait for each other in a ring.
        rows = Memory.objects.select_for_update(no_key=True).filter(pk__in=memory_ids)
        list(rows.order_by("id").values_list("pk", flat=True))
        _count_use(memory_ids)


def _count_use(memory_ids: list[int]) -> None:
    Memory.objects.filter(pk__in=memory_ids).update(
        used_count=F("used_count") + 1, last_used_at=timezone.now()
    )


def _words(text: str) -> list[str]:
    words = set(re.findall(r"[^\W_]{4,}", text.lower()[:5000]))
    return sorted(words, key=len, reverse=True)[:30]


def _saved(memory: Memory) -> Memory:
    try:
        with transaction.atomic():
            memory.save()
    except IntegrityError:
        raise Conflict(
            "This is remembered already in this scope.", code="memories.duplicate"
        ) from None
    return memory


def _checked_content(content: str) -> str:
    content = content.strip()
    if not 1 <= len(content) <= LONGEST_MEMORY:
        raise Invalid(f"content must have 1 to {LONGEST_MEMORY} characters.")
    return content


def _checked_audience(audience: str | None) -> str:
    if audience is not None and audience not in Audience.values:
        raise Invalid(f"audience must be one of {', '.join(Audience.values)}.")
    return audience or ""


def _normalised(content: str) -> str:
    """The same for texts that differ in case and spaces alone (contract v2 2.4)."""
    folded = unicodedata.normalize("NFKC", content).casefold()
    return " ".join(folded.split())[:LONGEST_MEMORY]
