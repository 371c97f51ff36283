"""A live body or a trace row's JSON as one small value, `Content`.

Rules of this module
- Total: any JSON value gives a Content, never an exception. What has the wrong type is left out; a block, item or tool of an
  unknown kind keeps its JSON text in `other`, so that its tokens are counted.
- Three shapes with one reading, because their words don't collide: OpenAI Chat Completions (`messages`, `tool_calls`, role
  `tool`), OpenAI Responses (`input` items, `instructions`), Anthropic Messages (`system`, `tool_use` and `tool_result` blocks).
- A user-role message that carries tool results is a tool message; text that rides along with the results is no user turn.
- Consecutive assistant items of a Responses input are one message: one model call made them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from policyroute.signals.pictures import Picture, of_block

Api = Literal["chat", "responses", "messages"]
Role = Literal["system", "user", "assistant", "tool"]

# Named tuples, not dataclasses: one per message of every request, and they are made three times as fast.


class Call(NamedTuple):
    """A tool call in an assistant message. `arguments` is JSON text."""

    name: str
    arguments: str
    id: str = ""


class Result(NamedTuple):
    """A tool's result. `failed` is the shape's own error flag, None where it has none (OpenAI)."""

    name: str
    texts: tuple[str, ...]
    failed: bool | None = None


class Message(NamedTuple):
    """One message. `texts` is its prose, `other` the JSON text of blocks of unknown kind, `named` the participant's name."""

    role: Role
    texts: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    pictures: tuple[Picture, ...] = ()
    other: tuple[str, ...] = ()
    named: str = ""


class Tool(NamedTuple):
    """A tool definition. `other` is the JSON text of one of unknown kind (a provider's own tool), empty for a function."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    other: str = ""


class Content(NamedTuple):
    """What a request holds. `messages` and `tools` are None where the source does not say; so are the scalars.

    `structured` is whether structured output is asked for; `fields` are the body's other top-level fields, for keys.
    """

    messages: tuple[Message, ...] | None = None
    tools: tuple[Tool, ...] | None = None
    structured: bool | None = None
    stream: bool | None = None
    max_output: int | None = None
    model: str | None = None
    metadata: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None


def of_body(body: object) -> Content:
    """A live request body of any of the three shapes as Content."""
    if not isinstance(body, dict):
        return Content()
    limit = None
    for key in _LIMITS:
        if key in body and (limit := _count(body[key])) is not None:
            break
    return Content(
        _body_messages(body),
        tuple([_tool(tool) for key in ("tools", "functions") if key in body for tool in _items(body[key])]),
        _body_structured(body),
        body.get("stream") is True,
        limit,
        _text(body.get("model")) or None,
        _mapping(body.get("metadata")),
        body,
    )


def of_row(messages: object, tools: object = None, response_format: object = None, metadata: object = None) -> Content:
    """A trace row's columns as Content: JSON text or parsed JSON each, None (or text that is no JSON) where there is none."""
    messages, tools, response_format, metadata = map(parsed, (messages, tools, response_format, metadata))
    if isinstance(messages, dict):  # a whole body was kept in the column
        found = of_body(messages)
        offered = found.tools if tools is None else tuple(map(_tool, _items(tools)))
        asked = found.structured if response_format is None else _structured(response_format)
        return found._replace(tools=offered, structured=asked, metadata=_mapping(metadata) or found.metadata)
    return Content(
        messages=None if messages is None else tuple(_messages(messages)),
        tools=None if tools is None else tuple(map(_tool, _items(tools))),
        structured=None if response_format is None else _structured(response_format),
        metadata=_mapping(metadata),
    )


def parsed(value: object) -> object:
    """`value`, or the JSON that it is the text of; None for text that is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def detected(body: Mapping[str, Any]) -> Api:
    """The shape of a body: `input` without `messages` is Responses; Anthropic's own fields, tools or blocks are Messages."""
    if "messages" not in body:
        return "responses" if "input" in body else "chat"
    if "system" in body or "stop_sequences" in body or "thinking" in body:
        return "messages"
    if any(isinstance(tool, dict) and "input_schema" in tool for tool in _items(body.get("tools"))):
        return "messages"
    blocks = (
        block for message in _items(body["messages"]) if isinstance(message, dict) for block in _items(message.get("content"))
    )
    return "messages" if any(_kind(block) in _ANTHROPIC for block in blocks) else "chat"


def compact(value: object) -> str:
    """JSON text of a value, without white space; its `repr` where it can't be written as JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return repr(type(value))


_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_ANTHROPIC = frozenset({"tool_use", "tool_result", "image", "document", "thinking", "redacted_thinking"})
_TEXTS = frozenset({"text", "input_text", "output_text"})
_PICTURES = frozenset({"image", "image_url", "input_image"})
_CALLS = frozenset({"function_call", "custom_tool_call"})
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_ROLES: dict[str, Role] = {
    "user": "user", "assistant": "assistant", "model": "assistant", "system": "system", "developer": "system",
    "tool": "tool", "function": "tool",
}  # fmt: skip
_SPEAKERS = frozenset(name for name, role in _ROLES.items() if role != "tool")


# -- bodies --------------------------------------------------------------------------------------------------------


def _body_messages(body: Mapping[str, Any]) -> tuple[Message, ...] | None:
    for key in ("messages", "input", "prompt"):
        if body.get(key) is not None:
            found = _messages(body[key])
            break
    else:
        return None
    for key in ("instructions", "system"):
        if key in body and (texts := tuple(_texts(body[key]))):
            found.insert(0, Message("system", texts))
    return tuple(found)


def _body_structured(body: Mapping[str, Any]) -> bool:
    for key in ("response_format", "output_format"):
        if key in body and _structured(body[key]):
            return True
    return any(key in body and _structured(_inside(body[key], "format")) for key in ("text", "output_config"))


def _structured(value: object) -> bool:
    kind = value.get("type") if isinstance(value, dict) else value
    return isinstance(kind, str) and kind in ("json_object", "json_schema", "json")


# -- messages ------------------------------------------------------------------------------------------------------


def _messages(items: object) -> list[Message]:
    """Messages of a list of messages or Responses items, of a bare string, or of anything else."""
    if isinstance(items, dict):
        items = [items]
    names: dict[str, str] = {}  # tool names by call id
    found: list[Message] = []
    joining = False  # the last one found came from an assistant item that the next one may belong with
    for item in [items] if isinstance(items, str) else _items(items):
        message = _message(item, names)
        for call in message.calls:
            if call.id:
                names[call.id] = call.name
        item_of_call = message.role == "assistant" and isinstance(item, dict) and "type" in item
        if joining and item_of_call:
            found[-1] = _joined(found[-1], message)
        else:
            found.append(message)
        joining = item_of_call
    return found


def _joined(one: Message, two: Message) -> Message:
    return Message(
        "assistant",
        one.texts + two.texts,
        one.calls + two.calls,
        one.results + two.results,
        one.pictures + two.pictures,
        one.other + two.other,
    )


def _message(item: object, names: Mapping[str, str]) -> Message:
    if isinstance(item, str):
        return Message("user", (item,))
    if not isinstance(item, dict):
        return Message("user", other=(compact(item),))
    content, said_by = item.get("content"), item.get("role")
    if len(item) == 2 and isinstance(content, str) and isinstance(said_by, str) and said_by in _SPEAKERS:
        return Message(_ROLES[said_by], (content,))  # by far the most messages
    kind = _kind(item)
    if kind in _CALLS:
        return Message("assistant", calls=(_call(item.get("name"), item.get("arguments", item.get("input")), item.get("call_id")),))
    if kind in _RESULTS:
        return Message("tool", results=(_result(item.get("call_id"), item.get("output"), names),))
    if "role" not in item:
        return Message("assistant" if kind else "user", other=(compact(item),))
    role = _ROLES.get(_text(item.get("role")), "user")
    if role == "tool":
        return _tool_message(item, names)
    return _spoken(role, item, names)


def _tool_message(item: Mapping[str, Any], names: Mapping[str, str]) -> Message:
    """OpenAI's role `tool` (or `function`): the whole message is one result."""
    result = _result(item.get("tool_call_id"), item.get("content"), names, item.get("is_error"))
    named = _text(item.get("name"))
    pictures = tuple(picture for block in _items(item.get("content")) if (picture := _picture(block)))
    return Message("tool", results=(result._replace(name=named) if named else result,), pictures=pictures)


def _spoken(role: Role, item: Mapping[str, Any], names: Mapping[str, str]) -> Message:
    content, named = item.get("content"), _text(item.get("name"))
    calls = _openai_calls(item) if role == "assistant" else ()
    if isinstance(content, str):
        return Message(role, (content,), calls, named=named)
    texts, other = [], []
    blocks_calls, results, pictures = [], [], []
    for block in [content] if isinstance(content, dict) else _items(content):
        kind = _kind(block)
        if isinstance(block, str):
            texts.append(block)
        elif kind in _TEXTS and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "tool_use":
            blocks_calls.append(_call(block.get("name"), block.get("input"), block.get("id")))
        elif kind == "tool_result":
            results.append(_result(block.get("tool_use_id"), block.get("content"), names, block.get("is_error") is True))
            pictures += [picture for inner in _items(block.get("content")) if (picture := _picture(inner))]
        elif picture := _picture(block):
            pictures.append(picture)
        else:
            other.append(compact(block))
    spoken: Role = "tool" if results and role == "user" else role
    return Message(spoken, tuple(texts), (*calls, *blocks_calls), tuple(results), tuple(pictures), tuple(other), named)


def _openai_calls(item: Mapping[str, Any]) -> tuple[Call, ...]:
    calls = [
        _function(call.get("function") or call.get("custom"), call.get("id"))
        for call in _items(item.get("tool_calls"))
        if isinstance(call, dict)
    ]
    if isinstance(item.get("function_call"), dict):
        calls.append(_function(item["function_call"], None))
    return tuple(calls)


def _function(function: object, call_id: object) -> Call:
    if not isinstance(function, dict):
        return Call("", compact(function), _text(call_id))
    return _call(function.get("name"), function.get("arguments", function.get("input")), call_id)


def _call(name: object, arguments: object, call_id: object) -> Call:
    return Call(
        _text(name), arguments if isinstance(arguments, str) else "" if arguments is None else compact(arguments), _text(call_id)
    )


def _result(call_id: object, content: object, names: Mapping[str, str], failed: object = None) -> Result:
    texts = tuple(_texts(content))
    return Result(names.get(_text(call_id), ""), texts, failed if isinstance(failed, bool) else None)


def _texts(content: object) -> Iterator[str]:
    """Texts of a string or of a list of blocks; other blocks as JSON text, pictures left out."""
    if isinstance(content, str):
        yield content
        return
    for block in [content] if isinstance(content, dict) else _items(content):
        if isinstance(block, str):
            yield block
        elif isinstance(block, dict) and _kind(block) in _TEXTS and isinstance(block.get("text"), str):
            yield block["text"]
        elif not _picture(block):
            yield compact(block)


def _picture(block: object) -> Picture | None:
    return of_block(block) if isinstance(block, dict) and _kind(block) in _PICTURES else None


# -- tools ---------------------------------------------------------------------------------------------------------


def _tool(tool: object) -> Tool:
    """OpenAI's `{"type": "function", "function": {...}}`, its flat form (Responses, `functions`), or Anthropic's."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return Tool("", "", {}, compact(tool))
    parameters = function.get("parameters", function.get("input_schema"))
    return Tool(function["name"], _text(function.get("description")), parameters if isinstance(parameters, dict) else {})


# -- JSON ----------------------------------------------------------------------------------------------------------


def _kind(value: object) -> str:
    return _text(value.get("type")) if isinstance(value, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None


def _inside(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None
