"""What a request says: messages, input items and tools, made fit for linguafranca's schema and for the upstream.

Before: items and tools of kinds that only their own provider can run are taken out, as linguafranca refuses the whole request
for one of them; the reasoning of earlier answers, which only its writer takes back; the instructions of a Responses request
become its first item, since linguafranca loses them on the way to Messages.
After, for Chat: system messages are called `system`, which every server knows; an assistant's turn is one message again; pictures
in tool results go into a user message, as a tool message takes text only. Files: Chat and Responses want a data URL, Messages not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policyroute.proxy.conversion.library import ConversionError
from policyroute.signals.request import Api

ITEMS = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
"""Responses input items that other APIs can say."""

BLOCKS = frozenset({"text", "image", "tool_use", "tool_result", "document", "search_result"})
"""Messages content blocks that other APIs can say."""

_PARTS = {"input_text", "output_text", "input_image", "input_file", "refusal"}
_DATA = "data:application/pdf;base64,"
_FILE = "document.pdf"


def cleaned(client: Api, upstream: Api, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The client's request without what the other API can't take. Fields that are null are as good as absent."""
    out = {name: value for name, value in fields.items() if value is not None}
    match client:
        case "chat":
            out["messages"] = [_chat_message(message) for message in _list(out, "messages")]
        case "messages":
            out["messages"] = [_anthropic_message(message) for message in _list(out, "messages")]
        case _:
            _responses(out)
    if "tools" in out:
        out["tools"] = [_bare(tool) for tool in _list(out, "tools") if is_function(client, tool)]
        if not out["tools"]:
            out.pop("tool_choice", None)
    choice = out.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") not in ("function", "auto", "any", "tool", "none"):
        out.pop("tool_choice")  # of tools that are taken out
    return out


def is_function(client: Api, tool: object) -> bool:
    """Whether a tool is the client's own function, and none that its provider runs or defines."""
    if not isinstance(tool, Mapping):
        return False
    kind = tool.get("type")
    return kind in (None, "custom") and "input_schema" in tool if client == "messages" else kind == "function"


def finished(client: Api, upstream: Api, out: dict[str, Any]) -> dict[str, Any]:
    """linguafranca's result with its gaps filled."""
    match upstream:
        case "chat":
            out["messages"] = list(_tools_in_text(_whole_turns(_list(out, "messages"))))
        case "messages":
            for message in _list(out, "messages"):
                _each(message.get("content"), _bare_document)
            for tool in out.get("tools") or ():
                tool["input_schema"] = {"type": "object", **(tool.get("input_schema") or {})}
        case _:
            for item in _list(out, "input"):
                _each(item.get("content"), _named_file)
                _each(item.get("output"), _named_file)
    return out


# -- before ----------------------------------------------------------------------------------------------------------------


def _chat_message(message: Any) -> Any:
    if message.get("role") == "function":
        raise ConversionError("messages of role `function` are the old form of tool results, which can't be converted")
    return {name: value for name, value in message.items() if name not in ("reasoning_content", "reasoning") and value is not None}


def _anthropic_message(message: Any) -> Any:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [block for block in content if block.get("type") in BLOCKS]}


def _responses(out: dict[str, Any]) -> None:
    given = out.get("input", [])
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if any(item.get("type") == "item_reference" for item in items):
        raise ConversionError("an `item_reference` names what only its own provider keeps")
    kept = [_item(item) for item in items if item.get("type", "message") in ITEMS]
    instructions = out.pop("instructions", None)
    first = [{"type": "message", "role": "system", "content": instructions}] if instructions else []
    out["input"] = [*first, *kept]
    for name in ("include", "top_logprobs"):  # what is to be added to an answer; log probabilities are put over by `requests`
        out.pop(name, None)


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    out = {name: value for name, value in item.items() if value is not None and name not in ("id", "status")}
    out.setdefault("type", "message")
    for name in ("content", "output"):
        if isinstance(out.get(name), list):
            out[name] = [part for part in out[name] if part.get("type") in _PARTS]
    return out


def _bare(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if value is not None}


# -- after -----------------------------------------------------------------------------------------------------------------


def _whole_turns(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Messages with an assistant's text and the calls that follow it in one."""
    turn: dict[str, Any] | None = None
    for message in messages:
        if message.get("role") == "developer":
            message["role"] = "system"
        _each(message.get("content"), _chat_file)
        if turn is not None and message.get("role") == "assistant" and message.get("tool_calls") and not message.get("content"):
            turn["tool_calls"] = [*turn.get("tool_calls", ()), *message["tool_calls"]]
            continue
        if turn is not None:
            yield turn
        turn = message
    if turn is not None:
        yield turn


def _tools_in_text(messages: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    held: list[Any] = []
    for message in messages:
        if message.get("role") == "assistant" and message.get("tool_calls"):
            message.setdefault("content", None)
        if message.get("role") != "tool" and held:
            yield {"role": "user", "content": held}
            held = []
        content = message.get("content")
        if message.get("role") == "tool" and isinstance(content, list):
            held += [part for part in content if part.get("type") != "text"]
            message["content"] = [part for part in content if part.get("type") == "text"] or ""
        yield message
    if held:
        yield {"role": "user", "content": held}


def _each(parts: Any, change: Any) -> None:
    for part in parts if isinstance(parts, list) else ():
        change(part)
        _each(part.get("content"), change)


def _bare_document(block: dict[str, Any]) -> None:
    source = block.get("source")
    if not isinstance(source, dict):
        return
    data = source.get("data")
    if isinstance(data, str) and data.startswith("data:") and ";base64," in data:
        kind, _, source["data"] = data[5:].partition(";base64,")
        source["media_type"] = kind or source.get("media_type")


def _named_file(part: dict[str, Any]) -> None:
    data = part.get("file_data")
    if isinstance(data, str):
        part["file_data"] = data if data.startswith("data:") else _DATA + data
        part.setdefault("filename", _FILE)


def _chat_file(part: dict[str, Any]) -> None:
    if isinstance(part.get("file"), dict):
        _named_file(part["file"])


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    found = fields.get(name)
    if not isinstance(found, list):
        raise ConversionError(f"`{name}` is not an array")
    return found
