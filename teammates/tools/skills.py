"""Skills: named instructions that are loaded when a task calls for them."""

from teammates.tools.base import Means, Text, Tool, object_schema

LOAD_SKILL = Tool(
    name="load_skill",
    title="Load a skill",
    description="Load the instructions of one of your skills before you do what it is for.",
    schema=object_schema(["skill"], skill=Text("The skill's short name.", 100).schema),
    say=lambda arguments: f"Load the skill {arguments['skill']}",
    run=Means.DOMAIN,
    group="skills",
)
