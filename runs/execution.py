"""The loop that runs a teammate, one step at a time.

load → model call, streamed as events → persist the step → tool calls, journaled → repeat. Every
step is a checkpoint: an attempt that ends anywhere is resumed behind the last finished step.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from config.database import in_db
from runs import context, gates, lifecycle, steps
from runs.events import StaleLease
from runs.lifecycle import Lease, Outcome
from runs.models import CallStatus, Run, RunStatus, Step, StepKind, StepStatus, ToolCall
from runs.recording import RunRecord
from runs.steps import ModelResult
from teammates import connections, tools
from teammates.errors import DomainError
from teammates.fields import clean
from teammates.models import Model, PermissionMode, ProviderKind
from teammates.providers import open_client
from teammates.providers.base import (
    ModelCall,
    ModelRequest,
    ProviderError,
    Said,
    TokenUsage,
    ToolSpec,
    Turn,
    estimate_tokens,
)
from teammates.tools.base import FileListing, Tool, ToolError
from threads import files

logger = logging.getLogger("muster.execution")

MAX_RETRIES = 3
MAX_BAD_CALLS = 5  # malformed or unknown tool calls in a row
LONGEST_DELAY = 60.0  # seconds before a retry


@dataclass
class Attempt:
    """One attempt at a run. `stopping` says why its task is being cancelled."""

    lease: Lease
    record: RunRecord
    stopping: str = ""  # "cancel", "shutdown" or "lost"


@dataclass
class State:
    """What the next step needs, loaded in one go."""

    run: Run
    route: Model
    instructions: str
    conversation: list[Said]
    open_step: Step | None
    open_calls: list[ToolCall]
    turns: int
    retries: int
    bad_calls: int
    tools: list[Tool] = field(default_factory=list)


class _Stopped(Exception):
    """The attempt is over: the run waits, was queued again, or belongs to another worker."""


async def execute(attempt: Attempt) -> None:
    """Run until the run ends, waits, is handed back or belongs to somebody else.

    The outcome is decided here and nowhere else. Cancellation by the worker carries its reason in
    `attempt.stopping`.
    """
    try:
        while await _next_step(attempt):
            attempt.record.raise_if_stale()
    except (_Stopped, StaleLease):
        pass
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
        if attempt.stopping == "cancel":
            await attempt.record.commit(
                lifecycle.finish_run,
                Outcome(RunStatus.CANCELLED, stop_reason="cancelled:person"),
            )
        elif attempt.stopping == "shutdown":
            await attempt.record.commit(lifecycle.release_run)
    except StaleLease:
        pass


async def _fail(attempt: Attempt, error_class: str, message: str) -> None:
    outcome = Outcome(RunStatus.FAILED, error_class=error_class, error_message=message)
    try:
        await attempt.record.commit(lifecycle.finish_run, outcome)
    except StaleLease:
        pass


async def _next_step(attempt: Attempt) -> bool:
    """Do the step that comes next; say whether the run goes on."""
    state = await in_db(_load, attempt.lease)
    if state.open_step is not None:
        await _tools_step(attempt, state)
        return True
    return await _model_step(attempt, state)


# --- load ---------------------------------------------------------------------------------------


def _load(lease: Lease) -> State:
    run = (
        Run.objects.select_related(
            "thread", "teammate", "teammate_version", "prompt", "route__provider__organization"
        )
        .filter(pk=lease.run_id, fence=lease.fence)
        .first()
    )
    if run is None:
        raise StaleLease
    route = run.route or connections.resolve_model(run.organization)
    done = list(run.steps.defer("request", "response").order_by("number"))
    open_step = next((s for s in done if s.status == StepStatus.RUNNING), None)
    return State(
        run=run,
        route=route,
        instructions=context.instructions(run),
        conversation=context.conversation(run),
        open_step=open_step,
        open_calls=list(open_step.tool_calls.order_by("number")) if open_step else [],
        turns=sum(s.kind == StepKind.MODEL and s.status == StepStatus.DONE for s in done),
        retries=_trailing_errors(done),
        bad_calls=_trailing_bad_calls(run),
        tools=tools.offered(
            disabled=run.teammate_version.disabled_tools,
            may_ask=run.human_in_the_loop,
            for_end_user=run.end_user_id is not None,
            demo=route.provider.kind == ProviderKind.DEMO,
        ),
    )


def _trailing_errors(done: list[Step]) -> int:
    count = 0
    for step in reversed(done):
        if step.status == StepStatus.DONE:
            break
        count += bool(step.error)
    return count


def _trailing_bad_calls(run: Run) -> int:
    count = 0
    over = run.tool_calls.exclude(finished_at=None)
    for call in over.order_by("-step_id", "-number")[:MAX_BAD_CALLS]:
        if not call.error.startswith(_BAD_CALL):
            break
        count += 1
    return count


# --- the model ----------------------------------------------------------------------------------


async def _model_step(attempt: Attempt, state: State) -> bool:
    run, route = state.run, state.route
    if state.turns >= run.max_turns:
        raise ProviderError(
            "run.max_turns",
            f"The run used its {run.max_turns} turns. Raise max_turns or split the work.",
        )
    client = await open_client(route.provider.connection)
    request = ModelRequest(
        model=route.name,
        instructions=state.instructions,
        conversation=state.conversation,
        tools=[ToolSpec(t.name, t.description, t.schema) for t in state.tools],
        max_output_tokens=route.max_output_tokens,
        effort=run.effort,
        retries=state.retries,
    )
    step = await attempt.record.commit(steps.begin_model_step, request=request, route=route)
    if step is None:
        raise _Stopped
    streamed = _Streamed(request, step)
    try:
        async with client.call(request) as call:
            streamed.call = call
            await _stream(attempt, call, streamed)
            streamed.is_finished = True
            result = streamed.result()
    except asyncio.CancelledError:
        if attempt.stopping != "cancel":
            raise
        await _cancel_model_step(attempt, route, streamed)
        raise _Stopped from None
    except ProviderError as error:
        await _retry_or_raise(attempt, state, streamed, error)
        raise _Stopped from None
    outcome = None
    if not result.turn.tool_requests:
        outcome = Outcome(
            RunStatus.COMPLETED,
            text=result.turn.text,
            stop_reason=_stop_reason(result.turn.finish_reason),
        )
    await attempt.record.commit(
        steps.complete_model_step, step=step, route=route, result=result, outcome=outcome
    )
    return outcome is None


class _Streamed:
    """What came of a model call so far, also when it is cut short."""

    def __init__(self, request: ModelRequest, step: Step) -> None:
        self.step = step
        self.call: ModelCall | None = None
        self.first_token_ms: int | None = None
        self.is_finished = False
        self._request = request
        self._began = time.monotonic()
        self._answered = 0  # bytes

    def note(self, text: str) -> bool:
        """Count a delta; say whether it is the first."""
        self._answered += len(text.encode(errors="replace"))
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
        sent = json.dumps(self._request.to_json(), ensure_ascii=False, default=str)
        return TokenUsage(
            input=told.input if told else estimate_tokens(sent),
            output=max(told.output if told else 0, -(-self._answered // 4)),
            cache_read=told.cache_read if told else 0,
            cache_write=told.cache_write if told else 0,
            estimated=True,
        )


async def _stream(attempt: Attempt, call: ModelCall, streamed: _Streamed) -> None:
    record = attempt.record
    number = streamed.step.number
    async for delta in call:
        record.raise_if_stale()
        urgent = streamed.note(delta.text)
        if delta.kind == "text":
            data = {"role": "assistant", "content": delta.text, "content_delta": delta.text,
                    "step": number, "attempt": attempt.lease.attempt}  # fmt: skip
            record.delta("message.delta", data, "content", "content_delta", urgent=urgent)
        elif delta.kind == "thinking":
            # No `content`: a client that knows only that key must not print thoughts.
            data = {"role": "assistant", "channel": "thinking", "content_delta": delta.text,
                    "step": number, "attempt": attempt.lease.attempt}  # fmt: skip
            record.delta("message.delta", data, "content_delta", urgent=urgent)
        else:
            data = {"tool_call_id": delta.call_id, "tool_name": delta.name,
                    "arguments_delta": delta.text, "step": number,
                    "attempt": attempt.lease.attempt}  # fmt: skip
            record.delta("tool.call.delta", data, "arguments_delta", urgent=urgent)


async def _cancel_model_step(attempt: Attempt, route: Model, streamed: _Streamed) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    result = streamed.result()
    await attempt.record.commit(
        steps.stop_model_step,
        step=streamed.step,
        route=route,
        result=result,
        outcome=Outcome(RunStatus.CANCELLED, text=result.turn.text, stop_reason="cancelled:person"),
    )


async def _retry_or_raise(
    attempt: Attempt, state: State, streamed: _Streamed, error: ProviderError
) -> None:
    """Queue the run again after a transient error, or let it fail with what was used booked."""
    if error.is_transient and state.retries < MAX_RETRIES:
        delay = min(error.retry_after or settings.RETRY_SECONDS * 2**state.retries, LONGEST_DELAY)
        await attempt.record.commit(
            lifecycle.retry_later,
            delay=delay,
            why={
                "attempt": state.retries + 1,
                "max_attempts": MAX_RETRIES,
                "error_class": error.error_class,
                "message": str(error),
            },
        )
        return
    outcome = Outcome(RunStatus.FAILED, error_class=error.error_class, error_message=str(error))
    if streamed.first_token_ms is None:
        await attempt.record.commit(lifecycle.finish_run, outcome)
    else:
        await attempt.record.commit(
            steps.stop_model_step, step=streamed.step, route=state.route,
            result=streamed.result(), outcome=outcome,
        )  # fmt: skip


def _stop_reason(finish_reason: str) -> str:
    return {"stop": "end_turn", "length": "max_tokens"}.get(finish_reason, finish_reason)


# --- tools --------------------------------------------------------------------------------------

_BAD_CALL = "The call was not made: "


async def _tools_step(attempt: Attempt, state: State) -> None:
    assert state.open_step is not None
    for call in state.open_calls:
        if not call.is_over:
            await _one_call(attempt, state, call)
            attempt.record.raise_if_stale()
    await attempt.record.commit(steps.complete_tools_step, step=state.open_step)


async def _one_call(attempt: Attempt, state: State, call: ToolCall) -> None:
    tool = {tool.name: tool for tool in state.tools}.get(call.name)
    arguments, wrong = _read_arguments(tool, call)
    if tool is None or wrong:
        await _refuse_bad_call(attempt, state, call, wrong)
        return
    if call.status in (CallStatus.RUNNING, CallStatus.UNKNOWN) and not tool.may_repeat:
        # The attempt before died between the call and its result (design invariant 5).
        await _wait_at(attempt, gates.unknown_effect(call, tool, arguments))
    if not call.approved and (need := _needs_person(state.run, tool)):
        if not state.run.human_in_the_loop:
            await attempt.record.commit(
                steps.finish_call, call=call, status=CallStatus.DENIED,
                result={"reason": "non_interactive"},
                error=f"{tool.title} {need}, and nobody can be asked in this run.",
            )  # fmt: skip
            return
        await _wait_at(attempt, gates.approval(call, tool, arguments))
    if tool.run is None:
        await _wait_at(attempt, gates.question(call, tool, arguments))
    await _run_tool(attempt, state, call, tool, arguments)


def _read_arguments(tool: Tool | None, call: ToolCall) -> tuple[Any, str]:
    """The arguments as an object, and what is wrong with them."""
    if tool is None:
        return None, f"there is no tool {call.name!r}"
    arguments = call.arguments
    if call.status == CallStatus.PENDING and arguments and set(arguments) == {"raw"}:
        try:
            arguments = json.loads(arguments["raw"] or "{}")
        except ValueError as error:
            return None, f"the arguments are not JSON ({error})"
    return arguments, tool.check(arguments)


async def _refuse_bad_call(attempt: Attempt, state: State, call: ToolCall, wrong: str) -> None:
    state.bad_calls += 1
    await attempt.record.commit(
        steps.finish_call, call=call, status=CallStatus.FAILED, error=_BAD_CALL + wrong + "."
    )
    if state.bad_calls >= MAX_BAD_CALLS:
        raise ProviderError(
            "model.bad_tool_calls",
            f"The model made {state.bad_calls} tool calls in a row that do not fit ({wrong}). "
            "Try again, or choose a stronger model.",
        )


def _needs_person(run: Run, tool: Tool) -> str:
    """Why a person has to approve the call; empty if nobody has to."""
    if tool.approval == "always":
        return "always needs an approval"
    if tool.approval == "by_mode" and tool.changes:
        # A reply is not let loose: the teammate's own mode counts for what changes something.
        modes = {run.permission_mode}
        if run.reply_to_id is not None and not run.human_in_the_loop:
            modes.add(run.teammate_version.permission_mode)
        if modes - {PermissionMode.AUTONOMOUS}:
            return "changes something"
    return ""


async def _wait_at(attempt: Attempt, gate: gates.NewGate) -> None:
    """Stop the attempt at a gate: the run waits in the database."""
    await attempt.record.commit(lifecycle.await_gate, gate.row, gate.events)
    raise _Stopped


async def _run_tool(
    attempt: Attempt, state: State, call: ToolCall, tool: Tool, arguments: Any
) -> None:
    assert tool.run is not None
    record = attempt.record
    if not await record.commit(steps.begin_call, call=call, arguments=arguments):
        raise _Stopped
    running = asyncio.ensure_future(
        _within(tool.timeout, tool.run(_Tools(attempt, state.run), clean(arguments)))
    )
    try:
        result = await asyncio.shield(running)
    except asyncio.CancelledError:
        await _let_end(attempt, running, call, tool)
        raise
    except TimeoutError:
        error = f"{tool.title} took longer than {tool.timeout:g} seconds."
        await record.commit(steps.finish_call, call=call, status=CallStatus.FAILED, error=error)
    except StaleLease:
        raise
    except (ToolError, DomainError) as error:
        await record.commit(
            steps.finish_call, call=call, status=CallStatus.FAILED, error=str(error)
        )
    except Exception as error:
        # A tool that breaks is the model's news, never the end of the run.
        logger.exception("Tool %s broke", tool.name)
        said = f"{tool.title} broke: {type(error).__name__}."
        await record.commit(steps.finish_call, call=call, status=CallStatus.FAILED, error=said)
    else:
        await record.commit(steps.finish_call, call=call, status=CallStatus.DONE, result=result)


async def _within(seconds: float, work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(seconds):
        return await work


async def _let_end(
    attempt: Attempt, running: "asyncio.Future[Any]", call: ToolCall, tool: Tool
) -> None:
    """A cancel during a call: reading stops, a change is waited for and written down."""
    if not tool.changes:
        running.cancel()
        await asyncio.wait([running], timeout=1)
        return
    await asyncio.wait([running], timeout=tool.timeout)
    if not running.done() or running.cancelled():
        running.cancel()
        status, outcome = CallStatus.UNKNOWN, {"error": "The run was stopped during this call."}
    elif error := running.exception():
        status, outcome = CallStatus.FAILED, {"error": str(error)}
    else:
        status, outcome = CallStatus.DONE, {"result": running.result()}
    await attempt.record.commit(steps.finish_call, call=call, status=status, **outcome)


def fitting_items(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items with their texts cut so that all of them fit into one event."""
    longest = 40_000 // max(len(items), 1) // 4  # characters of up to four bytes
    return [item | {"text": item["text"][:longest]} for item in items]


class _Tools:
    """The verbs a tool may use (`tools.base.ToolContext`), bound to one attempt."""

    def __init__(self, attempt: Attempt, run: Run) -> None:
        self._attempt = attempt
        self._run = run

    async def list_files(self) -> list[FileListing]:
        current = await in_db(files.current_files, self._run.thread)
        return [FileListing(file.name, file.size) for file in current]

    async def read_file(self, name: str) -> bytes | None:
        return await in_db(self._read, name)

    def _read(self, name: str) -> bytes | None:
        file = files.find_file(self._run.thread, name)
        return files.read_file(file) if file else None

    async def write_file(self, name: str, content: bytes) -> FileListing:
        file = await self._attempt.record.commit(steps.write_run_file, name=name, content=content)
        return FileListing(file.name, file.size)

    async def update_todos(self, items: list[dict[str, Any]]) -> None:
        self._attempt.record.say("todo.updated", {"items": fitting_items(items)})
