"""Ask the user: not a call but a gate; the run waits until somebody answers."""

from teammates.tools.base import Means, Text, Tool, object_schema
from teammates.types import JSON

PLAN_HEADER = "Plan Approval"  # contract v2 4.8
RECOMMENDED = "(Recommended)"
APPROVE, REVISE = "Approve", "Revise"


def is_plan(arguments: JSON) -> bool:
    """Whether a question proposes a plan (contract v2 4.5)."""
    return any(asked.get("header") == PLAN_HEADER for asked in arguments["questions"])


def recommended(arguments: JSON) -> dict[str, str]:
    """Question → its recommended label, if every question has one; else nothing."""
    chosen = {}
    for asked in arguments["questions"]:
        labels = [option["label"] for option in asked.get("options", [])]
        best = next((label for label in labels if label.endswith(RECOMMENDED)), None)
        if best is None:
            return {}
        chosen[asked["question"]] = best
    return {} if is_plan(arguments) else chosen


def _say(arguments: JSON) -> str:
    return " ".join(question["question"] for question in arguments["questions"])


_QUESTION = {
    **object_schema(
        ["question"],
        question=Text("The question, complete and specific.", 16_000).schema,
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
    "cannot find out or decide yourself. End a label with (Recommended) if the work may go on "
    "with it after ten minutes without an answer. To propose a plan, ask one question with the "
    "header 'Plan Approval', the plan as its text, and the options Approve and Revise.",
    schema=object_schema(
        ["questions"],
        questions={"type": "array", "minItems": 1, "maxItems": 4, "items": _QUESTION},
        metadata={"type": "object"},
    ),
    say=_say,
    run=Means.PERSON,
    group="ask",
    approval="never",
)
