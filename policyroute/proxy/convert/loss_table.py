"""What a conversion loses: one line per thing, by direction.

Rules of this module
- Settings that the other API hasn't are left out and listed here. What the model must see to answer (audio, a file kept by the
  provider, an earlier response) and what the client can't do without (several choices) is never left out: it is refused with a
  ConversionError, and another model can answer.
- A line is in a direction's table exactly if a request, or an answer, can lose it there; the tests lose each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyroute.signals.request import Api

# -- in requests
UNKNOWN = "fields that the API doesn't document"
SYSTEM_PLACE = "the place of a system message inside the conversation (all of them go first)"
NAMES = "`name` of a message"
REASONING = "the reasoning of earlier turns"
DETAIL = "`detail` of an image"
ORIGINAL = "`detail: original` of an image (it becomes high)"
BORDERS = "the borders of text parts in system messages and results"
CACHE = "`cache_control`"
CACHE_PLACES = "the places of `cache_control` (the cache ends where the prompt does)"
IS_ERROR = "`is_error` of a tool's result"
OWN_TOOLS = "tools that the provider itself runs or defines (web search, files, code)"
CUSTOM_TOOLS = "custom tools, whose input is text"
OWN_CALLS = "earlier calls of tools that the provider itself ran"
CITED = "`citations` of documents and earlier answers"
SCHEMA_NAME = "`name`, `description` and `strict` of the output schema"
JSON_OBJECT = "the demand for JSON output without a schema"
PICTURES_OF_RESULTS = "which tool's result an image was in (it follows the results)"
TOO_HOT = "`temperature` above 1 (it becomes 1)"
BOTH_SAMPLINGS = "`top_p` beside `temperature`"
SAMPLING_OF_REASONING = "`temperature` and `top_p` beside a reasoning effort"
FORCED_REASONING = "the thinking of a request that forces a tool call (its effort stays)"
BLANK_STOPS = "stop sequences of white space"
MORE_STOPS = "stop sequences after the fourth"
BUDGET = "the exact thinking budget (it becomes an effort)"
SMALL_LIMIT = "an output limit under 16 tokens (it becomes 16)"
SAFETY = "`safety_identifier` beside `user`"
BLANK_TEXTS = "blocks and messages of nothing but white space"
TOOL_DETAILS = "tool settings beside name, description, schema and `strict`"

# -- in answers
ANSWERED_REASONING = "the reasoning in answers (only the provider that wrote it takes it back)"
STOP_SEQUENCE = "which stop sequence ended an answer"
CITATIONS = "citations and annotations in answers"
ANSWERED_TIER = "`service_tier` of answers"
SIGNATURES = "signatures of the reasoning in answers"

_FIELDS: Mapping[tuple[Api, Api], tuple[str, ...]] = {
    ("chat", "messages"): (
        "seed", "logit_bias", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "prediction", "metadata",
        "service_tier", "store", "verbosity", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "web_search_options", "moderation",
    ),
    ("chat", "responses"): (
        "stop", "seed", "logit_bias", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "prediction",
        "web_search_options", "moderation",
    ),
    ("messages", "chat"): (
        "top_k", "service_tier", "container", "context_management", "mcp_servers", "speed", "inference_geo", "user_profile_id",
        "workspace_id",
    ),
    ("messages", "responses"): (
        "stop_sequences", "top_k", "service_tier", "container", "context_management", "mcp_servers", "speed", "inference_geo",
        "user_profile_id", "workspace_id",
    ),
    ("responses", "chat"): (
        "include", "max_tool_calls", "truncation", "top_logprobs", "context_management", "client_metadata", "moderation",
    ),
    ("responses", "messages"): (
        "include", "max_tool_calls", "truncation", "top_logprobs", "context_management", "client_metadata", "metadata",
        "service_tier", "store", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "moderation",
    ),
}  # fmt: skip
"""Settings that have no counterpart, by (client, upstream)."""

_CARRIED: Mapping[Api, frozenset[str]] = {
    "chat": frozenset({
        "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens", "temperature",
        "top_p", "stop", "stream", "stream_options", "user", "metadata", "service_tier", "store", "reasoning_effort", "verbosity",
        "response_format", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "n", "modalities",
        "audio", "functions", "function_call", "cache_control", "top_k",
    }),
    "messages": frozenset({
        "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "stop_sequences", "stream",
        "metadata", "thinking", "output_config", "cache_control",
    }),
    "responses": frozenset({
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature", "top_p",
        "stream", "stream_options", "user", "metadata", "service_tier", "store", "reasoning", "text", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "previous_response_id", "conversation", "prompt",
        "background",
    }),
}  # fmt: skip
"""Fields that a conversion from this API reads."""

_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (False,), "top_logprobs": (0,), "frequency_penalty": (0,), "presence_penalty": (0,), "store": (False,),
    "service_tier": ("auto",), "truncation": ("disabled",), "speed": ("standard",),
}  # fmt: skip
"""Values that say what leaving the field out says."""

_CONTENT: Mapping[tuple[Api, Api], tuple[str, ...]] = {
    ("chat", "messages"): (
        SYSTEM_PLACE, NAMES, REASONING, DETAIL, CACHE_PLACES, CUSTOM_TOOLS, OWN_TOOLS, SCHEMA_NAME, JSON_OBJECT, TOO_HOT,
        BOTH_SAMPLINGS, SAMPLING_OF_REASONING, FORCED_REASONING, BLANK_STOPS, SAFETY, BLANK_TEXTS, UNKNOWN, SIGNATURES,
        STOP_SEQUENCE, CITATIONS, ANSWERED_TIER,
    ),
    ("responses", "messages"): (
        SYSTEM_PLACE, REASONING, DETAIL, CUSTOM_TOOLS, OWN_TOOLS, OWN_CALLS, SCHEMA_NAME, JSON_OBJECT, TOO_HOT, BOTH_SAMPLINGS,
        SAMPLING_OF_REASONING, FORCED_REASONING, SAFETY, BLANK_TEXTS, UNKNOWN, ANSWERED_REASONING, CITATIONS,
        ANSWERED_TIER,
    ),
    ("chat", "responses"): (
        NAMES, REASONING, ORIGINAL, CACHE, CUSTOM_TOOLS, OWN_TOOLS, SMALL_LIMIT, UNKNOWN, SIGNATURES, CITATIONS, ANSWERED_TIER,
    ),
    ("responses", "chat"): (
        REASONING, ORIGINAL, CUSTOM_TOOLS, OWN_TOOLS, OWN_CALLS, PICTURES_OF_RESULTS, BORDERS, UNKNOWN, ANSWERED_REASONING,
        CITATIONS, ANSWERED_TIER,
    ),
    ("messages", "chat"): (
        REASONING, CACHE, OWN_TOOLS, OWN_CALLS, IS_ERROR, CITED, PICTURES_OF_RESULTS, BORDERS, MORE_STOPS, BUDGET, TOOL_DETAILS, UNKNOWN,
        ANSWERED_REASONING, STOP_SEQUENCE, CITATIONS, ANSWERED_TIER,
    ),
    ("messages", "responses"): (
        REASONING, CACHE, OWN_TOOLS, OWN_CALLS, IS_ERROR, CITED, BUDGET, SMALL_LIMIT, TOOL_DETAILS, UNKNOWN, ANSWERED_REASONING,
        CITATIONS, ANSWERED_TIER,
    ),
}  # fmt: skip


def losses(client: Api, upstream: Api) -> tuple[str, ...]:
    """What can be lost where a request of `client`'s API is answered by a model that speaks `upstream`; nothing where both are one."""
    if client == upstream:
        return ()
    return (*(f"`{name}`" for name in _FIELDS[client, upstream]), *_CONTENT[client, upstream])


class Lost:
    """The losses of one request. `note` takes a line of the tables; the order of a result is theirs."""

    def __init__(self, client: Api, upstream: Api) -> None:
        self._client, self._upstream = client, upstream
        self._lines: set[str] = set()

    def note(self, line: str) -> None:
        """Something is lost."""
        self._lines.add(line)

    def fields(self, fields: Mapping[str, Any]) -> None:
        """Take in the settings of a request that are left out."""
        lost, carried = _FIELDS[self._client, self._upstream], _CARRIED[self._client]
        for name, value in fields.items():
            if value is None or value in ({}, []) or value in _HARMLESS.get(name, ()):
                continue
            if name in lost:
                self.note(f"`{name}`")
            elif name not in carried:
                self.note(UNKNOWN)

    @property
    def lines(self) -> tuple[str, ...]:
        """What is lost, in the order of the tables."""
        return tuple(line for line in losses(self._client, self._upstream) if line in self._lines)
