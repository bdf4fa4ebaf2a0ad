"""v2's exact scopes: without `user_id`, the account's own rows and no end user's (contract 1.9)."""

from dataclasses import replace

from teammates import accounts
from teammates.access import Access, check_end_user_id
from teammates.api.schemas import ApiRequest


def exact_scope(request: ApiRequest, user_id: str | None) -> Access:
    """The access of this request in one scope. Raises `Invalid` in strict mode without one."""
    access: Access = request.auth.for_end_user(user_id)
    if access.api_key or request.method != "GET":  # the strict mode lets sessions read
        access.require_end_user()
    return access


def scope_for_writing(request: ApiRequest, user_id: str | None) -> Access:
    """The same; an end user who is named for the first time gets a profile."""
    access = exact_scope(request, user_id)
    if user_id is None:
        return access
    check_end_user_id(user_id)
    end_user = accounts.find_or_create_end_user(access.organization, user_id)
    return replace(access, end_user=end_user)
