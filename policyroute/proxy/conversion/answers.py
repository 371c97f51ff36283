"""An upstream's whole answer in the client's API: read, converted by linguafranca, completed to what clients' schemas want."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from policyroute.proxy.conversion import library
from policyroute.proxy.conversion.reading import Ending, Object, heard
from policyroute.signals.request import Api

CHAT_REASONS: Mapping[str, str] = {"length": "length", "tool": "tool_calls", "filter": "content_filter"}
STOP_REASONS: Mapping[str, str] = {
    "length": "max_tokens", "tool": "tool_use", "filter": "refusal", "stop_sequence": "stop_sequence",
}  # fmt: skip
_INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "filter": "content_filter"}
_RESPONSE: Mapping[str, Any] = {
    "error": None, "incomplete_details": None, "instructions": None, "max_output_tokens": None, "metadata": {}, "output": [],
    "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": False,
    "temperature": None, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": None,
    "truncation": "disabled", "usage": None, "user": None,
}  # fmt: skip


def converted(client: Api, upstream: Api, body: Mapping[str, Any]) -> Object:
    """The answer in the client's API. Raises ConversionError."""
    found = heard(upstream, client, body)
    return finished(client, library.answer(upstream, client, found.body), found.ending, int(time.time()))


def finished(client: Api, out: Object, ending: Ending, now: int) -> Object:
    """linguafranca's answer, completed; `now` is its time where the upstream told none (seconds since 1970)."""
    match client:
        case "chat":
            return _chat(out, ending, now)
        case "messages":
            return message(out, ending)
        case _:
            return response(out, ending, now)


def _chat(out: Object, ending: Ending, now: int) -> Object:
    choice = out["choices"][0]
    choice["finish_reason"] = CHAT_REASONS.get(ending.word, "stop")
    choice["message"] = {"role": "assistant", "content": None, "refusal": None, **choice["message"]}
    out.pop("service_tier", None)
    return {**out, "created": out.get("created") or now}


def message(out: Object, ending: Ending | None) -> Object:
    """A Messages answer, or that of a `message_start` where `ending` is None."""
    out.pop("service_tier", None)
    out["stop_reason"] = STOP_REASONS.get(ending.word, "end_turn") if ending else None
    out["stop_sequence"] = (ending.met or None) if ending else None
    return {**out, "usage": usage(out.get("usage"))}


def usage(found: object) -> Object:
    """Anthropic's tokens with the fields that its clients add up."""
    told = {name: value for name, value in found.items() if name != "service_tier"} if isinstance(found, dict) else {}
    return {"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, **told}


def response(out: Object, ending: Ending | None, now: int) -> Object:
    """A Responses answer, or one in progress where `ending` is None."""
    told = {name: value for name, value in out.items() if value is not None and name != "service_tier"}
    made = {**_RESPONSE, **told, "created_at": out.get("created_at") or now}
    for item in made["output"]:
        if item.get("type") == "function_call" and not item.get("arguments"):
            item["arguments"] = "{}"
    if isinstance(made["usage"], dict):
        made["usage"]["input_tokens_details"] = {"cache_write_tokens": 0, **(made["usage"].get("input_tokens_details") or {})}
    if ending is None:
        return {**made, "status": "in_progress", "usage": None}
    reason = _INCOMPLETE.get(ending.word)
    return {**made, "status": "incomplete" if reason else "completed", "incomplete_details": {"reason": reason} if reason else None}
