"""Runs: one execution of a teammate in a thread."""

import math
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from runs.models.run_query import RunQuerySet
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
from runs.models.shareable import Shareable
from runs.models.task import Task
from teammates.fields import Identified, iff
from teammates.models import (
    APIKey,
    Effort,
    EndUser,
    Model,
    Organization,
    PermissionMode,
    Teammate,
    TeammateVersion,
    User,
)
from teammates.models.scoped import Owned
from threads.models import Message, Thread

if TYPE_CHECKING:
    pass


CREDITS_PER_DOLLAR = 1000


def new_trace_id() -> str:
    return secrets.token_hex(16)


class Run(Owned, Identified, Shareable):
    # --- what ---
    trace_id = models.CharField(max_length=32, default=new_trace_id, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="runs")
    thread = models.ForeignKey(Thread, on_delete=models.CASCADE, related_name="runs")
    task = models.ForeignKey(Task, on_delete=models.PROTECT, related_name="runs")
    teammate = models.ForeignKey(Teammate, on_delete=models.PROTECT, related_name="runs")
    teammate_version = models.ForeignKey(
        TeammateVersion, on_delete=models.PROTECT, related_name="runs"
    )
    end_user = models.ForeignKey(EndUser, null=True, on_delete=models.PROTECT, related_name="runs")
    # A v1 run may start on a thread as it stands, without a message of its own.
    prompt = models.ForeignKey(Message, null=True, on_delete=models.PROTECT, related_name="runs")
    answer = models.OneToOneField(
        Message, null=True, on_delete=models.SET_NULL, related_name="answered_by"
    )
    reply_to = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="replies"
    )

    # The run that this one tries again.
    retry_of = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="retries"
    )
    # The teammate speaks first: its opening in a new account.
    is_first_session = models.BooleanField(default=False)

    # The run whose teammate started this one, the first of that chain, and its length.
    started_by = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="started"
    )
    root = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")
    depth = models.PositiveSmallIntegerField(default=0)

    # --- by whom ---
    channel = models.CharField(max_length=10, choices=Channel.choices)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="runs")
    api_key = models.ForeignKey(APIKey, null=True, on_delete=models.SET_NULL, related_name="runs")
    # The channel and the sender, outside of the organization, whose words it works on; what they
    # started inherits it. Empty: somebody of the organization asked.
    origin = models.CharField(max_length=255, blank=True, default="")

    # It works on words of such senders, or read them on its way: what they could ask for waits for
    # a person (`has_words_from_outside`).
    heard_outside = models.BooleanField(default=False)

    # --- how: resolved at creation from run > task > teammate > platform ---
    route = models.ForeignKey(Model, null=True, on_delete=models.SET_NULL, related_name="+")
    requested_persona = models.CharField(max_length=64, blank=True, default="")
    effort = models.CharField(max_length=10, blank=True, default="", choices=Effort.choices)
    permission_mode = models.CharField(max_length=10, choices=PermissionMode.choices)
    human_in_the_loop = models.BooleanField()
    plan_approved_at = models.DateTimeField(null=True)  # plan mode: then it asks as in approval
    tools = models.JSONField(default=list)
    memory = models.BooleanField(default=True)
    history = models.BooleanField(default=True)
    history_of = models.CharField(max_length=8, choices=HistoryOf.choices, default=HistoryOf.THREAD)
    task_setup_tools = models.BooleanField(default=True)
    feedback = models.BooleanField(default=True)
    email_notifications = models.BooleanField(default=False)
    max_turns = models.PositiveIntegerField(default=2000)
    skill = models.CharField(max_length=100, blank=True, default="")
    # What was put into its context besides the conversation, and why (`execution.context`).
    told = models.JSONField(null=True)
    output_schema = models.JSONField(null=True)
    metadata = models.JSONField(null=True)

    # --- state: written by lifecycle.py alone ---
    status = models.CharField(max_length=10, choices=RunStatus.choices)
    position = models.BigIntegerField()  # in the queue of the thread
    last_seq = models.BigIntegerField(default=0)  # of the events; written by events.py alone
    available_at = models.DateTimeField(db_default=Now())  # by the database's clock
    attempt = models.PositiveIntegerField(default=0)
    lost_attempts = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=100, blank=True, default="")
    fence = models.BigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancelled_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    next_retry_at = models.DateTimeField(null=True)
    pause_reason = models.TextField(blank=True, default="")
    is_finishing = models.BooleanField(default=False, db_default=False)  # with a summary, at once
    archived_at = models.DateTimeField(null=True)
    last_viewed_at = models.DateTimeField(null=True)
    # When what was said was erased, and only numbers and states were kept.
    erased_at = models.DateTimeField(null=True)

    # Its closing message asks for an answer that nobody gave yet.
    asks_back = models.BooleanField(default=False)

    # --- outcome: written in the terminal transaction ---
    model_name = models.CharField(max_length=200, blank=True, default="")
    output_data = models.JSONField(null=True)  # fits `output_schema`
    error_class = models.CharField(max_length=100, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    stop_reason = models.CharField(max_length=500, blank=True, default="")
    input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    cache_read_tokens = models.BigIntegerField(null=True)
    cache_write_tokens = models.BigIntegerField(null=True)
    cost = models.DecimalField(null=True, max_digits=14, decimal_places=6)
    usage_estimated = models.BooleanField(default=False)

    objects = RunQuerySet.as_manager()

    # How many more its end user may start this minute, right after it was made; None: no limit.
    starts_left: int | None = None
    # What `for_detail` adds.
    retried_by_id: int | None = None
    retried_at: datetime | None = None

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=RunStatus.values), name="run_status_known"
            ),
            models.CheckConstraint(
                condition=iff(models.Q(status__in=FINISHED), models.Q(finished_at__isnull=False)),
                name="run_finished_at_iff_finished",
            ),
            models.CheckConstraint(
                condition=iff(
                    models.Q(status=RunStatus.RUNNING), models.Q(lease_until__isnull=False)
                ),
                name="run_lease_iff_running",
            ),
            models.CheckConstraint(
                condition=~models.Q(status=RunStatus.FAILED)
                | (~models.Q(error_class="") & ~models.Q(error_message="")),
                name="run_failed_says_why",
            ),
            models.UniqueConstraint(
                "thread", name="run_one_busy_per_thread", condition=models.Q(status__in=BUSY)
            ),
            models.UniqueConstraint(
                "thread",
                "position",
                name="run_position_once",
                condition=models.Q(status__in=ACTIVE),
            ),
        ]
        indexes: ClassVar = [
            # Lists: everybody's, one person's, one end user's, one teammate's, one status's.
            models.Index(fields=["organization", "-created_at", "-id"], name="run_list"),
            models.Index(
                fields=["organization", "origin", "-id"],
                name="run_list_origin",
                condition=~models.Q(origin=""),
            ),
            models.Index(
                fields=["organization", "created_by", "-created_at", "-id"], name="run_list_own"
            ),
            models.Index(
                fields=["organization", "end_user", "-created_at", "-id"],
                name="run_list_end_user",
            ),
            models.Index(fields=["teammate", "-created_at", "-id"], name="run_list_teammate"),
            models.Index(
                fields=["organization", "status", "-created_at", "-id"], name="run_list_status"
            ),
            models.Index(fields=["thread", "-created_at", "-id"], name="run_list_thread"),
            models.Index(fields=["task", "-created_at", "-id"], name="run_list_task"),
            models.Index(
                fields=["organization", "-created_at", "-id"],
                name="run_list_awaiting",
                condition=NEEDS_SOMEBODY,
            ),
            models.Index(fields=["organization", "-updated_at"], name="run_last_change"),
            models.Index(
                fields=["teammate"],
                name="run_active_of_teammate",
                condition=models.Q(status__in=ACTIVE),
            ),
            # Lists of the runs behind a sum of usage (`ended_within`).
            models.Index(
                fields=["organization", "finished_at"],
                name="run_by_end",
                condition=models.Q(finished_at__isnull=False),
            ),
            # The claim (`leases.claim_runs`).
            models.Index(
                fields=["organization", "id"],
                name="run_queued",
                condition=models.Q(status=RunStatus.QUEUED),
            ),
            # What is still to be erased (`erasure.erase_said`).
            models.Index(
                fields=["organization", "finished_at"],
                name="run_not_erased",
                condition=models.Q(erased_at=None, finished_at__isnull=False),
            ),
            # The claim's limits, the leases and the sweeper.
            models.Index(
                fields=["organization"],
                name="run_running",
                condition=models.Q(status=RunStatus.RUNNING),
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("runs:run_detail", args=[self.pk])

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def is_retryable(self) -> bool:
        return self.status in RETRYABLE and self.erased_at is None

    @property
    def starter(self) -> str:
        """Who or what started it, for a list."""
        if self.started_by_id:
            words = "Another run"
        elif self.is_triggered:
            words = str(self.get_channel_display()).capitalize()
        elif self.created_by:
            words = self.created_by.display_name
        else:
            words = f"Key {self.api_key.name}" if self.api_key else "–"
        return f"{words} for {self.end_user}" if self.end_user else words

    @property
    def is_api(self) -> bool:
        """Started by a program or by itself, not by a person on a page."""
        return self.channel not in ON_PAGES

    @property
    def is_triggered(self) -> bool:
        """Started by a trigger; `created_by` is who set that up."""
        return self.channel in TRIGGERED

    @property
    def is_mailed(self) -> bool:
        """Whether its result goes to somebody by mail."""
        is_ours = self.email_notifications and self.end_user_id is None
        return is_ours or self.channel == Channel.EMAIL

    @property
    def needs_somebody(self) -> bool:
        return self.status == RunStatus.WAITING or self.asks_back

    @property
    def title(self) -> str:
        text = self.prompt.content if self.prompt else self.task.name
        first = text.strip().splitlines()[0] if text.strip() else "Untitled"
        return first[:80]

    @property
    def duration_ms(self) -> int | None:
        """Milliseconds of work, from the first attempt to the end; the queue is not counted."""
        if self.started_at is None or self.finished_at is None:
            return None
        return int((self.finished_at - self.started_at).total_seconds() * 1000)

    @property
    def worked_ms(self) -> int | None:
        """`duration_ms`; of a run that is not over, until now."""
        if self.started_at is None or self.finished_at is not None:
            return self.duration_ms
        return int((timezone.now() - self.started_at).total_seconds() * 1000)

    @property
    def has_words_from_outside(self) -> bool:
        """Whether somebody outside of the organization wrote what it works on, or what it read on
        its way, or something in its thread."""
        return self.heard_outside or self.thread.heard_outside

    @property
    def total_tokens(self) -> int | None:
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    @property
    def cache_hit_rate(self) -> float | None:
        """0 to 1, or None where no cache took part (contract v1 4.9)."""
        cached = (self.cache_read_tokens or 0) + (self.cache_write_tokens or 0)
        if not cached or not self.input_tokens:
            return None
        return (self.cache_read_tokens or 0) / self.input_tokens

    @property
    def credits_used(self) -> int | None:
        """Rounded up; None while the cost is not known."""
        return None if self.cost is None else math.ceil(self.cost * CREDITS_PER_DOLLAR)
