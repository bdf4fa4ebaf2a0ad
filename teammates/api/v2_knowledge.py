"""v2: memories, skills and documents (contract v2 2.4, 2.10)."""

from typing import Literal

from ninja import File, Form, Router, Status
from ninja.files import UploadedFile

from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, Limit, iso, paged, whole
from teammates.api.scopes import exact_scope, scope_for_writing
from teammates.errors import Invalid
from teammates.knowledge import documents, memories
from teammates.knowledge import skills as skill_verbs
from teammates.models import Author, Document, Memory, Skill, SkillStatus
from teammates.roster import lookup
from teammates.text import clean_text
from teammates.types import JSON

router = Router()


# --- memories -----------------------------------------------------------------------------------


class MemoryIn(Input):
    content: str
    user_id: str | None = None
    audience: str | None = None


class MemoryChange(Input):
    content: str | None = None
    audience: str | None = None


@router.post("/memories", response={201: JSON}, tags=["memories"])
def create_memory(request: ApiRequest, payload: MemoryIn) -> Status[JSON]:
    """Keep a fact of at most 300 characters in one scope."""
    access = scope_for_writing(request, payload.user_id)
    memory = memories.add_memory(access, payload.content, audience=payload.audience)
    return Status(201, memory_out(memory, access))


@router.get("/memories", tags=["memories"])
def list_memories(
    request: ApiRequest,
    user_id: str | None = None,
    query: str = "",
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    """Of exactly one scope, newest first; `query` is looked for in the text."""
    access = exact_scope(request, user_id)
    rows = memories.search_memories(access, query)
    return paged(rows, limit, starting_after, lambda memory: memory_out(memory, access))


@router.patch("/memories/{memory_id}", tags=["memories"])
def update_memory(
    request: ApiRequest, memory_id: int, payload: MemoryChange, user_id: str | None = None
) -> JSON:
    """Correct the text, the audience, or both."""
    access = exact_scope(request, user_id)
    memory = memories.get_memory(access, memory_id)
    if "audience" in payload.model_fields_set and payload.audience is None:
        raise Invalid("audience must not be null.")
    changed = memories.update_memory(
        access, memory, content=payload.content, audience=payload.audience
    )
    return memory_out(changed, access)


@router.delete("/memories/{memory_id}", response={204: None}, tags=["memories"])
def delete_memory(request: ApiRequest, memory_id: int, user_id: str | None = None) -> Status[None]:
    memories.forget(exact_scope(request, user_id), memory_id)
    return Status(204, None)


def memory_out(memory: Memory, access: Access) -> JSON:
    scope = "teammate" if memory.teammate_id else memory.audience or "account"
    return {
        "id": memory.pk,
        "user_id": access.end_user.external_id if access.end_user else None,
        "content": memory.content,
        "source": "agent" if memory.author == "agent" else "api",
        "created_at": iso(memory.created_at),
        "agent_instance_id": memory.teammate_id,
        "created_by_agent_instance_id": memory.written_by_id,
        "audience": memory.audience or None,
        "scope": scope,
    }


# --- skills -------------------------------------------------------------------------------------


class SkillIn(Input):
    name: str
    description: str
    body: str
    scope: Literal["account", "teammate"] = "account"
    teammate_id: int | None = None
    user_id: str | None = None


class SkillChange(Input):
    name: str | None = None
    description: str | None = None
    body: str | None = None
    status: str | None = None


@router.post("/skills", response={201: JSON}, tags=["skills"])
def create_skill(request: ApiRequest, payload: SkillIn) -> Status[JSON]:
    """Save named instructions for all teammates of a scope, or for one."""
    access = scope_for_writing(request, payload.user_id)
    if (payload.scope == "teammate") != (payload.teammate_id is not None):
        raise Invalid("teammate_id must be given with the scope teammate, and only then.")
    teammate = None
    if payload.teammate_id is not None:
        teammate = lookup.get_teammate(request.auth, payload.teammate_id)
    skill = skill_verbs.add_skill(
        access,
        name=payload.name,
        description=payload.description,
        body=payload.body,
        teammate=teammate,
    )
    return Status(201, skill_out(skill, access))


@router.get("/skills", tags=["skills"])
def list_skills(request: ApiRequest, user_id: str | None = None) -> JSON:
    access = exact_scope(request, user_id)
    rows = Skill.objects.visible_to(access).order_by("-id")
    return whole([skill_out(skill, access) for skill in rows])


@router.get("/skills/invokable", tags=["skills"])
def list_invokable_skills(
    request: ApiRequest, teammate_id: int | None = None, user_id: str | None = None
) -> JSON:
    """What `skill` of a run may name: the active skills of the scope, and of the teammate."""
    access = exact_scope(request, user_id)
    skills = Skill.objects.visible_to(access).filter(status=SkillStatus.ACTIVE)
    allowed = [None] if teammate_id is None else [None, teammate_id]
    rows = [
        {
            "slug": skill.slug,
            "name": skill.name,
            "description": skill.description,
            "kind": "custom",
            "source": "custom",
        }
        for skill in skills.order_by("slug")
        if skill.teammate_id in allowed
    ]
    return whole(rows)


@router.get("/skills/{skill_id}", tags=["skills"])
def get_skill(request: ApiRequest, skill_id: int, user_id: str | None = None) -> JSON:
    access = exact_scope(request, user_id)
    return skill_out(skill_verbs.get_skill(access, skill_id), access)


@router.patch("/skills/{skill_id}", tags=["skills"])
def update_skill(
    request: ApiRequest, skill_id: int, payload: SkillChange, user_id: str | None = None
) -> JSON:
    access = exact_scope(request, user_id)
    given = {k: v for k, v in payload.dict(exclude_unset=True).items() if v is not None}
    skill = skill_verbs.update_skill(access, skill_verbs.get_skill(access, skill_id), **given)
    return skill_out(skill, access)


@router.delete("/skills/{skill_id}", response={204: None}, tags=["skills"])
def delete_skill(request: ApiRequest, skill_id: int, user_id: str | None = None) -> Status[None]:
    access = exact_scope(request, user_id)
    skill_verbs.delete_skill(access, skill_verbs.get_skill(access, skill_id))
    return Status(204, None)


def skill_out(skill: Skill, access: Access) -> JSON:
    return {
        "id": skill.pk,
        "slug": skill.slug,
        "name": skill.name,
        "description": skill.description,
        "body": skill.body,
        "scope": "teammate" if skill.teammate_id else "account",
        "source": "agent" if skill.written_by_id else "user",
        "status": skill.status,
        "teammate_id": skill.teammate_id,
        "user_id": access.end_user.external_id if access.end_user else None,
        "created_at": iso(skill.created_at),
        "updated_at": iso(skill.updated_at),
        "created_by_teammate_id": skill.written_by_id,
    }


# --- documents ----------------------------------------------------------------------------------


class DocumentChange(Input):
    name: str | None = None
    summary: str | None = None


@router.get("/documents", tags=["documents"])
def list_documents(
    request: ApiRequest,
    scope: Literal["company", "teammate"],
    agent_id: int | None = None,
    user_id: str | None = None,
) -> JSON:
    """The company's documents, or one teammate's own; newest first."""
    access = exact_scope(request, user_id, is_strict=False)
    if (scope == "teammate") != (agent_id is not None):
        raise Invalid("agent_id must be given with the scope teammate, and only then.")
    if agent_id is not None:
        lookup.get_teammate(request.auth, agent_id)
    rows = documents.list_documents(access).filter(teammate=agent_id)
    return whole([document_out(one) for one in rows.defer("content")])


@router.post("/documents", response={201: JSON}, tags=["documents"])
def upload_document(
    request: ApiRequest,
    file: File[UploadedFile],
    agent_id: Form[int | None] = None,
    user_id: Form[str | None] = None,
) -> Status[JSON]:
    """Keep the text of a file (PDF, office, web page, text) as a document of its name, for one
    teammate (`agent_id`) or the company; one of that name is replaced. Muster's own: contract v2
    2.10 only reads documents."""
    access = scope_for_writing(request, user_id)
    teammate = None if agent_id is None else lookup.get_teammate(request.auth, agent_id)
    name = clean_text(file.name or "").rpartition("/")[2]
    document = documents.add_file(access, name, file.read(), teammate=teammate, author=Author.API)
    return Status(201, document_out(document))


@router.get("/documents/{document_id}", tags=["documents"])
def get_document(request: ApiRequest, document_id: int, user_id: str | None = None) -> JSON:
    document = _document(request, document_id, user_id)
    return document_out(document) | {"content": document.content}


@router.patch("/documents/{document_id}", tags=["documents"])
def update_document(
    request: ApiRequest, document_id: int, payload: DocumentChange, user_id: str | None = None
) -> JSON:
    """Rename it, or say anew what it is."""
    document = _document(request, document_id, user_id)
    changed = documents.update_document(
        request.auth, document, name=payload.name, summary=payload.summary
    )
    return document_out(changed)


@router.delete("/documents/{document_id}", response={204: None}, tags=["documents"])
def delete_document(
    request: ApiRequest, document_id: int, user_id: str | None = None
) -> Status[None]:
    documents.delete_document(request.auth, _document(request, document_id, user_id))
    return Status(204, None)


def _document(request: ApiRequest, document_id: int, user_id: str | None) -> Document:
    access = exact_scope(request, user_id, is_strict=False)
    document = documents.get_document(access, pk=document_id)
    if document.teammate_id is not None:  # as visible as its teammate
        lookup.get_teammate(request.auth, document.teammate_id)
    return document


def document_out(document: Document) -> JSON:
    return {
        "id": document.pk,
        "scope": "teammate" if document.teammate_id else "company",
        "name": document.name,
        "summary": document.summary,
        "mime_type": document.mime_type,
        "size_bytes": document.size,
        "source": document.author,
        "source_run_id": document.source_run_id,
        "agent_id": document.teammate_id,
        "user_id": document.end_user.external_id if document.end_user else None,
        "created_at": iso(document.created_at),
        "updated_at": iso(document.updated_at),
    }
