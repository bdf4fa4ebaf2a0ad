"""A run that goes in circles stops, and a person says how it goes on."""

import hashlib

from runs.events.payloads import NewEvent
from runs.gates import cards
from runs.lifecycle import transitions, waiting
from runs.lifecycle.transitions import Lease
from runs.models import Gate, GateKind, Run, ToolCall
from runs.notifications import notices
from teammates.access import Access
from teammates.errors import Invalid
from teammates.types import JSON

GO_ON, FINISH, STOP = "Let it go on", "Finish with a summary", "Stop"
FORMS = "Answer 'go on', 'finish' (with a summary), or 'stop'."


def ask(lease: Lease, pending: list[NewEvent], *, call: ToolCall, count: int) -> None:
    """Stop a run before it makes a call again that it made `count` - 1 times with the same result.
    Raises `StaleLease`."""
    with transitions.holding(lease, pending) as run:
        gate = _gate(run, call, count)
        waiting.wait_locked(run, gate, [cards.asked_in_words(gate)])
        if gate.pk is not None:
            notices.tell_of_gate(run, gate)


def _gate(run: Run, call: ToolCall, count: int) -> Gate:
    said = f"{run.teammate.name} is about to call {call.name} for the {count}th time"
    question = f"{said}, with the same arguments and results. It may be going in circles."
    options = [
        {"label": GO_ON, "description": "It is asked again after five more."},
        {"label": FINISH, "description": "It says what is done and what is not."},
        {"label": STOP, "description": "It ends as it is."},
    ]
    asked = {"question": question, "header": "In circles", "options": options}
    return Gate(
        run=run,
        kind=GateKind.LOOP,
        prompt=f"{said}.",
        request={"questions": [asked]},
        card={"title": "In circles", "mate": run.teammate.name, "why": "", "fields": []},
        digest=hashlib.sha256(f"{call.pk} {count}".encode()).hexdigest(),
    )


def read_answer(access: Access, gate: Gate, answer: JSON) -> JSON:
    """What was answered, with what is to be done. Raises `Invalid` (not one of `FORMS`)."""
    [text] = answer["answers"].values()
    said = text.strip().lower()
    if said.startswith(("stop", "deny", "no")):
        return answer | {"stop": True}
    if said.startswith("finish"):
        return answer | {"action": "finish"}
    if said.startswith(("let it", "go on", "allow", "approve", "yes")):
        return answer | {"action": "go_on"}
    raise Invalid(f"answers: {FORMS}")


def go_on(access: Access | None, run: Run, gate: Gate, answer: JSON) -> None:
    """Do what was answered. The caller holds the run's row."""
    if answer.get("action") == "finish":
        run.is_finishing = True
        run.save(update_fields=["is_finishing"])
