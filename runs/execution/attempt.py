"""One attempt of a worker at a run, and what it knows while it works."""

import time
from dataclasses import dataclass, field
from typing import Any

from runs.execution.event_buffer import RunRecord
from runs.lifecycle.transitions import Lease
from runs.models import Run, Step, ToolCall
from runs.tools.toolbox import Toolbox
from teammates.models import Model
from teammates.providers.base import Said


@dataclass
class Attempt:
    """`stopping` says why its task is being cancelled."""

    lease: Lease
    record: RunRecord
    stopping: str = ""  # "cancel", "shutdown", "lost" or "too_long"
    began_at: float = field(default_factory=time.monotonic)


@dataclass
class State:
    """What the next step needs, loaded in one go."""

    run: Run
    route: Model
    toolbox: Toolbox
    turns: int
    retries: int
    instructions: str = ""
    request: str = ""  # what was asked, with the names of what came with it
    gathered: dict[str, Any] | None = None  # what the run is told, until its first step has it
    conversation: list[Said] = field(default_factory=list)
    open_step: Step | None = None  # a batch of tool calls that is not over
    open_calls: list[ToolCall] = field(default_factory=list)
    bad_calls: int = 0


class Stopped(Exception):
    """The attempt is over: the run waits, was queued again, or belongs to another worker."""
