from runs.models.artifact import Artifact
from runs.models.event import Event
from runs.models.gate import (
    ASKING,
    DecidedVia,
    Gate,
    GateKind,
    GateStatus,
    GateVisit,
    GateVote,
)
from runs.models.notice import Notice, NoticeKind
from runs.models.report import Report
from runs.models.run import (
    ACTIVE,
    BUSY,
    FINISHED,
    NEEDS_SOMEBODY,
    RETRYABLE,
    Channel,
    HistoryOf,
    IdempotencyKey,
    Run,
    RunFile,
    RunStatus,
    RunView,
)
from runs.models.step import CALLS_A_MODEL, CallStatus, Step, StepKind, StepStatus, ToolCall
from runs.models.task import Lesson, Task, TaskStatus
from runs.models.trigger import Trigger, TriggerKind
from runs.models.usage import Usage, UsageDay
from runs.models.webhook import DeliveryStatus, WebhookDelivery, WebhookEndpoint
from runs.models.worker import WorkerBeat

__all__ = [
    "ACTIVE",
    "ASKING",
    "BUSY",
    "CALLS_A_MODEL",
    "FINISHED",
    "NEEDS_SOMEBODY",
    "RETRYABLE",
    "Artifact",
    "CallStatus",
    "Channel",
    "DecidedVia",
    "DeliveryStatus",
    "Event",
    "Gate",
    "GateKind",
    "GateStatus",
    "GateVisit",
    "GateVote",
    "HistoryOf",
    "IdempotencyKey",
    "Lesson",
    "Notice",
    "NoticeKind",
    "Report",
    "Run",
    "RunFile",
    "RunStatus",
    "RunView",
    "Step",
    "StepKind",
    "StepStatus",
    "Task",
    "TaskStatus",
    "ToolCall",
    "Trigger",
    "TriggerKind",
    "Usage",
    "UsageDay",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerBeat",
]
