"""Files of the thread: list, read, write."""

from typing import Any

from teammates.file_text import NO_TEXT, PDF, is_picture, text_of
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema
from teammates.tools.reading import LARGEST_READ, read
from teammates.types import JSON

_NAME = Text(
    "The file's name, without folders.", 255, {"pattern": r"^[^/\\\u0000-\u001f]+$"}
).schema


async def _list(context: ToolContext, arguments: JSON) -> Any:
    return [{"name": file.name, "size": file.size} for file in await context.list_files()]


async def _read(context: ToolContext, arguments: JSON) -> Any:
    name, start = arguments["name"], arguments.get("start", 0)
    content = await context.read_file(name)
    if content is None:
        raise ToolError(f"There is no file {name!r}; list_files names those there.")
    try:
        text = await read(name, text_of, name, content)
    except ToolError as problem:
        # A picture, or a PDF of pictures: the model is shown it, if it takes such.
        is_scan = content.startswith(PDF) and NO_TEXT in str(problem)
        if (is_scan or is_picture(content)) and await context.show_file(name):
            return {"file": name}
        raise
    piece = text[start : start + LARGEST_READ]
    if len(piece) == len(text):
        return {"content": text}
    end = start + len(piece)
    return {"content": piece, "note": f"characters {start} to {end} of {len(text)}"}


async def _write(context: ToolContext, arguments: JSON) -> Any:
    written = await context.write_file(arguments["name"], arguments["content"].encode())
    return {"name": written.name, "size": written.size}


LIST_FILES = Tool(
    name="list_files",
    title="List files",
    description="List the files of this conversation.",
    schema=object_schema([]),
    say=lambda arguments: "List the files of this thread",
    run=_list,
    group="files",
)
READ_FILE = Tool(
    name="read_file",
    title="Read a file",
    description="Read a file of this conversation, up to 40 000 characters at once: text, and the "
    "text of PDF, Word, Excel, PowerPoint and HTML files. Pictures are shown.",
    schema=object_schema(
        ["name"],
        name=_NAME,
        start={"type": "integer", "minimum": 0, "description": "Character to begin at."},
    ),
    say=lambda arguments: f"Read {arguments['name']}",
    run=_read,
    group="files",
    gives_data=True,
)
WRITE_FILE = Tool(
    name="write_file",
    title="Write a file",
    description="Write a text file into this conversation. A file of that name gets a new version.",
    schema=object_schema(
        ["name", "content"],
        name=_NAME,
        content={"type": "string", "description": "The whole text.", "maxLength": 4_000_000},
    ),
    say=lambda arguments: f"Write {arguments['name']} ({len(arguments['content'])} characters)",
    run=_write,
    group="files",
    preview="file",
    changes=True,  # the same content twice is the same version: it may be repeated
)
