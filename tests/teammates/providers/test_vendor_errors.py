"""Limits are found in the sentences that providers really write."""

from typing import Any

import pytest
from pydantic_ai.exceptions import (
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelRequestRejectedError,
)

from teammates.providers.base import ProviderError
from teammates.providers.vendor_errors import explained


class TooLong(ModelContextWindowExceededError, ModelHTTPError):
    pass


class Rejected(ModelRequestRejectedError, ModelHTTPError):
    pass


def explain(kind: type[ModelHTTPError], body: Any, status: int = 400) -> ProviderError:
    with pytest.raises(ProviderError) as caught, explained("The server", "m"):
        raise kind(status, "m", body)
    return caught.value


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("This model's maximum context length is 8192 tokens. However, you sent 9000.", 8192),
        ("maximum context length is 131,072 tokens", 131_072),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200_000),
        ("exceeds the available context size (4096 tokens)", 4096),
        ("The input is too long.", None),
    ],
)
def test_the_window_that_a_provider_names(said: str, limit: int | None) -> None:
    error = explain(TooLong, {"message": said})
    assert (error.error_class, error.limit) == ("provider.context_too_long", limit)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("max_tokens is too large: 8192. This model supports at most 4096 completion tokens", 4096),
        ("max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens", 8192),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("`max_tokens` must be less than or equal to `8192`, the maximum for this model", 8192),
        ("max_completion_tokens must be less than or equal to 1024", 1024),
    ],
)
def test_the_output_limit_that_a_provider_names(said: str, limit: int) -> None:
    error = explain(Rejected, {"error": {"message": said}})
    assert (error.error_class, error.limit) == ("provider.output_limit", limit)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("the request exceeds the available context size, try increasing it", None),
        (
            "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000, decrease "
            "input length or `max_tokens` and try again",
            200_000,
        ),
        ("Trying to keep the first 9000 tokens when context length of only 4096 tokens", 4096),
    ],
)
def test_what_is_too_long_is_told_by_its_words_too(said: str, limit: int | None) -> None:
    error = explain(Rejected, {"message": said})
    assert (error.error_class, error.limit) == ("provider.context_too_long", limit)


def test_a_large_page_of_an_error_takes_no_time() -> None:
    error = explain(ModelHTTPError, "<h1>" * 1_000_000, status=418)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error": {"message": "No such  parameter\nx"}}, "No such parameter x."),
        ({"detail": "Not so"}, "Not so."),
        ({"message": {"detail": [{"type": "x", "msg": "Field required"}]}}, "Field required."),
        ("<!doctype html><html><head><title>Bad\nGateway</title></head>", "Bad Gateway."),
        ("<p>Sorry &amp; bye!</p>", "Sorry & bye!"),
        (None, "status_code: 418, model_name: m, body: None."),
    ],
)
def test_what_was_said_is_one_plain_sentence(body: Any, sentence: str) -> None:
    error = explain(ModelHTTPError, body, status=418)
    assert str(error) == f"The server answered 418: {sentence}"
