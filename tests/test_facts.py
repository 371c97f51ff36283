"""Facts of requests: every signal, in the three shapes; totality; the token recipe and its bounds."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.language.vocabulary import SIGNALS
from policyroute.signals import billing, pictures, request, results, tokens
from policyroute.signals.facts import SEPARATOR, UNNAMED, Facts
from policyroute.signals.pictures import Picture
from policyroute.signals.request import Result


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def chat_call(name: str, call_id: str = "c1") -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}],
    }


# One agent conversation in the three shapes: a question, two parallel calls, their results (the second one failed), another call.
CHAT = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        user("Fix the build"),
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "grep", "arguments": '{"p":"x"}'}},
                {"id": "c2", "type": "function", "function": {"name": "read_file", "arguments": '{"f":"y"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3 hits"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: no such file"},
        chat_call("list_dir", "c3"),
        {"role": "tool", "tool_call_id": "c3", "content": [{"type": "text", "text": "Error: denied"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "grep", "parameters": {"type": "object", "properties": {}}}}],
    "response_format": {"type": "json_object"},
    "max_completion_tokens": 900,
    "stream": True,
    "user": "u1",
}
RESPONSES = {
    "model": "gpt-4o",
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix the build"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]},
        {"type": "function_call", "call_id": "c1", "name": "grep", "arguments": '{"p":"x"}'},
        {"type": "function_call", "call_id": "c2", "name": "read_file", "arguments": '{"f":"y"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "3 hits"},
        {"type": "function_call_output", "call_id": "c2", "output": "Error: no such file"},
        {"type": "function_call", "call_id": "c3", "name": "list_dir", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c3", "output": [{"type": "input_text", "text": "Error: denied"}]},
    ],
    "tools": [{"type": "function", "name": "grep", "parameters": {"type": "object", "properties": {}}}],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    "max_output_tokens": 900,
    "stream": True,
    "safety_identifier": "u1",
}
MESSAGES = {
    "model": "gpt-4o",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        user("Fix the build"),
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c1", "name": "grep", "input": {"p": "x"}},
                {"type": "tool_use", "id": "c2", "name": "read_file", "input": {"f": "y"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "3 hits"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "Error: no such file", "is_error": True},
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c3", "name": "list_dir", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c3",
                    "content": [{"type": "text", "text": "Error: denied"}],
                    "is_error": True,
                }
            ],
        },
    ],
    "tools": [{"name": "grep", "input_schema": {"type": "object", "properties": {}}}],
    "output_config": {"format": {"type": "json_schema", "schema": {}}},
    "max_tokens": 900,
    "stream": True,
    "metadata": {"user_id": "u1"},
}
SHAPES = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES}

WANTED = {
    "turns": 1, "steps": 2, "tools": 1, "tool": "list_dir", "tool_failed": True, "images": False, "json": True, "stream": True,
    "code": False, "max_output": 900, "requested": "gpt-4o", "user": "u1", "team": None, "conversation": None, "escalated": None,
    "last": "Fix the build", "system": "Be brief.", "last_tokens": 3, "hour": None, "weekday": None,
}  # fmt: skip


def test_every_signal_of_the_vocabulary_is_a_fact() -> None:
    for shape in SHAPES.values():
        facts = Facts.of_body(shape, at=datetime(2026, 1, 5, 12, tzinfo=UTC))
        for name in SIGNALS:
            assert hasattr(facts, name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", WANTED)
def test_the_three_shapes_say_the_same(shape: str, name: str) -> None:
    assert getattr(Facts.of_body(SHAPES[shape]), name) == WANTED[name]


def test_tokens_and_prompt_do_not_depend_on_the_shape() -> None:
    facts = [Facts.of_body(shape) for shape in SHAPES.values()]
    assert len({fact.tokens for fact in facts}) == 1
    assert len({fact.prompt.replace(SEPARATOR, "\n") for fact in facts if fact.prompt}) == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_detected(shape: str) -> None:
    assert request.detected(SHAPES[shape]) == shape


@pytest.mark.parametrize(
    ("body", "shape"),
    [({"messages": []}, "chat"), ({}, "chat"), ({"messages": [user("x")], "max_tokens": 3}, "chat"), ({"input": "hi"}, "responses"),
     ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages"), ({"messages": [], "stop_sequences": []}, "messages")],
)  # fmt: skip
def test_detection_of_small_bodies(body: dict[str, Any], shape: str) -> None:
    assert request.detected(body) == shape


def test_a_row_says_what_the_body_says() -> None:
    body = Facts.of_body(CHAT)
    row = Facts.of_row(json.dumps(CHAT["messages"]), json.dumps(CHAT["tools"]), json.dumps(CHAT["response_format"]))
    for name in (
        "tokens",
        "last_tokens",
        "turns",
        "steps",
        "tools",
        "tool",
        "tool_failed",
        "images",
        "code",
        "json",
        "prompt",
        "last",
        "system",
    ):
        assert getattr(row, name) == getattr(body, name)
    assert row.requested is row.max_output is row.stream is row.user is None


@pytest.mark.parametrize("messages", [None, "", "no json", "null"])
def test_a_row_without_content_says_nothing(messages: str | None) -> None:
    facts = Facts.of_row(messages)
    assert {getattr(facts, name) for name in SIGNALS} == {None}
    assert facts.tokens_low is facts.tokens_high is facts.last_tokens_low is facts.last_tokens_high is None


def test_a_row_may_keep_the_whole_body() -> None:
    facts = Facts.of_row(json.dumps(MESSAGES))
    assert (facts.system, facts.tools, facts.json, facts.tool) == ("Be brief.", 1, True, "list_dir")


# -- conversation --------------------------------------------------------------------------------------------------

RESULT_AND_TEXT = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "ok"}, {"type": "text", "text": "note"}],
}


@pytest.mark.parametrize(
    ("messages", "turns", "steps", "tool"),
    [
        ([], 0, 0, "none"),
        ([user("a")], 1, 0, "none"),
        ([user("a"), {"role": "assistant", "content": "b"}, user("c")], 2, 0, "none"),
        ([user("a"), chat_call("f"), {"role": "tool", "tool_call_id": "c1", "content": ""}], 1, 1, "f"),
        ([user("a"), chat_call("f"), {"role": "tool", "tool_call_id": "c1", "content": ""}, user("b")], 2, 0, "none"),
        ([user("a"), chat_call("f"), {"role": "tool", "tool_call_id": "zzz", "content": ""}], 1, 1, UNNAMED),
        ([user("a"), chat_call("f"), {"role": "tool", "name": "g", "tool_call_id": "zzz", "content": ""}], 1, 1, "g"),
        ([user("a"), {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, {"role": "function", "name": "f", "content": "1"}], 1, 1, "f"),
        ([user("a"), chat_call("f"), {"role": "tool", "tool_call_id": "c1"}, {"role": "developer", "content": "go on"}], 1, 1, "f"),
        ([user("a"), chat_call("c", "c1"), RESULT_AND_TEXT], 1, 1, "c"),
        ([user("a"), {"role": "assistant", "content": "no tools"}, chat_call("f"), chat_call("f")], 1, 2, "none"),
        (["bare"], 1, 0, "none"),
        ("a bare prompt", 1, 0, "none"),
    ],
)  # fmt: skip
def test_turns_steps_and_tool(messages: object, turns: int, steps: int, tool: str) -> None:
    facts = Facts.of_row(messages if isinstance(messages, list) else json.dumps(messages))
    assert (facts.turns, facts.steps, facts.tool) == (turns, steps, tool)


def test_text_beside_tool_results_is_read_but_is_no_turn() -> None:
    facts = Facts.of_row([user("a"), chat_call("c"), RESULT_AND_TEXT])
    assert (facts.last, facts.prompt) == ("a", SEPARATOR.join(["a", "", "ok\nnote"]))


def test_items_of_one_model_call_are_one_step() -> None:
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "x"}
    reasoning = {"type": "reasoning", "summary": []}
    assert Facts.of_body({"input": [user("a"), reasoning, call, call, output, output, call, output]}).steps == 2


@pytest.mark.parametrize(
    ("text", "flag", "failed"),
    [
        ("fine", None, False), ("", None, False), ("No errors", None, False), ("errors: 0", None, False), ("errorless", None, False),
        ("terror", None, False), ("Error: x", None, True), ("error", None, True), ("  ERROR executing", None, True), ("[Error] x", None, True),
        ("Traceback (most recent call last):", None, True), ("Exception in thread", None, True), ("ValueError: x", None, True),
        ("fatal: not a git repository", None, True), ("Failed to open", None, True), ("The error is", None, False),
        ("Exit code: 1\nx", None, True), ("Exit code: 0\nx", None, False), ("exited with status 2", None, True),
        ('{"error": "x"}', None, True), ('{"error": null}', None, False), ('{"error": false}', None, False), ('{"error": ""}', None, False),
        ('{"errors": []}', None, False), ('{"isError": true}', None, True), ('{"success": false}', None, True), ('{"ok": true}', None, False),
        ('{"exit_code": 1}', None, True), ('{"exit_code": 0}', None, False), ('{"output": "x", "metadata": {"exit_code": 2}}', None, True),
        ('{"returncode": true}', None, True), ('{"message": "error"}', None, False), ('{"error": ', None, False), ('["error"]', None, False),
        ("Error: x", False, False), ("fine", True, True),
    ],
)  # fmt: skip
def test_failed_results(text: str, flag: bool | None, failed: bool) -> None:
    assert results.failed(Result("f", (text,), flag)) == failed


def test_only_the_last_result_counts() -> None:
    bad, good = ({"role": "tool", "tool_call_id": "c", "content": text} for text in ("Error: x", "fine"))
    assert [Facts.of_row([user("a"), *order]).tool_failed for order in ([bad, good], [good, bad], [bad, good, user("b")], [bad, user("b")])] == [
        False, True, False, True,
    ]  # fmt: skip


def test_an_absent_anthropic_flag_is_no_error() -> None:
    block = {"type": "tool_result", "tool_use_id": "c", "content": "Error rates fell"}
    assert Facts.of_body({"messages": [{"role": "user", "content": [block]}]}).tool_failed is False


# -- code ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["```\nx\n```", "Look:\n```python\nx = 1\n```", "~~~\nx", "def f(x):\n    return x", "async def g() -> int:", "class A(B):", "import numpy as np",
     "from a.b import c", "#include <stdio.h>", "#!/bin/sh", "public static void main(String[] a) {", "const x = 5", "let {a} = b;", "function f() {",
     "fn main() {", "func (s *S) Do() error {", "if (x > 1) {", "SELECT a FROM b", "  foo.bar(1);", "x = compute(y);", "return x;", "}", "});",
     ">>> 1 + 1", "$ git status", "<div class=a>", "<!DOCTYPE html>", "diff --git a/x b/x", "@@ -1,2 +3 @@", "import React from 'react'"],
)  # fmt: skip
def test_code(text: str) -> None:
    assert Facts.of_row([user(f"Please help.\n{text}\nThanks")]).code is True


@pytest.mark.parametrize(
    "text",
    ["", "Write a function that adds two numbers.", "From home, import duties matter.", "What does `x` mean?", "class of 2026: who won?",
     "I paid $5; was that fair?", "Let x = 5. What is 2x?", "Return the book (the red one).", "for (example) this", "- a\n- b\n1. c", "Is a < b?",
     "<system-reminder>be nice</system-reminder>", "Select one from the list", "I (we) did; then left."],
)  # fmt: skip
def test_no_code(text: str) -> None:
    assert Facts.of_row([user(text)]).code is False


def test_code_is_looked_for_in_the_last_user_message() -> None:
    assert Facts.of_row([user("```x```"), user("thanks")]).code is False
    assert Facts.of_row([user("why?"), {"role": "assistant", "content": "```x```"}]).code is False


# -- who and when --------------------------------------------------------------------------------------------------

NIGHT = datetime(2026, 1, 4, 23, 30, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("at", "zone", "hour", "weekday"),
    [
        (NIGHT, "UTC", 23, "sun"),
        (NIGHT, "Europe/Berlin", 0, "mon"),
        (NIGHT, "America/New_York", 18, "sun"),
        (NIGHT.replace(tzinfo=None), "Europe/Berlin", 0, "mon"),
        (datetime(2026, 7, 1, 12, tzinfo=UTC), "Europe/Berlin", 14, "wed"),
        (datetime(2026, 7, 1, 1, tzinfo=timezone(timedelta(hours=5))), "UTC", 20, "tue"),
    ],
)
def test_hour_and_weekday(at: datetime, zone: str, hour: int, weekday: str) -> None:
    facts = Facts.of_body({}, at=at, timezone=zone)
    assert (facts.hour, facts.weekday) == (hour, weekday)


@pytest.mark.parametrize(
    ("body", "headers", "user_", "team", "conversation"),
    [
        ({}, {}, None, None, None),
        ({"user": "u", "metadata": {"user_id": "m"}}, {"X-User-Id": "h"}, "u", None, None),
        ({"metadata": {"user_id": "m", "team": "t"}}, {"X-User-Id": "h", "x-team": "ht"}, "m", "t", None),
        ({"user": "", "safety_identifier": 7}, {}, "7", None, None),
        ({"user": True}, {"Helicone-User-Id": "h", "X-LiteLLM-Team-Id": "t"}, "h", "t", None),
        ({"conversation": {"id": "conv"}}, {}, None, None, "conv"),
        ({"conversation": "conv", "prompt_cache_key": "k"}, {}, None, None, "conv"),
        ({"metadata": {"session_id": "s"}}, {"x-session-id": "h"}, None, None, "s"),
        ({"prompt_cache_key": "k"}, {"session-id": "h"}, None, None, "k"),
        ({}, {"X-Claude-Code-Session-Id": "cc"}, None, None, "cc"),
        ({"metadata": {"user_id": "user_ab_account_cd_session_0f-12"}}, {}, "user_ab_account_cd", None, "0f-12"),
        ({"metadata": {"user_id": '{"account_uuid": "a", "session_id": "s"}'}}, {}, "a", None, "s"),
        ({"previous_response_id": "resp_1"}, {}, None, None, None),
    ],
)
def test_keys(body: object, headers: dict[str, str], user_: str | None, team: str | None, conversation: str | None) -> None:
    facts = Facts.of_body(body, headers)
    assert (facts.user, facts.team, facts.conversation) == (user_, team, conversation)


@pytest.mark.parametrize(
    ("headers", "metadata", "escalated"),
    [({}, {}, None), ({"X-Escalate": "1"}, {}, True), ({"x-escalate": "false"}, {"escalated": True}, False), ({}, {"escalated": True}, True),
     ({}, {"escalated": "No"}, False), ({}, {"escalated": 0}, False), ({}, {"escalated": None}, None), ({"x-escalate": ""}, {}, False)],
)  # fmt: skip
def test_escalated(headers: dict[str, str], metadata: dict[str, object], escalated: bool | None) -> None:
    assert Facts.of_body({"metadata": metadata}, headers).escalated is escalated


@pytest.mark.parametrize(
    ("body", "limit"),
    [({}, None), ({"max_tokens": 5}, 5), ({"max_tokens": 5, "max_completion_tokens": 7}, 7), ({"max_output_tokens": 6}, 6), ({"max_tokens": "5"}, None),
     ({"max_tokens": True}, None), ({"max_tokens": 0}, None), ({"max_completion_tokens": None, "max_tokens": 5}, 5)],
)  # fmt: skip
def test_max_output(body: object, limit: int | None) -> None:
    assert Facts.of_body(body).max_output == limit


@pytest.mark.parametrize(
    ("body", "asked"),
    [({}, False), ({"response_format": {"type": "text"}}, False), ({"response_format": {"type": "json_schema"}}, True),
     ({"text": {"format": {"type": "json_object"}}}, True), ({"text": {"verbosity": "low"}}, False), ({"output_format": {"type": "json_schema"}}, True)],
)  # fmt: skip
def test_json(body: object, asked: bool) -> None:
    assert Facts.of_body(body).json is asked


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
        ("anthropic", "auto", 8000, 80, 33),
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
        deep = {"type": "object", "properties": {"x": deep}, "items": deep}
    assert Facts.of_row([user("a")], [tool("f", deep)]).tokens
    assert Facts.of_row("[" * 100_000 + "]" * 100_000).tokens is None


def test_bounds_need_no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> int:
        raise AssertionError(text)

    monkeypatch.setattr(tokens, "counted", refuse)
    facts = Facts.of_body({"messages": [user("é" * 640)]})
    assert (facts.tokens_low, facts.tokens_high) == (3 + 4 + 10, 3 + 4 + 1280)
    assert (facts.last_tokens_low, facts.last_tokens_high) == (10, 1280)
