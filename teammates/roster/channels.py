"""How a teammate is reached: its inbox, its mailbox, its webhook."""

from django.db import transaction

from teammates.access import Access, take_over
from teammates.models import Teammate
from teammates.roster import webhook_tokens
from teammates.roster.addresses import new_inbox_name
from teammates.roster.editing import lock
from teammates.roster.lookup import refuse_archived, require_editor
from teammates.trust import audit


@audit.recorded("agent.inbox")
def set_inbox(access: Access, teammate: Teammate, *, enabled: bool) -> Teammate:
    """Give a teammate an e-mail address, or take it away; again is the same address. Raises
    `Forbidden`, and `NotFound` for an archived teammate."""
    require_editor(access, teammate)
    with transaction.atomic():
        locked = lock(teammate)
        if enabled:
            refuse_archived(locked)
            access.require_confirmed()
            take_over(access, locked)
        if enabled != bool(locked.inbox_name):
            locked.inbox_name = new_inbox_name() if enabled else ""
            locked.save(update_fields=["inbox_name", "updated_at"])
    return locked


@audit.recorded("agent.mailbox")
def set_fetchmail(access: Access, teammate: Teammate, *, enabled: bool) -> Teammate:
    """Give a teammate an address whose mails it may read, which start nothing. Raises `Forbidden`,
    and `NotFound` for an archived teammate."""
    require_editor(access, teammate)
    with transaction.atomic():
        locked = lock(teammate)
        if enabled:
            refuse_archived(locked)
            access.require_confirmed()
        if enabled != bool(locked.fetchmail_name):
            locked.fetchmail_name = new_inbox_name() if enabled else ""
            locked.save(update_fields=["fetchmail_name", "updated_at"])
    return locked


@audit.recorded("agent.webhook")
def make_webhook(access: Access, teammate: Teammate) -> str:
    """Give a teammate a webhook, or its webhook a new token; returns the token, shown once."""
    require_editor(access, teammate)
    access.require_confirmed()
    with transaction.atomic():
        locked = lock(teammate)
        refuse_archived(locked)
        take_over(access, locked)
        token = webhook_tokens.make_token(locked)
        locked.save(update_fields=[*webhook_tokens.FIELDS, "updated_at"])
    return token


@audit.recorded("agent.webhook")
def pause_webhook(access: Access, teammate: Teammate, *, paused: bool) -> Teammate:
    """Raises `Unsuitable` if there is none to resume."""
    require_editor(access, teammate)
    with transaction.atomic():
        locked = lock(teammate)
        webhook_tokens.pause(locked, paused=paused)
        if not paused:
            take_over(access, locked)
        locked.save(update_fields=[*webhook_tokens.FIELDS, "updated_at"])
    return locked


@audit.recorded("agent.webhook")
def remove_webhook(access: Access, teammate: Teammate) -> None:
    """Destroy the webhook; again is fine."""
    require_editor(access, teammate)
    with transaction.atomic():
        locked = lock(teammate)
        webhook_tokens.remove(locked)
        locked.save(update_fields=[*webhook_tokens.FIELDS, "updated_at"])
