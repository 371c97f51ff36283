"""A request of one API as one of another.

Rules of this module
- `prompts` first takes out what linguafranca's schema would refuse, then it converts, then its gaps are filled in here.
- What both APIs can say is put over although linguafranca drops it: stop words, the user's id, parallel tool calls.
- What was added that the client didn't ask for (a cache mark, a limit of 32,000 tokens) is taken out.
- What the target would answer with 400 is left out rather than sent: a temperature above 1, sampling beside thinking.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from policyroute.proxy.conversion import library, prompts
from policyroute.proxy.conversion.library import ConversionError
from policyroute.signals.request import Api

DEFAULT_MAX_TOKENS = 4096
"""Anthropic wants a limit of every request; a client of another API that gives none gets this one."""

USER_LONGEST = 64
"""Characters that OpenAI takes as a `user`; a longer one is sent as its SHA-256, which has as many."""

_LIMITS = {"chat": ("max_completion_tokens", "max_tokens"), "responses": ("max_output_tokens",), "messages": ("max_tokens",)}
_EFFORTS = {"max": "xhigh"}  # OpenAI's highest
_BUDGETS = ((4096, "low"), (16384, "medium"))  # thinking tokens below which an effort is meant; above the last: high
_FORCED = ("required", "any", "function", "tool", "custom")
_TIERS = {("auto", True): "auto", ("default", True): "standard_only", ("auto", False): "auto", ("standard_only", False): "default"}


def converted(client: Api, upstream: Api, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The request for the upstream. Raises ConversionError."""
    _refuse(client, fields)
    cleaned = prompts.cleaned(client, upstream, fields)
    if upstream == "messages" and forced(client, fields):
        cleaned = {name: value for name, value in cleaned.items() if name not in ("reasoning", "reasoning_effort")}
    out = prompts.finished(client, upstream, library.request(client, upstream, cleaned))
    stop = stops(client, fields)
    if upstream == "messages":
        _for_messages(client, fields, out, stop)
    else:
        _for_openai(client, upstream, fields, out, stop)
    if not out.get("tools"):
        out.pop("tool_choice", None)
        out.pop("tools", None)
    return out


def forced(client: Api, fields: Mapping[str, Any]) -> bool:
    """Whether the client insists on a tool call."""
    choice = fields.get("tool_choice")
    return (choice.get("type") if isinstance(choice, Mapping) else choice) in _FORCED


def stops(client: Api, fields: Mapping[str, Any]) -> list[str]:
    """The client's stop words; Responses has none."""
    value = fields.get({"chat": "stop", "messages": "stop_sequences"}.get(client, ""))
    found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [word for word in found if isinstance(word, str) and word]


def effort(fields: Mapping[str, Any]) -> str:
    """The effort that a Messages request asks for in OpenAI's words, "" for none."""
    thinking = fields.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else ""
    if kind == "disabled":
        return ""
    config = fields.get("output_config")
    asked = config.get("effort") if isinstance(config, Mapping) else None
    if isinstance(asked, str) and asked:
        return _EFFORTS.get(asked, asked)
    if kind != "enabled":
        return ""
    assert isinstance(thinking, Mapping)
    budget = thinking.get("budget_tokens") or 0
    return next((word for below, word in _BUDGETS if budget < below), "high")


def _refuse(client: Api, fields: Mapping[str, Any]) -> None:
    named = [name for name in ("previous_response_id", "conversation", "prompt") if client == "responses" and fields.get(name)]
    if named:
        raise ConversionError(f"`{named[0]}` names what only its own provider keeps")
    if client == "responses" and fields.get("background"):
        raise ConversionError("`background` answers are kept by a provider of the Responses API only")
    if client == "chat" and fields.get("functions"):
        raise ConversionError("`functions` is the old form of `tools`, which can't be converted")


def _for_messages(client: Api, fields: Mapping[str, Any], out: dict[str, Any], stop: list[str]) -> None:
    out.pop("cache_control", None)
    out["max_tokens"] = next((fields[name] for name in _LIMITS[client] if fields.get(name) is not None), DEFAULT_MAX_TOKENS)
    if stop:
        out["stop_sequences"] = stop
    user = fields.get("user") or fields.get("safety_identifier")
    if user:
        out["metadata"] = {"user_id": user}
    _tier(fields, out, to_messages=True)
    tools = out.get("tools")
    if fields.get("parallel_tool_calls") is False and tools:
        choice = out.setdefault("tool_choice", {"type": "auto"})
        if choice.get("type") != "none":
            choice["disable_parallel_tool_use"] = True
    if isinstance(out.get("temperature"), (int, float)):
        out["temperature"] = min(out["temperature"], 1.0)
        out.pop("top_p", None)  # newer models take one of the two
    if out.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        for name in ("temperature", "top_p", "top_k"):
            out.pop(name, None)


def _for_openai(client: Api, upstream: Api, fields: Mapping[str, Any], out: dict[str, Any], stop: list[str]) -> None:
    if upstream == "chat":
        _for_chat(client, fields, out, stop)
    else:
        _for_responses(client, fields, out)
    if client != "messages":
        if fields.get("user") is not None:
            out["user"] = fields["user"]
        return
    meta = fields.get("metadata")
    user = meta.get("user_id") if isinstance(meta, Mapping) else None
    if isinstance(user, str) and user:
        out["user"] = user if len(user) <= USER_LONGEST else hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
    choice = fields.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use") and out.get("tools"):
        out["parallel_tool_calls"] = False
    _tier(fields, out, to_messages=False)


def _for_chat(client: Api, fields: Mapping[str, Any], out: dict[str, Any], stop: list[str]) -> None:
    reasoning = out.pop("reasoning", None)
    asked = effort(fields) if client == "messages" else reasoning.get("effort") if isinstance(reasoning, Mapping) else ""
    if asked:
        out["reasoning_effort"] = asked
    if stop:
        out["stop"] = stop
    if client == "responses" and _wants_logprobs(fields):
        out["logprobs"] = True
        out["top_logprobs"] = fields.get("top_logprobs") or 0


def _for_responses(client: Api, fields: Mapping[str, Any], out: dict[str, Any]) -> None:
    out.pop("stream_options", None)
    out.setdefault("store", False)  # the default of this API is to keep, that of the client's is not to
    if client == "messages":
        out.pop("reasoning", None)
        if asked := effort(fields):
            out["reasoning"] = {"effort": asked}
    meta = out.get("metadata")
    if client == "chat" and isinstance(meta, dict) and fields.get("user") is not None:
        out["metadata"] = {name: value for name, value in meta.items() if name != "user" or name in (fields.get("metadata") or {})}
        if not out["metadata"]:
            del out["metadata"]


def _wants_logprobs(fields: Mapping[str, Any]) -> bool:
    return fields.get("top_logprobs") is not None or "message.output_text.logprobs" in (fields.get("include") or ())


def _tier(fields: Mapping[str, Any], out: dict[str, Any], *, to_messages: bool) -> None:
    out.pop("service_tier", None)
    tier = fields.get("service_tier")
    if isinstance(tier, str) and (tier, to_messages) in _TIERS:
        out["service_tier"] = _TIERS[tier, to_messages]
