"""v2: how a teammate is reached: webhook, inbox, mailbox (contract v2 2.2)."""

from ninja import Router, Status

from runs.api.v2.shared import under_both_names
from runs.api.v2.teammate_shapes import masked_url
from runs.api.v2.teammates import find_to_edit
from teammates.api.schemas import (
    ApiRequest,
    EnabledIn,
    address_of,
)
from teammates.roster import channels, lookup, webhook_tokens
from teammates.types import JSON

router = Router(tags=["teammates"])
both = under_both_names(router)


@both("post", "/{teammate_id}/webhook", response={201: JSON})
def make_teammate_webhook(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[JSON]:
    """A webhook, or a new token for it. The address is not shown again."""
    teammate = find_to_edit(request, teammate_id, user_id)
    path = webhook_tokens.path("mates", teammate.pk, channels.make_webhook(request.auth, teammate))
    return Status(201, {"enabled": True, "url": address_of(request) + path})


@both("patch", "/{teammate_id}/webhook")
def pause_teammate_webhook(
    request: ApiRequest, teammate_id: int, payload: EnabledIn, user_id: str | None = None
) -> JSON:
    teammate = find_to_edit(request, teammate_id, user_id)
    changed = channels.pause_webhook(request.auth, teammate, paused=not payload.enabled)
    return {"enabled": changed.hook_enabled, "url": masked_url(changed, request)}


@both("delete", "/{teammate_id}/webhook", response={204: None})
def remove_teammate_webhook(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[None]:
    channels.remove_webhook(request.auth, find_to_edit(request, teammate_id, user_id))
    return Status(204, None)


@both("post", "/{teammate_id}/email-inbox", response={201: JSON})
def open_inbox(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> Status[JSON]:
    """An address whose mails start runs; again is the same address."""
    teammate = find_to_edit(request, teammate_id, user_id)
    lookup.refuse_archived(teammate)
    changed = channels.set_inbox(request.auth, teammate, enabled=True)
    return Status(201, {"enabled": True, "address": changed.email_address})


@both("delete", "/{teammate_id}/email-inbox", response={204: None})
def close_inbox(request: ApiRequest, teammate_id: int, user_id: str | None = None) -> Status[None]:
    teammate = find_to_edit(request, teammate_id, user_id)
    channels.set_inbox(request.auth, teammate, enabled=False)
    return Status(204, None)


@both("post", "/{teammate_id}/fetchmail", response={201: JSON})
def open_fetchmail(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[JSON]:
    """An address whose mails it may read, which start nothing."""
    teammate = find_to_edit(request, teammate_id, user_id)
    lookup.refuse_archived(teammate)
    changed = channels.set_fetchmail(request.auth, teammate, enabled=True)
    return Status(201, {"enabled": True, "address": changed.fetchmail_address})


@both("delete", "/{teammate_id}/fetchmail", response={204: None})
def close_fetchmail(
    request: ApiRequest, teammate_id: int, user_id: str | None = None
) -> Status[None]:
    channels.set_fetchmail(request.auth, find_to_edit(request, teammate_id, user_id), enabled=False)
    return Status(204, None)
