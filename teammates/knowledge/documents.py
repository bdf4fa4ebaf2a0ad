"""Documents: longer texts that teammates keep and read again."""

from textwrap import shorten
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from teammates import file_text, timebox
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.knowledge import embedding, passages
from teammates.knowledge.rights import require_knowledge_editor
from teammates.models import Author, Document, Organization, Teammate
from teammates.roster import lookup
from teammates.text import clean_text
from teammates.tools.reading import READ_SECONDS
from teammates.trust import audit, limits

LONGEST_DOCUMENT = 2_000_000  # characters
MOST_DOCUMENTS = 500  # in a scope
LARGEST_FILE = 20 * 1024 * 1024  # bytes
LONGEST_SUMMARY = 160  # characters, of one that nobody wrote
TOLD_DOCUMENTS = 50  # names of, to one run


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
    content = clean_text(content)
    if len(content) > LONGEST_DOCUMENT:
        raise Invalid(f"content must have at most {LONGEST_DOCUMENT} characters.")
    name = _checked_name_of_document(name)
    fields = {
        "content": content,
        "size": len(content.encode()),
        "summary": _checked_line("summary", summary, 1000),
        "author": author,
        "written_by": written_by,
        "source_run_id": source_run_id,
    }
    pieces = passages.cut(content)
    with transaction.atomic():
        # The organization's row is the lock of the capacity.
        Organization.objects.select_for_update(no_key=True).get(pk=access.organization.pk)
        mine = Document.objects.visible_to(access)
        known = mine.filter(teammate=teammate, name=name).first()
        # What a teammate wrote for all it keeps up to date itself.
        if known is not None and (written_by is None or known.written_by != written_by):
            require_knowledge_editor(access, known)
        if known is None and mine.count() >= MOST_DOCUMENTS:
            raise Conflict(
                f"This scope holds {MOST_DOCUMENTS} documents already; delete some first.",
                code="documents.capacity",
            )
        document, _ = Document.objects.update_or_create(
            organization=access.organization,
            end_user=access.end_user,
            teammate=teammate,
            name=name,
            defaults=fields,
            create_defaults=fields | {"created_by": access.user},
        )
        embedding.wake(access.organization.pk)  # locks the model before its vectors
        passages.replace_passages(document, pieces)
        return document


def add_file(
    access: Access,
    name: str,
    content: bytes,
    *,
    teammate: Teammate | None = None,
    author: Author = Author.PERSON,
) -> Document:
    """Keep the text of a file that was brought as a document of its name: of a PDF, an office
    file, a web page, or text. One of that name says this instead. Not inside a transaction: reading
    takes a while. Raises `Invalid`, `Conflict`."""
    access.require("data.runs.write")
    if teammate is not None:
        lookup.require_editor(access, teammate)
    limits.take((limits.UPLOADS, limits.whoever(access)))
    if len(content) > LARGEST_FILE:
        raise Invalid(f"{name} is larger than {LARGEST_FILE // 2**20} MiB.")
    try:
        text = timebox.within(READ_SECONDS, file_text.text_of, name, content)
    except file_text.Unreadable as problem:
        raise Invalid(f"{name} {problem}") from None
    except timebox.TooCostly:
        raise Invalid(f"{name} is too complicated to be read.") from None
    if not text.strip():
        raise Invalid(f"{name} has no text.")
    if len(text) > LONGEST_DOCUMENT:
        raise Invalid(f"{name} has more than {LONGEST_DOCUMENT} characters. Split it.")
    before = list_documents(access).filter(teammate=teammate, name=name).first()
    is_said = before is not None and before.summary != _beginning(before.content)
    return write_document(
        access,
        name=name,
        content=text,
        summary=before.summary if before is not None and is_said else _beginning(text),
        teammate=teammate,
        author=author,
    )


def _beginning(text: str) -> str:
    """The first words of a text that are no mark of Markdown's: what it is about, mostly."""
    lines = (line.strip(" #*|-\t") for line in text[:5_000].splitlines())
    words = " ".join(line for line in lines if line and not line.startswith("Page "))
    return shorten(words, LONGEST_SUMMARY, placeholder="…")


@audit.recorded("document.update")
def update_document(
    access: Access, document: Document, *, name: str | None = None, summary: str | None = None
) -> Document:
    """Rename a document, or say anew what it is. Raises `Invalid`, `Conflict` (name taken)."""
    access.require("data.runs.write", document)
    require_knowledge_editor(access, document)
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
    require_knowledge_editor(access, document)
    document.delete()


def get_document(access: Access, **lookup: Any) -> Document:
    """Raises `NotFound`."""
    found: Document | None = list_documents(access).filter(**lookup).first()
    if found is None:
        raise NotFound(
            "There is no such document: it was deleted, or is not for you.",
            code="documents.not_found",
        )
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
