"""Longer texts that a teammate keeps beyond a run."""

from typing import Any

from teammates.tools.base import Means, Text, Tool, ToolContext, choice, object_schema
from teammates.types import JSON

_NAME = Text("The document's name.", 200).schema

WRITE_DOCUMENT = Tool(
    name="write_document",
    title="Keep a document",
    description="Keep a longer text for later runs, or replace one of the same name: guidelines, "
    "research, what was agreed. Short facts are memories.",
    schema=object_schema(
        ["name", "content"],
        name=_NAME,
        content=Text("The whole text, in Markdown.", 500_000).schema,
        summary=Text("One line: what it says, so that it is found.", 1000).schema,
        scope=choice("Yours alone (the default), or the company's.", "me", "company"),
    ),
    say=lambda arguments: f"Keep the document {arguments['name']}",
    run=Means.DOMAIN,
    group="memory",
    changes=True,
    preview="file",
    consequence="Later runs read it, and what it said before is gone.",
    guarded=True,
)


async def _search(context: ToolContext, arguments: JSON) -> Any:
    found, note = await context.find_passages(arguments["query"], arguments.get("document"))
    if not found:
        note = f"Nothing fits. Try other words. {note}".strip()
    return {"passages": found} | ({"note": note} if note else {})


SEARCH_DOCUMENTS = Tool(
    name="search_documents",
    title="Search the documents",
    description="Find the passages of the documents here that fit a query best. Cite what you "
    "take from one with its number in brackets, like [2], right behind it: people see the "
    "passage. If nothing fits, try other words, or say that the documents do not tell.",
    schema=object_schema(
        ["query"],
        query=Text("Words that the passage has: names, terms, synonyms.", 400).schema,
        document=Text("Only in the document of this name.", 200).schema,
    ),
    say=lambda arguments: f"Search the documents for {arguments['query']}",
    run=_search,
    group="memory",
    gives_data=True,
)
READ_DOCUMENT = Tool(
    name="read_document",
    title="Read a document",
    description="Read a document that earlier runs or people kept.",
    schema=object_schema(["name"], name=_NAME),
    say=lambda arguments: f"Read the document {arguments['name']}",
    run=Means.DOMAIN,
    group="memory",
)
