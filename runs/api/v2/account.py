"""v2: feedback, the export, and the end of an account (contract v2 2.7)."""

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Annotated

from django.http import StreamingHttpResponse
from ninja import Router, Status
from pydantic import Field

from config.database import in_db
from runs import feedback
from runs.api.v2.shared import find_run
from runs.retention import closed_accounts, export
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.types import JSON

router = Router()
PIECES_AT_ONCE = 500  # rows of an export between two writes


class FeedbackIn(Input):
    message: Annotated[str, Field(min_length=1, max_length=10_000)]
    run_id: int | None = None
    title: Annotated[str, Field(max_length=100)] | None = None
    user_id: str | None = None


@router.post("/feedback", response={201: JSON}, tags=["feedback"])
def create_feedback(request: ApiRequest, payload: FeedbackIn) -> Status[JSON]:
    """Send feedback to the operators of this installation, perhaps about a run."""
    run = None
    if payload.run_id is not None:
        run = find_run(request.auth.for_end_user(payload.user_id), payload.run_id)
    made = feedback.file_report(request.auth, payload.message, title=payload.title or "", run=run)
    shown = {"id": made.pk, "title": made.title, "run_id": made.run_id}
    return Status(201, shown | {"created_at": iso(made.created_at)})


@router.get("/account/export", tags=["account"])
def export_account(request: ApiRequest) -> StreamingHttpResponse:
    """Everything that the account holds, without secrets. For its owner."""
    pieces = export.as_json(request.auth)
    first = next(pieces)  # what is refused is refused before anything is sent
    return StreamingHttpResponse(_sent(first, pieces), content_type="application/json")


async def _sent(first: str, pieces: Iterator[str]) -> AsyncIterator[str]:
    """The pieces as they are read, some at a time, on the threads for the database."""
    yield first
    while some := await in_db(lambda: "".join(islice(pieces, PIECES_AT_ONCE))):
        yield some


@router.delete("/account", response={202: JSON}, tags=["account"])
def delete_account(request: ApiRequest) -> Status[JSON]:
    """Close the account at once; what it holds is erased after a while. For its owner."""
    closed = closed_accounts.close_account(request.auth)
    return Status(
        202,
        {
            "status": "scheduled_for_deletion",
            "closed_at": iso(closed.closed_at),
            "erased_at": iso(closed_accounts.erased_at(closed)),
        },
    )
