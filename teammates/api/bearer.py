"""Authentication of both APIs."""

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from teammates.access import Access
from teammates.errors import Forbidden, NotSignedIn
from teammates.people.api_keys import access_of_bearer


class Bearer(HttpBearer):
    """`Authorization: Bearer <key or token>`; `request.auth` is the `Access`."""

    def __call__(self, request: HttpRequest) -> Any:
        return access_of_request(request)

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return access_of_bearer(token)


class NamesNoEndUsers(Bearer):
    """For an API that knows none: a key of an account in strict mode would act for nobody in
    particular there, and reach everybody's."""

    def __call__(self, request: HttpRequest) -> Any:
        access = access_of_request(request)
        if access.api_key is not None and access.organization.require_end_user_id:
            raise Forbidden(
                "This account requires an end user on every call, and this API names none. Use "
                "/api/v2, or turn the strict mode off.",
                code="auth.strict_mode",
            )
        return access


def access_of_request(request: HttpRequest) -> Access:
    """Who sends this request. Raises `NotSignedIn`."""
    header = request.headers.get("Authorization", "")
    scheme, _, credential = header.partition(" ")
    if not header:
        raise NotSignedIn("Send Authorization: Bearer <key>.", code="auth.missing_token")
    if scheme.lower() != "bearer" or not credential.strip():
        raise NotSignedIn(
            "The Authorization header must be 'Bearer <key>'.", code="auth.invalid_authorization"
        )
    return access_of_bearer(credential.strip())
