"""v2: runs asked for: new, in reply, again (contract v2 2.1)."""

from typing import Annotated, Any, TypeVar

from django.http import HttpResponse
from ninja import File, Form, Router, Status
from ninja.errors import ValidationError
from ninja.files import UploadedFile
from pydantic import Field
from pydantic import ValidationError as PydanticError

from runs.api.v2.shapes import (
    run_out,
)
from runs.api.v2.shared import (
    MADE,
    RunOptionsIn,
    answer,
    find_run,
    options_of,
)
from runs.creation import idempotency, options, requests, retries
from runs.creation.attachments import Attachment
from teammates.api.schemas import ApiRequest, Input
from teammates.errors import Invalid
from teammates.text import clean, clean_text, read_json
from teammates.types import JSON
from threads import files

# Of `runs` too, which adds to it: their paths that name no run come first.
router = Router(tags=["runs"])


class RunCreate(RunOptionsIn):
    message: str
    teammate_id: int | None = None
    name: str | None = None
    instructions: str | None = None
    tools: list[str] | None = None
    email_inbox: bool = False
    output_schema: JSON | None = None
    skill: Annotated[str, Field(max_length=100)] | None = None
    email_notifications: bool = False


class FirstSession(Input):
    teammate_id: int
    stream: bool = True
    human_in_the_loop: bool | None = None
    permission_mode: str | None = None


class RunReply(Input):
    message: str
    stream: bool = True
    tools: list[str] | None = None
    permission_mode: str | None = None
    task_setup_tools: bool | None = None
    feedback: bool | None = None
    human_in_the_loop: bool | None = None
    skill: Annotated[str, Field(max_length=100)] | None = None
    reset_auto_recovery: bool = False


# --- make ---------------------------------------------------------------------------------------
@router.post("/runs", response=MADE)
def create_run(request: ApiRequest, payload: RunCreate, response: HttpResponse) -> Any:
    """Start a run: a stream of events, or with `stream: false` the run itself to poll."""
    return _create(request, payload, response, [])


@router.post("/runs/with-files", response=MADE)
def create_run_with_files(
    request: ApiRequest,
    response: HttpResponse,
    payload: Form[str],
    files: File[list[UploadedFile]],
) -> Any:
    """The same, as a form: `payload` has the JSON, each `files` a file for the run to read."""
    return _create(request, _read(RunCreate, payload), response, _attachments(files))


@router.post("/runs/first-session", response=MADE)
def start_first_session(request: ApiRequest, payload: FirstSession, response: HttpResponse) -> Any:
    """Let a teammate introduce itself; once."""
    run, is_replay = idempotency.create_idempotently(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v2 first session", payload.dict(exclude={"stream"})],
        lambda: requests.start_first_session(
            request.auth,
            payload.teammate_id,
            options=options.Options(
                human_in_the_loop=payload.human_in_the_loop,
                permission_mode=payload.permission_mode,
            ),
        ),
    )
    return answer(request, response, run, stream=payload.stream, is_replay=is_replay)


@router.post("/runs/{run_id}/reply", response=MADE)
def reply(request: ApiRequest, run_id: int, payload: RunReply, response: HttpResponse) -> Any:
    """A new run with the context of this one, non-interactive unless the body says otherwise."""
    return _reply(request, run_id, payload, response, [])


@router.post("/runs/{run_id}/reply/with-files", response=MADE)
def reply_with_files(
    request: ApiRequest,
    run_id: int,
    response: HttpResponse,
    payload: Form[str],
    files: File[list[UploadedFile]],
) -> Any:
    """The same, as a form: `payload` has the JSON, each `files` a file for the run to read."""
    return _reply(request, run_id, _read(RunReply, payload), response, _attachments(files))


@router.post("/runs/{run_id}/retry", response=MADE)
def retry(
    request: ApiRequest,
    run_id: int,
    response: HttpResponse,
    confirm: bool = False,
    use_credits: bool = False,
) -> Status[JSON]:
    """Try a failed or cancelled run again, as a new run; 200 with the one that is under way."""
    before = find_run(request.auth, run_id)
    run, is_new = retries.retry_run(request.auth, before, confirm=confirm)
    response["Location"] = f"/api/v2/runs/{run.pk}"
    shown = find_run(request.auth, run.pk)
    return Status(201 if is_new else 200, run_out(shown))


def _create(
    request: ApiRequest,
    payload: RunCreate,
    response: HttpResponse,
    attachments: list[Attachment],
) -> Any:
    body = payload.dict(exclude={"stream"})
    run, is_replay = idempotency.create_idempotently(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v2 create", body, [one.sha256 for one in attachments]],
        lambda: requests.create_run(
            request.auth,
            message=payload.message,
            options=options_of(body),
            teammate_id=payload.teammate_id,
            name=payload.name,
            instructions=payload.instructions,
            user_id=payload.user_id,
            email_inbox=payload.email_inbox,
            attachments=attachments,
        ),
    )
    return answer(request, response, run, stream=payload.stream, is_replay=is_replay)


def _reply(
    request: ApiRequest,
    run_id: int,
    payload: RunReply,
    response: HttpResponse,
    attachments: list[Attachment],
) -> Any:
    body = payload.dict(exclude={"stream"})
    before = find_run(request.auth, run_id)
    run, is_replay = idempotency.create_idempotently(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v2 reply", run_id, body, [one.sha256 for one in attachments]],
        lambda: requests.reply_to_run(
            request.auth,
            before,
            message=payload.message,
            options=options_of(body),
            attachments=attachments,
        ),
    )
    return answer(request, response, run, stream=payload.stream, is_replay=is_replay, status=200)


B = TypeVar("B", bound=Input)


def _read(body: type[B], text: str) -> B:
    """The JSON of a form's `payload`, refused as a JSON body would be."""
    try:
        return body.model_validate(clean(read_json(text)))
    except PydanticError as error:
        raise ValidationError(
            [{**wrong, "loc": ("body", *wrong["loc"])} for wrong in error.errors()]
        ) from None
    except ValueError:
        raise Invalid("payload must be the JSON of the request.") from None


def _attachments(uploaded: list[UploadedFile]) -> list[Attachment]:
    if sum(one.size or 0 for one in uploaded) > files.LARGEST_FILE:
        raise Invalid(f"files: at most {files.LARGEST_FILE // 2**20} MiB come with a message.")
    return [
        Attachment(clean_text(one.name or "file").rpartition("/")[2], one.read())
        for one in uploaded
    ]
