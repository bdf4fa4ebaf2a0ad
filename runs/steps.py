"""The steps of a run, one transaction each: what a worker writes down before and after it acts."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone

from runs import lifecycle
from runs.events import NewEvent, called, fitting, fitting_json
from runs.lifecycle import Lease, Outcome
from runs.models import (
    CallStatus,
    Run,
    RunFile,
    Step,
    StepKind,
    StepStatus,
    ToolCall,
)
from teammates.fields import clean
from teammates.models import Model
from teammates.providers.base import ModelRequest, TokenUsage, Turn
from threads import files
from threads.models import File


@dataclass(frozen=True)
class ModelResult:
    """What a model call gave, for `complete_model_step`."""

    turn: Turn
    usage: TokenUsage
    first_token_ms: int | None


def begin_model_step(
    lease: Lease, pending: list[NewEvent], *, request: ModelRequest, route: Model
) -> Step | None:
    """Write down that a model is called; None if the run was cancelled instead."""
    with lifecycle.holding(lease, pending) as run:
        if lifecycle.stop_if_cancelled(run):
            return None
        number = _next_number(run)
        data = {"step": number, "kind": StepKind.MODEL, "model": route.alias}
        events = [NewEvent("step.started", data)]
        if run.model_name != route.name:
            events.insert(0, NewEvent("run.route.selected", {
                "route_id": str(route.uid), "model": route.name,
                "provider_kind": route.provider.kind, "credential_name": route.provider.name,
            }))  # fmt: skip
            run.model_name = route.name
            run.save(update_fields=["model_name"])
        first_seq = run.last_seq + len(events)
        lifecycle.write(run, lease.fence, events)
        return Step.objects.create(
            run=run,
            number=number,
            kind=StepKind.MODEL,
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
    with lifecycle.holding(lease, pending) as run:
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
                    run=run, step=tools, number=number, call_id=request.call_id[:200],
                    name=request.name[:200], arguments={"raw": clean(request.arguments)},
                )
                for number, request in enumerate(requests)
            )  # fmt: skip
        if outcome is not None:
            lifecycle.finish_locked(run, outcome)
        return calls


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
    with lifecycle.holding(lease, pending) as run:
        _close_model_step(run, lease, step, route, result, StepStatus.STOPPED)
        lifecycle.finish_locked(run, outcome)


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
    if result.turn.text:
        said = {"role": "assistant", "content": fitting(result.turn.text), "step": step.number}
        events.insert(0, NewEvent("message.completed", said))
    lifecycle.write(run, lease.fence, events)
    step.last_seq = run.last_seq
    step.save(update_fields=[f.name for f in Step._meta.fields if f.name not in ("id", "request")])


def begin_call(lease: Lease, pending: list[NewEvent], *, call: ToolCall, arguments: Any) -> bool:
    """Write the call down before it is made (invariant 5); False if the run was cancelled."""
    with lifecycle.holding(lease, pending) as run:
        if lifecycle.stop_if_cancelled(run):
            return False
        call.arguments = clean(arguments)
        lifecycle.write(run, lease.fence, [called(call)])
        call.status = CallStatus.RUNNING
        call.attempt = lease.attempt
        call.seq = run.last_seq
        call.started_at = timezone.now()
        call.save()
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
    with lifecycle.holding(lease, pending) as run:
        events = [] if call.seq is not None else [called(call)]
        call.status, call.result, call.error = status, clean(result), clean(error)[:4000]
        call.finished_at = timezone.now()
        call.started_at = call.started_at or call.finished_at
        data: dict[str, Any] = {"tool_call_id": call.call_id, "tool_name": call.name}
        if status == CallStatus.DENIED:
            event = NewEvent("tool.denied", data | {"reason": result["reason"], "message": error})
        elif status == CallStatus.DONE:
            event = NewEvent("tool.result", data | {"result": fitting_json(result)})
        else:
            wrong = {"error_class": "tool.failed", "message": call.error}
            event = NewEvent("tool.result", data | {"error": wrong})
        lifecycle.write(run, lease.fence, [*events, event])
        call.save()


def complete_tools_step(lease: Lease, pending: list[NewEvent], *, step: Step) -> None:
    with lifecycle.holding(lease, pending) as run:
        now = timezone.now()
        data = {
            "step": step.number,
            "kind": step.kind,
            "duration_ms": int((now - step.started_at).total_seconds() * 1000),
        }
        lifecycle.write(run, lease.fence, [NewEvent("step.completed", data)])
        Step.objects.filter(pk=step.pk).update(
            status=StepStatus.DONE, finished_at=now, last_seq=run.last_seq
        )


def write_run_file(lease: Lease, pending: list[NewEvent], *, name: str, content: bytes) -> File:
    """Store a file that the run wrote. Again with the same content changes nothing."""
    with lifecycle.holding(lease, pending) as run:
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
            lifecycle.write(run, lease.fence, [NewEvent("file.created", data)])
        return file


def _next_number(run: Run) -> int:
    last = Step.objects.filter(run=run).order_by("-number").first()
    return last.number + 1 if last else 1


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
