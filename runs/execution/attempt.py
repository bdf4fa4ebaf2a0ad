"""One attempt of a worker at a run, and what it knows while it works."""

import json
import time
from dataclasses import dataclass, field

from django.conf import settings

from runs.events.log import Written
from runs.execution.event_buffer import EventBuffer
from runs.execution.step_completion import Completed, ModelResult
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import Run, RunStatus, Step, ToolCall
from runs.tools.toolbox import Toolbox
from teammates.models import Model
from teammates.providers.base import (
    TOKENS_AROUND,
    ChatMessage,
    Media,
    ModelCall,
    ModelRequest,
    ProviderError,
    Takes,
    TokenUsage,
    ToolResult,
    Turn,
    UserMessage,
    estimate_tokens,
)
from teammates.types import JSON


@dataclass
class Attempt:
    """`stopping` says why its task is being cancelled."""

    lease: Lease
    events: EventBuffer
    stopping: str = ""  # "cancel", "shutdown", "lost" or "too_long"
    # Carried from step to step: nobody else writes the run's conversation, as long as the fence
    # holds. What people may change meanwhile is read again. None: to be loaded.
    loaded: "LoadedRun | None" = None
    has_begun: bool = False  # a step; of an attempt that is not the first, earlier ones did
    # Tokens that there is room for, of a conversation that the provider found too long; None: it
    # did not.
    window: int | None = None
    # By file and what the model takes: what it is shown.
    looked_at: dict[tuple[int, Takes], Media] = field(default_factory=dict)
    began_at: float = field(default_factory=time.monotonic)


@dataclass
class LoadedRun:
    """What the next step needs."""

    run: Run
    next_number: int  # of a step
    route: Model
    toolbox: Toolbox
    turns: int
    retries: int
    instructions: str = ""
    # What was asked, with what came with it
    request: UserMessage = field(default_factory=lambda: UserMessage(""))
    gathered: JSON | None = None  # what the run is told, until its first step has it
    conversation: list[ChatMessage] = field(default_factory=list)
    not_shown: int = 0  # the oldest files of the conversation, which a request has no room for
    open_step: Step | None = None  # a batch of tool calls that is not over
    open_calls: list[ToolCall] = field(default_factory=list)
    bad_calls: int = 0
    # Tokens that the last request could have at most, where a budget may hold; and what its model
    # counted.
    most_sent: int | None = None
    counted: tuple[str, int] | None = None

    def most_input(self, request: ModelRequest) -> int:
        """Tokens that a request, which is sent next, has at most. What was counted of the last one
        is not guessed again: only what is new since then."""
        before, self.most_sent = self.most_sent, request.most_input_tokens
        counted, self.counted = self.counted, None
        if before is not None and counted is not None and counted[0] == request.model:
            new = max(0, self.most_sent - before)
            return min(self.most_sent, counted[1] + new + TOKENS_AROUND)
        return self.most_sent

    def go_on_with_tools(self, turn: Turn, done: Completed) -> None:
        """The model asked for tools."""
        self.conversation.append(turn)
        self.turns += 1
        self.retries, self.gathered = 0, None
        self.next_number += 2
        self.route = done.route
        self.open_step, self.open_calls = done.tools, done.calls

    def go_on_with_model(self, results: list[ToolResult], now: Written) -> None:
        """The tools have run; people may have changed how the run works meanwhile."""
        self.conversation.extend(results)
        self.open_step, self.open_calls = None, []
        self.run.permission_mode = now.permission_mode
        self.run.human_in_the_loop = now.human_in_the_loop
        self.run.plan_approved_at = now.plan_approved_at


class Stopped(Exception):
    """The attempt is over: the run waits, was queued again, or belongs to another worker."""


LARGEST_TURN = 4 * 1024 * 1024  # bytes of what a model says at once


def _outcome_of_cancelling() -> Outcome:
    return Outcome(RunStatus.CANCELLED, stop_reason="cancelled:person")


def _outcome_of_taking_too_long() -> Outcome:
    return Outcome(
        RunStatus.FAILED,
        error_class="run.too_long",
        error_message=f"The run was at work for {settings.RUN_SECONDS / 3600:g} hours without a "
        "pause, and was stopped. Split the work, or let an operator raise MUSTER_RUN_SECONDS.",
    )


# How a run ends whose attempt the worker stops for this.
OUTCOMES = {"cancel": _outcome_of_cancelling, "too_long": _outcome_of_taking_too_long}


class StreamedTurn:
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

    @property
    def used(self) -> TokenUsage | None:
        """What the call used, also of an answer that broke off; None if nothing was heard of it."""
        is_heard = self._answered or (self.call is not None and self.call.usage is not None)
        return self._usage() if is_heard else None

    def _usage(self) -> TokenUsage:
        told = self.call.usage if self.call else None
        if told is not None and self.is_finished and (told.output or not self._answered):
            return told
        # The provider never told the whole (a cancelled call): estimated, and marked so.
        sent = json.dumps(self.request.to_json(), ensure_ascii=False, default=str)
        return TokenUsage(
            input=told.input if told else estimate_tokens(sent) + self.request.tokens_of_media,
            output=max(told.output if told else 0, -(-self._answered // 4)),
            cache_read=told.cache_read if told else 0,
            cache_write=told.cache_write if told else 0,
            estimated=True,
            details=told.details if told else {},
        )
