"""The ways in which people and programs answer: in words (v1), question by question, and yes or no
(v2). Each reads what was said and hands it to `decisions.decide`.
"""

from runs.gates import decisions, outcomes
from runs.gates.decisions import AlreadyDecided, Decision, decide, get_gate, pending_gate
from runs.models import DecidedVia, Gate, GateKind, GateStatus, Run, RunStatus
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.text import read_json
from teammates.tools import ask
from teammates.types import JSON

LONGEST_ANSWER = 32 * 1024  # bytes of UTF-8
FORMS = (
    "Answer an approval with 'approve', with 'deny' or 'deny: the reason', or with JSON "
    '{"decision": "approve" | "deny", "reason": …, "arguments": …, "request_id": …, "remember": …}.'
    " Where it is not known whether something happened, 'retry' does it again."
)


def answer_text(access: Access, run: Run, text: str, *, via: DecidedVia = DecidedVia.API) -> Gate:
    """Answer the open gate in words (contract v1: `POST /v1/runs/{id}/input`).

    Raises `Invalid` (empty, over 32 KB, not one of `FORMS`) or `Conflict` (the run does not wait).
    """
    if not text.strip():
        raise Invalid("content must not be empty.")
    if len(text.encode()) > LONGEST_ANSWER:
        raise Invalid(f"content must have at most {LONGEST_ANSWER} bytes.")
    gate = pending_gate(run)
    if gate is None or run.status != RunStatus.WAITING:
        raise decisions.not_waiting(run)
    if gate.asks_in_words:
        if gate.kind == GateKind.PLAN and text.strip().lower() in ("approve", "yes", "allow"):
            text = ask.APPROVE
        answers = {one["question"]: text for one in gate.request["questions"]}
        decision = Decision(GateStatus.ALLOWED, {"answers": answers})
    else:
        decision = _read_decision(text, gate)
    return decide(access, gate, decision, via=via)


def answer_questions(
    access: Access,
    run: Run,
    answers: dict[str, str],
    *,
    request_id: str | None = None,
    digest: str | None = None,
    via: DecidedVia = DecidedVia.API,
) -> Gate:
    """Answer a question or a plan; keys are its texts or headers (contract v2 4.8).

    Raises `Invalid`, `NotFound` (no such request), `Conflict` (decided already, or nothing is
    asked).
    """
    given = {key.strip(): value.strip() for key, value in answers.items() if value.strip()}
    if not given:
        raise Invalid("answers must not be empty.")
    if sum(len(value.encode()) for value in given.values()) > LONGEST_ANSWER:
        raise Invalid(f"answers must have at most {LONGEST_ANSWER} bytes.")
    gate = get_gate(run, request_id) if request_id else pending_gate(run)
    if gate is not None and not gate.is_pending:
        raise decisions.already_decided(gate)
    if gate is None or run.status != RunStatus.WAITING:
        raise decisions.not_waiting(run)
    if not gate.asks_in_words:
        raise Conflict("The run waits for an approval, not for an answer.", code="runs.not_active")
    complete = {}
    for one in gate.request["questions"]:
        text = given.get(one["question"].strip()) or given.get(one.get("header", "").strip())
        if not text:
            raise Invalid(f"answers: {one['question'][:200]!r} is not answered.")
        complete[one["question"]] = text
    decision = Decision(GateStatus.ALLOWED, {"answers": complete}, digest=digest)
    return decide(access, gate, decision, via=via)


def approve(
    access: Access,
    run: Run,
    request_id: str,
    *,
    allow: bool,
    reason: str = "",
    remember: bool = False,
    via: DecidedVia = DecidedVia.API,
) -> tuple[Gate, bool]:
    """v2's approval: the gate, and whether the run went on because of this call.

    The same decision again is fine and may add `remember`. Refusals in the order of contract v2
    4.6: unknown, cancelled, decided otherwise, run over.
    """
    wanted = GateStatus.ALLOWED if allow else GateStatus.DENIED
    for _ in range(2):
        gate = get_gate(run, request_id)
        if gate.status == GateStatus.CANCELLED:
            raise NotFound("The request was cancelled.", code="gate_cancelled")
        if gate.asks_in_words:
            raise Invalid("decision: this is a question; send answers to /answer instead.")
        if gate.status == wanted:
            if remember and allow:
                outcomes.remember(access, gate, True)
            return gate, False
        if not gate.is_pending:
            raise NotFound(decisions.already_decided(gate).message, code="gate_resolved_otherwise")
        if run.is_finished:
            raise Conflict("The run is over.", code="run_not_active")
        answer = {"reason": reason} if reason else {}
        try:
            # A program is given the exact arguments with the request (`runs/api/v2/gates.py`).
            decision = Decision(wanted, answer, remember=remember, saw_hidden=True)
            gate = decide(access, gate, decision, via=via)
        except AlreadyDecided:
            run.refresh_from_db()
            continue
        return gate, not gate.is_pending and gate.is_waited_at
    raise Conflict("The run is over.", code="run_not_active")


def _read_decision(text: str, gate: Gate) -> Decision:
    """A decision in one of the three `FORMS`, and what belongs to it."""
    word, _, reason = text.strip().partition(":")
    given: JSON = {}
    if text.lstrip().startswith("{"):
        try:
            given = read_json(text)
        except ValueError:
            raise Invalid(FORMS) from None
        if not isinstance(given.get("remember", False), bool | dict):
            raise Invalid(FORMS)
        known = {"decision", "reason", "arguments", "request_id", "remember", "digest"}
        if set(given) - known:
            raise Invalid(FORMS)
        if given.get("request_id") not in (None, str(gate.uid)):
            raise Conflict("This request is not the one that is open.", code="runs.not_active")
        word, reason = str(given.get("decision", "")), str(given.get("reason") or "")
    word, reason = word.strip().lower(), reason.strip()
    answer: JSON = {"reason": reason} if reason else {}
    if word == "retry" and gate.kind == GateKind.UNKNOWN:
        return Decision(GateStatus.ALLOWED, answer | {"retry": True})
    statuses = {
        "approve": GateStatus.ALLOWED,
        "yes": GateStatus.ALLOWED,
        "allow": GateStatus.ALLOWED,
        "deny": GateStatus.DENIED,
        "no": GateStatus.DENIED,
    }
    if word not in statuses:
        raise Invalid(FORMS)
    return Decision(
        statuses[word],
        answer,
        arguments=given.get("arguments"),
        remember=given.get("remember", False),
        digest=given.get("digest"),
    )
