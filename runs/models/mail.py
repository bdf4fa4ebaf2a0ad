"""Mails that a teammate may read, in a mailbox that starts nothing."""

from typing import ClassVar

from django.db import models

from teammates.models import Teammate


class Mail(models.Model):
    id = models.BigAutoField(primary_key=True)
    teammate = models.ForeignKey(Teammate, on_delete=models.CASCADE, related_name="mails")
    sender = models.CharField(max_length=320, blank=True, default="")
    subject = models.CharField(max_length=500, blank=True, default="")
    text = models.TextField(blank=True, default="")
    attachments = models.JSONField(default=list)  # their names
    message_id = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                "teammate", "message_id", name="mail_once", condition=~models.Q(message_id="")
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["teammate", "-id"], name="mail_list")]

    def __str__(self) -> str:
        return self.subject
