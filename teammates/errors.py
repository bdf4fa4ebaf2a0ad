"""Errors of the domain. The class says what kind of refusal it is, the message is for a person.

`code` is the word that programs match on: "<resource>.<reason>". Each API puts it in its own
envelope, pages show the message.
"""

from typing import Any


class DomainError(Exception):
    """Something was refused."""

    code = "internal.error"

    def __init__(self, message: str = "", *, code: str = "", **details: Any) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        self.code = code or self.code
        self.details = details

    @property
    def message(self) -> str:
        return str(self)


class Invalid(DomainError):
    """The request is not valid."""

    code = "validation.error"


class Unsuitable(DomainError):
    """The thing is not of a kind that allows this."""

    code = "unsuitable"


class NotSignedIn(DomainError):
    """Sign in, or send a valid key."""

    code = "auth.invalid_token"


class Forbidden(DomainError):
    """You may not do this."""

    code = "policy.denied"


class NotFound(DomainError):
    """There is no such thing here."""

    code = "http.not_found"


class Conflict(DomainError):
    """The thing is not in a state that allows this."""

    code = "conflict"


class TooMany(DomainError):
    """Too many at once; try again later."""

    code = "ratelimit.exceeded"

    def __init__(
        self, message: str = "", *, code: str = "", retry_after: int = 5, **details: Any
    ) -> None:
        super().__init__(message, code=code, **details)
        self.retry_after = retry_after  # seconds


class TooLarge(DomainError):
    """What was sent is too large."""

    code = "http.request_too_large"


class PaymentRequired(DomainError):
    """A limit on spending is reached."""

    code = "limit_reached"


class Unavailable(DomainError):
    """Not available right now; try again."""

    code = "overload.busy"


# What is gone by itself after a while: whoever asked should ask again.
PASSING = (TooMany, Unavailable)
