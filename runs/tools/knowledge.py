"""Built-in tools about what teammates know: memories, skills, documents, lessons."""

from django.db.models import F

from runs.models import CallStatus, Run, ToolCall
from runs.tasks import lessons
from runs.tools.authority import access_of_run
from teammates.access import Access
from teammates.errors import NotFound
from teammates.knowledge import documents, memories, passages
from teammates.knowledge.skills import skills_for
from teammates.models import Author
from teammates.types import JSON, ToolOutput

MOST_PASSAGES = 8  # of one search


def remember(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    own = arguments.get("scope") == "me"
    memory = memories.add_memory(
        access,
        arguments["content"],
        audience=None if own else arguments.get("audience"),
        teammate=run.teammate if own else None,
        author=Author.AGENT,
        written_by=run.teammate,
        source_run_id=run.pk,
    )
    return {"memory_id": memory.pk, "content": memory.content}


def recall(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    query = arguments.get("query", "")
    told = memories.memories_for(access, run.teammate, query)
    found = [one.memory for one in told if not query or one.why == memories.FITS]
    found = found or [
        memory
        for memory in memories.search_memories(access, query)[:20]
        if memory.teammate_id in (None, run.teammate_id)
    ]
    memories.mark_used([memory.pk for memory in found])
    return [{"memory_id": memory.pk, "content": memory.content} for memory in found]


def forget(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    memory = memories.get_memory(access, arguments["memory_id"])
    if memory.teammate_id not in (None, run.teammate_id):
        raise NotFound("There is no such memory.")
    memories.forget(access, memory.pk)
    return {"forgotten": memory.content}


def load_skill(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    skills = skills_for(access, run.teammate)
    found = skills.filter(slug=arguments["skill"]).first()
    if found is None:
        known = ", ".join(skills.values_list("slug", flat=True)[:20])
        raise NotFound(f"There is no skill {arguments['skill']!r}. There are: {known}.")
    return {"name": found.name, "instructions": found.body}


def write_document(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    document = documents.write_document(
        access,
        name=arguments["name"],
        content=arguments["content"],
        summary=arguments.get("summary", ""),
        teammate=None if arguments.get("scope") == "company" else run.teammate,
        author=Author.AGENT,
        written_by=run.teammate,
        source_run_id=run.pk,
    )
    return {"document_id": document.pk, "name": document.name}


def find_passages(
    run: Run, call: ToolCall, query: str, *, document: str | None, vector: list[float] | None
) -> list[JSON]:
    """The passages that fit a query best of those that a run may read, each with the number that
    its answer cites it by. Raises `Forbidden`."""
    readable = documents.documents_for(access_of_run(run), run.teammate)
    if document:
        readable = readable.filter(name=document)
    found = passages.search_passages(readable, query, limit=MOST_PASSAGES, vector=vector)
    earlier = run.tool_calls.filter(name=call.name, status=CallStatus.DONE)
    given = sum(len(one.result["passages"]) for one in earlier if one.result is not None)
    return [
        {
            "number": number,
            "document": passage.document.name,
            "place": passage.place,
            "text": passage.content,
            "document_id": passage.document_id,
            "passage": passage.number,
            "digest": passage.digest,
        }
        for number, passage in enumerate(found, start=given + 1)
    ]


def read_document(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    readable = documents.documents_for(access, run.teammate)
    own_first = readable.filter(name=arguments["name"]).order_by(F("teammate").asc(nulls_last=True))
    found = own_first.first()
    if found is None:
        known = ", ".join(readable.values_list("name", flat=True)[:20]) or "none"
        raise NotFound(f"There is no document {arguments['name']!r}. There are: {known}.")
    return {"name": found.name, "content": found.content}


def learn_lesson(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    lesson = lessons.learn(run, arguments["text"], arguments.get("when_applicable", ""))
    return {"lesson_id": lesson.pk, "affirmed": lesson.reaffirm_count}
