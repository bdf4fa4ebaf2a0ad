"""The rows and their constraints."""

from runs.models.artifact import Artifact
from runs.models.budget import (
    PERIODS,
    Budget,
    BudgetAction,
    BudgetCount,
    BudgetHold,
    BudgetPeriod,
)
from runs.models.credit import CreditEntry, CreditKind
from runs.models.event import Event
from runs.models.gate import (
    ASKING,
    WAITED_AT,
    DecidedVia,
    Gate,
    GateKind,
    GateStatus,
    GateVisit,
    GateVote,
)
from runs.models.idempotency import IdempotencyKey
from runs.models.mail import Mail
from runs.models.notice import ON_HOME, Notice, NoticeKind
from runs.models.report import Report
from runs.models.run import CREDITS_PER_DOLLAR, Run
from runs.models.run_file import RunFile
from runs.models.run_status import (
    ACTIVE,
    BUSY,
    FINISHED,
    NEEDS_SOMEBODY,
    ON_PAGES,
    RETRYABLE,
    TRIGGERED,
    Channel,
    HistoryOf,
    RunStatus,
)
from runs.models.saved_view import RunView
from runs.models.step import CALLS_A_MODEL, CallStatus, Step, StepKind, StepStatus, ToolCall
from runs.models.task import Lesson, Task, TaskStatus
from runs.models.trigger import (
    Firing,
    FiringStatus,
    Missed,
    Overlap,
    PauseReason,
    SkipReason,
    Trigger,
    TriggerKind,
    TriggerQuerySet,
)
from runs.models.usage import LabelKind, Usage, UsageDay, UsageLabel
from runs.models.webhook import (
    DeliveryAttempt,
    DeliveryStatus,
    Dialect,
    EndpointPauseReason,
    WebhookDelivery,
    WebhookEndpoint,
)
from runs.models.worker import ProcessKind, WorkerBeat

__all__ = [
    "ACTIVE",
    "ASKING",
    "BUSY",
    "CALLS_A_MODEL",
    "CREDITS_PER_DOLLAR",
    "FINISHED",
    "NEEDS_SOMEBODY",
    "ON_HOME",
    "ON_PAGES",
    "PERIODS",
    "RETRYABLE",
    "TRIGGERED",
    "WAITED_AT",
    "Artifact",
    "Budget",
    "BudgetAction",
    "BudgetCount",
    "BudgetHold",
    "BudgetPeriod",
    "CallStatus",
    "Channel",
    "CreditEntry",
    "CreditKind",
    "DecidedVia",
    "DeliveryAttempt",
    "DeliveryStatus",
    "Dialect",
    "EndpointPauseReason",
    "Event",
    "Firing",
    "FiringStatus",
    "Gate",
    "GateKind",
    "GateStatus",
    "GateVisit",
    "GateVote",
    "HistoryOf",
    "IdempotencyKey",
    "LabelKind",
    "Lesson",
    "Mail",
    "Missed",
    "Notice",
    "NoticeKind",
    "Overlap",
    "PauseReason",
    "ProcessKind",
    "Report",
    "Run",
    "RunFile",
    "RunStatus",
    "RunView",
    "SkipReason",
    "Step",
    "StepKind",
    "StepStatus",
    "Task",
    "TaskStatus",
    "ToolCall",
    "Trigger",
    "TriggerKind",
    "TriggerQuerySet",
    "Usage",
    "UsageDay",
    "UsageLabel",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerBeat",
]
