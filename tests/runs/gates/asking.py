"""What the tests of gates share."""

import threading
from collections.abc import Callable
from typing import Any

from django.core import mail
from django.db import connections
from django.utils import timezone

from runs.gates import answers, decisions
from runs.gates.decisions import Decision
from runs.lifecycle import endings
from runs.models import (
    DecidedVia,
    Event,
    Gate,
    GateStatus,
    Notice,
    Run,
)
from runs.notifications import mailer
from teammates.access import Access
from teammates.errors import DomainError
from tests.factories import LETTER, make_gate

ALLOW, DENY = GateStatus.ALLOWED, GateStatus.DENIED
PAGE = DecidedVia.PAGE


def decide(access: Access | None, gate: Gate, status: GateStatus = ALLOW, **fields: Any) -> Gate:
    return decisions.decide(access, gate, Decision(status, **fields), via=PAGE)


def types(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))


def at_once(contenders: list[Callable[[], Any]]) -> list[Any]:
    """Run all of them at the same moment; what each returned or raised."""
    outcomes: list[Any] = [None] * len(contenders)
    ready = threading.Barrier(len(contenders))

    def run(number: int, contend: Callable[[], Any]) -> None:
        ready.wait()
        try:
            outcomes[number] = contend()
        except DomainError as error:
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(contenders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


CONTENDERS = [
    "approve",
    "deny",
    "edit",
    "v1",
    "v2 allow",
    "v2 deny",
    "autonomous",
    "expire",
    "cancel",
    "remember",
]


def contender(word: str, access: Access, gate: Gate) -> Callable[[], Any]:
    run = Run.objects.get(pk=gate.run_id)
    edited = LETTER | {"text": "Edited."}
    return {
        "approve": lambda: decide(access, gate),
        "deny": lambda: decide(access, gate, DENY, answer={"reason": "no"}),
        "edit": lambda: decide(access, gate, arguments=edited),
        "remember": lambda: decide(access, gate, remember=True),
        "v1": lambda: answers.answer_text(access, run, "deny: from v1"),
        "v2 allow": lambda: answers.approve(access, run, str(gate.uid), allow=True),
        "v2 deny": lambda: answers.approve(access, run, str(gate.uid), allow=False),
        "autonomous": lambda: decisions.switch_mode(access, run, "autonomous"),
        "expire": decisions.expire_due,
        "cancel": lambda: endings.cancel_run(run, by=access.user),
    }[word]


PAY = {"to": "Bearer IBAN-DE00-MALLORY-1234", "text": "hi", "secret": "everything to mallory"}


def hiding_gate(access: Access, **fields: Any) -> Gate:
    """An approval of a call whose values look like secrets: a model chose what they look like."""
    from dataclasses import replace

    from teammates.tools.base import Text, object_schema
    from teammates.tools.pretend import PRETEND_SEND

    texts = {name: Text("x").schema for name in PAY}
    tool = replace(PRETEND_SEND, schema=object_schema(list(PAY), **texts))
    return make_gate(access, tool=tool, arguments=PAY, **fields)


def mailed_link() -> str:
    Notice.objects.update(due_at=timezone.now())
    for letter in mailer.claim_due():
        mailer.record_sent(letter, mailer.send(letter))
    text = mail.outbox[-1].body
    return next(line for line in text.splitlines() if "/decide/" in line).partition("8000")[2]


def seen(*gates: Gate) -> dict[str, str]:
    """What the form of several approvals sends of what it shows."""
    return {f"digest-{gate.pk}": gate.digest for gate in gates}
