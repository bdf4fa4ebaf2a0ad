"""The to-do list that a teammate shows while it works."""

from typing import Any

from teammates.tools.base import Text, Tool, ToolContext, object_schema
from teammates.types import JSON


async def _update(context: ToolContext, arguments: JSON) -> Any:
    await context.update_todos(arguments["items"])
    done = sum(item["done"] for item in arguments["items"])
    return {"done": done, "open": len(arguments["items"]) - done}


UPDATE_TODOS = Tool(
    name="update_todos",
    title="To-do list",
    description="Show the person your list of what is done and what is left. Send the whole list.",
    schema=object_schema(
        ["items"],
        items={
            "type": "array",
            "maxItems": 100,
            "items": object_schema(
                ["text", "done"],
                text=Text("One thing to do.", 500).schema,
                done={"type": "boolean"},
            ),
        },
    ),
    say=lambda arguments: f"Update the to-do list ({len(arguments['items'])} items)",
    run=_update,
    group="plan",
    approval="never",
)
