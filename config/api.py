"""The two APIs: one domain, two envelopes. Routers come from the apps, errors are mapped here."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.datastructures import MultiValueDict
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser

from teammates import errors
from teammates.api.bearer import Bearer, NamesNoEndUsers
from teammates.errors import DomainError
from teammates.text import DEEPEST, clean, read_json
from teammates.types import JSON

logger = logging.getLogger("muster.api")

Envelope = Callable[[HttpRequest, int, DomainError], JSON]

# What kind of refusal is which HTTP status: the only such table.
STATUS: list[tuple[type[DomainError], int]] = [
    (errors.Invalid, 422),
    (errors.Unsuitable, 400),
    (errors.NotSignedIn, 401),
    (errors.PaymentRequired, 402),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.TooMany, 429),
    (errors.Unavailable, 503),
]
V2_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "invalid_request_error",
    422: "validation_error",
    429: "rate_limit_error",
}


def status_of(error: DomainError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def v1_envelope(request: HttpRequest, status: int, error: DomainError) -> JSON:
    """Contract v1 1.3: `code` and `error` are the same word."""
    shown = {
        "code": error.code,
        "error": error.code,
        "message": error.message,
        "trace_id": getattr(request, "trace_id", ""),
    }
    return shown | ({"details": error.details} if error.details else {})


def v2_envelope(request: HttpRequest, status: int, error: DomainError) -> JSON:
    """Contract v2 1.5: the word in two places, `code` is the status."""
    code = error.code.rpartition(".")[2]
    wait = {"retry_after": error.retry_after} if isinstance(error, errors.TooMany) else {}
    if code == "error":  # validation.error, internal.error
        code = error.code.replace(".", "_")
    return {
        "error": {
            "type": V2_TYPES.get(status, "api_error"),
            "message": error.message,
            "code": status,
            "error_code": code,
            "request_id": getattr(request, "trace_id", ""),
            "details": {"error_code": code, **error.details, **wait},
        }
    }


def envelope_for(path: str) -> Envelope | None:
    """The envelope of the API that `path` belongs to, None for pages."""
    if path.startswith("/v1/") or path in ("/v1", "/healthz", "/readyz"):
        return v1_envelope
    if path.startswith("/api/") or path in ("/api", "/health"):
        return v2_envelope
    return None


def error_response(request: HttpRequest, error: DomainError, status: int = 0) -> HttpResponse:
    status = status or status_of(error)
    envelope = envelope_for(request.path) or v2_envelope
    response = JsonResponse(
        envelope(request, status, error), status=status, json_dumps_params={"ensure_ascii": False}
    )
    if isinstance(error, errors.TooMany):
        response["Retry-After"] = str(error.retry_after)
    return response


def _refuse_unknown_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """ninja ignores query parameters that an operation does not declare; we name them."""

    defaults = (one.default for one in inspect.signature(function).parameters.values())
    aliases = {alias for one in defaults if (alias := getattr(one, "alias", None))}

    @functools.wraps(function)
    def checked(request: HttpRequest, **given: Any) -> Any:
        takes_any = getattr(function, "takes_any_query", False)
        if not takes_any and (unknown := sorted(set(request.GET) - set(given) - aliases)):
            raise errors.Invalid(
                f"Unknown query parameter: {', '.join(unknown)}.", code="unknown_query_parameter"
            )
        return function(request, **given)

    return checked


class CleanParser(Parser):
    """Whatever arrives is text that PostgreSQL can store, and comes from a program: a form or a
    script of some page, which a browser sends without asking, cannot say that it is JSON."""

    def parse_body(self, request: HttpRequest) -> Any:
        if request.content_type != "application/json" and "Authorization" not in request.headers:
            raise errors.Invalid("Send Content-Type: application/json.")
        return clean(read_json(request.body))

    def parse_querydict(
        self, data: MultiValueDict[str, Any], list_fields: list[str], request: HttpRequest
    ) -> JSON:
        return dict(clean(super().parse_querydict(data, list_fields, request)))


# What any operation may answer besides what it declares.
REFUSALS = {
    400: "The thing is not of a kind that allows this.",
    401: "No valid credential.",
    402: "A limit on spending is reached.",
    403: "The role does not include this.",
    404: "There is no such thing here.",
    405: "Not with this method.",
    409: "The thing is not in a state that allows this.",
    413: "The request is too large.",
    422: "A field or parameter is not valid; the message names it.",
    429: "Too many; Retry-After says when to try again.",
    503: "Not available right now.",
}


class DescribedAPI(NinjaAPI):
    """Its OpenAPI document names every refusal of every operation, and the shape they share."""

    envelope: JSON

    def get_openapi_schema(self, **kwargs: Any) -> Any:
        """Made once: strangers may ask for it, and it takes a while."""
        if self._described is None:
            self._described = self._describe(**kwargs)
        return self._described

    _described: Any = None

    def get_openapi_operation_id(self, operation: Any) -> str:
        """The name of its function alone: clients are generated from it, and modules move."""
        return str(operation.view_func.__name__)

    def _describe(self, **kwargs: Any) -> Any:
        schema = super().get_openapi_schema(**kwargs)
        schema["components"].setdefault("schemas", {})["Refusal"] = self.envelope
        content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
        for operations in schema["paths"].values():
            for operation in operations.values():
                for status, words in REFUSALS.items():
                    refusal = {"description": words, "content": content}
                    operation["responses"].setdefault(status, refusal)
        return schema


V1_REFUSAL = {
    "type": "object",
    "required": ["code", "error", "message", "trace_id"],
    "properties": {
        "code": {"type": "string"},
        "error": {"type": "string"},
        "message": {"type": "string"},
        "trace_id": {"type": "string"},
        "details": {"type": "object"},
    },
}
V2_REFUSAL = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "code", "error_code", "request_id"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "code": {"type": "integer"},
                "error_code": {"type": "string"},
                "request_id": {"type": "string"},
                "details": {"type": "object"},
            },
        }
    },
}


def _make_api(*, title: str, name: str) -> NinjaAPI:
    api = DescribedAPI(
        title=title,
        version=name,
        urls_namespace=name,
        auth=NamesNoEndUsers() if name == "v1" else Bearer(),
        parser=CleanParser(),
        docs_url="/docs",
        openapi_url="/openapi.json",
    )
    api.envelope = V1_REFUSAL if name == "v1" else V2_REFUSAL
    api.add_decorator(_refuse_unknown_parameters)

    @api.exception_handler(DomainError)
    def domain_error(request: HttpRequest, error: DomainError) -> HttpResponse:
        return error_response(request, error)

    @api.exception_handler(ValidationError)
    def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
        if any(wrong["loc"][0] == "path" for wrong in error.errors) and name == "v2":
            return error_response(request, errors.NotFound())
        return error_response(request, _in_words(error))

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        if error.status_code == 400:
            why = str(error).rstrip(".")
            return error_response(
                request,
                errors.Invalid(
                    f"The body is not JSON (nested at most {DEEPEST} levels deep), or Content-Type "
                    f"does not say application/json: {why}."
                ),
            )
        return error_response(request, DomainError(str(error)), error.status_code)

    @api.exception_handler(DataError)
    def unstorable(request: HttpRequest, error: DataError) -> HttpResponse:
        logger.warning("%s %s: %s", request.method, request.path, error)
        return error_response(request, errors.Invalid("A value is too long or out of range."))

    @api.exception_handler(RequestDataTooBig)
    def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return error_response(request, errors.TooLarge("The request is too large."))

    @api.exception_handler(Http404)
    def missing(request: HttpRequest, error: Http404) -> HttpResponse:
        return error_response(request, errors.NotFound())

    @api.exception_handler(Exception)
    def crash(request: HttpRequest, error: Exception) -> HttpResponse:
        logger.exception("%s %s crashed", request.method, request.path, exc_info=error)
        sorry = DomainError(
            "Something went wrong inside Muster. Nothing was half-done; try again, and give "
            "this request's id to your admin if it stays."
        )
        return error_response(request, sorry, 500)

    return api


def _in_words(error: ValidationError) -> errors.Invalid:
    """All field errors in one sentence that names the fields."""
    sentences, fields = [], []
    for wrong in error.errors:
        where = [
            str(part) for part in wrong["loc"] if part not in ("body", "query", "path", "payload")
        ]
        field = ".".join(where) or "body"
        fields.append({"field": field, "message": wrong["msg"]})
        sentences.append(
            f"Unknown field {field}"
            if wrong["type"] == "extra_forbidden"
            else f"{field}: {wrong['msg']}"
        )
    return errors.Invalid("; ".join(sentences) + ".", fields=fields)


v1 = _make_api(title="Muster threads API", name="v1")
v2 = _make_api(title="Muster teammates API", name="v2")
# What v2's clients, command line and programs call beside it (contract v2 1.1), in its envelope.
hooks = _make_api(title="Muster hooks", name="hooks")

v1.add_router("", "teammates.api.v1.router")
v1.add_router("", "runs.api.v1.threads.router")
v1.add_router("", "runs.api.v1.runs.router")
v1.add_router("", "runs.api.v1.webhooks.router")
v1.add_router("", "runs.api.v1.usage.router")
v1.add_router("", "runs.api.v1.credits.router")
v2.add_router("", "teammates.api.v2_account.router")
v2.add_router("", "runs.api.v2.teammates.router")
v2.add_router("", "runs.api.v2.teammate_channels.router")
v2.add_router("", "runs.api.v2.teammate_templates.router")
v2.add_router("", "teammates.api.v2_tools.router")
v2.add_router("", "teammates.api.v2_apps.router")
v2.add_router("", "teammates.api.v2_knowledge.router")
v2.add_router("", "runs.api.v2.runs.router")
v2.add_router("", "runs.api.v2.gates.router")
v2.add_router("", "runs.api.v2.tasks.router")
v2.add_router("", "runs.api.v2.triggers.router")
v2.add_router("", "runs.api.v2.usage.router")
v2.add_router("", "runs.api.v2.budgets.router")
v2.add_router("", "runs.api.v2.webhooks.router")
v2.add_router("", "runs.api.v2.artifacts.router")
v2.add_router("", "runs.api.v2.account.router")
hooks.add_router("", "teammates.api.sessions.router")
hooks.add_router("", "runs.api.v2.gates.hook")
hooks.add_router("", "runs.api.inbound.router")
