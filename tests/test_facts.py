"""Facts of requests: every signal, in the three shapes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from policyroute.language.vocabulary import SIGNALS
from policyroute.signals import request, results
from policyroute.signals.facts import SEPARATOR, UNNAMED, Facts
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
    "code": False, "max_output": 900, "requested": "gpt-4o", "user": "u1", "team": None, "conversation": "opening-75ed3508c69facfd0d6eeb14", "escalated": None,
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
        ('{"returncode": true}', None, True), ('{"message": "error"}', None, False), ('{"error": cut of', None, True), ('["error"]', None, True),
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


def test_a_conversation_that_nobody_names_has_its_opening_for_a_name() -> None:
    """It stays the same as the conversation grows; another user, another system message or another beginning is another one."""
    system, first = {"role": "system", "content": "You help."}, {"role": "user", "content": "Where is my order?"}
    more = [{"role": "assistant", "content": "Which?"}, {"role": "user", "content": "12345"}]

    def named(messages: list[dict[str, str]], **fields: str) -> str | None:
        return Facts.of_body({"messages": messages, **fields}).conversation

    name = named([system, first], user="u")
    assert name and name == named([system, first, *more], user="u")
    assert len({name, named([first], user="u"), named([system, *more], user="u"), named([system, first], user="v")}) == 4
    assert named([system, first], user="u", prompt_cache_key="k") == "k"
    assert named([system]) is None and named([]) is None


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
