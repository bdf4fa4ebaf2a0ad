"""What the outside can start by itself: over a webhook of its own, or by a mail to its address."""

from django.conf import settings
from django.db import models


class Reachable(models.Model):
    # The token is shown once; its beginning is what later pages show of it.
    hook_hash = models.CharField(max_length=64, blank=True, default="")
    hook_prefix = models.CharField(max_length=12, blank=True, default="")
    hook_enabled = models.BooleanField(default=False)
    inbox_name = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        abstract = True

    @property
    def email_address(self) -> str | None:
        return f"{self.inbox_name}@{settings.MAIL_DOMAIN}" if self.inbox_name else None
