"""What a request is billed as input: the token recipe, its bounds, pictures; and that any JSON has facts."""

from __future__ import annotations

import struct
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.language.vocabulary import SIGNALS
from policyroute.signals import billing, pictures, request, tokens
from policyroute.signals.facts import Facts
from policyroute.signals.pictures import Picture

NIGHT = datetime(2026, 1, 4, 23, 30, tzinfo=UTC)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def chat_call(name: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


# -- tokens --------------------------------------------------------------------------------------------------------

STUFF = {"type": "object", "properties": {"foo": {"type": "string"}, "bar": {"type": "number", "description": "A number"}}}
NESTED = {
    "type": "object",
    "properties": {
        "foo": {"type": "object", "properties": {"bar": {"type": "string", "enum": ["a", "b", "c"]}, "baz": {"type": "boolean"}}}
    },
}


def tool(name: str, parameters: object, description: str | None = None) -> dict[str, object]:
    function = {"name": name, "parameters": parameters} | ({"description": description} if description else {})
    return {"type": "function", "function": function}


EMPTY = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("messages", "tools", "billed"),
    [
        ([user("hello")], [], 8),
        ([user("hello world")], [], 9),
        ([{"role": "system", "content": "hello:"}], [], 9),
        ([user("hello")], [tool("foo", EMPTY)], 31),
        ([user("hello")], [tool("foo", EMPTY, "Do a foo")], 36),
        ([user("hello")], [tool("bing_bong", STUFF, "Do a bing bong")], 57),
        ([user("hello")], [tool("bing_bong", NESTED, "Do a bing bong")], 68),
        ([{"role": "system", "content": "Hello"}, user("Hi there")], [tool("do_stuff", EMPTY)], 35),
        ([{"role": "system", "content": "Hello:"}, {"role": "system", "content": "Hello"}, user("Hi there")], [tool("do_stuff", EMPTY)], 40),
        ([{"role": "assistant", "content": "", "function_call": {"name": "do_stuff", "arguments": '{"foo": "bar", "baz": 1.5}'}}], [], 26),
    ],
)  # fmt: skip
def test_the_recipe_gives_what_openai_billed(messages: list[object], tools: list[object], billed: int) -> None:
    """`billed` is usage.prompt_tokens of gpt-3.5-turbo (cl100k) as recorded by the tests of openai-chat-tokens (MIT)."""
    bill = billing.of_request(request.of_row(messages, tools))
    assert bill.tokens(lambda text: tokens.count(text, "cl100k_base")) == billed


def test_tools_are_written_as_openai_shows_them() -> None:
    """The form of OpenAI's harmony guide, defaults included."""
    parameters = {
        "type": "object",
        "required": ["place", "mixed"],
        "properties": {
            "place": {"type": "string", "description": "City and state"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "integer", "default": 3},
            "tags": {"type": "array", "items": {"type": "string"}},
            "mixed": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "either": {"type": ["number", "null"]},
            "anything": {},
            "bag": {"type": "object"},
            "inner": {"type": "object", "properties": {"deep": {"type": "boolean", "description": "Is it?"}}},
        },
    }
    content = request.of_row([], [tool("weather", parameters, "Get it."), tool("now", EMPTY)])
    assert (
        billing.written(list(content.tools or ()))
        == """namespace functions {

// Get it.
type weather = (_: {
// City and state
place: string,
unit?: "celsius" | "fahrenheit", // default: celsius
days?: number, // default: 3
tags?: string[],
mixed: string | null,
either?: number | null,
anything?: any,
bag?: object,
inner?: {
  // Is it?
  deep?: boolean,
},
}) => any;

type now = () => any;

} // namespace functions"""
    )


def test_the_parts_of_a_count() -> None:
    def total(*messages: object, tools: list[object] | None = None) -> int:
        return Facts.of_row(list(messages), tools).tokens or 0

    assert total() == 3
    assert total(user("hello")) == 3 + 4 + tokens.count("hello")
    assert total({"role": "user", "name": "ann", "content": "hello"}) == total(user("hello")) + tokens.count("ann") + 1
    assert total({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}) == 3 + 4 + 2
    assert total({"role": "user", "content": [{"type": "mystery", "x": 1}]}) == 3 + 4 + tokens.count('{"type":"mystery","x":1}')
    assert total(user("a"), tools=[{"type": "web_search"}]) == total(user("a")) + tokens.count('{"type":"web_search"}')
    assert total(chat_call("grep")) == 3 + 4 + 3 + tokens.count("grep") + tokens.count("{}")


def test_a_picture_beside_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    facts = Facts.of_row([{"role": "user", "content": [{"type": "text", "text": "what?"}, picture]}])
    assert (facts.images, facts.last_tokens, facts.tokens) == (True, 2 + 85, 3 + 4 + 2 + 85)
    inside = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "image", "source": {"type": "base64", "data": ""}}]}
    assert Facts.of_row([{"role": "user", "content": [inside]}]).images is True


def test_a_growing_conversation_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(tokens, "counted", tokens.Remembered(lambda text: counted.append(text) or len(text)))
    messages = [user(f"message {number} " * 40) for number in range(50)]
    for end in range(1, 51):
        assert Facts.of_row(messages[:end]).tokens
    assert len(counted) == 50


# -- pictures ------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height)


def jpeg(width: int, height: int) -> bytes:
    exif = b"\xff\xe1" + struct.pack(">H", 602) + bytes(600)
    return b"\xff\xd8" + exif + b"\xff\xc4\x00\x04\x00\x00\xff\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + bytes(10)


def webp(kind: bytes, width: int, height: int) -> bytes:
    body = {
        b"VP8X": bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
        b"VP8L": b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(5),
        b"VP8 ": b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height),
    }[kind]
    return b"RIFF" + struct.pack("<I4s4sI", 30, b"WEBP", kind, 10) + body


@pytest.mark.parametrize("make", [png, gif, jpeg, *(lambda w, h, k=k: webp(k, w, h) for k in (b"VP8X", b"VP8L", b"VP8 "))])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (1023, 4000)])
def test_sizes_are_read_from_headers(make: Any, width: int, height: int) -> None:
    assert pictures.size(b64encode(make(width, height)).decode()) == (width, height)


@given(data=st.one_of(st.text(), st.binary(max_size=80).map(lambda data: b64encode(b"\xff\xd8" + data).decode())))
def test_any_picture_has_a_price(data: str) -> None:
    assert pictures.tokens(Picture("openai", "auto", data)) > 0
    assert pictures.tokens(Picture("anthropic", "auto", data)) > 0


@pytest.mark.parametrize(
    ("formula", "detail", "width", "height", "billed"),
    [
        ("openai", "low", 4096, 8192, 85),
        ("openai", "high", 1024, 1024, 765),  # OpenAI's own example
        ("openai", "high", 2048, 4096, 1105),  # OpenAI's own example
        ("openai", "auto", 512, 512, 255),
        ("openai", "high", 513, 512, 425),
        ("anthropic", "auto", 200, 200, 54),  # Anthropic's own example
        ("anthropic", "auto", 1000, 1000, 1334),  # Anthropic's own example
        ("anthropic", "auto", 8000, 8000, 1600),
        ("anthropic", "auto", 8000, 80, 32),
    ],
)
def test_picture_formulas(formula: Any, detail: str, width: int, height: int, billed: int) -> None:
    assert pictures.tokens(Picture(formula, detail, b64encode(png(width, height)).decode())) == billed


def test_pictures_of_the_three_shapes() -> None:
    data = b64encode(gif(512, 512)).decode()
    url = f"data:image/gif;base64,{data}"
    blocks = [
        {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
        {"type": "input_image", "image_url": url, "detail": "high"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": data}},
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
    ]
    assert [pictures.tokens(pictures.of_block(block)) for block in blocks] == [255, 255, 350, 765, 1399]


# -- totality and bounds -------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["role", "content", "type", "text", "messages", "input", "system", "tools", "name", "function", "parameters", "properties", "tool_calls", "id",
     "tool_use", "tool_result", "image", "image_url", "source", "data", "user", "assistant", "tool", "function_call", "function_call_output", "output",
     "arguments", "call_id", "tool_use_id", "tool_call_id", "is_error", "metadata", "user_id", "session_id", "enum", "items", "required", "anyOf",
     "array", "object", "url", "detail", "low", "response_format", "format", "json_schema", "conversation", "instructions", "prompt", "max_tokens"]
)  # fmt: skip
STRINGS = st.one_of(WORDS, st.text(st.characters(codec=None), max_size=8))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), STRINGS, st.just(10**400)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(STRINGS, inner, max_size=5)),
    max_leaves=25,
)
BLOCK = st.fixed_dictionaries(
    {"type": WORDS}, optional={"text": JSON, "content": JSON, "input": JSON, "source": JSON, "id": JSON, "image_url": JSON}
)
MESSAGE = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"role": STRINGS, "content": st.one_of(STRINGS, st.lists(BLOCK, max_size=3), JSON)}, optional={"tool_calls": JSON}
    ),
)
BODY = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {"messages": st.lists(MESSAGE, max_size=4)}, optional={"tools": st.lists(JSON, max_size=3), "metadata": JSON}
    ),
)


@given(body=BODY)
def test_any_json_gives_facts_within_their_bounds(body: object) -> None:
    facts = Facts.of_body(body, {"X-User-Id": "u"}, NIGHT)
    for name, row in SIGNALS.items():
        value = getattr(facts, name)
        assert value is None or isinstance(value, type(row.default))
    if isinstance(body, dict):
        assert request.detected(body)
    if facts.tokens is not None and facts.last_tokens is not None:
        assert facts.tokens_low is not None and facts.tokens_high is not None
        assert facts.last_tokens_low is not None and facts.last_tokens_high is not None
        assert facts.tokens_low <= facts.tokens <= facts.tokens_high
        assert facts.last_tokens_low <= facts.last_tokens <= facts.last_tokens_high


@given(messages=JSON, tools=JSON, response_format=JSON, metadata=JSON)
def test_any_row_gives_facts(messages: object, tools: object, response_format: object, metadata: object) -> None:
    facts = Facts.of_row(messages, tools, response_format, metadata)
    for name in SIGNALS:
        getattr(facts, name)


def test_deep_json_is_survived() -> None:
    deep: dict[str, object] = {"type": "object"}
    for _ in range(400):
        deep = {"type": "object", "properties": {"x": deep}}
    assert Facts.of_row([user("a")], [tool("f", deep)]).tokens
    assert Facts.of_row("[" * 100_000 + "]" * 100_000).tokens is None


def test_bounds_need_no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> int:
        raise AssertionError(text)

    monkeypatch.setattr(tokens, "counted", refuse)
    facts = Facts.of_body({"messages": [user("é" * 640)]})
    assert (facts.tokens_low, facts.tokens_high) == (3 + 4 + 10, 3 + 4 + 1280)
    assert (facts.last_tokens_low, facts.last_tokens_high) == (10, 1280)
