"""How a run stands, and how it came about."""

from django.db import models


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    WAITING = "waiting", "Needs you"
    PAUSED = "paused", "Paused"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"
    CLOSED = "closed", "Closed"


BUSY = (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED)  # of these, one per thread
RETRYABLE = (RunStatus.FAILED, RunStatus.CANCELLED)
# v2's needs-you: what waits at a gate, and what ended with a question.
NEEDS_SOMEBODY = models.Q(status=RunStatus.WAITING) | models.Q(asks_back=True)
ACTIVE = (RunStatus.QUEUED, *BUSY)
FINISHED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.CLOSED)


class Channel(models.TextChoices):
    """Where a run came from."""

    API = "api", "a program"
    APP = "app", "a page"
    CLI = "cli", "the command line"
    SCHEDULE = "schedule", "a schedule"
    EMAIL = "email", "an e-mail"
    WEBHOOK = "webhook", "a webhook"


ON_PAGES = (Channel.APP, Channel.CLI)  # by a person; else by a program, or by itself
# Nobody watches what these start.
TRIGGERED = (Channel.SCHEDULE, Channel.EMAIL, Channel.WEBHOOK)


class HistoryOf(models.TextChoices):
    """Whose earlier messages a run is told."""

    THREAD = "thread"
    TEAMMATE = "teammate"  # the teammate's last runs in the same end-user scope
