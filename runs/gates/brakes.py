"""What those gates have in common at which Muster itself stops a run, and asks a person."""

import hashlib
import re
from datetime import datetime
from typing import Any

from runs.gates import cards
from runs.lifecycle import waiting
from runs.models import Gate, GateKind, Run
from teammates.errors import Invalid
from teammates.types import JSON

FINISH, STOP = "Finish with a summary", "Stop"
# What every brake takes; its own words come behind.
_ANSWERS = r"(?P<stop>stop|deny|no)|(?P<finish>finish( with a summary)?)|"


def stop_and_ask(
    run: Run,
    kind: GateKind,
    *,
    header: str,
    prompt: str,
    question: str,
    options: dict[str, str],
    again_at: datetime | None = None,
    **card: Any,
) -> Gate | None:
    """Stop a run at a question that has `options`: label → what it means. Unanswered, it goes on at
    `again_at`. None if the run should be cancelled: then it ends. The caller holds its row."""
    labels = [{"label": label, "description": says} for label, says in options.items()]
    gate = Gate(
        run=run,
        kind=kind,
        prompt=prompt,
        request={"questions": [{"question": question, "header": header, "options": labels}]},
        card={"title": header, "mate": run.teammate.name, "why": "", "fields": []} | card,
        digest=hashlib.sha256(question.encode()).hexdigest(),
        expires_at=again_at,
    )
    return gate if waiting.wait_locked(run, gate, [cards.asked_in_words(gate)]) else None


def read_words(answer: JSON, words: str, forms: str) -> re.Match[str]:
    """What was answered, as a match of `words`, a pattern, or of `stop` and `finish`. Raises
    `Invalid`, which says the `forms` of an answer."""
    [text] = answer["answers"].values()
    found = re.fullmatch(_ANSWERS + words, " ".join(text.lower().split()))
    if found is None:
        raise Invalid(f"answers: {forms}")
    return found


def finish(run: Run) -> None:
    """The run ends with its next answer. The caller holds its row."""
    run.is_finishing = True
    run.save(update_fields=["is_finishing"])
