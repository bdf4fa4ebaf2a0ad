"""Tool calls, written down: begun, made, what came of them."""

import copy
import json
import logging
from typing import Any

from django.db import OperationalError, transaction
from django.utils import timezone

from runs.events import log
from runs.events.log import StaleLease
from runs.events.payloads import NewEvent, called, fitting_json
from runs.gates.policy import PolicyDecision
from runs.lifecycle import endings, transitions
from runs.lifecycle.transitions import Lease
from runs.models import CallStatus, Run, RunFile, ToolCall
from runs.tools import builtin
from teammates.errors import DomainError
from teammates.models import PermissionPolicy
from teammates.text import clean, visible
from teammates.tools.base import Tool
from teammates.tools.masking import masked
from teammates.types import JSON
from threads import files
from threads.models import File

logger = logging.getLogger("muster.steps")
LARGEST_RESULT = 50_000  # bytes of a tool's result in the conversation
SHOWN_OF_LARGE = 4_000  # characters of a larger one
NEVER_KEPT = ("read_file", "web_fetch", "load_skill")  # these cut by themselves


class PolicyChanged(Exception):
    """What a call was judged by is no longer so: its run's mode, or a permission."""


_JOURNAL = log.statement(
    only="""AND (NOT %(begins)s OR r.cancel_requested_at IS NULL)
        AND (%(mode)s::text IS NULL OR r.permission_mode = %(mode)s)""",
    behind=""", journaled AS (
    UPDATE runs_toolcall c SET arguments = %(arguments)s::jsonb, title = %(title)s,
        is_action = %(is_action)s, summary = %(summary)s, status = %(status)s,
        attempt = %(attempt)s, policy_id = %(policy_id)s, result = %(result)s::jsonb,
        media = %(media)s::jsonb,
        error = %(error)s, started_at = %(started_at)s, finished_at = %(finished_at)s,
        seq = CASE WHEN %(begins)s THEN up.after ELSE c.seq END
    FROM up WHERE c.id = %(call)s RETURNING c.id, c.run_id
), made AS (
    SELECT run_id, ARRAY[id] AS ids FROM journaled
)""",
)
_COLUMNS = (
    "title",
    "is_action",
    "summary",
    "status",
    "attempt",
    "policy_id",
    "error",
    "started_at",
    "finished_at",
)


def _journal(
    lease: Lease,
    events: list[NewEvent],
    call: ToolCall,
    *,
    begins: bool = False,
    mode: str | None = None,
) -> bool:
    """Write a call's columns and its events; False if the run takes none: it is another worker's,
    or, for a call that `begins`, it should be cancelled, or its mode is no longer `mode`."""
    written = log.write(
        [log.Batch(lease.run_id, lease.fence, events)],
        sql=_JOURNAL,
        call=call.pk,
        begins=begins,
        mode=mode,
        arguments=_as_jsonb(call.arguments),
        result=_as_jsonb(call.result),
        media=_as_jsonb(call.media),
        **{name: getattr(call, name) for name in _COLUMNS},
    )
    if written and begins:
        call.seq = written[lease.run_id].last_seq
    return bool(written)


def _as_jsonb(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def begin_call(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    tool: Tool,
    arguments: Any,
    decision: PolicyDecision | None = None,
) -> bool:
    """Write the call down before it is made (invariant 5); False if the run was cancelled.

    Raises `PolicyChanged`; then nothing is written.
    """
    if decision is None or decision.policy is None:
        begun = copy.copy(call)  # one that is not taken stays as it was
        event = _begun(lease, begun, tool, arguments)
        mode = decision.mode if decision is not None else None
        if _journal(lease, [*pending, event], begun, begins=True, mode=mode):
            vars(call).update(vars(begun))
            return True
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return False
        _begin(run, lease, call, tool, arguments, decision)
        return True


def _begin(
    run: Run,
    lease: Lease,
    call: ToolCall,
    tool: Tool,
    arguments: Any,
    decision: PolicyDecision | None,
) -> None:
    """The caller holds the run's row."""
    if decision is not None:
        call.policy = _still(run, decision)
    _journal(lease, [_begun(lease, call, tool, arguments)], call, begins=True)


def _begun(lease: Lease, call: ToolCall, tool: Tool, arguments: Any) -> NewEvent:
    call.arguments = clean(arguments)
    call.title, call.is_action = tool.title[:200], tool.is_action
    call.summary = visible(clean(tool.say(masked(arguments))))
    call.status, call.attempt = CallStatus.RUNNING, lease.attempt
    call.started_at = timezone.now()
    return called(call)


def _still(run: Run, decision: PolicyDecision) -> PermissionPolicy | None:
    """The permission a decision rests on. Holds its row: it cannot be revoked under the call."""
    if run.permission_mode != decision.mode:
        raise PolicyChanged
    if decision.policy is None:
        return None
    policies = PermissionPolicy.objects.select_for_update(no_key=True)
    policy: PermissionPolicy | None = policies.filter(pk=decision.policy.pk).first()
    if policy is None:
        raise PolicyChanged
    return policy


def perform_call(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    tool: Tool,
    arguments: Any,
    decision: PolicyDecision | None = None,
) -> bool:
    """Make a call whose tool is a verb of the domain: effect, result and events are one
    transaction. False if the run was cancelled. Raises `PolicyChanged`; then nothing is written."""
    given, call = call, copy.copy(call)  # of a transaction that is undone nothing is to be seen
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return False
        _begin(run, lease, call, tool, arguments, decision)
        try:
            with transaction.atomic():
                result = builtin.perform(run, call, tool.name, call.arguments)
        except DomainError as error:
            _finish(run, lease, call, CallStatus.FAILED, None, error.message)
        except OperationalError:
            raise  # of the database, which is no news of the tool's: all of it is tried again
        except Exception as error:
            # A tool that breaks is the model's news, never the end of the run.
            logger.exception("Tool %s broke", tool.name)
            broke = f"{tool.title} broke: {type(error).__name__}."
            _finish(run, lease, call, CallStatus.FAILED, None, broke)
        else:
            _finish(run, lease, call, CallStatus.DONE, result, "")
    vars(given).update(vars(call))
    return True


def finish_call(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    status: CallStatus,
    result: Any = None,
    error: str = "",
) -> None:
    """Write down what came of a call; a refused one is `tool.denied`. Raises `StaleLease`."""
    if status == CallStatus.DONE and _is_large(call, clean(result)):
        with transitions.holding(lease, pending) as run:
            _finish(run, lease, call, status, result, error)
    elif not _journal(lease, [*pending, *_finished(call, status, result, error)], call):
        raise StaleLease


def _finish(
    run: Run, lease: Lease, call: ToolCall, status: CallStatus, result: Any, error: str
) -> None:
    """The caller holds the run's row."""
    if status == CallStatus.DONE and _is_large(call, clean(result)):
        result = _kept_in_a_file(run, lease, call, clean(result))
    _journal(lease, _finished(call, status, result, error), call)


def _finished(call: ToolCall, status: CallStatus, result: Any, error: str) -> list[NewEvent]:
    """Set what came of a call; its events, with that of its beginning where there was none."""
    events = [] if call.seq is not None else [called(call)]
    call.status, call.result, call.error = status, clean(result), clean(error)[:4000]
    call.finished_at = timezone.now()
    call.started_at = call.started_at or call.finished_at
    data: JSON = {"tool_call_id": call.call_id, "tool_name": call.name}
    if status == CallStatus.DENIED:
        event = NewEvent("tool.denied", data | {"reason": result["reason"], "message": call.error})
    elif status == CallStatus.DONE:
        event = NewEvent("tool.result", data | {"result": fitting_json(masked(call.result))})
    else:
        wrong = {"error_class": "tool.failed", "message": call.error}
        event = NewEvent("tool.result", data | {"error": wrong})
    return [*events, event]


def mark_unknown(lease: Lease, pending: list[NewEvent], *, call: ToolCall, why: str) -> None:
    """The call was sent and no answer came: whether it had its effect is for a person to say."""
    with transitions.holding(lease, pending):
        call.status, call.error = CallStatus.UNKNOWN, clean(why)[:4000]
        call.save(update_fields=["status", "error"])


def _is_large(call: ToolCall, result: Any) -> bool:
    """Whether a result is too large for the conversation."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return len(text.encode()) > LARGEST_RESULT and call.name not in NEVER_KEPT


def _kept_in_a_file(run: Run, lease: Lease, call: ToolCall, result: Any) -> Any:
    """A large result as a file and a note of it."""
    text = result
    if not isinstance(result, str):
        text = json.dumps(result, ensure_ascii=False, indent=1)
    name = f"{call.name[:100]}-{call.pk}.{'txt' if isinstance(result, str) else 'json'}"
    try:
        with transaction.atomic():
            file = _write_file(run, lease, name, text.encode()[: files.LARGEST_FILE])
    except (DomainError, OSError):
        logger.exception("A result of run %s could not be stored", run.pk)
        note = "The rest of the result could not be stored."
        return {"beginning": text[:SHOWN_OF_LARGE], "note": note}
    return {
        "beginning": text[:SHOWN_OF_LARGE],
        "note": f"The whole result ({file.size} bytes) is in the file {name}; read_file reads it "
        "piece by piece.",
        "file": name,
    }


def write_run_file(lease: Lease, pending: list[NewEvent], *, name: str, content: bytes) -> File:
    """Store a file that the run wrote. Again with the same content changes nothing."""
    with transitions.holding(lease, pending) as run:
        return _write_file(run, lease, name, content)


def _write_file(run: Run, lease: Lease, name: str, content: bytes) -> File:
    file = files.write_file(run.thread, name=name, content=content)
    _, is_new = RunFile.objects.get_or_create(run=run, file=file)
    if is_new:
        data = {
            "file_id": str(file.uid),
            "name": file.name,
            "size": file.size,
            "content_type": file.content_type,
            "version": file.version,
        }
        transitions.write(run, lease.fence, [NewEvent("file.created", data)])
    return file
