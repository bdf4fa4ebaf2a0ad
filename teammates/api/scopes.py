"""v2's exact scopes: without `user_id`, the account's own rows and no end user's (contract 1.9)."""

from dataclasses import replace

from teammates.access import Access
from teammates.api.schemas import ApiRequest
from teammates.people import end_users


def scoped(request: ApiRequest, user_id: str | None, permission: str = "data.runs.read") -> Access:
    """The operator's view (contract v2 1.9): everything of the account, or one end user's. Raises
    `Invalid` in strict mode without one, where a key asks."""
    request.auth.require(permission)
    access: Access = request.auth.for_end_user(user_id)
    if access.api_key:  # the strict mode lets sessions read
        access.require_end_user()
    return access


def exact_scope(request: ApiRequest, user_id: str | None, *, is_strict: bool = True) -> Access:
    """The access of this request in one scope. Raises `Invalid` in strict mode without one, where
    the resource `is_strict` (contract v2 1.9)."""
    access: Access = request.auth.for_end_user(user_id)
    # The strict mode lets sessions read.
    if is_strict and (access.api_key or request.method != "GET"):
        access.require_end_user()
    return access


def scope_for_writing(
    request: ApiRequest, user_id: str | None, *, is_strict: bool = True
) -> Access:
    """The same; an end user who is named for the first time gets a profile. Raises `Forbidden` for
    whoever changes nothing."""
    access = exact_scope(request, user_id, is_strict=is_strict)
    if user_id is None:
        return access
    access.require("data.runs.write")
    return replace(access, end_user=end_users.find_or_create(access, user_id))
