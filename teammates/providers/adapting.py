"""What a server refused in a request, and which profile does without it.

A profile is pydantic-ai's, of what a model takes, with some words of ours in it.
"""

import re
from collections.abc import Collection

from teammates.providers.base import MediaKind
from teammates.types import JSON

Profile = JSON
OURS = "muster_"
NO_SYSTEM_ROLE = f"{OURS}no_system_role"  # instructions are part of the first message
NO_RESPONSES = f"{OURS}no_responses"  # it is asked through chat completions
NO_SUMMARIES = f"{OURS}no_summaries"  # of what a model that reasons thought
NO_OUTPUT_FORMAT = f"{OURS}no_output_format"  # its result is a tool's call
NO_TOOLS = f"{OURS}no_tools"  # it is offered none
REFUSES = f"{OURS}refuses_"  # a sampling setting, which is left out

_SYSTEM_ROLE = r"system\W{1,3}(role|message|prompt|instruction)|role\W{1,4}system|developer instr"
_IS_REFUSED = r"\bnot\b|unsupported|only|invalid"
_PICTURES = r"(image_url|image input|images?|vision|multi-?modal)"
_PDFS = r"(file|document|pdf)s?"
_TAKES_NO = (
    r"\b{0}\b.{{0,60}}(not support|unsupported|n't support|only support|not enabled)"
    r"|not? support\w*\W.{{0,40}}\b{0}\b|support {0} input|(unknown variant|invalid value)\W+{0}"
)
_TAKES_TEXT_ALONE = r"at most 0 image|content must be a string|required for image input"
_TAKES_NO_TOOLS = (
    r"not? support\w*\W.{0,20}\b(tool|function)s?\b|\bsupports? tool use"
    r"|\b(tool|function)s?\b.{0,30}(not supported|unsupported|n't supported)"
    r"|tool choice requires"
)
_OF_ONE_TOOL = r"schema|propert(y|ies)|parameters?\b|strict|format"
# Another picture or file, or one that is sent in another way, would be taken.
_OF_THIS_ONE = (
    r"\b(webp|gif|png|jpe?g|base64|urls?|password|schema|function|propert(y|ies))\b"
    r"|(image|supported) formats?|media type|\b\d+ ?[KMG]i?B\b|larger|exceed"
)
# Another request, with the same settings otherwise, would be taken.
_OF_THIS_REQUEST = (
    r"may only be set|cannot both|only the default|only .{0,20}when|\bschemas?\b|too complex"
)
# How sampling settings are named on the wire, and how a server says that it takes none.
_SETTINGS = {
    "temperature": r"\btemperature\b",
    "top_p": r"\btop_p\b",
    "stop": r"stop_sequences|['\"`]stop['\"`]",
    "seed": r"\bseed\b",
    "service_tier": r"\bservice_tier\b",
}
_TAKES_NO_SETTING = (
    r"support|deprecated|not allowed|not permitted|unknown|unrecognized|unexpected|extra inputs"
    r"|may only be set|cannot both|only the default"
)


def adapt(
    said: str,
    *,
    sampling: Collection[str] = (),
    media: Collection[MediaKind] = ("picture", "pdf"),
    has_tools: bool = False,
    sent: Profile | None = None,
) -> Profile:
    """What a server wants that refused a request so; empty if that is no matter of the profile.
    The request had these sampling settings, showed these kinds of files and perhaps offered tools;
    it was `sent` so."""

    def says(pattern: str) -> bool:
        return re.search(pattern, said, re.IGNORECASE) is not None

    if says(r"use\W+max_completion_tokens"):
        return {"openai_chat_supports_max_completion_tokens": True}
    if "max_completion_tokens" in said and not says(r"\d"):
        return {"openai_chat_supports_max_completion_tokens": False}
    if media and not says(_OF_THIS_ONE):
        takes_no_picture = says(_TAKES_NO.format(_PICTURES)) or says(_TAKES_TEXT_ALONE)
        if "picture" in media and takes_no_picture:
            return {"supports_image_input": False}
        if "pdf" in media and says(_TAKES_NO.format(_PDFS)):
            return {"supports_document_input": False}
    if has_tools and says(_TAKES_NO_TOOLS) and not says(_OF_ONE_TOOL):
        return {NO_TOOLS: True}
    if says(_SYSTEM_ROLE) and says(_IS_REFUSED):
        return {NO_SYSTEM_ROLE: True}
    if says(r"reasoning[._ ]?effort"):
        return {"supports_thinking": False}
    if says(_TAKES_NO_SETTING):
        left_out = [name for name in sampling if (sent or {}).get(REFUSES + name)]
        named = [
            name
            for name, pattern in _SETTINGS.items()
            if name in sampling and name not in left_out and says(pattern)
        ]
        if named:  # of two that do not go together, the last goes
            return {REFUSES + named[-1]: True}
    return {}


def is_about_form(said: str) -> bool:
    """Whether what a server refused is the form that a result was to have."""
    about = r"(?i)\bstrict\b|structured.outputs|schema|response_?format|output_?(format|config)"
    return re.search(about, said) is not None


def native(profile: Profile) -> Profile:
    """What of a profile is pydantic-ai's."""
    return {key: value for key, value in profile.items() if not key.startswith(OURS)}


def is_for_good(said: str) -> bool:
    """Whether a model never takes what it refused so, in whatever request."""
    return re.search(_OF_THIS_REQUEST, said, re.IGNORECASE) is None
