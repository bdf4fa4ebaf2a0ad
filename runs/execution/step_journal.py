"""The steps of a run: what a worker writes down before and after it acts.

Beginning and completing a model step are verbs of sets: one statement for all of a worker's runs
that are at that point (`event_buffer.EventWriter`). Runs that are another worker's now, and to
begin with those that should be cancelled, are left out of what they return.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from django.utils import timezone

from runs.budgets import reserving
from runs.budgets.reserving import Breach, Hold
from runs.events import log
from runs.events.log import Batch, StaleLease, Written
from runs.events.payloads import NewEvent, fitting
from runs.gates import budget_gates
from runs.lifecycle import endings, transitions
from runs.lifecycle.transitions import Lease
from runs.models import Run, Step, StepKind
from teammates.knowledge import memories
from teammates.llm import catalog
from teammates.llm.prices import prices_at
from teammates.models import Model
from teammates.providers.base import ModelRequest, TokenUsage
from teammates.text import json_text
from teammates.types import JSON

I = TypeVar("I")  # noqa: E741


@dataclass(frozen=True)
class Write(Generic[I]):
    """One run's part of a set: the events that go in front, and what is to be written."""

    lease: Lease
    pending: list[NewEvent]
    item: I


@dataclass(frozen=True)
class BeginModelStep:
    """A model is about to be called. `told`: what the run is told besides the conversation, with
    its first step."""

    run: Run
    number: int
    request: ModelRequest
    route: Model
    kind: StepKind = StepKind.MODEL
    covers_until: int | None = None
    told: JSON | None = None
    # Where a budget may hold: tokens of the request at most, and of one for a last answer.
    most_input: int = 0
    most_input_to_finish: int = 0


_BEGIN = log.statement(
    before=""", begins AS (
    SELECT * FROM jsonb_to_recordset(%(begins)s::jsonb) b(run_id bigint, number int, kind text,
        covers_until int, attempt int, started_at timestamptz, model_alias text, model_name text,
        request jsonb, told jsonb)
)""",
    only="""AND r.cancel_requested_at IS NULL AND (%(is_reserved)s
        OR NOT EXISTS (SELECT FROM runs_budget b WHERE b.organization_id = r.organization_id))""",
    joins="JOIN begins b ON b.run_id = l.id",
    sets=", model_name = b.model_name, told = coalesce(b.told, r.told)",
    behind=""", begun AS (
    INSERT INTO runs_step (run_id, number, kind, status, covers_until, attempt, first_seq,
        started_at, model_alias, model_name, request, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, usage_estimated, error)
    SELECT b.run_id, b.number, b.kind, 'running', b.covers_until, b.attempt, up.after,
        b.started_at, b.model_alias, b.model_name, b.request, 0, 0, 0, 0, false, ''
    FROM begins b JOIN up ON up.id = b.run_id
    RETURNING id, run_id
), held AS (
    INSERT INTO runs_budgethold (step_id, count_id, amount)
    SELECT begun.id, h.count_id, h.amount
    FROM jsonb_to_recordset(%(holds)s::jsonb) h(run_id bigint, count_id bigint, amount numeric)
    JOIN begun ON begun.run_id = h.run_id
), made AS (
    SELECT run_id, ARRAY[id] AS ids FROM begun
)""",
)


def begin_model_steps(wanted: Sequence[Write[BeginModelStep]]) -> dict[int, Step]:
    """Write down that models are called; the steps by their runs. Those of organizations that have
    budgets are left out: `begin_reserved`."""
    return _begin_all(wanted, timezone.now(), holds=None)


def begin_reserved(
    lease: Lease, pending: list[NewEvent], begin: BeginModelStep
) -> Step | Breach | None:
    """Write down that a model is called, once what that may cost is reserved from all budgets.
    None: the run has ended because it was cancelled, or waits at a budget that asks. A budget that
    stops the run is returned.

    Holds the run's row, then budgets and their counts. Raises `StaleLease`.
    """
    now = timezone.now()
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return None
        price = prices_at([begin.route.pk], now).get(begin.route.pk)
        worst = None
        if price is not None:
            worst = price.most(begin.most_input, begin.request.max_output_tokens)
        holds = reserving.reserve(run, worst, now=now)
        if isinstance(holds, Breach):
            if holds.stops or price is None:
                return holds
            summary = price.most(begin.most_input_to_finish, budget_gates.SUMMARY_TOKENS)
            budget_gates.ask_locked(run, holds, summary)
            return None
        return _begin_all([Write(lease, [], begin)], now, holds=holds)[lease.run_id]


def _begin_all(
    wanted: Sequence[Write[BeginModelStep]], now: datetime, *, holds: Sequence[Hold] | None
) -> dict[int, Step]:
    """`holds` are those of the only run; None: nothing was reserved."""
    steps = {one.lease.run_id: _begun(one, now) for one in wanted}
    written = log.write(
        [
            Batch(one.lease.run_id, one.lease.fence, [*one.pending, *_first_events(one.item)])
            for one in wanted
        ],
        sql=_BEGIN,
        begins=json_text([_beginning(steps[one.lease.run_id], one.item) for one in wanted]),
        is_reserved=holds is not None,
        holds=json.dumps(
            [
                {"run_id": wanted[0].lease.run_id, "count_id": one.count_id, "amount": one.amount}
                for one in holds or ()
            ],
            default=str,
        ),
    )
    told = [one.item for one in wanted if one.lease.run_id in written]
    memories.mark_used([m["id"] for one in told if one.told for m in one.told["memories"]])
    for run_id, made in written.items():
        steps[run_id].pk, steps[run_id].first_seq = made.ids[0], made.last_seq
    return {run_id: steps[run_id] for run_id in written}


def _begun(one: Write[BeginModelStep], now: datetime) -> Step:
    begin = one.item
    return Step(
        run=begin.run,
        number=begin.number,
        kind=begin.kind,
        covers_until=begin.covers_until,
        attempt=one.lease.attempt,
        started_at=now,
        model_alias=begin.route.alias,
        model_name=begin.route.name,
    )


def _beginning(step: Step, begin: BeginModelStep) -> JSON:
    return {
        "run_id": step.run_id,
        "number": step.number,
        "kind": step.kind,
        "covers_until": step.covers_until,
        "attempt": step.attempt,
        "started_at": step.started_at.isoformat(),
        "model_alias": step.model_alias,
        "model_name": step.model_name,
        "request": begin.request.to_json(),
        "told": begin.told,
    }


def _first_events(begin: BeginModelStep) -> list[NewEvent]:
    route = begin.route
    data = {"step": begin.number, "kind": begin.kind, "model": route.alias}
    events = [NewEvent("step.started", data)]
    if begin.run.model_name != route.name:
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
    return [*(_told(begin.told) if begin.told is not None else []), *events]


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


def switch_model(
    lease: Lease, pending: list[NewEvent], *, to: Model, why: JSON, used: TokenUsage | None = None
) -> None:
    """Go on with the fallback of a model that cannot answer."""
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return
        void = _stop_failed(run, why, used)
        data = why | void | {"to_model": to.alias, "provider_kind": to.provider.kind}
        transitions.write(run, lease.fence, [NewEvent("run.provider_fallback", data)])
        Run.objects.filter(pk=run.pk).update(route=to)


def ask_again(
    lease: Lease,
    pending: list[NewEvent],
    *,
    route: Model,
    learned: dict[str, int],
    why: JSON,
    used: TokenUsage | None = None,
) -> None:
    """Go on with the same model within limits that its provider named. They are remembered."""
    with transitions.holding(lease, pending) as run:
        if endings.stop_if_cancelled(run):
            return
        void = _stop_failed(run, why, used)
        data = why | void | learned | {"model": route.alias}
        transitions.write(run, lease.fence, [NewEvent("run.llm.adjusted", data)])
        catalog.learn_limits(route, **learned)


def _stop_failed(run: Run, why: JSON, used: TokenUsage | None) -> JSON:
    message, error_class = str(why["message"]), str(why["error_class"])
    return endings.stop_unfinished_step(run, error=message, error_class=error_class, used=used)


_COMPLETE_TOOLS = log.statement(
    behind=""", closed AS (
    UPDATE runs_step s SET status = 'done', finished_at = %(now)s, last_seq = up.after
    FROM up WHERE s.id = %(step)s RETURNING s.id, s.run_id
), made AS (
    SELECT run_id, ARRAY[id] AS ids FROM closed
)"""
)


def complete_tools_step(lease: Lease, pending: list[NewEvent], *, step: Step) -> Written:
    """A batch of tool calls is over. Raises `StaleLease`."""
    now = timezone.now()
    data = {
        "step": step.number,
        "kind": step.kind,
        "duration_ms": int((now - step.started_at).total_seconds() * 1000),
    }
    events = [*pending, NewEvent("step.completed", data)]
    batch = Batch(lease.run_id, lease.fence, events)
    written = log.write([batch], sql=_COMPLETE_TOOLS, now=now, step=step.pk)
    if not written:
        raise StaleLease
    return written[lease.run_id]
