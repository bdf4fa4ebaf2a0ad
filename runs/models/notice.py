"""What people are told outside of a thread: on their home page and by e-mail."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from runs.models.gate import Gate
from runs.models.run import Run
from teammates.fields import Identified, iff
from teammates.models import User


class NoticeKind(models.TextChoices):
    MESSAGE = "message", "A teammate says"
    NEEDS_YOU = "needs_you", "Needs you"
    RESULT = "result", "A result"
    TROUBLE = "trouble", "Something stopped"
    DIGEST = "digest", "What was used"


# What stays on somebody's home page until they put it away.
ON_HOME = (NoticeKind.MESSAGE, NoticeKind.TROUBLE)


class Notice(Identified):
    """One message to one person. Written in the transaction of what it tells; mailed later.

    Somebody who is no member has an `address` instead: whoever started the run by a mail.
    """

    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="notices")
    address = models.CharField(max_length=320, blank=True, default="")
    answers = models.CharField(max_length=255, blank=True, default="")  # a mail's Message-ID
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="notices")
    gate = models.ForeignKey(Gate, null=True, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=9, choices=NoticeKind.choices)
    title = models.CharField(max_length=200)
    text = models.TextField(blank=True, default="")
    path = models.CharField(max_length=200, blank=True, default="")  # where to look; else the run
    dismissed_at = models.DateTimeField(null=True)
    # The e-mail.
    due_at = models.DateTimeField(null=True, db_default=Now())  # None: sent, or never to be
    sent_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    problem = models.CharField(max_length=300, blank=True, default="")
    # The one-time link in it; only its hash is kept.
    link_hash = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001 - unique
    link_expires_at = models.DateTimeField(null=True)
    link_used_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind__in=NoticeKind.values), name="notice_kind_known"
            ),
            models.CheckConstraint(
                condition=iff(models.Q(kind=NoticeKind.NEEDS_YOU), models.Q(gate__isnull=False)),
                name="notice_has_a_gate_iff_it_needs_you",
            ),
            models.CheckConstraint(
                condition=iff(models.Q(user=None), ~models.Q(address="")),
                name="notice_has_a_user_or_an_address",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"], name="notice_due", condition=models.Q(due_at__isnull=False)
            ),
            models.Index(
                fields=["user", "-id"],
                name="notice_list",
                condition=models.Q(dismissed_at=None, kind__in=["message", "trouble"]),
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return self.path or self.run.get_absolute_url()
