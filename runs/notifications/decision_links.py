"""Links in mails with which a decision is made without signing in."""

from datetime import timedelta

from django.utils import timezone

from runs.models import Notice
from teammates.errors import NotFound
from teammates.fields import hash_secret

LINK_LIFE = timedelta(days=7)


def find_link(token: str) -> Notice:
    """The notice whose link this is. Raises `NotFound` if it is none, too old, or used."""
    found = (
        Notice.objects.filter(
            link_hash=hash_secret(token), link_used_at=None, link_expires_at__gt=timezone.now()
        )
        .select_related("user", "run__organization", "run__teammate", "gate")
        .first()
    )
    if found is None or found.gate is None:
        raise NotFound(
            "This link was used already, is too old, or is none. Sign in and look under Needs you."
        )
    return found


def use_link(notice: Notice) -> None:
    """Spend the link; call in the transaction of the decision. Raises `NotFound` the second
    time."""
    spent = Notice.objects.filter(pk=notice.pk, link_used_at=None).update(
        link_used_at=timezone.now()
    )
    if not spent:
        raise NotFound("This link was used already.")
