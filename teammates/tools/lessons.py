"""What a task's runs learn for its later runs."""

from teammates.tools.base import Means, Text, Tool, object_schema

LEARN_LESSON = Tool(
    name="learn_lesson",
    title="Keep a lesson",
    description="Keep what this run found out and the next run of the same task should know: what "
    "worked, what failed, what to check first. The same lesson again affirms it.",
    schema=object_schema(
        ["text"],
        text=Text("The lesson, complete in itself.", 500).schema,
        when_applicable=Text("When it applies, in a few words.", 300).schema,
    ),
    say=lambda arguments: f"Keep the lesson: {arguments['text']}",
    run=Means.DOMAIN,
    group="lessons",
    changes=True,
    approval="never",
    guarded=True,
)
