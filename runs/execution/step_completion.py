"""A model step is over: its turn, usage and cost, the tool calls that it asks for, and with it
perhaps the run.

A verb of sets (`step_journal.Write`): one statement closes the steps of all of a worker's runs that
are at that point, and opens their batches of calls.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from runs.budgets.counting import SETTLING
from runs.events import log
from runs.events.log import Batch, StaleLease, Written
from runs.events.payloads import NewEvent, fitting
from runs.execution.results import owes_result, result_in
from runs.execution.step_journal import Write
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import CallStatus, Run, Step, StepKind, StepStatus, ToolCall
from teammates.llm import catalog
from teammates.llm.prices import prices_at
from teammates.models import Model, ModelPrice
from teammates.providers.base import TokenUsage, ToolRequest, Turn
from teammates.text import clean
from teammates.types import JSON


@dataclass(frozen=True)
class ModelResult:
    """What a model call gave, for `complete_model_steps`."""

    turn: Turn
    usage: TokenUsage
    first_token_ms: int | None


@dataclass(frozen=True)
class CompleteModelStep:
    """A model has answered, or was cut short; with `outcome` the run ends with it."""

    run: Run
    step: Step
    route: Model
    result: ModelResult
    status: StepStatus = StepStatus.DONE
    outcome: Outcome | None = None
    sources: Sequence[JSON] = ()  # that what it said cites


@dataclass(frozen=True)
class Completed:
    """The model as it is now, and the batch of tool calls that it asked for, if it did."""

    route: Model
    tools: Step | None = None
    calls: list[ToolCall] = field(default_factory=list)


_COMPLETE = log.statement(
    before=""", closes AS (
    SELECT * FROM jsonb_to_recordset(%(closes)s::jsonb) c(run_id bigint, step_id bigint,
        status text, finished_at timestamptz, first_token_ms int, response jsonb,
        input_tokens bigint, output_tokens bigint, cache_read_tokens bigint,
        cache_write_tokens bigint, usage_estimated boolean, usage_details jsonb, cost numeric)
)""",
    behind=""", closed AS (
    UPDATE runs_step s SET status = c.status, finished_at = c.finished_at,
        first_token_ms = c.first_token_ms, response = c.response, last_seq = up.after,
        input_tokens = c.input_tokens, output_tokens = c.output_tokens,
        cache_read_tokens = c.cache_read_tokens, cache_write_tokens = c.cache_write_tokens,
        usage_estimated = c.usage_estimated, usage_details = c.usage_details, cost = c.cost
    FROM closes c JOIN up ON up.id = c.run_id WHERE s.id = c.step_id
    RETURNING s.id, s.run_id, s.last_seq, s.cost, s.usage_estimated
), """
    + SETTLING
    + """, opened AS (
    -- behind `closed`: a run has one step under way
    INSERT INTO runs_step (run_id, number, kind, status, attempt, first_seq, started_at,
        model_alias, model_name, input_tokens, output_tokens, cache_read_tokens,
        cache_write_tokens, usage_estimated, error)
    SELECT o.run_id, o.number, 'tools', 'running', o.attempt, closed.last_seq + 1, o.started_at,
        '', '', 0, 0, 0, 0, false, ''
    FROM jsonb_to_recordset(%(opens)s::jsonb)
        o(run_id bigint, number int, attempt int, started_at timestamptz)
    JOIN closed ON closed.run_id = o.run_id
    RETURNING id, run_id
), asked AS (
    INSERT INTO runs_toolcall (run_id, step_id, number, call_id, name, arguments, status, title,
        summary, approved_digest, error)
    SELECT a.run_id, opened.id, a.number, a.call_id, a.name, a.arguments, 'pending', '', '', '', ''
    FROM jsonb_to_recordset(%(asks)s::jsonb)
        a(run_id bigint, number int, call_id text, name text, arguments jsonb)
    JOIN opened ON opened.run_id = a.run_id
    RETURNING id, step_id, number
), made AS (
    SELECT opened.run_id, array_prepend(opened.id, array_agg(asked.id ORDER BY asked.number)) AS ids
    FROM opened JOIN asked ON asked.step_id = opened.id GROUP BY opened.run_id, opened.id
)""",
)


def complete_model_steps(wanted: Sequence[Write[CompleteModelStep]]) -> dict[int, Completed]:
    """Persist the models' turns and journal the tool calls that they ask for, by their runs."""
    now = timezone.now()
    prices = prices_at({one.item.route.pk for one in wanted}, now)
    for one in wanted:
        _close(one.item, _price_of(one.item, prices), now)
    asking = {
        one.lease.run_id: _asked(one.lease.run_id, one.item.result.turn.tool_requests)
        for one in wanted
        if one.item.result.turn.tool_requests and one.item.status == StepStatus.DONE
    }
    opened = [_opened(one, now) for one in wanted if one.lease.run_id in asking]
    written = log.write(
        [Batch(one.lease.run_id, one.lease.fence, _last_events(one)) for one in wanted],
        sql=_COMPLETE,
        closes=json.dumps([_closing(one.item.step) for one in wanted], default=str),
        opens=json.dumps(opened),
        asks=json.dumps([asked for calls in asking.values() for asked in calls]),
    )
    taken = [one for one in wanted if one.lease.run_id in written]
    for one in taken:
        one.item.step.last_seq = written[one.lease.run_id].last_seq
    _end(taken, written)
    done = {}
    for one in taken:
        route = one.item.route
        if asked := asking.get(one.lease.run_id):  # the run goes on: with the model as it is now
            price = prices.get(route.pk)
            route = price.model if price is not None else catalog.reloaded(route)
            made = _made(one, asked, written[one.lease.run_id], now)
            done[one.lease.run_id] = Completed(route, *made)
        else:
            done[one.lease.run_id] = Completed(route)
    return done


def _price_of(complete: CompleteModelStep, prices: dict[int, ModelPrice]) -> ModelPrice | None:
    """The price that was valid when the call began: that one was reserved."""
    price, began = prices.get(complete.route.pk), complete.step.started_at
    if price is None or price.valid_from <= began:
        return price
    return prices_at([complete.route.pk], began).get(complete.route.pk, price)


def _close(complete: CompleteModelStep, price: ModelPrice | None, now: datetime) -> None:
    step, usage = complete.step, complete.result.usage
    step.status, step.finished_at = complete.status, now
    step.first_token_ms = complete.result.first_token_ms
    step.response = clean(complete.result.turn.to_json())
    step.input_tokens, step.output_tokens = usage.input, usage.output
    step.cache_read_tokens, step.cache_write_tokens = usage.cache_read, usage.cache_write
    step.usage_estimated, step.usage_details = usage.estimated, usage.details or None
    step.cost = price.cost(usage) if price else None


def _closing(step: Step) -> JSON:
    names = (
        "run_id",
        "status",
        "finished_at",
        "first_token_ms",
        "response",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "usage_estimated",
        "usage_details",
        "cost",
    )
    return {"step_id": step.pk, **{name: getattr(step, name) for name in names}}


def _last_events(one: Write[CompleteModelStep]) -> list[NewEvent]:
    step, result = one.item.step, one.item.result
    assert step.finished_at is not None
    data = {
        "step": step.number,
        "kind": step.kind,
        "model": step.model_name,
        "finish_reason": result.turn.finish_reason,
        "first_token_ms": step.first_token_ms,
        "duration_ms": int((step.finished_at - step.started_at).total_seconds() * 1000),
        "usage": {
            "input_tokens": step.input_tokens,
            "output_tokens": step.output_tokens,
            "cache_read_tokens": step.cache_read_tokens,
            "cache_write_tokens": step.cache_write_tokens,
            "estimated": step.usage_estimated,
        },
        "cost_usd": None if step.cost is None else f"{step.cost:f}",
    }
    events = [NewEvent("step.completed", data)]
    if result.turn.text and step.kind == StepKind.MODEL:
        sources = list(one.item.sources)
        content = fitting(result.turn.text, 24_000) if sources else fitting(result.turn.text)
        said = {"role": "assistant", "content": content, "step": step.number}
        said |= {"sources": sources} if sources else {}
        events.insert(0, NewEvent("message.completed", said))
    return [*one.pending, *events]


def _opened(one: Write[CompleteModelStep], now: datetime) -> JSON:
    return {
        "run_id": one.lease.run_id,
        "number": one.item.step.number + 1,
        "attempt": one.lease.attempt,
        "started_at": now.isoformat(),
    }


def _asked(run_id: int, requests: Sequence[ToolRequest]) -> list[JSON]:
    return [
        {
            "run_id": run_id,
            "number": number,
            "call_id": clean(request.call_id[:200]),
            "name": clean(request.name[:200]),
            "arguments": {"raw": clean(request.arguments)},
        }
        for number, request in enumerate(requests)
    ]


def _made(
    one: Write[CompleteModelStep], asked: list[JSON], written: Written, now: datetime
) -> tuple[Step, list[ToolCall]]:
    tools_id, *call_ids = written.ids
    tools = Step(
        pk=tools_id,
        run=one.item.run,
        kind=StepKind.TOOLS,
        status=StepStatus.RUNNING,
        first_seq=written.last_seq + 1,
        number=one.item.step.number + 1,
        attempt=one.lease.attempt,
        started_at=now,
    )
    calls = [
        ToolCall(pk=pk, step=tools, status=CallStatus.PENDING, **columns)
        for pk, columns in zip(call_ids, asked, strict=True)
    ]
    return tools, calls


def _end(taken: list[Write[CompleteModelStep]], written: dict[int, Written]) -> None:
    """End the runs that end with their step; their rows are held since they took its events.

    Copies of them: where the database undoes the transaction, all of it is tried again.
    """
    ended = []
    for one in taken:
        if one.item.outcome is not None:
            run = copy.copy(one.item.run)
            run.last_seq = written[one.lease.run_id].last_seq
            _read_result_from(one.item.outcome.text, run)
            ended.append((run, one.item.outcome))
    if ended:
        endings.finish_all(ended)


def _read_result_from(text: str, run: Run) -> None:
    """A run that owes a result and never gave it may have said it: its closing text, as JSON."""
    if not owes_result(run):
        return
    assert run.output_schema is not None
    run.output_data = result_in(text, run.output_schema)
    if run.output_data is not None:
        run.save(update_fields=["output_data"])


def complete_alone(lease: Lease, pending: list[NewEvent], complete: CompleteModelStep) -> None:
    """`complete_model_steps` of one run. Raises `StaleLease`."""
    with transaction.atomic():
        if not complete_model_steps([Write(lease, pending, complete)]):
            raise StaleLease


def complete_compaction(
    lease: Lease,
    pending: list[NewEvent],
    complete: CompleteModelStep,
    *,
    before: int,
    after: int,
) -> None:
    """Persist a summary of what came before; `before` and `after` are estimated tokens.

    A summary that would make the conversation longer is kept for the record and not used.
    """
    is_shorter = after < before
    data = {
        "step": complete.step.number,
        "before_tokens": before,
        "after_tokens": after,
        "summary": fitting(complete.result.turn.text, 16_000),
    }
    with transaction.atomic():
        complete_alone(lease, pending, complete)
        if not is_shorter:
            Step.objects.filter(pk=complete.step.pk).update(covers_until=None)
            return
        event = NewEvent("run.context_compacted", data)
        log.append_or_raise(lease.run_id, lease.fence, [event])
