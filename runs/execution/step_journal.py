"""The steps of a run, one transaction each: what a worker writes down before and after it acts."""

import json
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import OperationalError, transaction
from django.utils import timezone

from runs.events.payloads import NewEvent, called, fitting, fitting_json
from runs.gates.policy import Verdict
from runs.lifecycle import endings, transitions
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import CallStatus, Run, RunFile, Step, StepKind, StepStatus, ToolCall
from runs.tools import builtin
from teammates.errors import DomainError
from teammates.knowledge import memories
from teammates.models import Model, PermissionPolicy
from teammates.providers.base import ModelRequest, TokenUsage, Turn
from teammates.text import clean, read_json, visible
from teammates.tools.base import Tool
from teammates.tools.masking import masked
from teammates.tools.result import submit_result
from threads import files
from threads.models import File

logger = logging.getLogger("muster.steps")
LARGEST_RESULT = 50_000  # bytes of a tool's result in the conversation
SHOWN_OF_LARGE = 4_000  # characters of a larger one
NEVER_KEPT = ("read_file", "web_fetch", "load_skill")  # these cut by themselves


@dataclass(frozen=True)
class ModelResult:
    """What a model call gave, for `complete_model_step`."""

    turn: Turn
    usage: TokenUsage
    first_token_ms: int | None


def _told(told: dict[str, Any]) -> list[NewEvent]:
    """What people hear of what a run is told besides the conversation."""
    events = [NewEvent("run.tool_server.failing", failing) for failing in told["failing_servers"]]
    events += [NewEvent("run.tool_server.changed", changed) for changed in told["changed_servers"]]
    if told["memories"] or told["skills"]:
        events.append(
            NewEvent(
                "run.context.loaded",
                {
                    "memories": [
                        {"content": fitting(m["content"], 1_000), "why": m["why"]}
                        for m in told["memories"]
                    ],
                    "skills": [skill["slug"] for skill in told["skills"]],
                },
            )
        )
    return events


def begin_model_step(
    lease: Lease,
    pending: list[NewEvent],
    *,
    request: ModelRequest,
    route: Model,
    kind: StepKind = StepKind.MODEL,
    covers_until: int | None = None,
    told: dict[str, Any] | None = None,
) -> Step | None:
    """Write down that a model is called; None if the run was cancelled instead.

    `told`: what the run is told besides the conversation, with its first step.
    """
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return None
        number = _next_number(run)
        data = {"step": number, "kind": kind, "model": route.alias}
        events = [NewEvent("step.started", data)]
        if run.model_name != route.name:
            events.insert(
                0,
                NewEvent(
                    "run.route.selected",
                    {
                        "route_id": str(route.uid),
                        "model": route.name,
                        "provider_kind": route.provider.kind,
                        "credential_name": route.provider.name,
                    },
                ),
            )
            run.model_name = route.name
        if told is not None:
            events = [*_told(told), *events]
            run.told = clean(told)
            memories.mark_used([memory["id"] for memory in told["memories"]])
        if told is not None or len(events) > 1:
            run.save(update_fields=["model_name", "told"])
        first_seq = run.last_seq + len(events)
        transitions.write(run, lease.fence, events)
        return Step.objects.create(
            run=run,
            number=number,
            kind=kind,
            covers_until=covers_until,
            attempt=lease.attempt,
            first_seq=first_seq,
            started_at=timezone.now(),
            model_alias=route.alias,
            model_name=route.name,
            request=clean(request.to_json()),
        )


def complete_model_step(
    lease: Lease,
    pending: list[NewEvent],
    *,
    step: Step,
    route: Model,
    result: ModelResult,
    outcome: Outcome | None = None,
) -> list[ToolCall]:
    """Persist the model's turn and journal the tool calls it asks for.

    With `outcome` the run ends in the same transaction.
    """
    with transitions.holding(lease, pending) as run:
        _close_model_step(run, lease, step, route, result, StepStatus.DONE)
        calls: list[ToolCall] = []
        if requests := result.turn.tool_requests:
            tools = Step.objects.create(
                run=run,
                number=step.number + 1,
                kind=StepKind.TOOLS,
                attempt=lease.attempt,
                first_seq=run.last_seq + 1,
                started_at=timezone.now(),
            )
            calls = ToolCall.objects.bulk_create(
                ToolCall(
                    run=run,
                    step=tools,
                    number=number,
                    call_id=request.call_id[:200],
                    name=request.name[:200],
                    arguments={"raw": clean(request.arguments)},
                )
                for number, request in enumerate(requests)
            )
        if outcome is not None:
            _read_result_from(outcome.text, run)
            endings.finish_locked(run, outcome)
        return calls


def complete_compaction(
    lease: Lease,
    pending: list[NewEvent],
    *,
    step: Step,
    route: Model,
    result: ModelResult,
    before: int,
    after: int,
) -> None:
    """Persist a summary of what came before; `before` and `after` are estimated tokens.

    A summary that would make the conversation longer is kept for the record and not used.
    """
    with transitions.holding(lease, pending) as run:
        _close_model_step(run, lease, step, route, result, StepStatus.DONE)
        if after >= before:
            Step.objects.filter(pk=step.pk).update(covers_until=None)
            return
        data = {
            "step": step.number,
            "before_tokens": before,
            "after_tokens": after,
            "summary": fitting(result.turn.text, 16_000),
        }
        transitions.write(run, lease.fence, [NewEvent("run.context_compacted", data)])


def switch_model(lease: Lease, pending: list[NewEvent], *, to: Model, why: dict[str, Any]) -> None:
    """Go on with the fallback of a model that cannot answer."""
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return
        void = endings.stop_unfinished_step(run, error=str(why["message"]))
        data = why | void | {"to_model": to.alias, "provider_kind": to.provider.kind}
        transitions.write(run, lease.fence, [NewEvent("run.provider_fallback", data)])
        Run.objects.filter(pk=run.pk).update(route=to)


def _read_result_from(text: str, run: Run) -> None:
    """A run that owes a result and never gave it may have said it: its closing text, as JSON."""
    if run.output_schema is None or run.output_data is not None:
        return
    try:
        data = read_json(text[text.find("{") : text.rfind("}") + 1])
    except ValueError:
        return
    if isinstance(data, dict) and not submit_result(run.output_schema).check(data):
        run.output_data = clean(data)
        run.save(update_fields=["output_data"])


def stop_model_step(
    lease: Lease,
    pending: list[NewEvent],
    *,
    step: Step,
    route: Model,
    result: ModelResult,
    outcome: Outcome,
) -> None:
    """End the run in the middle of a model call; what was used is booked."""
    with transitions.holding(lease, pending) as run:
        _close_model_step(run, lease, step, route, result, StepStatus.STOPPED)
        endings.finish_locked(run, outcome)


def _close_model_step(
    run: Run, lease: Lease, step: Step, route: Model, result: ModelResult, status: StepStatus
) -> None:
    usage = result.usage
    step.status = status
    step.finished_at = timezone.now()
    step.first_token_ms = result.first_token_ms
    step.response = clean(result.turn.to_json())
    step.input_tokens, step.output_tokens = usage.input, usage.output
    step.cache_read_tokens, step.cache_write_tokens = usage.cache_read, usage.cache_write
    step.usage_estimated = usage.estimated
    step.cost = _cost(route, usage)
    data = {
        "step": step.number,
        "kind": step.kind,
        "model": step.model_name,
        "finish_reason": result.turn.finish_reason,
        "first_token_ms": step.first_token_ms,
        "duration_ms": int((step.finished_at - step.started_at).total_seconds() * 1000),
        "usage": {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cache_read_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "estimated": usage.estimated,
        },
        "cost_usd": None if step.cost is None else f"{step.cost:f}",
    }
    events = [NewEvent("step.completed", data)]
    if result.turn.text and step.kind == StepKind.MODEL:
        said = {"role": "assistant", "content": fitting(result.turn.text), "step": step.number}
        events.insert(0, NewEvent("message.completed", said))
    transitions.write(run, lease.fence, events)
    step.last_seq = run.last_seq
    step.save(update_fields=[f.name for f in Step._meta.fields if f.name not in ("id", "request")])


class JudgeAgain(Exception):
    """What a call was judged by is no longer so: its run's mode, or a permission."""


def begin_call(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    tool: Tool,
    arguments: Any,
    verdict: Verdict | None = None,
) -> bool:
    """Write the call down before it is made (invariant 5); False if the run was cancelled.

    Raises `JudgeAgain`; then nothing is written.
    """
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return False
        _begin(run, lease, call, tool, arguments, verdict)
        call.save()
        return True


def _begin(
    run: Run, lease: Lease, call: ToolCall, tool: Tool, arguments: Any, verdict: Verdict | None
) -> None:
    if verdict is not None:
        call.policy = _still(run, verdict)
    call.arguments = clean(arguments)
    call.title, call.is_action = tool.title[:200], tool.is_action
    call.summary = visible(clean(tool.say(masked(arguments))))
    transitions.write(run, lease.fence, [called(call)])
    call.status, call.attempt, call.seq = CallStatus.RUNNING, lease.attempt, run.last_seq
    call.started_at = timezone.now()


def _still(run: Run, verdict: Verdict) -> PermissionPolicy | None:
    """The permission a verdict rests on. Holds its row: it cannot be revoked under the call."""
    if run.permission_mode != verdict.mode:
        raise JudgeAgain
    if verdict.policy is None:
        return None
    policies = PermissionPolicy.objects.select_for_update(no_key=True)
    policy: PermissionPolicy | None = policies.filter(pk=verdict.policy.pk).first()
    if policy is None:
        raise JudgeAgain
    return policy


def perform_call(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    tool: Tool,
    arguments: Any,
    verdict: Verdict | None = None,
) -> bool:
    """Make a call whose tool is a verb of the domain: effect, result and events are one
    transaction. False if the run was cancelled. Raises `JudgeAgain`; then nothing is written."""
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return False
        _begin(run, lease, call, tool, arguments, verdict)
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
    """Write down what came of a call; a refused one is `tool.denied`."""
    with transitions.holding(lease, pending) as run:
        _finish(run, lease, call, status, result, error)


def _finish(
    run: Run, lease: Lease, call: ToolCall, status: CallStatus, result: Any, error: str
) -> None:
    events = [] if call.seq is not None else [called(call)]
    if status == CallStatus.DONE:
        result = _kept_in_a_file(run, lease, call, clean(result))
    call.status, call.result, call.error = status, clean(result), clean(error)[:4000]
    call.finished_at = timezone.now()
    call.started_at = call.started_at or call.finished_at
    data: dict[str, Any] = {"tool_call_id": call.call_id, "tool_name": call.name}
    if status == CallStatus.DENIED:
        event = NewEvent("tool.denied", data | {"reason": result["reason"], "message": call.error})
    elif status == CallStatus.DONE:
        event = NewEvent("tool.result", data | {"result": fitting_json(masked(call.result))})
    else:
        wrong = {"error_class": "tool.failed", "message": call.error}
        event = NewEvent("tool.result", data | {"error": wrong})
    transitions.write(run, lease.fence, [*events, event])
    call.save()


def mark_unknown(lease: Lease, pending: list[NewEvent], *, call: ToolCall, why: str) -> None:
    """The call was sent and no answer came: whether it had its effect is for a person to say."""
    with transitions.holding(lease, pending):
        call.status, call.error = CallStatus.UNKNOWN, clean(why)[:4000]
        call.save(update_fields=["status", "error"])


def _kept_in_a_file(run: Run, lease: Lease, call: ToolCall, result: Any) -> Any:
    """A result that is too large for the conversation, as a file and a note of it."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    if len(text.encode()) <= LARGEST_RESULT or call.name in NEVER_KEPT:
        return result
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


def complete_tools_step(lease: Lease, pending: list[NewEvent], *, step: Step) -> None:
    with transitions.holding(lease, pending) as run:
        now = timezone.now()
        data = {
            "step": step.number,
            "kind": step.kind,
            "duration_ms": int((now - step.started_at).total_seconds() * 1000),
        }
        transitions.write(run, lease.fence, [NewEvent("step.completed", data)])
        Step.objects.filter(pk=step.pk).update(
            status=StepStatus.DONE, finished_at=now, last_seq=run.last_seq
        )


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


def _next_number(run: Run) -> int:
    numbers = Step.objects.filter(run=run).order_by("-number").values_list("number", flat=True)
    return (numbers.first() or 0) + 1


def _cost(route: Model, usage: TokenUsage) -> Decimal | None:
    price = route.price_now()
    if price is None:
        return None
    return price.cost(
        input_tokens=usage.input,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output_tokens=usage.output,
    )
