"""Memories, skills and documents: what teammates know beyond their instructions, and what a run
is told of it."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.text import slugify

from teammates import roster
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.models import (
    Audience,
    Author,
    Document,
    Memory,
    Organization,
    Skill,
    SkillStatus,
    Teammate,
)
from teammates.trust import audit

LONGEST_MEMORY = 300  # characters
MOST_MEMORIES = 200  # in a scope
TOLD_MEMORIES = 40  # to one run
FITS, NEWEST = "fits the request", "among the newest"
LONGEST_SKILL = 50_000  # characters
MOST_SKILLS = 100
LONGEST_DOCUMENT = 500_000  # characters
MOST_DOCUMENTS = 500  # in a scope
TOLD_DOCUMENTS = 50  # names of, to one run


# --- memories -----------------------------------------------------------------------------------


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
    _require_editor(access, memory)
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
    _require_editor(access, memory)
    with transaction.atomic():
        audit.note(access, "memory.delete", memory)
        memory.delete()


def _require_editor(access: Access, row: Memory | Document) -> None:
    """What belongs to a teammate is changed by whoever may change that, by whom it was kept of, and
    by its own runs; what is everybody's, by its maker and who manages teammates. Raises
    `Forbidden`."""
    if access.user is not None and row.created_by_id == access.user.pk:
        return
    if row.teammate is not None:
        if not access.of_run:
            roster.require_editor(access, row.teammate)
    elif row.end_user_id is None:
        access.require("data.personas.manage")


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
class Told:
    """A memory that a run was told, and why."""

    memory: Memory
    why: str


def memories_for(access: Access, teammate: Teammate, prompt: str) -> list[Told]:
    """What a run with this access should be told: what fits its prompt first, then the newest, up
    to `TOLD_MEMORIES`. Of exactly its own scope, and what its asker may open."""
    known: QuerySet[Memory] = Memory.objects.for_teammate(access, teammate)
    newest = list(known.order_by("-updated_at", "-id")[: TOLD_MEMORIES + 1])
    words = _words(prompt)
    if len(newest) <= TOLD_MEMORIES:  # all of them
        told = [Told(memory, _why(memory, words)) for memory in newest]
        return sorted(told, key=lambda one: one.why != FITS)
    fitting: list[Memory] = []
    if words:
        query = SearchQuery(" | ".join(words), config="simple", search_type="raw")
        vector = SearchVector("content", config="simple")
        found = known.annotate(found=vector, rank=SearchRank(vector, query)).filter(found=query)
        fitting = list(found.order_by("-rank", "-id")[: TOLD_MEMORIES // 2])
    others = [memory for memory in newest if memory not in fitting]
    return [Told(memory, FITS) for memory in fitting] + [
        Told(memory, NEWEST) for memory in others[: TOLD_MEMORIES - len(fitting)]
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


# --- skills -------------------------------------------------------------------------------------


@audit.recorded("skill.create", makes=Skill)
def add_skill(
    access: Access,
    *,
    name: str,
    description: str,
    body: str,
    teammate: Teammate | None = None,
    written_by: Teammate | None = None,
) -> Skill:
    """Save named instructions; the slug comes from the name. Raises `Invalid`, `Conflict`."""
    access.require("data.personas.manage")
    fields = _checked_skill({"name": name, "description": description, "body": body})
    slug = slugify(fields["name"])[:100]
    if not slug:
        raise Invalid("name must contain a letter or a digit.")
    if Skill.objects.visible_to(access).count() >= MOST_SKILLS:
        raise Conflict(f"This scope has {MOST_SKILLS} skills already.", code="skills.capacity")
    try:
        with transaction.atomic():
            return Skill.objects.create(
                organization=access.organization, end_user=access.end_user, slug=slug,
                teammate=teammate, created_by=access.user, written_by=written_by, **fields,
            )  # fmt: skip
    except IntegrityError:
        raise Conflict(
            f"There is a skill {slug!r} already; choose another name.", code="skills.duplicate"
        ) from None


@audit.recorded("skill.update")
def update_skill(access: Access, skill: Skill, **changes: str) -> Skill:
    """Change name, description, body or status; the slug stays. Raises `Invalid`."""
    access.require("data.personas.manage", skill)
    if "status" in changes and changes["status"] not in SkillStatus.values:
        raise Invalid(f"status must be one of {', '.join(SkillStatus.values)}.")
    status = {"status": changes.pop("status")} if "status" in changes else {}
    for name, value in (_checked_skill(changes) | status).items():
        setattr(skill, name, value)
    skill.save()
    return skill


@audit.recorded("skill.delete")
def delete_skill(access: Access, skill: Skill) -> None:
    access.require("data.personas.manage", skill)
    skill.delete()


def get_skill(access: Access, skill_id: int) -> Skill:
    """Raises `NotFound`."""
    found: Skill | None = (
        Skill.objects.visible_to(access).select_related("end_user").filter(pk=skill_id).first()
    )
    if found is None:
        raise NotFound("There is no such skill.", code="skills.not_found")
    return found


def list_skills(access: Access) -> "QuerySet[Skill]":
    """The scope's skills, by name; what they say is for those who may see it."""
    found: QuerySet[Skill] = Skill.objects.visible_to(access)
    return found.select_related("teammate", "end_user").order_by("name", "id")


def skills_for(access: Access, teammate: Teammate) -> "QuerySet[Skill]":
    """The skills that a run of the teammate may load: those of exactly its scope."""
    found: QuerySet[Skill] = Skill.objects.for_teammate(access, teammate)
    return found.filter(status=SkillStatus.ACTIVE).order_by("slug")


def check_skill(access: Access, teammate: Teammate, slug: str) -> None:
    """Raises `Invalid` naming a skill that a run could not load."""
    if not skills_for(access, teammate).filter(slug=slug).exists():
        raise Invalid(f"skill: there is no skill {slug!r} that this teammate may load.")


def _checked_skill(fields: dict[str, str]) -> dict[str, Any]:
    longest = {"name": 200, "description": 1000, "body": LONGEST_SKILL}
    checked = {}
    for name, text in fields.items():
        text = text.strip()
        if not 1 <= len(text) <= longest[name]:
            raise Invalid(f"{name} must have 1 to {longest[name]} characters.")
        checked[name] = text
    return checked


# --- documents ----------------------------------------------------------------------------------


@audit.recorded("document.set", makes=Document)
def write_document(
    access: Access,
    *,
    name: str,
    content: str,
    summary: str = "",
    teammate: Teammate | None = None,
    author: Author = Author.API,
    written_by: Teammate | None = None,
    source_run_id: int | None = None,
) -> Document:
    """Keep a text under a name, instead of what it said before; `teammate`: for that one alone.

    Raises `Invalid`, `Conflict` (the scope is full).
    """
    access.require("data.runs.write")
    if len(content) > LONGEST_DOCUMENT:
        raise Invalid(f"content must have at most {LONGEST_DOCUMENT} characters.")
    name = _checked_name_of_document(name)
    fields = {
        "content": content, "size": len(content.encode()),
        "summary": _checked_line("summary", summary, 1000),
        "author": author, "written_by": written_by, "source_run_id": source_run_id,
    }  # fmt: skip
    with transaction.atomic():
        # The organization's row is the lock of the capacity.
        Organization.objects.select_for_update(no_key=True).get(pk=access.organization.pk)
        mine = Document.objects.visible_to(access)
        known = mine.filter(teammate=teammate, name=name).first()
        # What a teammate wrote for all it keeps up to date itself.
        if known is not None and (written_by is None or known.written_by != written_by):
            _require_editor(access, known)
        if known is None and mine.count() >= MOST_DOCUMENTS:
            raise Conflict(
                f"This scope holds {MOST_DOCUMENTS} documents already; delete some first.",
                code="documents.capacity",
            )
        return Document.objects.update_or_create(
            organization=access.organization, end_user=access.end_user, teammate=teammate,
            name=name, defaults=fields, create_defaults=fields | {"created_by": access.user},
        )[0]  # fmt: skip


@audit.recorded("document.update")
def update_document(
    access: Access, document: Document, *, name: str | None = None, summary: str | None = None
) -> Document:
    """Rename a document, or say anew what it is. Raises `Invalid`, `Conflict` (name taken)."""
    access.require("data.runs.write", document)
    _require_editor(access, document)
    if name is None and summary is None:
        raise Invalid("Give name, summary, or both.")
    if name is not None:
        document.name = _checked_name_of_document(name)
    if summary is not None:
        document.summary = _checked_line("summary", summary, 1000)
    try:
        with transaction.atomic():
            document.save(update_fields=["name", "summary", "updated_at"])
    except IntegrityError:
        raise Conflict(
            f"There is a document {document.name!r} already.", code="documents.duplicate"
        ) from None
    return document


@audit.recorded("document.delete")
def delete_document(access: Access, document: Document) -> None:
    access.require("data.runs.write", document)
    _require_editor(access, document)
    document.delete()


def get_document(access: Access, **lookup: Any) -> Document:
    """Raises `NotFound`."""
    found: Document | None = list_documents(access).filter(**lookup).first()
    if found is None:
        raise NotFound("There is no such document.", code="documents.not_found")
    return found


def list_documents(access: Access) -> "QuerySet[Document]":
    """The scope's documents, newest first."""
    found: QuerySet[Document] = Document.objects.visible_to(access).select_related("end_user")
    return found.order_by("-id")


def documents_for(access: Access, teammate: Teammate) -> "QuerySet[Document]":
    """What a run of the teammate may read in this scope: the company's documents and its own. For
    words from outside those alone that people gave it: runs of others wrote the rest."""
    found: QuerySet[Document] = Document.objects.for_teammate(access, teammate)
    if access.origin:
        found = found.exclude(author=Author.AGENT)
    return found.order_by("-updated_at")


def _checked_name_of_document(name: str) -> str:
    name = _checked_line("name", name, 200)
    if not name or "/" in name:
        raise Invalid("name must have 1 to 200 characters and no slash.")
    return name


def _checked_line(field: str, text: str, longest: int) -> str:
    text = " ".join(text.split())
    if len(text) > longest:
        raise Invalid(f"{field} must have at most {longest} characters.")
    return text
