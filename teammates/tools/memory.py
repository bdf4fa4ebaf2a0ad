"""What a teammate keeps beyond a run."""

from teammates.tools.base import Means, Text, Tool, choice, number, object_schema

REMEMBER = Tool(
    name="remember",
    title="Remember",
    description="Keep one fact for later runs: a preference, a decision, who is who. Nothing that "
    "is only of this conversation, and no secrets.",
    schema=object_schema(
        ["content"],
        content=Text("One fact, complete in itself.", 300).schema,
        scope=choice("For you alone, or for every teammate (the default).", "me", "everyone"),
        audience=choice("Whether it is about a person or their company.", "personal", "company"),
    ),
    say=lambda arguments: f"Remember: {arguments['content']}",
    run=Means.DOMAIN,
    group="memory",
    changes=True,
    approval="never",
    guarded=True,
)
RECALL = Tool(
    name="recall",
    title="Look up memories",
    description="Search what was remembered in earlier runs. Without a query: the newest.",
    schema=object_schema([], query=Text("Words to look for.", 300).schema),
    say=lambda arguments: f"Look up: {arguments.get('query', 'the newest memories')}",
    run=Means.DOMAIN,
    group="memory",
)
FORGET = Tool(
    name="forget",
    title="Forget",
    description="Delete a memory that is wrong or no longer wanted; recall tells its id.",
    schema=object_schema(["memory_id"], memory_id=number("The memory's id.")),
    say=lambda arguments: f"Forget memory {arguments['memory_id']}",
    run=Means.DOMAIN,
    group="memory",
    changes=True,
    consequence="The memory is gone for every later run.",
    guarded=True,
)
