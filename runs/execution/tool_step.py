"""Tool calls: judged, asked for, journaled before and after, made at most once (invariant 5)."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from config.database import in_db
from runs.events.log import StaleLease
from runs.execution import call_journal, context, repeats, step_journal
from runs.execution.attempt import Attempt, LoadedRun, Stopped
from runs.execution.repeats import BAD_CALL
from runs.execution.tool_context import RunToolContext
from runs.gates import loop_gates, opening, policy
from runs.models import CallStatus, GateKind, Run, ToolCall
from teammates.errors import DomainError
from teammates.providers.base import ProviderError, Turn
from teammates.text import clean, read_json
from teammates.tools import ask
from teammates.tools.base import Means, Tool, ToolError, UnknownEffect

logger = logging.getLogger("muster.calling")
MAXBAD_CALLS = 5  # malformed or unknown tool calls in a row
FINISHING = "The call was not made: the run is to end with its next answer."


async def tools_step(attempt: Attempt, loaded: LoadedRun) -> None:
    """Make the open calls of a batch, in order; one that needs a person ends the attempt."""
    assert loaded.open_step is not None
    count = repeats.count_to_ask_about(loaded.conversation)
    if count and not loaded.run.is_finishing:
        # Once it may go on, another attempt makes the calls: that one carries no conversation.
        await attempt.events.commit(loop_gates.ask, call=loaded.open_calls[0], count=count)
        raise Stopped
    for call in loaded.open_calls:
        while not call.is_over:
            await _one_call(attempt, loaded, call)
            attempt.events.raise_if_stale()
    now = await attempt.events.commit(step_journal.complete_tools_step, step=loaded.open_step)
    if not loaded.conversation:
        attempt.loaded = None  # the attempt began with this batch: nothing was loaded but that
        return
    loaded.go_on_with_model([context.returned(call) for call in loaded.open_calls], now)


def trailing_bad_calls(run: Run) -> int:
    count = 0
    over = run.tool_calls.exclude(finished_at=None)
    for call in over.order_by("-step_id", "-number")[:MAXBAD_CALLS]:
        if not call.error.startswith(BAD_CALL):
            break
        count += 1
    return count


async def _one_call(attempt: Attempt, loaded: LoadedRun, call: ToolCall) -> None:
    """Bring a call one step further: refused, asked for, or made."""
    if loaded.run.is_finishing:
        await attempt.events.commit(
            call_journal.finish_call, call=call, status=CallStatus.FAILED, error=FINISHING
        )
        return
    tool = loaded.toolbox.get(call.name)
    is_begun = call.status in (CallStatus.RUNNING, CallStatus.UNKNOWN)
    if is_begun and not (tool and tool.may_repeat):
        # It broke off between the call and its result: a person says what happened, also where the
        # tool is no longer there or takes other arguments now.
        await _wait(attempt, call, tool or _as_it_was(call), call.arguments, GateKind.UNKNOWN)
        return
    if tool is None and call.name in loaded.toolbox.missing:
        await attempt.events.commit(
            call_journal.finish_call,
            call=call,
            status=CallStatus.FAILED,
            error=loaded.toolbox.missing[call.name],
        )
        return
    limit = loaded.route.max_output_tokens if _was_cut_off(loaded) else None
    arguments, wrong = await _read_arguments(tool, call, limit)
    if tool is None or wrong:
        await _refuse_bad_call(attempt, loaded, call, wrong, limit)
        return
    loaded.bad_calls = 0
    if tool.asks_a_person:
        kind = GateKind.PLAN if ask.is_plan(arguments) else GateKind.QUESTION
        await _wait(attempt, call, tool, arguments, kind)
        return
    decision = None
    is_approved = call.approved_digest == tool.digest(arguments)
    if not is_approved and loaded.toolbox.may_ask_about(tool):
        decision = await in_db(policy.evaluate, loaded.run.pk, tool, arguments)
        if decision.kind == "refuse":
            await attempt.events.commit(
                call_journal.finish_call,
                call=call,
                status=CallStatus.DENIED,
                result={"reason": decision.reason},
                error=decision.why,
            )
            return
        if decision.kind == "ask":
            await _wait(attempt, call, tool, arguments, GateKind.APPROVAL, decision)
            return
    begin = call_journal.perform_call if tool.run == Means.DOMAIN else call_journal.begin_call
    try:
        goes_on = await attempt.events.commit(
            begin, call=call, tool=tool, arguments=arguments, decision=decision
        )
    except call_journal.PolicyChanged:
        return
    if not goes_on:
        raise Stopped
    if tool.run != Means.DOMAIN:
        await _make(attempt, loaded, call, tool, arguments)


def _as_it_was(call: ToolCall) -> Tool:
    """A tool that is gone, as far as its call tells."""
    return Tool(
        name=call.name,
        title=call.title or call.name,
        description="",
        schema={"type": "object"},
        say=lambda arguments: call.summary or call.name,
        run=Means.PERSON,
        changes=True,
        may_repeat=False,
        risk="medium",
    )


def _was_cut_off(loaded: LoadedRun) -> bool:
    """Whether the answer that made the calls reached its model's output limit."""
    turns = (said for said in reversed(loaded.conversation) if isinstance(said, Turn))
    last = next(turns, None)
    return last is not None and last.finish_reason == "length"


async def _read_arguments(
    tool: Tool | None, call: ToolCall, limit: int | None = None
) -> tuple[Any, str]:
    """The arguments as an object, and what is wrong with them; `limit` is that of an answer that
    was cut off, in tokens."""
    if tool is None:
        return None, f"there is no tool {call.name!r}"
    arguments = call.arguments or {}
    if not call.title and set(arguments) == {"raw"}:  # as the model wrote them
        try:
            arguments = read_json(arguments["raw"] or "{}")
        except ValueError as error:
            if limit is not None:
                return None, (
                    f"the answer reached its limit of {limit} tokens in the middle of this call: "
                    "write less at once, in several calls"
                )
            return None, f"the arguments are not JSON ({error})"
    if tool.has_strangers_schema:
        return arguments, await asyncio.to_thread(tool.check, arguments)
    return arguments, tool.check(arguments)


async def _refuse_bad_call(
    attempt: Attempt, loaded: LoadedRun, call: ToolCall, wrong: str, limit: int | None
) -> None:
    loaded.bad_calls += 1
    await attempt.events.commit(
        call_journal.finish_call, call=call, status=CallStatus.FAILED, error=BAD_CALL + wrong + "."
    )
    if loaded.bad_calls < MAXBAD_CALLS:
        return
    if limit is not None:
        raise ProviderError(
            "provider.output_limit",
            f"{loaded.route.name} reached its limit of {limit} tokens in the middle of a tool "
            "call, again and again. Raise its output limit in Models & prices, or ask for less "
            "at once.",
        )
    raise ProviderError(
        "model.bad_tool_calls",
        f"The model made {loaded.bad_calls} tool calls in a row that do not fit ({wrong}). "
        "Try again, or choose a stronger model.",
    )


async def _wait(
    attempt: Attempt,
    call: ToolCall,
    tool: Tool,
    arguments: Any,
    kind: GateKind,
    decision: policy.PolicyDecision | None = None,
) -> None:
    """Stop the attempt at a gate, unless the run's mode changed since the decision."""
    waits = await attempt.events.commit(
        opening.open_gate,
        call=call,
        tool=tool,
        arguments=arguments,
        kind=kind,
        mode=decision.mode if decision else None,
        why=decision.why if decision else "",
        setting=decision.setting if decision else None,
        outside=decision is not None and decision.outside,
    )
    if waits:
        raise Stopped


async def _make(
    attempt: Attempt, loaded: LoadedRun, call: ToolCall, tool: Tool, arguments: Any
) -> None:
    """Make a call to the outside that was written down, and write down what came of it."""
    assert callable(tool.run)
    buffer = attempt.events
    running = asyncio.ensure_future(
        _within(tool.timeout, tool.run(RunToolContext(attempt, loaded.run, call), clean(arguments)))
    )
    try:
        result = await asyncio.shield(running)
    except asyncio.CancelledError:
        await _let_end(attempt, running, call, tool)
        raise
    except (TimeoutError, UnknownEffect) as error:
        late = f"{tool.title} gave no answer within {tool.timeout:g} seconds."
        said = str(error) if isinstance(error, UnknownEffect) else late
        if tool.may_repeat:
            await buffer.commit(
                call_journal.finish_call, call=call, status=CallStatus.FAILED, error=said
            )
        else:
            await buffer.commit(call_journal.mark_unknown, call=call, why=said)
    except StaleLease:
        raise
    except (ToolError, DomainError) as error:
        await buffer.commit(
            call_journal.finish_call, call=call, status=CallStatus.FAILED, error=str(error)
        )
    except Exception as error:
        # A tool that breaks is the model's news, never the end of the run.
        logger.exception("Tool %s broke", tool.name)
        said = f"{tool.title} broke: {type(error).__name__}."
        if tool.may_repeat:
            await buffer.commit(
                call_journal.finish_call, call=call, status=CallStatus.FAILED, error=said
            )
        else:
            await buffer.commit(call_journal.mark_unknown, call=call, why=said)
    else:
        await buffer.commit(
            call_journal.finish_call, call=call, status=CallStatus.DONE, result=result
        )


async def _within(seconds: float, work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(seconds):
        return await work


async def _let_end(
    attempt: Attempt, running: "asyncio.Future[Any]", call: ToolCall, tool: Tool
) -> None:
    """A cancel during a call: what may stop does, a change is waited for and written down."""
    if not tool.changes or tool.may_stop:
        running.cancel()
        await asyncio.wait([running], timeout=1)
        return
    await asyncio.wait([running], timeout=tool.timeout)
    if not running.done() or running.cancelled():
        running.cancel()
        status, outcome = CallStatus.UNKNOWN, {"error": "The run was stopped during this call."}
    elif error := running.exception():
        unknown = isinstance(error, UnknownEffect | TimeoutError) and not tool.may_repeat
        status = CallStatus.UNKNOWN if unknown else CallStatus.FAILED
        outcome = {"error": str(error) or "It gave no answer in time."}
    else:
        status, outcome = CallStatus.DONE, {"result": running.result()}
    await attempt.events.commit(call_journal.finish_call, call=call, status=status, **outcome)
