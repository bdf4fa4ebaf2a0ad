"""Ask the user: not a call but a gate; the run waits until somebody answers."""

from typing import Any

from teammates.tools.base import Text, Tool, object_schema


def _say(arguments: dict[str, Any]) -> str:
    return " ".join(question["question"] for question in arguments["questions"])


_QUESTION = {
    **object_schema(
        ["question"],
        question=Text("The question, complete and specific.", 4000).schema,
        header=Text("A word or two that names the question.", 60).schema,
        options={
            "type": "array",
            "maxItems": 10,
            "items": object_schema(
                ["label"],
                label=Text("What the person would choose.", 200).schema,
                description=Text("What it means.", 1000).schema,
            ),
        },
        multiSelect={"type": "boolean"},
    ),
}

ASK_USER = Tool(
    name="AskUserQuestion",
    title="Ask the user",
    description="Ask the person a question and wait for the answer. Use it only for what you "
    "cannot find out or decide yourself.",
    schema=object_schema(
        ["questions"], questions={"type": "array", "minItems": 1, "maxItems": 4, "items": _QUESTION}
    ),
    say=_say,
)
