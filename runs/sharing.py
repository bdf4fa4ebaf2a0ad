"""Public links: a run or an artifact for everybody who has the link, until it is revoked.

The link is signed and names the row and a nonce of it; a new nonce kills every link before.
"""

import secrets
from typing import TypeVar

from django.core import signing
from django.urls import reverse

from runs.models import Artifact, Run
from teammates.access import Access
from teammates.errors import NotFound

Shared = TypeVar("Shared", Run, Artifact)
PAGES = {"run": "runs:shared_run", "artifact": "runs:shared_artifact"}
THREAD = {"run": "thread", "artifact": "run__thread"}  # with whose deletion a link ends


def share(access: Access, row: Shared) -> Shared:
    """Give a row a public link; again is the same link."""
    access.require("data.runs.write")
    rows = type(row)._default_manager.filter(pk=row.pk, share_nonce="")
    rows.update(share_nonce=secrets.token_hex(12))
    row.refresh_from_db(fields=["share_nonce"])
    return row


def unshare(access: Access, row: Shared) -> None:
    """Revoke the link; again is fine. The next one is another."""
    access.require("data.runs.write")
    type(row)._default_manager.filter(pk=row.pk).update(share_nonce="")


def token_of(row: Run | Artifact) -> str | None:
    """What the link of a shared row ends with."""
    if not row.share_nonce:
        return None
    return _signer(type(row)).sign(f"{row.pk}-{row.share_nonce}")


def path_of(row: Run | Artifact) -> str | None:
    token = token_of(row)
    return token and reverse(PAGES[type(row).__name__.lower()], args=[token])


def find_shared(model: type[Shared], token: str) -> Shared:
    """The row behind a link. Raises `NotFound` for one that is revoked or made up, and once the
    conversation is deleted."""
    try:
        pk, _, nonce = _signer(model).unsign(token).partition("-")
    except signing.BadSignature:
        pk, nonce = "0", "-"
    found: Shared | None = model._default_manager.filter(
        pk=int(pk), share_nonce=nonce, organization__closed_at=None,
        **{f"{THREAD[model.__name__.lower()]}__deleted_at": None},
    ).first()  # fmt: skip
    if found is None:
        raise NotFound("This link is no longer valid. Ask whoever gave it to you for a new one.")
    return found


def _signer(model: type[Run | Artifact]) -> signing.Signer:
    return signing.Signer(salt=f"runs.sharing.{model.__name__}", sep="~")
