"""What a server refused in a request, and which profile does without it.

A profile is pydantic-ai's, of what a model takes, with some words of ours in it.
"""

import re

from teammates.types import JSON

Profile = JSON
OURS = "muster_"
NO_SYSTEM_ROLE = f"{OURS}no_system_role"  # instructions are part of the first message
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
# A picture of another kind, or sent in another way, would be taken.
_OF_THIS_KIND = r"\b(webp|gif|png|jpe?g|format|base64|urls?)\b"
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


def adapt(said: str, sampling: JSON | None = None, sent: Profile | None = None) -> Profile:
    """What a server wants that refused a request so; empty if that is no matter of the profile.
    `sampling` are the settings of the request, which was sent with the profile `sent`."""

    def says(pattern: str) -> bool:
        return re.search(pattern, said, re.IGNORECASE) is not None

    if says(r"use\W+max_completion_tokens"):
        return {"openai_chat_supports_max_completion_tokens": True}
    if "max_completion_tokens" in said and not says(r"\d"):
        return {"openai_chat_supports_max_completion_tokens": False}
    if not says(_OF_THIS_KIND):
        if says(_TAKES_NO.format(_PICTURES)) or says(_TAKES_TEXT_ALONE):
            return {"supports_image_input": False}
        if says(_TAKES_NO.format(_PDFS)):
            return {"supports_document_input": False}
    if says(_SYSTEM_ROLE) and says(_IS_REFUSED):
        return {NO_SYSTEM_ROLE: True}
    if says(_TAKES_NO_SETTING):
        left_out = [name for name in sampling or {} if (sent or {}).get(REFUSES + name)]
        named = [
            name
            for name, pattern in _SETTINGS.items()
            if name in (sampling or {}) and name not in left_out and says(pattern)
        ]
        if named:  # of two that do not go together, the last goes
            return {REFUSES + named[-1]: True}
    return {}
