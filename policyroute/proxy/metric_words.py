"""The words that labels may have: of providers, operations, results and errors."""

from __future__ import annotations

NONE, OTHER = "none", "other"
UNKNOWN_ERROR = "_OTHER"  # the conventions' word for an error without a name

PROVIDERS = {
    "aws": "aws.bedrock", "azure": "azure.ai.openai", "google": "gcp.gemini", "mistral": "mistral_ai", "moonshotai": "moonshot_ai", "x-ai": "x_ai",
}  # fmt: skip
"""OpenTelemetry's names of providers that the price library calls otherwise."""

OPERATIONS = {"embeddings": "embeddings", "completions": "text_completion"}
"""`gen_ai.operation.name` by API; what isn't here is a chat."""

_RESULTS = {
    word: word
    for word in (
        "answered", "timeout", "connection", "malformed", "cut", "overloaded_error", "api_error", "server_error", "rate_limit_error", "timeout_error",
        "weak", "asked", "remembered", "unclear", "nothing to show", "no api",
    )
} | {"skipped: circuit open": "circuit_open"}  # fmt: skip
_ERRORS = _RESULTS | {
    word: word for word in ("client_gone", "client_error", "no_upstream", "no_model", "refused_by_policy", "model_not_permitted")
}


def provider_name(provider: str) -> str:
    """A provider as OpenTelemetry names it."""
    return PROVIDERS.get(provider, provider)


def operation_name(api: str) -> str:
    """`gen_ai.operation.name` of an API."""
    return OPERATIONS.get(api, "chat")


def word_of(result: str) -> str:
    """An attempt's result as one of a fixed set of words."""
    return _worded(result, _RESULTS, "skipped" if result.startswith("skipped") else OTHER)


def error_of(error: str) -> str:
    """What went wrong as one of a fixed set of words, "" where nothing did."""
    return _worded(error, _ERRORS, UNKNOWN_ERROR) if error else ""


def _worded(text: str, known: dict[str, str], otherwise: str) -> str:
    found = known.get(text)
    if found is None:
        found = text if len(text) == 3 and text.isdecimal() and text.isascii() else otherwise
    return found
