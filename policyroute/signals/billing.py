"""What a provider bills as input: the texts to count and the tokens that are not text.

One number per request, in o200k tokens, whatever model the request is sent to: the recipe is that of OpenAI chat models, for all
three shapes. `docs/extraction.md` holds what it was measured to be off by, model by model.

The recipe
- 3 for the answer's start; for each message 3 and 1 for its role; a participant's name and 1; a tool result is a message.
  (OpenAI cookbook, "How to count tokens with tiktoken".)
- A tool call: its name, its arguments and 3. Tool definitions are written as TypeScript types and counted as that text, and 9;
  with a system message 4 less, and that message gets a line break. (Found out by the authors of openai-chat-tokens; defaults as
  OpenAI's harmony guide shows them.)
- Pictures by `pictures.tokens`. Blocks and tools of an unknown kind as their JSON text. A schema for the answer: not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from policyroute.signals import pictures
from policyroute.signals.request import Content, Message, Tool, compact
from policyroute.signals.tokens import LONGEST, size


class Bill(NamedTuple):
    """`pieces` are counted one by one, each between tokens of framing; `fixed` is everything else, in tokens."""

    pieces: tuple[str, ...]
    fixed: int

    def tokens(self, count: Callable[[str], int]) -> int:
        """Tokens of the whole, with `count` for a text."""
        return self.fixed + sum(map(count, self.pieces))

    def low(self) -> int:
        """A lower bound without a tokenizer: no token is longer than 128 bytes, so n bytes are at least n/128 tokens."""
        return self.fixed + sum([-(-size(piece) // LONGEST) for piece in self.pieces])

    def high(self) -> int:
        """An upper bound without a tokenizer: every token holds at least one byte, so n bytes are at most n tokens."""
        return self.fixed + sum(map(size, self.pieces))


_TEXTS_ONLY = Message("user")[2:]  # calls, results, pictures, other blocks and name of a message that has none
_ANSWER, _MESSAGE, _ROLE, _NAME, _CALL, _TOOLS, _SHARED = 3, 3, 1, 1, 3, 9, 4


def of_request(content: Content) -> Bill:
    """The bill of a whole request: its messages and its tools. No messages are the bill of an empty list."""
    messages, tools = content.messages or (), content.tools or ()
    pieces: list[str] = []
    fixed = _ANSWER
    for message in messages:
        if message[2:] == _TEXTS_ONLY:  # most messages by far
            pieces += message.texts
            fixed += _MESSAGE + _ROLE
        else:
            pieces += _pieces(message)
            fixed += _fixed(message)
    functions = [tool for tool in tools if not tool.other]
    if functions:
        pieces.append(written(functions))
        fixed += _TOOLS
        fixed += _pad(messages, pieces)
    pieces += (tool.other for tool in tools if tool.other)
    return Bill(tuple(pieces), fixed)


def of_message(message: Message) -> Bill:
    """The bill of what a message says: texts, blocks and pictures, without framing."""
    return Bill((*message.texts, *message.other), sum(map(pictures.tokens, message.pictures)))


def _pad(messages: tuple[Message, ...], pieces: list[str]) -> int:
    """Tool definitions join the first system message: it gets a line break, and one message's framing is saved."""
    for index, message in enumerate(messages):
        if message.role == "system":
            if message.texts:
                place = sum(len(list(_pieces(before))) for before in messages[:index]) + len(message.texts) - 1
                pieces[place] += "\n"
            return -_SHARED
    return 0


def _pieces(message: Message) -> Iterator[str]:
    yield from message.texts
    yield from message.other
    for result in message.results:
        yield from result.texts
    for call in message.calls:
        yield call.name
        yield call.arguments
    if message.named:
        yield message.named


def _fixed(message: Message) -> int:
    framed = max(1, len(message.results)) * (_MESSAGE + _ROLE)
    return framed + _CALL * len(message.calls) + _NAME * bool(message.named) + sum(map(pictures.tokens, message.pictures))


# -- tool definitions as TypeScript --------------------------------------------------------------------------------

_DEPTH = 32  # schemas nested deeper than this are written as their JSON
_TYPES = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def written(tools: list[Tool]) -> str:
    """Tool definitions in the form in which OpenAI shows them to its models: a namespace with one type per function."""
    lines = ["namespace functions {", ""]
    for tool in tools:
        if tool.description:
            lines.append(f"// {tool.description}")
        if _properties(tool.parameters):
            lines += [f"type {tool.name} = (_: {{", _members(tool.parameters, 0), "}) => any;", ""]
        else:
            lines += [f"type {tool.name} = () => any;", ""]
    return "\n".join([*lines, "} // namespace functions"])


def _members(schema: Mapping[str, Any], indent: int) -> str:
    required = schema.get("required")
    needed = required if isinstance(required, list) else []
    margin = " " * indent
    lines = []
    for name, member in _properties(schema).items():
        inner = member if isinstance(member, Mapping) else {}
        if isinstance(described := inner.get("description"), str) and described:
            lines.append(f"{margin}// {described}")
        default = f" // default: {_default(inner)}" if inner.get("default") is not None else ""
        lines.append(f"{margin}{name}{'' if name in needed else '?'}: {_type(inner, indent)},{default}")
    return "\n".join(lines)


def _default(schema: Mapping[str, Any]) -> str:
    """A default as it is shown: a member of an enum without its quotes."""
    value = schema["default"]
    return value if isinstance(value, str) and schema.get("enum") else compact(value)


def _type(schema: Mapping[str, Any], indent: int) -> str:
    kind, choices = schema.get("type"), schema.get("enum")
    if indent > 2 * _DEPTH:
        return compact(schema)
    if isinstance(choices, list) and choices:
        return " | ".join(map(compact, choices))
    if isinstance(variants := schema.get("anyOf", schema.get("oneOf")), list) and variants:
        return " | ".join(_type(variant, indent + 2) for variant in variants if isinstance(variant, Mapping))
    if isinstance(kind, list):
        return " | ".join(_type({**schema, "type": one}, indent + 2) for one in kind if isinstance(one, str))
    if kind in ("object", "dict") or _properties(schema):
        return "\n".join(["{", _members(schema, indent + 2), " " * indent + "}"]) if _properties(schema) else "object"
    if kind == "array":
        items = schema.get("items")
        return f"{_type(items, indent + 2)}[]" if isinstance(items, Mapping) else "any[]"
    return _TYPES.get(kind, "any") if isinstance(kind, str) else "any"


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}
