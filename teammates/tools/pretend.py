"""An action that only pretends: the demo model shows approvals with it."""

from typing import Any

from teammates.tools.base import Text, Tool, ToolContext, object_schema
from teammates.types import JSON


async def _pretend(context: ToolContext, arguments: JSON) -> Any:
    return {"sent": False, "note": "This tool only pretends; nothing left this server."}


PRETEND_SEND = Tool(
    name="pretend_send",
    title="Pretend to send",
    description="Pretend to send a message. Nothing is sent.",
    schema=object_schema(
        ["to", "text"], to=Text("To whom.", 320).schema, text=Text("The message.", 4000).schema
    ),
    say=lambda arguments: f"Pretend to send a message to {arguments['to']}",
    run=_pretend,
    changes=True,
    may_repeat=False,
    group="demo",
    approval="always",
    risk="medium",
    consequence="Nothing really happens: the demo only shows what an approval is like.",
    preview="message",
    demo_only=True,
)
