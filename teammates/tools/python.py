"""Run Python in a sandbox, beside the files of the thread."""

from typing import Any

from teammates import sandbox
from teammates.errors import DomainError
from teammates.sandbox.base import LARGEST_FILES
from teammates.sandbox.places import WAIT_SECONDS
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema
from teammates.types import JSON

TIMEOUT = WAIT_SECONDS + 90  # seconds: its files are read and kept, too
MOST_SHOWN = 4  # files of a call
LONGEST_ERROR = 3_000  # characters of what it printed before it failed


async def _run(context: ToolContext, arguments: JSON) -> Any:
    there = sandbox.current()
    if there is None:
        raise ToolError("Code is not run here any more.")
    printed: list[str] = []

    def show(text: str) -> None:
        printed.append(text)
        context.show_output(text)

    try:
        async with sandbox.place(context.organization_key):
            files, left_out = await context.read_files(LARGEST_FILES)
            ran = await there.run(context.run_key, arguments["code"], files, show)
    except sandbox.SandboxBroke as error:
        raise ToolError(str(error)) from error
    notes = [await _kept(context, name, content) for name, content in ran.files.items()]
    await _show_some(context, list(ran.files))
    if left_out:
        notes.append(f"Not there, for want of room: {', '.join(left_out)}.")
    output = "".join(printed).rstrip()
    if ran.error:
        before = ["It printed:", output[-LONGEST_ERROR:]] if output else []
        raise ToolError("\n".join([ran.error, *notes, *before]))
    return "\n".join([output or "(It printed nothing; print() what you want to see.)", *notes])


async def _kept(context: ToolContext, name: str, content: bytes) -> str:
    """Keep a file that the code wrote, and say so."""
    try:
        file = await context.write_file(name, content)
    except DomainError as error:
        return f"Not kept: {error.message}"
    return f"Wrote {file.name} ({file.size} bytes)."


async def _show_some(context: ToolContext, names: list[str]) -> None:
    """The model sees the first pictures and PDFs that its code wrote; of the rest it knows."""
    shown = 0
    for name in names:
        if shown == MOST_SHOWN:
            return
        shown += await context.show_file(name)


def program_of(name: str, arguments: Any) -> str:
    """The program that a call runs; empty if it is another tool's, or none."""
    code = arguments.get("code") if isinstance(arguments, dict) else None
    return code if name == RUN_PYTHON.name and isinstance(code, str) else ""


def _python_tool() -> Tool:
    there = sandbox.current()
    return Tool(
        name="run_python",
        title="Run Python",
        description="Run Python and see what it prints: to calculate, to work on tables and files, "
        "to draw charts. The files of this conversation are in the working folder; those that it "
        "writes there (not in folders below) are kept, and people see pictures. Variables are "
        f"not kept between calls. {there.about if there else ''}".strip(),
        schema=object_schema(["code"], code=Text("The whole program.", 100_000).schema),
        say=lambda arguments: f"Run {len(arguments['code'].splitlines())} lines of Python",
        run=_run,
        group="code",
        preview="code",
        changes=True,  # files of the conversation; the same code again writes the same ones
        may_stop=True,
        gives_data=True,
        timeout=TIMEOUT,
    )


RUN_PYTHON = _python_tool()
