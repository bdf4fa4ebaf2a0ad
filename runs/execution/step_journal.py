"""The steps of a run, one transaction each: what a worker writes down before and after it acts."""

from dataclasses import dataclass
from decimal import Decimal

from django.utils import timezone

from runs.events.payloads import NewEvent, fitting
from runs.lifecycle import endings, transitions
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import Run, Step, StepKind, StepStatus, ToolCall
from teammates.knowledge import memories
from teammates.models import Model
from teammates.providers.base import ModelRequest, TokenUsage, Turn
from teammates.text import clean, read_json
from teammates.tools.result import submit_result
from teammates.types import JSON


@dataclass(frozen=True)
class ModelResult:
    """What a model call gave, for `complete_model_step`."""

    turn: Turn
    usage: TokenUsage
    first_token_ms: int | None


def _told(told: JSON) -> list[NewEvent]:
    """What people see of the context that a run is given besides the conversation."""
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
    told: JSON | None = None,
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


def switch_model(lease: Lease, pending: list[NewEvent], *, to: Model, why: JSON) -> None:
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
