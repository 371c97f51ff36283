"""What an answer tells beside its content, in each API's words: why it ended, and its tokens.

Rules of this module
- Token totals are exact in every direction: OpenAI's input includes what was read from the cache or written to it, Anthropic's
  leaves it out. An answer whose usage isn't told has none; a Messages answer must have one, and says 0.
- A reason that isn't known is `stop`: the answer has ended, and was paid for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from policyroute.proxy.wire.counts import Counted, mapping, text
from policyroute.signals.request import Api

End = Literal["stop", "length", "tools", "filter"]

_OF_CHAT: Mapping[str, End] = {
    "length": "length", "model_length": "length", "tool_calls": "tools", "function_call": "tools", "content_filter": "filter",
}  # fmt: skip
_OF_MESSAGES: Mapping[str, End] = {
    "max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tools", "refusal": "filter",
}  # fmt: skip
_TO_CHAT: Mapping[End, str] = {"stop": "stop", "length": "length", "tools": "tool_calls", "filter": "content_filter"}
_TO_MESSAGES: Mapping[End, str] = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "filter": "refusal"}
_MESSAGES_USAGE = {  # members that the API's schema demands and that no other API tells
    "cache_creation": None, "inference_geo": None, "output_tokens_details": None, "server_tool_use": None, "service_tier": None,
}  # fmt: skip
_ECHOED = (
    "instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "temperature",
    "tool_choice", "tools", "top_p", "user",
)  # fmt: skip


def end_of_chat(reason: object, calls: bool) -> End:
    """Why a chat choice ended. A reason `stop` beside calls is what some servers, and forced calls, have for `tool_calls`."""
    end = _OF_CHAT.get(text(reason), "stop")
    return "tools" if calls and end == "stop" else end


def end_of_messages(reason: object) -> End:
    """Why a message ended."""
    return _OF_MESSAGES.get(text(reason), "stop")


def end_of_response(response: Mapping[str, Any], calls: bool) -> End:
    """Why a response ended."""
    if response.get("status") == "incomplete":
        return "filter" if mapping(response.get("incomplete_details")).get("reason") == "content_filter" else "length"
    return "tools" if calls else "stop"


def finish_reason(end: End) -> str:
    """The end, as a chat choice says it."""
    return _TO_CHAT[end]


def stop_reason(end: End, refused: bool = False) -> str:
    """The end, as a message says it. OpenAI's refusals are texts of an answer that ended by itself."""
    return "refusal" if refused else _TO_MESSAGES[end]


def response_end(end: End) -> dict[str, Any]:
    """The end, as a response says it."""
    if end in ("stop", "tools"):
        return {"status": "completed", "incomplete_details": None}
    reason = "max_output_tokens" if end == "length" else "content_filter"
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def usage(api: Api, counted: Counted | None) -> dict[str, Any] | None:
    """The tokens in an API's words."""
    if counted is None:
        none = {"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return {**_MESSAGES_USAGE, **none} if api == "messages" else None
    told, reasoning = counted.usage, counted.reasoning
    written = told.write_5m + told.write_1h
    if api == "messages":
        details = {} if reasoning is None else {"output_tokens_details": {"thinking_tokens": reasoning}}
        return {
            **_MESSAGES_USAGE, "input_tokens": told.fresh, "cache_creation_input_tokens": written, "cache_read_input_tokens": told.cached,
            "output_tokens": told.output, **details,
        }  # fmt: skip
    given, made = ("prompt_tokens", "completion_tokens") if api == "chat" else ("input_tokens", "output_tokens")
    return {
        given: told.input,
        made: told.output,
        "total_tokens": told.input + told.output,
        f"{given}_details": {"cached_tokens": told.cached, "cache_write_tokens": written},
        f"{made}_details": {"reasoning_tokens": reasoning or 0},
    }


def block(given: dict[str, Any]) -> dict[str, Any]:
    """A block of a message with the members that the API's schema demands."""
    more: Mapping[str, dict[str, Any]] = {"text": {"citations": None}, "tool_use": {"caller": {"type": "direct"}}}
    return {**given, **more.get(text(given.get("type")), {})}


def identifier(api: Api, value: object) -> str:
    """An answer's identifier with its API's prefix. One that isn't told is made of nothing: clients only compare it."""
    prefix = {"chat": "chatcmpl-", "messages": "msg_", "responses": "resp_"}[api]
    found = text(value) or hashlib.md5(b"", usedforsecurity=False).hexdigest()
    return found if found.startswith(prefix) else prefix + found


def response_object(fields: Mapping[str, Any], created: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """A response with the members that clients demand; settings are those of the request `fields`, the rest is `found`."""
    echoed = {name: fields[name] for name in _ECHOED if fields.get(name) is not None}
    if isinstance(echoed.get("tools"), list):
        echoed["tools"] = [_whole_tool(tool) for tool in echoed["tools"]]
    return {
        "id": "", "object": "response", "created_at": created,
        "completed_at": created if found.get("status") == "completed" else None, "background": False, "frequency_penalty": 0.0,
        "max_tool_calls": None, "presence_penalty": 0.0, "prompt_cache_key": None, "safety_identifier": None, "top_logprobs": 0, "status": "in_progress", "error": None, "incomplete_details": None,
        "instructions": None, "max_output_tokens": None, "metadata": {}, "model": "", "output": [], "parallel_tool_calls": True,
        "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "service_tier": "default", "store": False,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": None,
        **echoed, **found,
    }  # fmt: skip


def _whole_tool(tool: Any) -> Any:
    """A function as a response echoes it: with the members that a request may leave out."""
    return {"description": None, "parameters": None, "strict": None, **tool} if mapping(tool).get("type") == "function" else tool


def namespaces(fields: Mapping[str, Any]) -> frozenset[str]:
    """The namespaces of tools that a Responses request declares."""
    tools = fields.get("tools")
    found = tools if isinstance(tools, list) else []
    return frozenset(text(mapping(tool).get("name")) for tool in found if mapping(tool).get("type") == "namespace")


def call_named(item: dict[str, Any], declared: frozenset[str]) -> dict[str, Any]:
    """A function call with its tool's own name: the library takes what stands before `--` for a namespace."""
    space = item.get("namespace")
    if not isinstance(space, str) or space in declared:
        return item
    return {**{name: value for name, value in item.items() if name != "namespace"}, "name": f"{space}--{item.get('name')}"}
