"""Built-in tools about messages: mail, notices, reports, the result."""

from runs import feedback
from runs.inbox import mailbox
from runs.models import Run, ToolCall
from runs.notifications import notices
from teammates.access import Access
from teammates.errors import Conflict
from teammates.quoting import as_data
from teammates.roster import lookup
from teammates.trust import limits
from teammates.types import JSON, ToolOutput
from threads import conversations


def read_mailbox(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    # Codes lie there: who only talks to the teammate does not get them.
    lookup.require_editor(access, run.teammate)
    found = mailbox.mails_of(run.teammate, arguments.get("words", ""))
    if found:
        hear(run, None)
    return [
        {
            "from": one.sender,
            "subject": one.subject,
            "received_at": one.created_at.isoformat(),
            "text": one.text[:10_000],
            "attachments": one.attachments,
        }
        for one in found[:20]
    ]


def notify(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    title = arguments.get("title") or f"{run.teammate.name} has news"
    if run.has_words_from_outside:
        limits.take((limits.NOTICES_FROM_OUTSIDE, f"{run.teammate_id} {run.origin}"))
        title = f"{run.teammate.name}, on a message from outside: {title}"
    told = notices.tell(run, title=title, text=arguments["message"])
    if not told:
        raise Conflict("There is nobody to tell.")
    return {"told": told}


def report_issue(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    report = feedback.file_report(
        access,
        arguments["message"],
        title=arguments.get("title", ""),
        severity=arguments.get("severity", "medium"),
        run=run,
    )
    return {"report_id": report.pk}


def submit_result(run: Run, access: Access, call: ToolCall, arguments: JSON) -> ToolOutput:
    run.output_data = arguments
    run.save(update_fields=["output_data"])
    return {"accepted": True}


def hear(run: Run, other: Run | None, text: str = "") -> str:
    """What `other` said is in front of the run from now on: `text` as it may be told."""
    if other is not None and not other.has_words_from_outside:
        return text
    run.heard_outside = True
    run.save(update_fields=["heard_outside"])
    conversations.mark_heard_outside(run.thread)
    return text and as_data(text, "a run in which somebody outside had a say")
