"""One call of a model, streamed as events and written down."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from django.conf import settings

from config.database import in_db
from runs.budgets.reserving import Breach
from runs.events.log import StaleLease
from runs.execution import compaction, context, media, repeats, step_completion, step_journal
from runs.execution.answers import refuse_empty, refuse_without_result
from runs.execution.attempt import OUTCOMES, Attempt, LoadedRun, Stopped, StreamedTurn
from runs.execution.event_buffer import EventBuffer, NotTaken
from runs.execution.model_failures import recover, stopped
from runs.execution.sources import sources_of
from runs.execution.step_completion import CompleteModelStep, ModelResult
from runs.execution.step_journal import BeginModelStep
from runs.gates import budget_gates
from runs.lifecycle.endings import Outcome
from runs.models import RunStatus, Step, StepKind
from runs.tools.toolbox import Toolbox
from teammates.errors import DomainError
from teammates.models import Effort, Model
from teammates.providers import open_client
from teammates.providers.base import (
    Delta,
    ModelCall,
    ModelRequest,
    ProviderError,
    ToolSpec,
    Turn,
)
from teammates.text import read_json
from teammates.tools import result as result_tool
from teammates.tools.masking import masked_json
from teammates.types import JSON

SLACK = 500  # tokens by which a last request may be longer: with `context.FINISH`
NOTHING_SAID = "(The run was to end with this answer, and its model had nothing to say.)"
# Organizations that have had budgets: no more than a hint which way is the shorter one.
_with_budgets: set[int] = set()


# --- the model ----------------------------------------------------------------------------------
async def model_step(attempt: Attempt, loaded: LoadedRun) -> bool:
    run, route = loaded.run, loaded.route
    if loaded.turns >= run.max_turns:
        raise ProviderError(
            "run.max_turns",
            f"The run used its {run.max_turns} turns. Raise max_turns or split the work.",
        )
    await media.show(attempt, loaded)
    if not run.is_finishing and await _compact(attempt, loaded):
        return True
    request = _request(loaded, is_finishing=run.is_finishing)
    step = await _begin(attempt, loaded, request)
    result = await _answered(attempt, loaded, StreamedTurn(request, step))
    if result is None:
        attempt.loaded = None  # the model failed: what comes next is judged by what is written down
        return True
    outcome = None
    if run.is_finishing:
        result = replace(result, turn=result.turn.without_tool_requests(NOTHING_SAID))
    if not result.turn.tool_requests:
        outcome = Outcome(
            RunStatus.COMPLETED,
            text=result.turn.text,
            stop_reason=_stop_reason(result.turn.finish_reason),
        )
    sources = await sources_of(run, result.turn.text)
    complete = CompleteModelStep(run, step, route, result, outcome=outcome, sources=sources)
    done = await attempt.events.write(step_completion.complete_model_steps, complete)
    if isinstance(done, NotTaken):
        raise StaleLease
    if outcome is not None:
        return False
    if not result.usage.estimated:
        loaded.counted = request.model, result.usage.input
    assert step.response is not None
    loaded.go_on_with_tools(Turn.from_json(step.response), done)
    return True


def _offered(toolbox: Toolbox) -> list[ToolSpec]:
    """By name: whatever was looked up in which order, providers find what they cached."""
    tools = sorted(toolbox.tools.values(), key=lambda tool: tool.name)
    return [
        ToolSpec(tool.name, tool.description, tool.schema, is_exact=tool.name == result_tool.NAME)
        for tool in tools
    ]


async def _begin(attempt: Attempt, loaded: LoadedRun, request: ModelRequest, **fields: Any) -> Step:
    """Write down that a model is called. Raises `Stopped` if the run was cancelled instead."""
    begin = BeginModelStep(
        loaded.run, loaded.next_number, request, loaded.route, told=loaded.gathered, **fields
    )
    step: Step | NotTaken = NotTaken()
    if loaded.run.organization_id not in _with_budgets:
        step = await attempt.events.write(step_journal.begin_model_steps, begin)
    if isinstance(step, NotTaken):
        step = await _begin_within_budgets(attempt, loaded, begin)
    attempt.has_begun = True
    loaded.run.model_name = loaded.route.name
    return step


async def _begin_within_budgets(attempt: Attempt, loaded: LoadedRun, begin: BeginModelStep) -> Step:
    """Begin what a budget may not allow: then a person is asked, or the run fails. Raises `Stopped`
    in both cases, and where it was cancelled."""
    _with_budgets.add(begin.run.organization_id)
    most = loaded.most_input(begin.request)
    to_finish = most
    if begin.kind == StepKind.COMPACTION:  # that one asks for less than the whole
        to_finish = _request(loaded, is_finishing=True).most_input_tokens
    begin = replace(begin, most_input=most, most_input_to_finish=to_finish + SLACK)
    begun = await attempt.events.commit(step_journal.begin_reserved, begin)
    if isinstance(begun, Breach):
        why = budget_gates.why_it_stops(begun, begin.route)
        raise DomainError(why, code=budget_gates.code_of(begun))
    if begun is None:
        raise Stopped
    return begun


def _request(loaded: LoadedRun, *, is_finishing: bool) -> ModelRequest:
    route = loaded.route
    return ModelRequest(
        model=route.name,
        instructions=loaded.instructions + (context.FINISH if is_finishing else ""),
        conversation=repeats.with_note(loaded.conversation),
        tools=_offered(loaded.toolbox),
        max_output_tokens=min(route.max_output_tokens, budget_gates.SUMMARY_TOKENS)
        if is_finishing
        else route.max_output_tokens,
        effort=_clamped(loaded.run.effort, route),
        sampling=loaded.run.teammate_version.sampling,
        caches=True,
        retries=loaded.retries,
    )


async def _answered(
    attempt: Attempt, loaded: LoadedRun, streamed: "StreamedTurn"
) -> ModelResult | None:
    """Make the model call of a step that was begun. None: the model failed, and the run goes on
    without this answer; where it does not go on, `Stopped` is raised."""
    try:
        client = await open_client(loaded.route.provider.connection)
        async with (
            _no_longer_than(settings.MODEL_CALL_SECONDS),
            client.call(streamed.request) as call,
        ):
            streamed.call = call
            await _stream(attempt, call, streamed)
            streamed.is_finished = True
            result = streamed.result()
            if streamed.step.kind == StepKind.MODEL:
                refuse_empty(result.turn, loaded.route)
                await refuse_without_result(loaded, result.turn)
            return result
    except asyncio.CancelledError:
        outcome = OUTCOMES.get(attempt.stopping)
        if outcome is None:
            raise
        await _stop_model_step(attempt, loaded, streamed, outcome())
        raise Stopped from None
    except ProviderError as error:
        await recover(attempt, loaded, streamed, error)
        return None


def _clamped(effort: str, route: Model) -> str:
    """Never more effort than the model takes, and never refused for asking."""
    order = list(Effort.values)
    if not effort:
        return ""
    return order[min(order.index(effort), order.index(route.max_effort))]


async def _compact(attempt: Attempt, loaded: LoadedRun) -> bool:
    """Summarise the beginning of a conversation that nears the model's window; True if so."""
    route = loaded.route
    window = attempt.window
    must_compact = window is not None
    size = compaction.size_of_request(
        route, loaded.instructions, loaded.conversation, loaded.toolbox.tools.values()
    )
    if not compaction.is_near(route, size) and not must_compact:
        return False
    about = loaded.run, route, loaded.conversation
    plan = await in_db(compaction.plan, *about, window=window)
    if plan is None and must_compact:
        plan = await in_db(compaction.plan, *about, window=window, keeps_nothing=True)
    if plan is None and must_compact:
        raise ProviderError(
            "provider.context_too_long",
            f"The conversation is too long for {route.name}, and nothing in it can be summarised. "
            "Start a new thread or use a larger model.",
        )
    if plan is None:
        _refuse_what_is_dropped(route, size)
        return False
    attempt.loaded = None  # the conversation begins anew
    step = await _begin(
        attempt,
        loaded,
        plan.request,
        kind=StepKind.COMPACTION,
        covers_until=plan.covers_until,
    )
    result = await _answered(attempt, loaded, StreamedTurn(plan.request, step))
    if result is None:
        return True
    attempt.window = None
    summary = context.summarised(result.turn.text, loaded.request)
    is_summary = result.turn.finish_reason == "stop" and result.turn.text.strip()
    after = compaction.size_of("", summary) if is_summary else plan.before
    await attempt.events.commit(
        step_completion.complete_compaction,
        CompleteModelStep(loaded.run, step, route, result),
        before=plan.before,
        after=after,
    )
    return True


def _refuse_what_is_dropped(route: Model, size: int) -> None:
    """Ollama leaves out the beginning of what is too long, with the instructions, and says nothing.
    Raises `ProviderError`."""
    if route.provider.kind == "ollama" and size > route.context_window:
        raise ProviderError(
            "provider.context_too_long",
            f"This needs about {size:,} tokens, and {route.name} reads {route.context_window:,} at "
            "once. Start Ollama with OLLAMA_CONTEXT_LENGTH=32768 or more, and say so in Models & "
            "prices; or switch off tools of the teammate that the work does not need.",
        )


async def _stream(attempt: Attempt, call: ModelCall, streamed: StreamedTurn) -> None:
    buffer = attempt.events
    about = {"step": streamed.step.number, "attempt": attempt.lease.attempt}
    asked = _AskedFor(buffer, about)
    async for delta in call:
        buffer.raise_if_stale()
        urgent = streamed.note(delta.text)
        if streamed.step.kind == StepKind.COMPACTION:
            continue  # nobody is told the summary piece by piece
        if delta.kind == "tool":
            asked.add(delta)
            continue
        asked.tell()
        if delta.kind == "text":
            data = {"role": "assistant", "content": delta.text, "content_delta": delta.text}
            buffer.delta("message.delta", data | about, "content", "content_delta", urgent=urgent)
        else:
            # No `content`: a client that knows only that key must not print thoughts.
            data = {"role": "assistant", "channel": "thinking", "content_delta": delta.text}
            buffer.delta("message.delta", data | about, "content_delta", urgent=urgent)
    asked.tell()


class _AskedFor:
    """The tool call that a model is writing. That it is called is told at once, its arguments when
    they are whole: only then can secrets in them be masked."""

    def __init__(self, buffer: EventBuffer, about: JSON) -> None:
        self._events, self._about = buffer, about
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
        self._events.delta("tool.call.delta", data | self._about, "arguments_delta", urgent=urgent)


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
    attempt: Attempt, loaded: LoadedRun, streamed: StreamedTurn, outcome: Outcome
) -> None:
    """End the run in the middle of an answer, with what was said and used so far."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
    result = streamed.result()
    ends = replace(outcome, text=result.turn.text)
    await attempt.events.commit(step_completion.complete_alone, stopped(loaded, streamed, ends))


def _stop_reason(finish_reason: str) -> str:
    return {"stop": "end_turn", "length": "max_tokens"}.get(finish_reason, finish_reason)
