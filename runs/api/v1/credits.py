"""v1: credits (contract v1 2.10). Giving and taking is for owners and admins of the installation's
own organization. An organization that was never given any spends without, and has a balance of 0.
"""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from django.db.models import Q
from ninja import Router
from ninja.params.functions import Query
from pydantic import Field

from runs.budgets import credits
from runs.models import CreditEntry
from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.errors import Forbidden, NotFound
from teammates.models import Organization
from teammates.types import JSON

router = Router(tags=["credits"])
MOST_SHOWN = 50
MOST_SKIPPED = 1_000_000_000
Limit = Annotated[int, Field(ge=1, le=MOST_SHOWN)]
From: Any = Query(None, alias="from")
To: Any = Query(None, alias="to")


class Adjustment(Input):
    """`amount` is a number of credits to give, or to take if it is negative."""

    org_id: UUID
    amount: int
    note: str = ""


class BulkAdjustment(Input):
    amount: int
    note: str = ""


class Reset(Input):
    note: str = ""


@router.get("/me/credits")
def my_credits(request: ApiRequest, first: date | None = From, last: date | None = To) -> JSON:
    """The organization's balance, and its newest transactions, of days from `from` to `to`."""
    access = request.auth
    access.require("data.runs.read")
    if access.end_user is not None:
        raise Forbidden("Credits are the organization's.", code="auth.forbidden")
    entries = credits.ledger_of(access.organization, first=first, last=last)
    if not access.may("data.usage.read"):  # what colleagues use is for owners and admins
        entries = entries.filter(Q(run=None) | Q(run__created_by=access.user))
    return {
        "balance": credits.balance_of(access.organization) or 0,
        "transactions": [_entry_out(access, entry) for entry in entries[:MOST_SHOWN]],
    }


@router.get("/admin/credits")
def credits_of_one(
    request: ApiRequest,
    org_id: UUID | None = None,
    account_id: UUID | None = None,
    first: date | None = From,
    last: date | None = To,
    limit: Limit = MOST_SHOWN,
    offset: Annotated[int, Field(ge=0, le=MOST_SKIPPED)] = 0,
) -> JSON:
    """Those of an organization; one's own, if none is said."""
    access = request.auth
    access.require("data.usage.read")
    found = _organization(access, org_id or account_id or access.organization.uid)
    entries = credits.ledger_of(found, first=first, last=last)[offset : offset + limit]
    return _balance_out(found, credits.balance_of(found) or 0) | {
        "transactions": [_entry_out(access, entry) for entry in entries]
    }


@router.post("/admin/credits/adjust")
def adjust_credits(request: ApiRequest, payload: Adjustment) -> JSON:
    """Give an organization credits, or take some: from the first on it spends no more."""
    found = _organization(request.auth, payload.org_id)
    balance = credits.adjust(request.auth, found, payload.amount, payload.note)
    return _balance_out(found, balance)


@router.post("/admin/credits/bulk-adjust")
def adjust_credits_of_all(request: ApiRequest, payload: BulkAdjustment) -> JSON:
    """The same for every organization; those that do not have as many keep what they have."""
    return {"affected": credits.adjust_all(request.auth, payload.amount, payload.note)}


@router.post("/admin/credits/reset-all")
def reset_credits_of_all(request: ApiRequest, payload: Reset) -> JSON:
    """Take from every organization what it has left."""
    return {"affected": credits.reset_all(request.auth, payload.note)}


def _organization(access: Access, org_id: UUID) -> Organization:
    """Raises `Forbidden` for who does not run the installation, `NotFound`."""
    access.require_installation()
    found = Organization.objects.filter(uid=org_id).first()
    if found is None:
        raise NotFound(f"There is no organization {org_id}.", code="orgs.not_found")
    return found


def _balance_out(organization: Organization, balance: int) -> JSON:
    uid = str(organization.uid)
    return {"org_id": uid, "account_id": uid, "balance": balance}


def _entry_out(access: Access, entry: CreditEntry) -> JSON:
    """Titles are of conversations of the asker's organization, that are not deleted."""
    run, uid = entry.run, str(entry.organization.uid)
    is_ours = entry.organization_id == access.organization.pk
    title = None
    if run is not None and is_ours and run.thread.deleted_at is None:
        title = run.thread.title or run.title
    return {
        "id": str(entry.pk),
        "org_id": uid,
        "account_id": uid,
        "amount": entry.amount,
        "type": entry.kind,
        "reference_type": "run" if run else None,
        "reference_id": str(run.uid) if run else None,
        "note": entry.note,
        "metadata": None,
        "thread_title": title,
        "created_at": iso(entry.created_at),
    }
