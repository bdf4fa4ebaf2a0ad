"""Every kind of provider: a row here, and a module where none of those there are speaks like it."""

from dataclasses import dataclass

_CHAT = "teammates.providers.openai"


@dataclass(frozen=True)
class Kind:
    """`module` has `make_client`; `address` is where the provider is, or where a server of one's
    own usually is."""

    label: str
    module: str
    address: str = ""
    needs_key: bool = True
    has_own_address: bool = False  # somebody says where it is
    has_embeddings: bool = False  # `module` has `make_embedding_model`


KINDS = {
    "demo": Kind("Demo (built in, no AI)", "teammates.providers.demo", needs_key=False),
    "anthropic": Kind("Anthropic", "teammates.providers.anthropic", "https://api.anthropic.com"),
    "google": Kind(
        "Google Gemini",
        "teammates.providers.google",
        "https://generativelanguage.googleapis.com",
        has_embeddings=True,
    ),
    "openai": Kind("OpenAI", _CHAT, "https://api.openai.com/v1", has_embeddings=True),
    "openrouter": Kind("OpenRouter", _CHAT, "https://openrouter.ai/api/v1", has_embeddings=True),
    "deepseek": Kind("DeepSeek", _CHAT, "https://api.deepseek.com"),
    "xai": Kind("xAI", _CHAT, "https://api.x.ai/v1"),
    "mistral": Kind("Mistral", _CHAT, "https://api.mistral.ai/v1", has_embeddings=True),
    "groq": Kind("Groq", _CHAT, "https://api.groq.com/openai/v1"),
    "azure": Kind("Azure OpenAI", _CHAT, has_own_address=True, has_embeddings=True),
    "bedrock": Kind("Amazon Bedrock", "teammates.providers.bedrock", has_own_address=True),
    "openai_compatible": Kind(
        "OpenAI-compatible server",
        _CHAT,
        needs_key=False,
        has_own_address=True,
        has_embeddings=True,
    ),
    "ollama": Kind(
        "Ollama",
        _CHAT,
        "http://127.0.0.1:11434/v1",
        needs_key=False,
        has_own_address=True,
        has_embeddings=True,
    ),
}
