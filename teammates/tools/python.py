"""Run Python in a sandbox, beside the files of the thread."""

from typing import Any

from teammates import sandbox
from teammates.sandbox.base import LARGEST_FILES
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema
from teammates.types import JSON

TIMEOUT = 150  # seconds, with the wait for other code to end
LONGEST_ERROR = 3_000  # characters of what it printed before it failed


async def _run(context: ToolContext, arguments: JSON) -> Any:
    place = sandbox.current()
    if place is None:
        raise ToolError("Code is not run here any more.")
    files, left_out = await context.read_files(LARGEST_FILES)
    printed: list[str] = []

    def print(text: str) -> None:
        printed.append(text)
        context.show_output(text)

    try:
        ran = await place.run(context.run_key, arguments["code"], files, print)
    except sandbox.SandboxBroke as error:
        raise ToolError(str(error)) from error
    written = [await context.write_file(name, content) for name, content in ran.files.items()]
    notes = [f"Wrote {file.name} ({file.size} bytes)." for file in written]
    if left_out:
        notes.append(f"Not there, for want of room: {', '.join(left_out)}.")
    output = "".join(printed).rstrip()
    if ran.error:
        before = ["It printed:", output[-LONGEST_ERROR:]] if output else []
        raise ToolError("\n".join([ran.error, *notes, *before]))
    return "\n".join([output or "(It printed nothing; print() what you want to see.)", *notes])


def _python_tool() -> Tool:
    place = sandbox.current()
    return Tool(
        name="run_python",
        title="Run Python",
        description="Run Python and see what it prints: to calculate, to work on tables and files, "
        "to draw charts. The files of this conversation are in the working folder; those that it "
        "writes there (not in folders below) are kept, and people see pictures. Variables are "
        f"not kept between calls. {place.about if place else ''}".strip(),
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
