"""What a vendor's failure means: a class, and a sentence that says what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape

import httpx2
from pydantic_ai import exceptions

from teammates.providers.base import ProviderError
from teammates.public_http import BlockedAddress
from teammates.text import read_json

# The number of tokens in what providers say about a limit. The first that fits counts.
_NUMBER = r"(\d[\d,]*)"
_WINDOW = (
    rf"maximum context length is {_NUMBER}",
    rf"> {_NUMBER} maximum",
    rf"context limit: [\d,]+ \+ [\d,]+ > {_NUMBER}",
    r"context \D*(\d[\d,]{3,})",
)
_OUTPUT = (
    rf"at most {_NUMBER}",
    rf"tokens: [\d,]+ > {_NUMBER}",
    rf"less than or equal to \D?{_NUMBER}",
    rf"range of max_tokens is \[\d+, {_NUMBER}\]",
)
# What servers say whose refusal carries no code of its own.
_TOO_LONG = (
    r"context (size|length|window|limit)|prompt is too long|(input|prompt).{0,40}(too|exceed)"
    r".{0,40}token|token count.{0,40}exceed"
)
_OUTPUT_NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_SLOW = (408, 425, 504)
LARGEST_ERROR = 64 * 1024  # bytes; vectors of documents are more, and no errors
LONGEST_SAID = 4_000  # characters of an error that are looked at


async def give_errors_a_status(response: httpx2.Response) -> None:
    """Of an answer that is an error with status 200: the one that it names, or 500."""
    if response.status_code != 200 or "json" not in response.headers.get("content-type", ""):
        return
    content = await response.aread()
    try:
        said = read_json(content) if len(content) <= LARGEST_ERROR else None
    except ValueError:
        return
    if error := said.get("error") if isinstance(said, dict) else None:
        code = error.get("code") if isinstance(error, dict) else None
        response.status_code = code if type(code) is int and 400 <= code < 600 else 500


@contextmanager
def explained(label: str, model: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        explained = _explain(error, label, model)
        if explained is error:
            raise
        raise explained from error


def _explain(error: Exception, label: str, model: str) -> Exception:
    """The provider's failure as an error class and a sentence that says what to do."""
    if isinstance(error, ProviderError):
        return error
    if blocked := _find_cause(error, BlockedAddress):
        return ProviderError("provider.unreachable", str(blocked))
    if _find_cause(error, ValueError):  # JSON that is none, or of another shape
        return _malformed(error, label)
    if answer := _explain_answer(error, label, model):
        return answer
    if isinstance(error, exceptions.ModelRequestTimeout) or _find_cause(error, httpx2.ReadTimeout):
        return ProviderError(
            "provider.silent",
            f"{label} did not answer in time. Try again, or let an operator raise "
            "MUSTER_MODEL_FIRST_SECONDS or MUSTER_MODEL_SILENCE_SECONDS.",
            is_transient=True,
        )
    if isinstance(error, exceptions.ModelConnectionError | httpx2.TransportError):
        return ProviderError(
            "provider.unreachable",
            f"{label} could not be reached or broke the connection. "
            "Check its address in Models & prices, and try again.",
            is_transient=True,
        )
    if isinstance(error, exceptions.ModelHTTPError):
        return _explain_status(error, label)
    if isinstance(error, exceptions.ModelAPIError):
        return ProviderError(
            "provider.failed", f"{label} failed: {said_by(error)}", is_transient=True
        )
    if isinstance(error, exceptions.UnexpectedModelBehavior | KeyError | TypeError):
        return _malformed(error, label)
    return error


def _explain_answer(error: Exception, label: str, model: str) -> ProviderError | None:
    """A refusal that the provider gave a reason for, in words that say what to do."""
    if isinstance(error, exceptions.ModelAuthenticationError) or _refuses_key(error):
        return ProviderError(
            "provider.unauthorized",
            f"{label} refused the key. Nothing was run. Check the key in Models & prices.",
        )
    if isinstance(error, exceptions.ModelQuotaExceededError):
        return ProviderError(
            "provider.quota_exceeded",
            f"The quota at {label} is used up. Raise it there, then try again.",
        )
    if isinstance(error, exceptions.ModelRateLimitError):
        return ProviderError(
            "provider.rate_limited",
            f"{label} allows no more calls right now. Try again in a minute, or raise the limit.",
            is_transient=True,
            retry_after=error.retry_after,
        )
    if isinstance(error, exceptions.ModelNotFoundError):
        return ProviderError(
            "provider.model_not_found",
            f"{label} does not offer the model {model}. Choose another in Models & prices.",
        )
    if isinstance(error, exceptions.ModelContextWindowExceededError):
        return _too_long(model, said_by(error))
    if isinstance(error, exceptions.ModelHTTPError) and error.status_code in _SLOW:
        return ProviderError(
            "provider.too_slow",
            f"{label} gave up on the request ({error.status_code}). Try again in a minute.",
            is_transient=True,
            retry_after=error.retry_after,
        )
    if isinstance(error, exceptions.ModelUnavailableError | exceptions.ModelServerError):
        return ProviderError(
            "provider.overloaded",
            f"{label} has trouble right now ({_status(error)}). Try again in a minute.",
            is_transient=True,
            retry_after=error.retry_after,
        )
    if isinstance(error, exceptions.ModelRequestRejectedError):
        said = said_by(error)
        if re.search(_TOO_LONG, said, re.IGNORECASE):
            return _too_long(model, said)
        limit = _named(_OUTPUT, said) if any(name in said for name in _OUTPUT_NAMES) else None
        if limit is not None:
            return ProviderError(
                "provider.output_limit",
                f"{model} writes at most {limit} tokens at once. Set that in Models & prices.",
                limit=limit,
            )
        return ProviderError("provider.rejected", f"{label} refused the request: {said}")
    return None


def _refuses_key(error: Exception) -> bool:
    """Google does so with the status of any bad request."""
    if not isinstance(error, exceptions.ModelRequestRejectedError):
        return False
    return re.search(r"(?i)api.?key (not valid|expired)", said_by(error)) is not None


def _too_long(model: str, said: str) -> ProviderError:
    return ProviderError(
        "provider.context_too_long",
        f"The conversation is too long for {model}. Start a new thread or use a larger model.",
        limit=_named(_WINDOW, said),
    )


def _explain_status(error: exceptions.ModelHTTPError, label: str) -> ProviderError:
    """An answer that is no model's and says no more than its status."""
    said = said_by(error)
    if error.status_code == 413:
        return ProviderError(
            "provider.too_large",
            f"The request is too large for {label}. Attach less, or start a new thread.",
        )
    return ProviderError("provider.rejected", f"{label} answered {error.status_code}: {said}")


def _named(patterns: tuple[str, ...], said: str) -> int | None:
    """The limit that a provider named."""
    found = next((match for p in patterns if (match := re.search(p, said))), None)
    return int(found.group(1).replace(",", "")) if found else None


def said_by(error: exceptions.ModelAPIError) -> str:
    """The provider's own words, as a sentence: of an error object its message, of a page its
    heading."""
    body: object = getattr(error, "body", None)
    place = ""  # in the request, of what is wrong with it
    while isinstance(body, dict | list):
        if isinstance(body, list):
            body = body[0] if body else None
            continue
        if isinstance(body.get("loc"), list):
            place = f"{'.'.join(map(str, body['loc']))}: "
        body = body.get("message") or body.get("error") or body.get("detail") or body.get("msg")
    body = place + body if isinstance(body, str) else body
    text = (body if isinstance(body, str) and body else _first_line(error))[:LONGEST_SAID]
    if "<" in text:
        heading = re.search(r"<(title|h1)[^>]*>(.*?)</\1>", text, re.IGNORECASE | re.DOTALL)
        text = heading.group(2) if heading else re.sub(r"<[^>]{0,200}>", " ", text)
    words = " ".join(unescape(text).split())[:300]
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def _malformed(error: Exception, label: str) -> ProviderError:
    return ProviderError(
        "provider.malformed",
        f"{label} answered with something that is not a model's answer ({_first_line(error)}). "
        "Check that the address speaks this provider's API.",
    )


def _find_cause(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _status(error: exceptions.ModelAPIError) -> str:
    return str(getattr(error, "status_code", None) or "in the stream")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
