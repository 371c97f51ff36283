"""What an upstream says, cut down to what the other APIs can say and linguafranca's schema takes.

The schema is strict where providers are not: it refuses unknown finish reasons, block types and missing ids, and silently drops a
text block with `citations: null`. So each answer is rebuilt from its known fields. Reasons to finish are one word in between:
`stop`, `length`, `tool`, `filter`, or `stop_sequence` (with the word that was met).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from policyroute.proxy.conversion.library import ConversionError
from policyroute.signals.request import Api

Object = dict[str, Any]

_FINISHED: Mapping[str, str] = {
    "length": "length", "content_filter": "filter", "tool_calls": "tool", "function_call": "tool",
    "max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "filter", "tool_use": "tool",
    "stop_sequence": "stop_sequence", "max_output_tokens": "length",
}  # fmt: skip


class Ending(NamedTuple):
    """Why an answer ended."""

    word: str = "stop"
    met: str = ""


class Heard(NamedTuple):
    """An answer fit for linguafranca, and why it ended."""

    body: Object
    ending: Ending


def heard(upstream: Api, client: Api, body: Mapping[str, Any]) -> Heard:
    """A whole answer. Raises ConversionError for what is none."""
    match upstream:
        case "chat":
            return _chat(body)
        case "messages":
            return _messages(body, client)
        case _:
            return _responses(body, client)


# -- Chat ------------------------------------------------------------------------------------------------------------------


def _chat(body: Mapping[str, Any]) -> Heard:
    choices = objects(body.get("choices"))
    if not choices:
        raise ConversionError("the answer has no choices")
    choice = next((each for each in choices if not each.get("index")), choices[0])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ConversionError("the answer has no message")
    said = _spoken(message)
    calls = [_call(call, number) for number, call in enumerate(objects(message.get("tool_calls")))]
    if calls:
        said["tool_calls"] = calls
    ending = chat_ending(choice, bool(calls))
    known = "tool_calls" if calls else "length" if ending.word == "length" else "stop"
    out = {**chat_head(body), "object": "chat.completion", "choices": [{"index": 0, "message": said, "finish_reason": known}]}
    if (usage := chat_usage(body)) is not None:
        out["usage"] = usage
    return Heard(out, ending)


def _spoken(message: Mapping[str, Any]) -> Object:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(text(part.get("text")) for part in objects(content))
    refusal = message.get("refusal")
    return {"role": "assistant", "content": text(content) or None, **({"refusal": refusal} if refusal else {})}


def _call(call: Mapping[str, Any], number: int) -> Object:
    function = call.get("function") or {}
    name, arguments = text(function.get("name")), text(function.get("arguments"))
    return {
        "id": text(call.get("id")) or f"call_{number}", "type": "function",
        "function": {"name": name, "arguments": arguments.strip() or "{}"},
    }  # fmt: skip


def chat_head(body: Mapping[str, Any]) -> Object:
    """What names an answer or a chunk."""
    return {"id": text(body.get("id")) or "chatcmpl-0", "created": count(body.get("created")), "model": text(body.get("model"))}


def chat_usage(body: Mapping[str, Any]) -> Object | None:
    """The tokens of an answer or a chunk, None where it tells none."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    details, told = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    read, written = count(details.get("cached_tokens")), count(details.get("cache_write_tokens"))
    given, made = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    inner = {"cached_tokens": read, **({"cache_write_tokens": written} if written else {})}
    return {
        "prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made, "prompt_tokens_details": inner,
        "completion_tokens_details": {"reasoning_tokens": count(told.get("reasoning_tokens"))},
    }  # fmt: skip


def chat_ending(choice: Mapping[str, Any], calls: bool) -> Ending:
    """Why a choice ended; servers say `stop` after a tool call too."""
    word = _FINISHED.get(text(choice.get("finish_reason")), "stop")
    return Ending("tool" if calls and word == "stop" else word)


# -- Messages --------------------------------------------------------------------------------------------------------------


def _messages(body: Mapping[str, Any], client: Api) -> Heard:
    if body.get("type") != "message" or not isinstance(body.get("content"), list):
        raise ConversionError("the answer is no message")
    blocks: list[Object] = []
    for block in objects(body["content"]):
        match block.get("type"):
            case "text" if blocks and blocks[-1]["type"] == "text":
                blocks[-1]["text"] += text(block.get("text"))
            case "text" if block.get("text"):
                blocks.append({"type": "text", "text": block["text"]})
            case "thinking" if client == "chat":
                blocks.append({"type": "thinking", "thinking": text(block.get("thinking")), "signature": ""})
            case "tool_use":
                blocks.append({name: block.get(name) for name in ("type", "id", "name")} | {"input": block.get("input") or {}})
    ending = messages_ending(body)
    out = messages_head(body) | {
        "content": blocks,
        "stop_reason": messages_reason(ending),
        "usage": messages_usage(body.get("usage")),
    }
    return Heard(out, ending)


def messages_head(body: Mapping[str, Any]) -> Object:
    """What names an answer."""
    return {"id": text(body.get("id")) or "msg_0", "type": "message", "role": "assistant", "model": text(body.get("model"))}


def messages_ending(found: Mapping[str, Any]) -> Ending:
    """Why an answer ended, by it or by its `message_delta.delta`."""
    return Ending(_FINISHED.get(text(found.get("stop_reason")), "stop"), text(found.get("stop_sequence")))


def messages_reason(ending: Ending) -> str:
    """A `stop_reason` that linguafranca knows and converts without fault."""
    return {"length": "max_tokens", "tool": "tool_use"}.get(ending.word, "end_turn")


def messages_usage(usage: object, before: Mapping[str, Any] | None = None) -> Object:
    """The tokens; `before` is what the stream's start told, which its end need not repeat."""
    found = {
        **(before or {}),
        **{name: value for name, value in (usage if isinstance(usage, dict) else {}).items() if value is not None},
    }
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    told = found.get("output_tokens_details")
    thought = count(told.get("thinking_tokens")) if isinstance(told, dict) else 0
    out: Object = {name: count(found.get(name)) for name in names}
    return out | ({"output_tokens_details": {"thinking_tokens": thought}} if thought else {})


# -- Responses -------------------------------------------------------------------------------------------------------------


def _responses(body: Mapping[str, Any], client: Api) -> Heard:
    status = body.get("status")
    if status not in ("completed", "incomplete", None) or not isinstance(body.get("output"), list):
        raise ConversionError(f"the response is {status}" if status else "the answer is no response")
    return Heard(responses_body(body, client), responses_ending(body))


def responses_body(body: Mapping[str, Any], client: Api, status: str = "") -> Object:
    """A response with the output that other APIs can say."""
    ending = responses_ending(body)
    known = status or ("incomplete" if ending.word == "length" else "completed")
    out: Object = {
        "id": text(body.get("id")) or "resp_0", "object": "response", "created_at": count(body.get("created_at")),
        "model": text(body.get("model")), "status": known, "output": output(body, client),
    }  # fmt: skip
    if known == "incomplete":
        out["incomplete_details"] = {"reason": "max_output_tokens"}
    usage = body.get("usage")
    if isinstance(usage, dict):
        out["usage"] = _responses_usage(usage)
    return out


def output(body: Mapping[str, Any], client: Api) -> list[Object]:
    """The items of a response that other APIs can say."""
    found = (item_of(item, client) for item in objects(body.get("output")))
    return [item for item in found if item is not None]


def item_of(item: Mapping[str, Any], client: Api) -> Object | None:
    """One output item, None for one that other APIs can't say."""
    known = {"id": text(item.get("id")) or "item_0", "status": text(item.get("status")) or "completed"}
    match item.get("type"):
        case "message":
            parts = [part_of(part) for part in objects(item.get("content")) if part.get("type") in ("output_text", "refusal")]
            return {"type": "message", "role": "assistant", "content": parts, **known}
        case "function_call":
            names = ("call_id", "name", "arguments")
            return {"type": "function_call", **{name: text(item.get(name)) for name in names}, **known}
        case "reasoning" if client == "chat":
            summary = [{"type": "summary_text", "text": text(part.get("text"))} for part in objects(item.get("summary"))]
            return {"type": "reasoning", "id": known["id"], "summary": summary}
        case _:
            return None


def part_of(part: Mapping[str, Any]) -> Object:
    """One part of a message item."""
    if part.get("type") == "refusal":
        return {"type": "refusal", "refusal": text(part.get("refusal"))}
    return {"type": "output_text", "text": text(part.get("text")), "annotations": [], "logprobs": []}


def _responses_usage(usage: Mapping[str, Any]) -> Object:
    given, made = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    details, told = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    written = count(details.get("cache_write_tokens"))
    inner = {"cached_tokens": count(details.get("cached_tokens")), **({"cache_write_tokens": written} if written else {})}
    return {
        "input_tokens": given, "output_tokens": made, "total_tokens": given + made, "input_tokens_details": inner,
        "output_tokens_details": {"reasoning_tokens": count(told.get("reasoning_tokens"))},
    }  # fmt: skip


def responses_ending(body: Mapping[str, Any]) -> Ending:
    """Why a response ended."""
    details = body.get("incomplete_details")
    if body.get("status") == "incomplete":
        return Ending(_FINISHED.get(text(details.get("reason")) if isinstance(details, dict) else "", "length"))
    return Ending("tool" if any(item.get("type") == "function_call" for item in objects(body.get("output"))) else "stop")


# -- small -----------------------------------------------------------------------------------------------------------------


def objects(value: object) -> list[Object]:
    """The objects in what should be an array of them."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """A string, "" for anything else."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    """A count, 0 for what is none."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0
