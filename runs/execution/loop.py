"""The loop that runs a teammate, one step at a time.

load → model call, streamed as events → persist the step → tool calls, journaled → repeat. Every
step is a checkpoint: an attempt that ends anywhere is resumed behind the last finished step.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn

from django.conf import settings
from django.db import OperationalError

from config.database import in_db
from runs.events.log import StaleLease
from runs.execution import compaction, context, step_journal, tool_step
from runs.execution.attempt import Attempt, State, Stopped
from runs.execution.event_buffer import RunRecord
from runs.execution.step_journal import ModelResult
from runs.lifecycle import endings, leases
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import Run, RunStatus, Step, StepKind, StepStatus
from runs.tools import toolbox
from teammates.errors import DomainError
from teammates.integrations import discovery
from teammates.llm import catalog
from teammates.models import Effort, Model, ServerKind, ToolServer
from teammates.providers import open_client
from teammates.providers.base import (
    Delta,
    ModelCall,
    ModelRequest,
    ProviderError,
    TokenUsage,
    ToolSpec,
    Turn,
    estimate_tokens,
)
from teammates.text import read_json
from teammates.tools.masking import masked_json

logger = logging.getLogger("muster.execution")
MAX_RETRIES = 3
LARGEST_TURN = 4 * 1024 * 1024  # bytes of what a model says at once
LONGEST_DELAY = 60.0  # seconds before a retry
# Where nobody watches, a run is patient: more retries behind the quick ones, further and further.
PATIENT_RETRIES = 4
LONGEST_PATIENCE = 3600.0
RECHECK_SECONDS = 60  # until a run asks an MCP server again what it offers
# What another model may well be able to answer.
FALL_BACK_ON = (
    "provider.overloaded",
    "provider.rate_limited",
    "provider.unreachable",
    "provider.failed",
    "provider.quota_exceeded",
    "provider.unauthorized",
    "provider.model_not_found",
    "provider.malformed",
    "incomplete_stream",
    "config.missing",
)


async def execute(attempt: Attempt) -> None:
    """Run until the run ends, waits, is handed back or belongs to somebody else.

    The outcome is decided here and nowhere else. Cancellation by the worker carries its reason in
    `attempt.stopping`.
    """
    try:
        while await _next_step(attempt):
            attempt.record.raise_if_stale()
    except (Stopped, StaleLease):
        pass
    except OperationalError:
        # The database is away, which ends no run: the next attempt goes on from the last step.
        logger.exception("Run %s lost the database", attempt.lease.run_id)
    except asyncio.CancelledError:
        await _stop(attempt)
    except ProviderError as error:
        await _fail(attempt, error.error_class, str(error))
    except DomainError as error:
        await _fail(attempt, error.code, error.message)
    except Exception as error:
        logger.exception("Run %s failed", attempt.lease.run_id)
        await _fail(
            attempt,
            "internal.error",
            f"Something went wrong inside Muster ({type(error).__name__}). "
            "The log of the worker has the details; try the run again.",
        )


async def _stop(attempt: Attempt) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()  # what follows must not be interrupted by the same request
    try:
        if outcome := _OUTCOMES.get(attempt.stopping):
            await attempt.record.commit(endings.finish_run, outcome())
        elif attempt.stopping == "shutdown":
            await attempt.record.commit(leases.release_run)
    except StaleLease:
        pass


def _cancelled() -> Outcome:
    return Outcome(RunStatus.CANCELLED, stop_reason="cancelled:person")


def _too_long() -> Outcome:
    return Outcome(
        RunStatus.FAILED,
        error_class="run.too_long",
        error_message=f"The run was at work for {settings.RUN_SECONDS / 3600:g} hours without a "
        "pause, and was stopped. Split the work, or let an operator raise MUSTER_RUN_SECONDS.",
    )


# How a run ends whose attempt the worker stops for this.
_OUTCOMES = {"cancel": _cancelled, "too_long": _too_long}


async def _fail(attempt: Attempt, error_class: str, message: str) -> None:
    outcome = Outcome(RunStatus.FAILED, error_class=error_class, error_message=message)
    try:
        await attempt.record.commit(endings.finish_run, outcome)
    except StaleLease:
        pass


async def _next_step(attempt: Attempt) -> bool:
    """Do the step that comes next; say whether the run goes on."""
    state = await in_db(_load, attempt.lease)
    if state.open_step is not None:
        await tool_step.tools_step(attempt, state)
        return True
    if state.run.told is None:
        await _gather(state)
    return await _model_step(attempt, state)


# --- load ---------------------------------------------------------------------------------------
def _load(lease: Lease) -> State:
    run = (
        Run.objects.select_related(
            "thread",
            "teammate",
            "teammate_version",
            "prompt",
            "route__provider__organization",
            "organization",
            "end_user",
            "task",
        )
        .filter(pk=lease.run_id, fence=lease.fence)
        .first()
    )
    if run is None:
        raise StaleLease
    run.route = run.route or catalog.resolve_model(run.organization)
    done = list(run.steps.defer("request", "response").order_by("number"))
    open_step = next((s for s in done if s.status == StepStatus.RUNNING), None)
    state = State(
        run=run,
        route=run.route,
        toolbox=toolbox.tools_of_run(run),
        turns=sum(s.kind == StepKind.MODEL and s.status == StepStatus.DONE for s in done),
        retries=_trailing_errors(done, run.route),
    )
    if open_step is not None and open_step.kind == StepKind.TOOLS:
        state.open_step = open_step
        state.open_calls = list(open_step.tool_calls.select_related("step").order_by("number"))
        state.bad_calls = tool_step.trailing_bad_calls(run)
    else:
        state.instructions = context.instructions(run)
        state.request = context.request_of(run)
        is_compacted = any(step.covers_until is not None for step in done)
        state.conversation = context.conversation(run, state.request, is_compacted=is_compacted)
    return state


def _trailing_errors(done: list[Step], route: Model) -> int:
    """How often this model failed at the step that is next."""
    count = 0
    for step in reversed(done):
        if step.status == StepStatus.DONE:
            break
        count += bool(step.error) and step.model_name == route.name
    return count


async def _gather(state: State) -> None:
    """Ask the run's servers what they offer, and choose what it is told, once."""
    run = state.run
    named = await in_db(toolbox.servers_of, run)
    attached = [server for server in named if server.may_be_used]  # type: ignore[attr-defined]
    changes = await asyncio.gather(*(_refreshed(server) for server in attached))
    told = await in_db(context.gather, run)
    told |= {
        "failing_servers": [
            {"server": server.slug, "name": server.name, "reason": server.status_reason}
            for server in attached
            if server.is_failing
        ],
        "changed_servers": [change for change in changes if change],
        "not_allowed": [server.name for server in named if server not in attached],
        "not_connected": [
            name for name in run.tools if name not in {server.slug for server in named}
        ],
    }
    run.told = state.gathered = told
    if attached or told["skills"]:
        state.toolbox = await in_db(toolbox.tools_of_run, run)
    state.instructions = context.instructions(run)


async def _refreshed(server: ToolServer) -> dict[str, Any]:
    """Ask a server what it offers, unless it said so just now; what changed, if anything did."""
    if server.kind == ServerKind.REST_API or discovery.is_fresh(server, RECHECK_SECONDS):
        return {}
    before = server.described
    checked = await discovery.ask(server.connection)
    await in_db(discovery.record_check, server, checked)
    difference = discovery.difference(before, server.described)
    return {"server": server.slug, "name": server.name, **difference} if difference else {}


# --- the model ----------------------------------------------------------------------------------
async def _model_step(attempt: Attempt, state: State) -> bool:
    run, route = state.run, state.route
    if state.turns >= run.max_turns:
        raise ProviderError(
            "run.max_turns",
            f"The run used its {run.max_turns} turns. Raise max_turns or split the work.",
        )
    if await _compact(attempt, state):
        return True
    request = ModelRequest(
        model=route.name,
        instructions=state.instructions,
        conversation=state.conversation,
        tools=[ToolSpec(t.name, t.description, t.schema) for t in state.toolbox.tools.values()],
        max_output_tokens=route.max_output_tokens,
        effort=_clamped(run.effort, route),
        retries=state.retries,
    )
    step = await attempt.record.commit(
        step_journal.begin_model_step, request=request, route=route, told=state.gathered
    )
    if step is None:
        raise Stopped
    result = await _answered(attempt, state, _Streamed(request, step))
    if result is None:
        return True
    outcome = None
    if not result.turn.tool_requests:
        outcome = Outcome(
            RunStatus.COMPLETED,
            text=result.turn.text,
            stop_reason=_stop_reason(result.turn.finish_reason),
        )
    await attempt.record.commit(
        step_journal.complete_model_step, step=step, route=route, result=result, outcome=outcome
    )
    return outcome is None


async def _answered(attempt: Attempt, state: State, streamed: "_Streamed") -> ModelResult | None:
    """Make the model call of a step that was begun. None: the model failed, and the run goes on
    without this answer; where it does not go on, `Stopped` is raised."""
    try:
        client = await open_client(state.route.provider.connection)
        async with (
            _no_longer_than(settings.MODEL_CALL_SECONDS),
            client.call(streamed.request) as call,
        ):
            streamed.call = call
            await _stream(attempt, call, streamed)
            streamed.is_finished = True
            return streamed.result()
    except asyncio.CancelledError:
        outcome = _OUTCOMES.get(attempt.stopping)
        if outcome is None:
            raise
        await _stop_model_step(attempt, state.route, streamed, outcome())
        raise Stopped from None
    except ProviderError as error:
        await _recover(attempt, state, streamed, error)
        return None


def _clamped(effort: str, route: Model) -> str:
    """Never more effort than the model takes, and never refused for asking."""
    order = list(Effort.values)
    if not effort:
        return ""
    return order[min(order.index(effort), order.index(route.max_effort))]


async def _compact(attempt: Attempt, state: State) -> bool:
    """Summarise the beginning of a conversation that nears the model's window; True if so."""
    route = state.route
    if not compaction.is_near(route, state.instructions, state.conversation):
        return False
    plan = await in_db(compaction.plan, state.run, route, state.instructions, state.conversation)
    if plan is None:
        return False
    step = await attempt.record.commit(
        step_journal.begin_model_step,
        request=plan.request,
        route=route,
        kind=StepKind.COMPACTION,
        covers_until=plan.covers_until,
        told=state.gathered,
    )
    if step is None:
        raise Stopped
    result = await _answered(attempt, state, _Streamed(plan.request, step))
    if result is None:
        return True
    summary = context.summarised(result.turn.text, state.request)
    after = compaction.size_of("", summary) if result.turn.text.strip() else plan.before
    await attempt.record.commit(
        step_journal.complete_compaction,
        step=step,
        route=route,
        result=result,
        before=plan.before,
        after=after,
    )
    return True


class _Streamed:
    """What came of a model call so far, also when it is cut short."""

    def __init__(self, request: ModelRequest, step: Step) -> None:
        self.step = step
        self.call: ModelCall | None = None
        self.first_token_ms: int | None = None
        self.is_finished = False
        self.request = request
        self._began = time.monotonic()
        self._answered = 0  # bytes

    def note(self, text: str) -> bool:
        """Count a delta; say whether it is the first. Raises `ProviderError` for too large a
        turn, which would be kept, sent again and shown."""
        self._answered += len(text.encode(errors="replace"))
        if self._answered > LARGEST_TURN:
            raise ProviderError(
                "answer_too_large",
                f"The model's answer was stopped: it is larger than {LARGEST_TURN // 2**20} MB.",
            )
        if self.first_token_ms is not None:
            return False
        self.first_token_ms = int((time.monotonic() - self._began) * 1000)
        return True

    def result(self) -> ModelResult:
        turn = self.call.turn if self.call else Turn([], "cancelled")
        return ModelResult(turn, self._usage(), self.first_token_ms)

    def _usage(self) -> TokenUsage:
        told = self.call.usage if self.call else None
        if told is not None and self.is_finished:
            return told
        # The provider never told the whole (a cancelled call): estimated, and marked so.
        sent = json.dumps(self.request.to_json(), ensure_ascii=False, default=str)
        return TokenUsage(
            input=told.input if told else estimate_tokens(sent),
            output=max(told.output if told else 0, -(-self._answered // 4)),
            cache_read=told.cache_read if told else 0,
            cache_write=told.cache_write if told else 0,
            estimated=True,
        )


async def _stream(attempt: Attempt, call: ModelCall, streamed: _Streamed) -> None:
    record = attempt.record
    about = {"step": streamed.step.number, "attempt": attempt.lease.attempt}
    asked = _AskedFor(record, about)
    async for delta in call:
        record.raise_if_stale()
        urgent = streamed.note(delta.text)
        if streamed.step.kind == StepKind.COMPACTION:
            continue  # nobody is told the summary piece by piece
        if delta.kind == "tool":
            asked.add(delta)
            continue
        asked.tell()
        if delta.kind == "text":
            data = {"role": "assistant", "content": delta.text, "content_delta": delta.text}
            record.delta("message.delta", data | about, "content", "content_delta", urgent=urgent)
        else:
            # No `content`: a client that knows only that key must not print thoughts.
            data = {"role": "assistant", "channel": "thinking", "content_delta": delta.text}
            record.delta("message.delta", data | about, "content_delta", urgent=urgent)
    asked.tell()


class _AskedFor:
    """The tool call that a model is writing. That it is called is told at once, its arguments when
    they are whole: only then can secrets in them be masked."""

    def __init__(self, record: RunRecord, about: dict[str, Any]) -> None:
        self._record, self._about = record, about
        self._delta: Delta | None = None
        self._text = ""

    def add(self, delta: Delta) -> None:
        if self._delta is None or self._delta.call_id != delta.call_id:
            self.tell()
            self._delta = delta
            self._say("", urgent=True)
        self._text += delta.text

    def tell(self) -> None:
        if self._delta is not None and self._text:
            shown = masked_json(self._text)
            is_same = json.dumps(shown) == json.dumps(_as_value(self._text))
            self._say(self._text if is_same else json.dumps(shown, ensure_ascii=False))
        self._delta, self._text = None, ""

    def _say(self, text: str, *, urgent: bool = False) -> None:
        assert self._delta is not None
        data = {
            "tool_call_id": self._delta.call_id,
            "tool_name": self._delta.name,
            "arguments_delta": text,
        }
        self._record.delta("tool.call.delta", data | self._about, "arguments_delta", urgent=urgent)


def _as_value(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return None


@asynccontextmanager
async def _no_longer_than(seconds: float) -> AsyncIterator[None]:
    """A provider that sends a little for ever is as silent as one that sends nothing."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ProviderError(
            "provider.too_slow",
            f"The model did not finish its answer within {seconds:g} seconds. Try again, or let "
            "an operator raise MUSTER_MODEL_CALL_SECONDS.",
        ) from None


async def _stop_model_step(
    attempt: Attempt, route: Model, streamed: _Streamed, outcome: Outcome
) -> None:
    """End the run in the middle of an answer, with what was said and used so far."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    result = streamed.result()
    await attempt.record.commit(
        step_journal.stop_model_step,
        step=streamed.step,
        route=route,
        result=result,
        outcome=replace(outcome, text=result.turn.text),
    )


async def _recover(
    attempt: Attempt, state: State, streamed: _Streamed, error: ProviderError
) -> None:
    """After an error of the model: queue the run again, go on with its fallback, or let it fail
    with what was used booked. Raises `Stopped` unless the run goes on at once."""
    if error.is_transient and state.retries < MAX_RETRIES:
        delay = error.retry_after or settings.RETRY_SECONDS * 2**state.retries
        await _retry_later(attempt, state, error, min(delay, LONGEST_DELAY))
    fallback = await in_db(catalog.fallback_of, state.route)
    if fallback is not None and error.error_class in FALL_BACK_ON:
        await attempt.record.commit(
            step_journal.switch_model,
            to=fallback,
            why={
                "from_model": state.route.alias,
                "error_class": error.error_class,
                "message": str(error),
            },
        )
        return
    patience = state.retries - MAX_RETRIES
    if error.is_transient and state.run.is_triggered and patience < PATIENT_RETRIES:
        delay = max(error.retry_after or 0, settings.PATIENT_RETRY_SECONDS * 5**patience)
        await _retry_later(attempt, state, error, min(delay, LONGEST_PATIENCE))
    outcome = Outcome(RunStatus.FAILED, error_class=error.error_class, error_message=str(error))
    if streamed.first_token_ms is None:
        await attempt.record.commit(endings.finish_run, outcome)
    else:
        await attempt.record.commit(
            step_journal.stop_model_step,
            step=streamed.step,
            route=state.route,
            result=streamed.result(),
            outcome=outcome,
        )
    raise Stopped


async def _retry_later(
    attempt: Attempt, state: State, error: ProviderError, delay: float
) -> NoReturn:
    """`delay` in seconds. Raises `Stopped`."""
    most = MAX_RETRIES + (PATIENT_RETRIES if state.run.is_triggered else 0)
    await attempt.record.commit(
        leases.retry_later,
        delay=delay,
        why={
            "attempt": state.retries + 1,
            "max_attempts": most,
            "error_class": error.error_class,
            "message": str(error),
        },
    )
    raise Stopped


def _stop_reason(finish_reason: str) -> str:
    return {"stop": "end_turn", "length": "max_tokens"}.get(finish_reason, finish_reason)
