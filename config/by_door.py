"""Which middlewares a request passes through: those that pages need, those that programs do, or
none, for probes of the server's health."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from config.api import envelope_for
from config.middleware import PROBES, GetResponse

DESCRIPTIONS = ("/v1/docs", "/api/v1/docs", "/api/v2/docs")


class by_door:  # noqa: N801  # named like the other middlewares
    """The middlewares that pages need, and those that APIs do: nobody passes through the others'.

    The descriptions of the APIs are pages for people.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._pages = _Chain(settings.PAGE_MIDDLEWARE, get_response)
        self._apis = _Chain(settings.API_MIDDLEWARE, get_response)
        self._probes = _Chain([], get_response)

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
        if request.path in PROBES:
            return self._probes
        is_page = request.path.rstrip("/") in DESCRIPTIONS or envelope_for(request.path) is None
        return self._pages if is_page else self._apis


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
