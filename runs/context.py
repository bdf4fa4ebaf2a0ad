"""What a model is told: instructions, history, and this run's steps so far."""

from runs.models import FINISHED, HistoryOf, Run, Step, StepKind, StepStatus, ToolCall
from teammates.providers.base import Said, Text, ToolReturned, Turn, UserSaid
from threads.models import Message, MessageRole

HISTORY_RUNS = 20
HISTORY_BYTES = 400_000  # about 100 000 tokens


def instructions(run: Run) -> str:
    """The standing prompt of the run's version of its teammate."""
    version = run.teammate_version
    parts = [f"You are {run.teammate.name}."]
    if version.role:
        parts.append(f"Your role: {version.role}")
    if version.goals:
        parts.append(f"Your goals: {version.goals}")
    if version.instructions:
        parts.append(version.instructions)
    return "\n\n".join(parts)


def conversation(run: Run) -> list[Said]:
    """History, prompt, and what this run's finished steps said and found out."""
    return [*_bounded(_history(run)), *_prompt(run), *_steps(run)]


def _prompt(run: Run) -> list[Said]:
    return [UserSaid(run.prompt.content if run.prompt else "")]


def _history(run: Run) -> list[Said]:
    if not run.history:
        return []
    if run.history_of == HistoryOf.TEAMMATE:
        return _of_earlier_runs(run)
    return _of_thread(run)


def _of_thread(run: Run) -> list[Said]:
    """The thread's messages before the prompt; an answer stands behind what it answers."""
    messages = list(
        Message.objects.filter(thread=run.thread)
        .exclude(pk=run.prompt_id or 0)
        .select_related("answered_by")
    )
    limit = run.prompt_id or (max((m.pk for m in messages), default=0))
    placed: list[tuple[float, Message]] = []
    for message in messages:
        answered = getattr(message, "answered_by", None)
        if message.role == MessageRole.USER and message.pk <= limit:
            placed.append((message.pk, message))
        elif answered is not None and answered.position < run.position:
            placed.append(((answered.prompt_id or message.pk) + 0.5, message))
    return [_said(message) for _, message in sorted(placed, key=lambda pair: pair[0])]


def _of_earlier_runs(run: Run) -> list[Said]:
    """The last finished runs of the same teammate and end-user scope, oldest first."""
    earlier = (
        Run.objects.filter(
            organization=run.organization, teammate=run.teammate, end_user=run.end_user,
            status__in=FINISHED, created_at__lte=run.created_at,
        )
        .exclude(pk=run.pk)
        .select_related("prompt", "answer")
        .newest_first()[:HISTORY_RUNS]
    )  # fmt: skip
    return [
        _said(message)
        for past in reversed(earlier)
        for message in (past.prompt, past.answer)
        if message is not None
    ]


def _said(message: Message) -> Said:
    if message.role == MessageRole.USER:
        return UserSaid(message.content)
    return Turn([Text(message.content)])


def _bounded(history: list[Said]) -> list[Said]:
    """The newest part of the history that fits, beginning with something a person said."""
    size = 0
    kept: list[Said] = []
    for said in reversed(history):
        assert isinstance(said, UserSaid | Turn)
        size += len(said.text.encode())
        if size > HISTORY_BYTES:
            break
        kept.append(said)
    while kept and isinstance(kept[-1], Turn):
        kept.pop()
    return kept[::-1]


def _steps(run: Run) -> list[Said]:
    said: list[Said] = []
    calls: dict[int, list[ToolCall]] = {}
    for call in ToolCall.objects.filter(run=run).order_by("step_id", "number"):
        calls.setdefault(call.step_id, []).append(call)
    done = Step.objects.filter(run=run, status=StepStatus.DONE).defer("request")
    for step in done.order_by("number"):
        if step.kind == StepKind.MODEL:
            said.append(Turn.from_json(step.response or {"parts": [], "finish_reason": ""}))
        else:
            said.extend(_returned(call) for call in calls.get(step.pk, []))
    return said


def _returned(call: ToolCall) -> ToolReturned:
    import json

    if call.error:
        return ToolReturned(call.call_id, call.name, call.error, failed=True)
    return ToolReturned(call.call_id, call.name, json.dumps(call.result, ensure_ascii=False))
