"""What a run came to, in the words that both APIs, webhooks and mails have for it."""

from runs.models import Run, RunStatus

LONGEST_HEADLINE = 200  # characters
# The words of the wire and the states they mean (design 5).
V1_FILTER = {
    "running": [RunStatus.QUEUED, RunStatus.RUNNING],
    "waiting_for_input": [RunStatus.WAITING],
    "paused": [RunStatus.PAUSED],
    "completed": [RunStatus.COMPLETED],
    "failed": [RunStatus.FAILED],
    "cancelled": [RunStatus.CANCELLED, RunStatus.CLOSED],
}
V2_FILTER = {
    "running": [RunStatus.QUEUED, RunStatus.RUNNING],
    "awaiting_approval": [RunStatus.WAITING],
    "paused": [RunStatus.PAUSED],
    "completed": [RunStatus.COMPLETED],
    "failed": [RunStatus.FAILED],
    "cancelled": [RunStatus.CANCELLED],
    "closed": [RunStatus.CLOSED],
}
V1_STATUS = {status: word for word, states in V1_FILTER.items() for status in states}
V2_STATUS = {status: word for word, states in V2_FILTER.items() for status in states}


def summary_of(run: Run) -> str | None:
    """The closing prose of a run that completed; None if it ended on a tool call."""
    return run.answer.content if run.answer and run.status == RunStatus.COMPLETED else None


def headline_of(run: Run) -> str | None:
    """The first words of the summary, without marks of Markdown."""
    lines = [line.strip(" #*_>-`\t") for line in (summary_of(run) or "").splitlines()]
    first = next((line for line in lines if line), "")
    if len(first) > LONGEST_HEADLINE:
        first = first[: LONGEST_HEADLINE - 1].rsplit(" ", 1)[0] + "…"
    return first or None
