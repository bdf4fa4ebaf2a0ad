"""What can have a public link."""

from django.db import models

from teammates.models import User


class Shareable(models.Model):
    """A row that everybody with its link may read, until the link ends (`runs/sharing/`)."""

    share_nonce = models.CharField(max_length=32, blank=True, default="")  # empty: not shared
    shared_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    shared_until = models.DateTimeField(null=True)

    class Meta:
        abstract = True
