"""The apps that Muster knows how to connect: presets for servers, by the names programs use.

What each needs is a key that a person makes at the vendor; there is no OAuth broker here.
"""

from dataclasses import dataclass, field

from teammates.types import JSON


@dataclass(frozen=True)
class App:
    name: str
    display_name: str
    category: str
    kind: str
    url: str
    key_label: str
    key_guidance: str
    auth_type: str = "bearer"
    auth_config: dict[str, str] = field(default_factory=dict)
    operations: list[JSON] = field(default_factory=list)
    documentation_url: str = ""
    is_popular: bool = True


def _get(name: str, path: str, description: str, **query: str) -> JSON:
    return _operation("GET", name, path, description, query)


def _operation(method: str, name: str, path: str, description: str, fields: dict[str, str]) -> JSON:
    import re

    properties: JSON = {place: {"type": "string"} for place in re.findall(r"\{(\w+)\}", path)}
    properties |= {key: {"type": "string", "description": said} for key, said in fields.items()}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {
        "name": name,
        "method": method,
        "path": path,
        "description": description,
        "parameters": schema,
    }


_TOKEN = "An OAuth access token with this scope: "
CATALOG: dict[str, App] = {
    app.name: app
    for app in (
        App(
            "gmail",
            "Gmail",
            "communication",
            "rest_api",
            "https://gmail.googleapis.com/gmail/v1/users/me",
            "Access token",
            _TOKEN + "https://www.googleapis.com/auth/gmail.modify",
            auth_type="oauth_token",
            operations=[
                _get("search_messages", "/messages", "Search messages.", q="Gmail search words."),
                _get("get_message", "/messages/{id}", "Read one message."),
                _operation(
                    "POST",
                    "send_message",
                    "/messages/send",
                    "Send a message.",
                    {"raw": "The RFC 2822 message, base64url."},
                ),
            ],
            documentation_url="https://developers.google.com/gmail/api",
        ),
        App(
            "slack",
            "Slack",
            "communication",
            "rest_api",
            "https://slack.com/api",
            "Bot token",
            "A bot token (xoxb-…) of an app in your workspace, with channels:read and chat:write.",
            operations=[
                _get("list_channels", "/conversations.list", "List channels."),
                _get(
                    "read_channel",
                    "/conversations.history",
                    "Read the newest messages.",
                    channel="The channel's id.",
                ),
                _operation(
                    "POST",
                    "post_message",
                    "/chat.postMessage",
                    "Post a message.",
                    {"channel": "The channel's id.", "text": "The message."},
                ),
            ],
            documentation_url="https://api.slack.com/methods",
        ),
        App(
            "github",
            "GitHub",
            "development",
            "mcp_http",
            "https://api.githubcopilot.com/mcp/",
            "Personal access token",
            "A fine-grained token for the repositories it may touch.",
            documentation_url="https://github.com/github/github-mcp-server",
        ),
        App(
            "linear",
            "Linear",
            "development",
            "mcp_http",
            "https://mcp.linear.app/mcp",
            "API key",
            "Settings, Security & access, Personal API keys.",
        ),
        App(
            "notion",
            "Notion",
            "productivity",
            "rest_api",
            "https://api.notion.com/v1",
            "Integration secret",
            "The secret of an internal integration that sees the pages.",
            operations=[
                _operation("POST", "search", "/search", "Search pages.", {"query": "Words."}),
                _get("get_page", "/pages/{page_id}", "Read a page's properties."),
                _get("get_blocks", "/blocks/{block_id}/children", "Read a page's content."),
            ],
            documentation_url="https://developers.notion.com/reference",
        ),
        App(
            "stripe",
            "Stripe",
            "finance",
            "mcp_http",
            "https://mcp.stripe.com",
            "Restricted key",
            "A restricted key (rk_…) with read access, and write access only where you want it.",
            documentation_url="https://docs.stripe.com/mcp",
        ),
        App(
            "hubspot",
            "HubSpot",
            "sales",
            "rest_api",
            "https://api.hubapi.com",
            "Private app token",
            "The token of a private app with the CRM scopes.",
            operations=[
                _get(
                    "list_contacts",
                    "/crm/v3/objects/contacts",
                    "List contacts.",
                    limit="How many, up to 100.",
                ),
                _get("get_contact", "/crm/v3/objects/contacts/{id}", "Read a contact."),
            ],
            documentation_url="https://developers.hubspot.com/docs/api",
        ),
        App(
            "gemini",
            "Gemini",
            "ai",
            "rest_api",
            "https://generativelanguage.googleapis.com/v1beta",
            "API key",
            "A key from Google AI Studio.",
            auth_type="custom_header",
            auth_config={"header_name": "x-goog-api-key"},
            operations=[_get("list_models", "/models", "List the models.")],
            documentation_url="https://ai.google.dev/api",
            is_popular=False,
        ),
    )
}


def display_name(name: str) -> str:
    """google_ads is Google Ads, whether it is in the catalogue or not."""
    app = CATALOG.get(name)
    return app.display_name if app else name.replace("_", " ").title()
