"""Public links: a run or an artifact for everybody who has the link, until it ends.

The link is signed and names the row and a nonce of it; a new nonce kills every link before.
"""

import secrets
from datetime import timedelta
from typing import TypeVar

from django.core import signing
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse
from django.utils import timezone

from runs.models import Artifact, Run
from teammates.access import Access
from teammates.errors import NotFound
from teammates.models import Membership
from teammates.trust import audit
from teammates.types import JSON

LINK_DAYS = 90
MOST_LISTED = 200  # of a kind
Shared = TypeVar("Shared", Run, Artifact)
PAGES = {"run": "runs:shared_run", "artifact": "runs:shared_artifact"}
THREAD = {"run": "thread", "artifact": "run__thread"}  # with whose deletion a link ends


@audit.recorded("link.share")
def share(access: Access, row: Shared) -> Shared:
    """Give a row a public link for `LINK_DAYS`; again is the same link for that long from now."""
    access.require("data.runs.write", row)
    fields: JSON = {
        "shared_by": access.user,
        "shared_until": timezone.now() + timedelta(days=LINK_DAYS),
    }
    rows = type(row)._default_manager.filter(pk=row.pk)
    rows.exclude(_alive()).update(share_nonce=secrets.token_hex(12))
    rows.update(**fields)
    row.refresh_from_db(fields=["share_nonce", *fields])
    return row


@audit.recorded("link.revoke")
def unshare(access: Access, row: Run | Artifact) -> None:
    """Revoke the link; again is fine. The next one is another."""
    access.require("data.runs.write", row)
    type(row)._default_manager.filter(pk=row.pk).update(share_nonce="")
    row.share_nonce = ""


def list_links(access: Access) -> list[Run | Artifact]:
    """What of the asker's runs everybody with a link may read, the newest links first; of all the
    organization's for owners and admins."""
    access.require("data.runs.read")
    runs = Run.objects.visible_to(access).filter(_alive()).for_list()
    seen = Run.objects.visible_to(access)
    artifacts = Artifact.objects.filter(_alive(), run__in=seen)
    found: list[Run | Artifact] = [
        *runs.order_by("-shared_until")[:MOST_LISTED],
        *artifacts.select_related("run", "shared_by").order_by("-shared_until")[:MOST_LISTED],
    ]
    return sorted(found, key=lambda row: row.shared_until or timezone.now(), reverse=True)


def _alive() -> Q:
    """Links that lead somewhere: not revoked, not past their end, of somebody who is still here."""
    is_member = Membership.objects.filter(
        organization=OuterRef("organization"), user=OuterRef("shared_by"), user__is_active=True
    )
    times_within = Q(shared_until__gt=timezone.now())
    return Q(~Q(share_nonce=""), times_within, Q(shared_by=None) | Q(Exists(is_member)))


def token_of(row: Run | Artifact) -> str | None:
    """What the link of a shared row ends with."""
    if not row.share_nonce:
        return None
    return _signer(type(row)).sign(f"{row.pk}-{row.share_nonce}")


def path_of(row: Run | Artifact) -> str | None:
    token = token_of(row)
    return token and reverse(PAGES[type(row).__name__.lower()], args=[token])


def find_shared(model: type[Shared], token: str) -> Shared:
    """The row behind a link. Raises `NotFound` for one that is revoked, made up or too old, once
    the conversation is deleted, and once whoever shared it is no longer a member."""
    try:
        pk, _, nonce = _signer(model).unsign(token).partition("-")
    except signing.BadSignature:
        pk, nonce = "0", "-"
    found: Shared | None = model._default_manager.filter(
        _alive(),
        pk=int(pk),
        share_nonce=nonce,
        organization__closed_at=None,
        **{f"{THREAD[model.__name__.lower()]}__deleted_at": None},
    ).first()
    if found is None:
        raise NotFound("This link is no longer valid. Ask whoever gave it to you for a new one.")
    return found


def _signer(model: type[Run | Artifact]) -> signing.Signer:
    return signing.Signer(salt=f"runs.sharing.{model.__name__}", sep="~")
