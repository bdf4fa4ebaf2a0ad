"""Which middlewares a request passes through: those that pages need, those that programs do, or
none, for probes of the server's health."""

from collections.abc import Callable
from typing import Any, Literal

from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from config.api import envelope_for
from config.middleware import PROBES, GetResponse

DESCRIPTIONS = ("/v1/docs", "/api/v1/docs", "/api/v2/docs")


Door = Literal["page", "program", "probe"]


def door_of(path: str) -> Door:
    """Whom a path is for. The descriptions of the APIs are pages for people."""
    if path in PROBES:
        return "probe"
    is_page = path.rstrip("/") in DESCRIPTIONS or envelope_for(path) is None
    return "page" if is_page else "program"


class by_door:  # noqa: N801  # named like the other middlewares
    """The middlewares that pages need, and those that APIs do: nobody passes the others'."""

    def __init__(self, get_response: GetResponse) -> None:
        self._chains = {
            "page": _Chain(settings.PAGE_MIDDLEWARE, get_response),
            "program": _Chain(settings.API_MIDDLEWARE, get_response),
            "probe": _Chain([], get_response),
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self._behind(request).respond(request)
        return response

    def process_view(
        self, request: HttpRequest, view: object, args: object, kwargs: object
    ) -> HttpResponse | None:
        for hook in self._behind(request).view_hooks:
            if response := hook(request, view, args, kwargs):
                return response
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        for hook in self._behind(request).exception_hooks:
            if response := hook(request, error):
                return response
        return None

    def _behind(self, request: HttpRequest) -> "_Chain":
        return self._chains[door_of(request.path)]


class _Chain:
    """Middlewares as Django's handler puts them together: the first one is outermost."""

    def __init__(self, paths: list[str], get_response: GetResponse) -> None:
        self.view_hooks: list[Callable[..., HttpResponse | None]] = []
        self.exception_hooks: list[Callable[..., HttpResponse | None]] = []
        for path in reversed(paths):
            made = import_string(path)(convert_exception_to_response(get_response))
            if hasattr(made, "process_view"):
                self.view_hooks.insert(0, made.process_view)
            if hasattr(made, "process_exception"):
                self.exception_hooks.append(made.process_exception)
            get_response = made
        self.respond: Any = convert_exception_to_response(get_response)
