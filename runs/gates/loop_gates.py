"""A run that goes in circles stops, and a person says how it goes on."""

from runs.events.payloads import NewEvent
from runs.gates import brakes
from runs.lifecycle import transitions
from runs.lifecycle.transitions import Lease
from runs.models import Gate, GateKind, Run, ToolCall
from teammates.access import Access
from teammates.types import JSON

FORMS = "Answer 'go on', 'finish' (with a summary), or 'stop'."


def ask(lease: Lease, pending: list[NewEvent], *, call: ToolCall, count: int) -> None:
    """Stop a run before it makes a call again that it made `count` - 1 times with the same result.
    Raises `StaleLease`."""
    with transitions.holding(lease, pending) as run:
        said = f"{run.teammate.name} is about to call {call.name} for the {count}th time"
        brakes.stop_and_ask(
            run,
            GateKind.LOOP,
            header="In circles",
            prompt=f"{said}.",
            question=f"{said}, with the same arguments and results. It may be going in circles.",
            options={
                "Let it go on": "It is asked again after five more.",
                brakes.FINISH: "It says what is done and what is not.",
                brakes.STOP: "It ends as it is.",
            },
        )


def read_answer(access: Access, gate: Gate, answer: JSON) -> JSON:
    """What was answered, with what is to be done. Raises `Invalid` (not one of `FORMS`)."""
    found = brakes.read_words(answer, "(let it )?go on|allow|approve|yes", FORMS)
    if found["stop"]:
        return answer | {"stop": True}
    return answer | {"action": "finish" if found["finish"] else "go_on"}


def go_on(access: Access | None, run: Run, gate: Gate, answer: JSON) -> None:
    """Do what was answered. The caller holds the run's row."""
    if answer.get("action") == "finish":
        brakes.finish(run)
