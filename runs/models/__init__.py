from runs.models.event import Event
from runs.models.gate import Gate, GateKind, GateStatus
from runs.models.run import (
    ACTIVE,
    BUSY,
    FINISHED,
    Channel,
    HistoryOf,
    IdempotencyKey,
    Run,
    RunFile,
    RunStatus,
)
from runs.models.step import CallStatus, Step, StepKind, StepStatus, ToolCall
from runs.models.task import Task
from runs.models.usage import Usage

__all__ = [
    "ACTIVE",
    "BUSY",
    "FINISHED",
    "CallStatus",
    "Channel",
    "Event",
    "Gate",
    "GateKind",
    "GateStatus",
    "HistoryOf",
    "IdempotencyKey",
    "Run",
    "RunFile",
    "RunStatus",
    "Step",
    "StepKind",
    "StepStatus",
    "Task",
    "ToolCall",
    "Usage",
]
