"""The APIs' bytes: what goes out, what is counted, what a stream holds back, how one that broke ends or goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policyroute.language import check_text
from policyroute.prices.cost import Usage
from policyroute.proxy.wire import body as bodies
from policyroute.proxy.wire.models import listed, one_listed
from policyroute.proxy.wire.splice import members
from policyroute.proxy.wire.surface import SURFACES, BadBody, Counted, Watcher, cause_of, parse, surface_of
from tests.wire_support import SAMPLES, chat_text, cut, messages_blocks, values

ASKED = {"stream": True, "stream_options": {"include_usage": True}}
Json = dict[str, Any]


def watched(name: str, fields: Json | None = None, **options: Any) -> tuple[Watcher, bytes]:
    """A sample's watcher after all of it, and what was passed on."""
    watcher = SURFACES[name.split("_")[0]].watcher(fields if fields is not None else {"stream": True}, **options)
    return watcher, watcher.feed(SAMPLES[name])


# -- bodies ------------------------------------------------------------------------------------------------------------

BAD = [
    (b"", "not JSON: Expecting value at byte 0"),
    (b'{"a":}', "at byte 5 (line 1, column 6)"),
    ('{"é":}'.encode(), "at byte 6 (line 1, column 6)"),
    (b'{"a":"\xff"}', "not UTF-8: invalid start byte at byte 6"),
    (b'{"a":"\xed\xa0\x80"}', "not UTF-8: invalid continuation byte at byte 6"),
    (b'\xef\xbb\xbf{"a":1}', "at byte 0"),
    (b"[1]", "not a JSON object: it is an array"),
    (b"null", "it is null"),
    (b"true", "it is true or false"),
    (b'{"a":NaN}', "no number `NaN`"),
    (b'{"a":1}{"b":2}', "Extra data at byte 7"),
    (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    (b'{"a":"\n"}', "Invalid control character"),
]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("body", "message"), BAD)
def test_bad_bodies_say_what_and_where(body: bytes, message: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(bodies, "orjson", None)
    with pytest.raises(BadBody) as caught:
        parse(body)
    assert message in str(caught.value)


@pytest.mark.parametrize("body", [b'{"a":"\\ud83d"}', b' {"a":1.0, "a":[2]} '])
def test_odd_bodies_are_read(body: bytes) -> None:
    assert parse(body) == json.loads(body)


# -- splice ------------------------------------------------------------------------------------------------------------

SPLICED = [
    (b'{"model":"auto"}', b'{"model":"m"}'),
    (b'{"messages":[],"model" :\n "auto" }', b'{"messages":[],"model" :\n "m" }'),
    (b"{}", b'{"model":"m"}'),
    (b' { "a":1}', b' {"model":"m", "a":1}'),
    (b'{"model":null}', b'{"model":"m"}'),
    (b'{"model":{"model":"x"},"b":[{"model":"auto"}]}', b'{"model":"m","b":[{"model":"auto"}]}'),
    (b'{"model":"a","x":1.0,"model":"b"}', b'{"model":"m","x":1.0,"model":"m"}'),
    (b'{"\\u006dodel":"a"}', b'{"\\u006dodel":"m"}'),
    (b'{"\\u006dodel":"a","t":{"model":"a"}}', b'{"\\u006dodel":"m","t":{"model":"a"}}'),
    (b'{"model":"a","mode\\u006C":"a"}', b'{"model":"m","mode\\u006C":"m"}'),
    (b'{"t":{"model":"a"}}', b'{"model":"m","t":{"model":"a"}}'),
    (b'{"t":{"model":"a/b"},"model":"a\\/b"}', b'{"t":{"model":"a/b"},"model":"m"}'),
    (b'{"k\\"model":"a","model":"a"}', b'{"k\\"model":"a","model":"m"}'),
    (b'{"k\\"model":"a"}', b'{"model":"m","k\\"model":"a"}'),
    (b'{"e":["model"],"model":"auto"}', b'{"e":["model"],"model":"m"}'),
    (b'{"model":"auto","tools":[{"model":{"type":"string"}}]}', b'{"model":"m","tools":[{"model":{"type":"string"}}]}'),
    (b'{"tools":[{"model":{"x":"]}\\""}}],"model":"auto"}', b'{"tools":[{"model":{"x":"]}\\""}}],"model":"m"}'),
    (b'{"model":"auto","tools":[{"model":"auto"}],"n":1}', b'{"model":"m","tools":[{"model":"auto"}],"n":1}'),
    ('{"a":"ü€🗼","t":{"model":1},"model":"é"}'.encode(), '{"a":"ü€🗼","t":{"model":1},"model":"m"}'.encode()),
    (b'{"model":"x","n":1e400,"b":18446744073709551616000,"s":"\\ud800"}', b'{"model":"m","n":1e400,"b":18446744073709551616000,"s":"\\ud800"}'),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), SPLICED)
def test_model_is_replaced_and_nothing_else(before: bytes, after: bytes) -> None:
    assert SURFACES["messages"].outgoing(before, parse(before), "m") == after


def test_model_names_are_quoted() -> None:
    assert json.loads(SURFACES["chat"].outgoing(b'{"model":"a"}', {"model": "a"}, 'ü"\\')) == {"model": 'ü"\\'}


USAGE_ASKED = [
    (b'{"model":"a","stream":true}', b'{"stream_options":{"include_usage":true},"model":"m","stream":true}'),
    (b'{"stream":true}', b'{"model":"m","stream_options":{"include_usage":true},"stream":true}'),
    (b'{"model":"a","stream":false}', b'{"model":"m","stream":false}'),
    (b'{"model":"a","stream":1}', b'{"model":"m","stream":1}'),
    (b'{"model":"a","stream":true,"stream_options":null}', b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
    (b'{"model":"a","stream":true,"stream_options":{}}', b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
    (
        b'{"stream":true,"stream_options":{ "x":1.0},"model":"a"}',
        b'{"stream":true,"stream_options":{"include_usage":true, "x":1.0},"model":"m"}',
    ),
    (
        b'{"model":"a","stream":true,"stream_options":{"include_usage":false,"include_obfuscation":false}}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}',
    ),
    (
        b'{"model":"a","stream":true,"stream_options":{"include_usage": null}}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage": true}}',
    ),
    (
        b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}',
        b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ),
]


@pytest.mark.parametrize(("before", "after"), USAGE_ASKED)
def test_a_chat_stream_is_asked_for_its_usage(before: bytes, after: bytes) -> None:
    assert SURFACES["chat"].outgoing(before, parse(before), "m") == after
    assert b"include_usage" not in SURFACES["responses"].outgoing(b'{"stream":true}', {"stream": True}, "m")


def test_no_nesting_is_too_deep() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    body = b'{"deep":' + deep + b',"x":"}","model":"a","model":"a"}'
    assert [key for key, _, _ in members(body)] == ["deep", "x", "model", "model"]
    assert SURFACES["chat"].outgoing(body, {"model": "a"}, "m") == body.replace(b'"a"', b'"m"')


# -- usage -------------------------------------------------------------------------------------------------------------

TIERED = {"service_tier": "flex"}
COUNTS: list[tuple[str, Json, Counted | None]] = [
    ("chat", {"usage": {"prompt_tokens": 10, "completion_tokens": 3}}, Counted(Usage(10, 3), None, "")),
    (
        "chat",
        {
            "usage": {
                "prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            **TIERED,
        },
        Counted(Usage(10, 3, 4, 5), 2, "flex"),
    ),
    ("chat", {"usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": None}}, Counted(Usage(10, 3), None, "")),
    ("chat", {"usage": {"prompt_tokens": 10}}, None),
    ("chat", {"usage": {"prompt_tokens": True, "completion_tokens": 3}}, None),
    ("chat", {"usage": {"prompt_tokens": 10, "completion_tokens": -1}}, None),
    ("chat", {"usage": {"prompt_tokens": 10, "completion_tokens": 3.0}}, None),
    ("chat", {"usage": {"prompt_tokens": "10", "completion_tokens": 3}}, None),
    ("chat", {"usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 20}}}, None),
    ("chat", {"usage": {"prompt_tokens": 10, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 4}}}, None),
    ("chat", {"usage": {"prompt_tokens": 10**12, "completion_tokens": 3}}, None),
    ("chat", {"usage": []}, None),
    ("chat", {}, None),
    ("embeddings", {"usage": {"prompt_tokens": 8, "total_tokens": 8}}, Counted(Usage(8, 0), None, "")),
    ("completions", {"usage": {"prompt_tokens": 8, "completion_tokens": 2}}, Counted(Usage(8, 2), None, "")),
    (
        "responses",
        {"usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}}},
        Counted(Usage(9, 4, 2), 0, ""),
    ),
    ("messages", {"usage": {"input_tokens": 10, "output_tokens": 7}}, Counted(Usage(10, 7), None, "")),
    (
        "messages",
        {"usage": {"input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 7, "service_tier": "batch"}},
        Counted(Usage(35, 7, 5, 20), None, "batch"),
    ),
    (
        "messages",
        {
            "usage": {
                "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": None, "output_tokens": 7,
                "cache_creation": {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 12},
            }
        },
        Counted(Usage(30, 7, 0, 8, 12), None, ""),
    ),
    (
        "messages",
        {"usage": {"input_tokens": 1, "cache_creation_input_tokens": 20, "output_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 12}}},
        Counted(Usage(21, 7, 0, 8, 12), None, ""),
    ),
    ("messages", {"usage": {"input_tokens": 10, "cache_read_input_tokens": -5, "output_tokens": 7}}, None),
    ("messages", {"usage": {"output_tokens": 7}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("api", "answer", "counted"), COUNTS)
def test_usage(api: str, answer: Json, counted: Counted | None) -> None:
    assert SURFACES[api].usage(answer) == counted


@pytest.mark.parametrize(
    ("api", "answer", "reason"),
    [
        ("chat", {"choices": [{"finish_reason": "tool_calls"}]}, "tool_calls"),
        ("chat", {"choices": []}, ""),
        ("chat", {"choices": [None]}, ""),
        ("responses", {"status": "completed", "incomplete_details": None}, "completed"),
        ("responses", {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ("messages", {"stop_reason": "end_turn"}, "end_turn"),
        ("messages", {"stop_reason": None}, ""),
    ],
)
def test_finish_reason(api: str, answer: Json, reason: str) -> None:
    assert SURFACES[api].finish_reason(answer) == reason
    assert SURFACES[api].response_model({**answer, "model": "m-1"}) == "m-1"
    assert SURFACES[api].response_model(answer) == ""


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"), (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"), (404, "invalid_request_error", "not_found_error"),
        (405, "invalid_request_error", "invalid_request_error"), (408, "timeout_error", "timeout_error"),
        (409, "invalid_request_error", "invalid_request_error"), (411, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"), (415, "invalid_request_error", "invalid_request_error"),
        (422, "invalid_request_error", "invalid_request_error"), (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"), (502, "server_error", "api_error"), (503, "server_error", "overloaded_error"),
        (504, "server_error", "timeout_error"), (529, "server_error", "overloaded_error"),
    ],
)  # fmt: skip
def test_errors_have_the_shape_of_their_api(status: int, openai: str, anthropic: str) -> None:
    for api in ("chat", "responses", "embeddings", "completions"):
        error = json.loads(SURFACES[api].error(status, 'no "ü"', "some_code", "pr_1"))
        assert error == {"error": {"message": 'no "ü"', "type": openai, "param": None, "code": "some_code"}}
    error = json.loads(SURFACES["messages"].error(status, "no", "some_code", "pr_1"))
    assert error == {"type": "error", "error": {"type": anthropic, "message": "no"}, "request_id": "pr_1"}


def test_failing_events() -> None:
    chat = values(SURFACES["chat"].watcher({}).failing("cut off", "cut"))
    assert chat == [{"error": {"message": "cut off", "type": "server_error", "param": None, "code": "cut"}}]
    stream = SURFACES["messages"].watcher({}).failing("busy", "no_upstream")
    assert stream.startswith(b"event: error\n")
    assert values(stream) == [{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}]
    watcher, _ = watched("responses_failed")
    (error,) = values(watcher.failing("too many", "429"))
    assert error["type"] == "error" and error["code"] == "429" and error["message"] == "too many"
    assert error["error"]["type"] == "rate_limit_error" and error["sequence_number"] == 0
    watcher = SURFACES["responses"].watcher({})
    watcher.feed(cut(SAMPLES["responses"], b"Hello"))
    assert values(watcher.failing("cut", "cut"))[0]["sequence_number"] == 5


# -- streams -----------------------------------------------------------------------------------------------------------

CONTENT = {
    "chat": 6,
    "chat_tools": 8,
    "chat_llamacpp": 3,
    "messages": 5,
    "messages_tools": 14,
    "responses": 6,
    "responses_tools": 6,
}
WHOLE = [
    ("chat_tools", ASKED, Counted(Usage(1200, 5, 1024, 128), 2, "default"), "tool_calls", "gpt-5-mini-2025-08-07", True),
    ("chat", ASKED, Counted(Usage(1200, 5, 1024, 128), 2, "default"), "stop", "gpt-5-mini-2025-08-07", False),
    ("chat_llamacpp", {}, Counted(Usage(40, 2, 39), None, ""), "length", "smollm2-135m", False),
    ("messages", {}, Counted(Usage(35, 15, 5, 8, 12), None, "standard"), "end_turn", "claude-haiku-4-5-20251001", False),
    ("messages_tools", {}, Counted(Usage(35, 89, 5, 8, 12), 20, "standard"), "tool_use", "claude-haiku-4-5-20251001", True),
    ("responses", {}, Counted(Usage(300, 12, 256), 6, "default"), "completed", "gpt-5-mini-2025-08-07", False),
    ("responses_tools", {}, Counted(Usage(300, 12, 256), 6, "default"), "max_output_tokens", "gpt-5-mini-2025-08-07", True),
]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("name", "fields", "usage", "reason", "model", "tool"), WHOLE)
def test_a_whole_stream(name: str, fields: Json, usage: Counted, reason: str, model: str, tool: bool, newline: bytes) -> None:
    stream = SAMPLES[name].replace(b"\n", newline)
    watcher = SURFACES[name.split("_")[0]].watcher(fields)
    assert watcher.feed(stream) == stream
    assert (watcher.usage, watcher.finish_reason, watcher.response_model, watcher.tool_begun) == (usage, reason, model, tool)
    assert watcher.ended and watcher.begun and not watcher.failure and watcher.rest() == b""
    assert watcher.delivered == CONTENT[name]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("name", CONTENT)
def test_a_stream_that_comes_event_by_event(name: str, newline: bytes) -> None:
    """What matters is seen in every event, also where no other is looked at."""
    whole, _ = watched(name)
    watcher = SURFACES[name.split("_")[0]].watcher({"stream": True})
    for event in SAMPLES[name].split(b"\n\n")[:-1]:
        watcher.feed((event + b"\n\n").replace(b"\n", newline))
    assert (watcher.usage, watcher.finish_reason, watcher.tool_begun) == (whole.usage, whole.finish_reason, whole.tool_begun)
    assert (watcher.ended, watcher.over, watcher.delivered) == (True, whole.over, whole.delivered)
    assert whole.over is (name != "chat_llamacpp")


@pytest.mark.parametrize(
    ("api", "begun", "call"),
    [
        ("chat", b'"The"', b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]},"finish_reason":null}]}\n\n'),
        (
            "chat",
            b'"The"',
            b'data: {"choices": [{"index": 0, "delta": {"function_call": {"name": "f"}}, "finish_reason": null}]}\n\n',
        ),
        ("messages", b"Hello", b'data: {"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use"}}\n\n'),
        ("responses", b'"Hello"', b'data: {"type":"response.output_item.added","item":{"type":"mcp_call"}}\n\n'),
    ],
)
def test_a_tool_call_after_text_is_seen(api: str, begun: bytes, call: bytes) -> None:
    watcher = SURFACES[api].watcher({})
    watcher.feed(cut(SAMPLES[api], begun))
    assert not watcher.tool_begun and watcher.feed(call) == call and watcher.tool_begun


def test_the_usage_chunk_is_swallowed_unless_asked_for() -> None:
    watcher, out = watched("chat")
    assert watcher.usage == Counted(Usage(1200, 5, 1024, 128), 2, "default")
    kept = [event for event in SAMPLES["chat"].split(b"\n\n") if b'"choices":[]' not in event]
    assert out == b"\n\n".join(kept)
    watcher, out = watched("chat_llamacpp")
    assert b'"timings"' in out and b'"usage"' in out, "usage that comes with a choice is the upstream's own habit"


OPENINGS = [
    ("chat", b'"role"', b'"The"'),
    ("chat_tools", b'"role"', b"call_1"),
    ("messages", b"ping", b"Hello"),
    ("messages_tools", b'"signature":""', b"thinking_delta"),
    ("responses", b"content_part.added", b"output_text.delta"),
    ("responses_tools", b"in_progress", b"output_item.added"),
]


@pytest.mark.parametrize(("name", "held", "first"), OPENINGS)
def test_what_comes_before_content_is_held_back(name: str, held: bytes, first: bytes) -> None:
    watcher = SURFACES[name.split("_")[0]].watcher({})
    opening, rest = cut(SAMPLES[name], held), cut(SAMPLES[name], first)
    assert watcher.feed(b": keep-alive\n\n" + opening) == b"" and not watcher.begun and watcher.delivered == 0
    assert watcher.feed(rest[len(opening) :]) == b": keep-alive\n\n" + rest
    assert watcher.begun and not watcher.ended and watcher.delivered == 1


@pytest.mark.parametrize("name", ["chat", "messages"])
def test_an_answer_without_content_is_passed_at_its_end(name: str) -> None:
    content = (b"content_block_delta",) if name == "messages" else (b'"content":"The"', b" capital", b"Paris")
    stream = b"".join(e + b"\n\n" for e in SAMPLES[name].split(b"\n\n") if e and not any(mark in e for mark in content))
    watcher = SURFACES[name].watcher(ASKED)
    assert watcher.feed(stream) == stream and watcher.ended


FAILURES = [
    ("chat_error", "server_error", "500", b"Hel"),
    ("messages_error", "overloaded_error", "529", b"Hello"),
    ("responses_failed", "server_error", "500", b"Hello"),
]


@pytest.mark.parametrize(("name", "failure", "cause", "content"), FAILURES)
def test_an_error_in_the_stream_is_held_back(name: str, failure: str, cause: str, content: bytes) -> None:
    watcher, out = watched(name)
    assert watcher.failure == failure and cause_of(failure) == cause
    assert b"error" not in out and watcher.error_event in SAMPLES[name] and b"error" in watcher.error_event
    assert out == (b"" if name == "responses_failed" else SAMPLES[name].removesuffix(watcher.error_event))
    assert watcher.ended is (name == "responses_failed")
    assert watcher.feed(SAMPLES[name]) == b"" and watcher.rest() == b""


ERRORS = [
    ("chat", b'data: {"error":{"message":"x","type":"BadRequestError","code":400}}\n\n', "400", "400"),
    ("chat", b'data: {"error":{"message":"x","code":502,"metadata":{}},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n', "502", "502"),
    ("chat", b'data: {"error":"no"}\n\n', "error", "500"),
    ("chat", b'event: error\ndata: {"message":"no"}\n\n', "error", "500"),
    ("chat", b'data: {"error":{"type":"rate limit"}}\n\n', "error", "500"),
    ("chat", b'data: {"error":{"code":"rate_limit_exceeded"}}\n\n', "rate_limit_exceeded", "429"),
    ("messages", b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error"}}\n\n', "rate_limit_error", "429"),
    ("messages", b'data: {"error":{"type":"api_error"}}\n\n', "api_error", "500"),
    ("responses", b'event: error\ndata: {"type":"error","code":"rate_limit_exceeded","message":"x","sequence_number":3}\n\n', "rate_limit_exceeded", "429"),
    ("responses", b'event: error\ndata: {"type":"error","error":{"type":"server_error"}}\n\n', "server_error", "500"),
    ("chat", b"data: {broken\n\n", "malformed", "malformed"),
    ("messages", b"data: [1]\n\n", "malformed", "malformed"),
    ("responses", b"data: <html>\n\n", "malformed", "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("api", "event", "failure", "cause"), ERRORS)
def test_errors_before_content(api: str, event: bytes, failure: str, cause: str) -> None:
    watcher = SURFACES[api].watcher({})
    opening = {"chat": b'"role"', "messages": b"ping", "responses": b"in_progress"}[api]
    assert watcher.feed(cut(SAMPLES[api], opening) + event) == b""
    assert (watcher.failure, cause_of(watcher.failure), watcher.begun) == (failure, cause, False)


def test_broken_data_after_content_is_passed_as_it_is() -> None:
    watcher = SURFACES["chat"].watcher({})
    begun = cut(SAMPLES["chat"], b'"The"')
    assert watcher.feed(begun + b"data: {broken\n\n") == begun + b"data: {broken\n\n" and not watcher.failure


def test_an_endless_event_is_malformed() -> None:
    for piece in (b"x" * 100, b"data: " + b"x" * 100 + b"\n\n"):
        watcher = SURFACES["chat"].watcher({})
        watcher.longest = 300
        begun = cut(SAMPLES["chat"], b'"role"')
        watcher.longest = len(begun) + 50
        watcher.feed(begun)
        assert not watcher.failure
        assert watcher.feed(piece * 10) == b"" and watcher.failure == "malformed"


def test_a_long_event_after_content_and_a_long_opening_are_malformed() -> None:
    watcher = SURFACES["messages"].watcher({})
    begun = watcher.feed(cut(SAMPLES["messages"], b"Hello"))
    watcher.longest = len(begun)
    assert watcher.feed(b"data: " + b"x" * len(begun) + b"\n\n") == b"" and watcher.failure == "malformed"
    watcher = SURFACES["messages"].watcher({})
    watcher.longest = 100
    assert watcher.feed(b": ping\n\n" * 12) == b"" and not watcher.failure
    assert watcher.feed(b": ping\n\n") == b"" and watcher.failure == "malformed"


@pytest.mark.parametrize(
    ("start", "end", "usage"),
    [
        ({"input_tokens": 9, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 4}, Usage(9, 4)),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
        ({"input_tokens": 9, "cache_read_input_tokens": 3}, {"input_tokens": None, "output_tokens": 4}, Usage(12, 4, 3)),
        ({"input_tokens": 9}, {"output_tokens": -4}, None),
        ({"input_tokens": 9.5}, {"output_tokens": 4}, None),
        ({}, {"output_tokens": 4}, None),
        ({"input_tokens": 9, "output_tokens": 1}, None, None),
    ],
)
def test_usage_of_a_message_stream_is_merged(start: Json, end: Json | None, usage: Usage | None) -> None:
    watcher = SURFACES["messages"].watcher({})
    for event in (
        {"type": "message_start", "message": {"usage": start}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **({"usage": end} if end else {})},
    ):
        watcher.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert (watcher.usage.usage if watcher.usage else None) == usage


def test_a_cut_stream_has_not_ended() -> None:
    for name in ("chat", "messages", "responses"):
        watcher = SURFACES[name].watcher({})
        watcher.feed(
            cut(SAMPLES[name], {"chat": b" capital", "messages": b"message_delta", "responses": b"output_item.done"}[name])
        )
        assert not watcher.ended and not watcher.over and not watcher.failure


def test_chat_without_done_has_ended_but_may_not_be_over() -> None:
    watcher, _ = watched("chat_llamacpp")
    assert watcher.ended and not watcher.over
    two = SURFACES["chat"].watcher({"n": 2})
    finish = b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}\n\n'
    assert two.feed(finish % 0) and not two.ended
    assert two.feed(finish % 1) and two.ended


@pytest.mark.parametrize("left", [b"", b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("name", ["chat", "messages", "responses"])
def test_a_last_event_without_its_blank_line(name: str, left: bytes) -> None:
    whole = SURFACES[name].watcher(ASKED)
    whole.feed(SAMPLES[name])
    watcher = SURFACES[name].watcher(ASKED)
    out = watcher.feed(SAMPLES[name].removesuffix(b"\n\n") + left)
    assert watcher.ended and watcher.over
    assert out + watcher.rest() == SAMPLES[name]
    assert (watcher.usage, watcher.finish_reason, watcher.failure) == (whole.usage, whole.finish_reason, "")


def test_half_an_event_is_not_handed_on() -> None:
    watcher = SURFACES["chat"].watcher({})
    begun = cut(SAMPLES["chat"], b'"The"')
    assert watcher.feed(begun + b'data: {"choi') == begun and watcher.rest() == b""


def test_text_is_kept_only_when_asked_for() -> None:
    texts = {"chat": 'The capital is "Paris" – [DONE]\n\n 🗼', "messages": "Hello wörld, message_stop", "responses": "Hello world"}
    for name, text in texts.items():
        watcher, out = watched(name, ASKED, keep_text=True)
        assert watcher.text == text and out == SAMPLES[name]
        watcher, _ = watched(name, ASKED)
        assert watcher.text == ""


# -- ends of cut streams -----------------------------------------------------------------------------------------------


def test_finishing_chat() -> None:
    watcher = SURFACES["chat"].watcher({})
    out = watcher.feed(cut(SAMPLES["chat"], b" capital")) + watcher.finishing()
    assert chat_text(out) == ("The capital is ", "length", True)
    assert watcher.finish_reason == "length"
    last = values(out)[-2]
    assert last["id"] == "chatcmpl-Dk3v1" and last["object"] == "chat.completion.chunk" and last["model"] == "gpt-5-mini-2025-08-07"


def test_finishing_chat_that_only_lacks_done() -> None:
    watcher, _ = watched("chat_llamacpp")
    assert watcher.finishing() == b"data: [DONE]\n\n" and watcher.finish_reason == "length"


def test_finishing_chat_of_several_choices() -> None:
    watcher = SURFACES["chat"].watcher({"n": 2})
    watcher.feed(b'data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n')
    assert [value if value == "[DONE]" else value["choices"][0]["index"] for value in values(watcher.finishing())] == [0, "[DONE]"]


@pytest.mark.parametrize(
    ("name", "mark", "texts"), [("messages", b"Hello", ["Hello"]), ("messages_tools", b'"index":2,"delta"', ["", "I look.", ""])]
)
def test_finishing_messages(name: str, mark: bytes, texts: list[str]) -> None:
    watcher = SURFACES["messages"].watcher({})
    out = watcher.feed(cut(SAMPLES[name], mark)) + watcher.finishing()
    assert messages_blocks(out) == (texts, "max_tokens") and watcher.finish_reason == "max_tokens"


def test_finishing_messages_that_only_lack_their_stop() -> None:
    watcher = SURFACES["messages"].watcher({})
    out = watcher.feed(cut(SAMPLES["messages"], b"message_delta")) + watcher.finishing()
    assert messages_blocks(out) == (["Hello wörld, message_stop"], "end_turn")


@pytest.mark.parametrize(("keep", "said"), [(True, ["Hello"]), (False, [])])
def test_finishing_responses(keep: bool, said: list[str]) -> None:
    watcher = SURFACES["responses"].watcher({}, keep_text=keep)
    out = watcher.feed(cut(SAMPLES["responses"], b'"Hello"'))
    (event,) = values(watcher.finishing())
    assert event["type"] == "response.incomplete" and event["sequence_number"] == len(values(out))
    response = event["response"]
    assert response["id"] == "resp_68" and response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [part["text"] for item in response["output"] for part in item["content"]] == said


# -- joined streams ----------------------------------------------------------------------------------------------------


def joined(name: str, mark: bytes, second: str, *, continued: bool = False) -> tuple[Watcher, bytes]:
    """A sample that broke after `mark`, with the sample `second` joined to it."""
    surface = SURFACES[name.split("_")[0]]
    first = surface.watcher({}, keep_text=continued)
    out = first.feed(cut(SAMPLES[name], mark))
    lost = surface.watcher({})  # one that breaks before its first content leaves no trace
    lost.join(first, continued=continued)
    lost.feed(cut(SAMPLES[second], {"chat": b'"role"', "messages": b"ping"}[name.split("_")[0]]))
    watcher = surface.watcher({}, keep_text=continued)
    watcher.join(lost if not continued else first, continued=continued)
    return watcher, out + watcher.feed(SAMPLES[second])


def test_a_restarted_chat_stream_is_one_stream() -> None:
    watcher, out = joined("chat", b'"The"', "chat")
    assert chat_text(out) == ('The\n\nThe capital is "Paris" – [DONE]\n\n 🗼', "stop", True)
    assert out.count(b": policyroute restarted\n\n") == 1
    assert watcher.usage == Counted(Usage(1200, 5, 1024, 128), 2, "default") and watcher.ended


def test_a_continued_chat_stream_goes_on_with_the_text() -> None:
    watcher, out = joined("chat", b'"The"', "chat", continued=True)
    assert chat_text(out) == ('TheThe capital is "Paris" – [DONE]\n\n 🗼', "stop", True)
    assert watcher.text == chat_text(out)[0] and b": policyroute continued\n\n" in out


def test_the_role_is_said_once_though_content_comes_with_it() -> None:
    first, second = SURFACES["chat"].watcher({}), SURFACES["chat"].watcher({})
    chunk = b'data: {"id":"%s","choices":[{"index":0,"delta":{"role":"assistant","content":"%s"},"finish_reason":%s}]}\n\n'
    out = first.feed(chunk % (b"1", b"a", b"null"))
    second.join(first)
    assert chat_text(out + second.feed(chunk % (b"2", b"b", b'"stop"'))) == ("a\n\nb", "stop", False)


@pytest.mark.parametrize("second", ["messages", "messages_tools"])
@pytest.mark.parametrize(("name", "mark", "texts"), [
    ("messages", b"Hello", ["Hello"]), ("messages", b"content_block_stop", ["Hello wörld, message_stop"]),
    ("messages_tools", b"thinking_delta", [""]), ("messages_tools", b"I look.", ["", "I look."]),
])  # fmt: skip
def test_a_restarted_message_is_one_message(name: str, mark: bytes, texts: list[str], second: str) -> None:
    watcher, out = joined(name, mark, second)
    later = {"messages": ["\n\nHello wörld, message_stop"], "messages_tools": ["", "\n\nI look.", ""]}[second]
    assert messages_blocks(out) == ([*texts, *later], {"messages": "end_turn", "messages_tools": "tool_use"}[second])
    assert watcher.ended and watcher.usage is not None and watcher.usage.usage.input == 35
    assert out.count(b": policyroute restarted\n\n") == 1


def test_a_continued_message_goes_on_in_its_block() -> None:
    watcher, out = joined("messages", b"Hello", "messages", continued=True)
    assert messages_blocks(out) == (["HelloHello wörld, message_stop"], "end_turn")
    assert watcher.text == "HelloHello wörld, message_stop"
    _, out = joined("messages", b"Hello", "messages_tools", continued=True)
    assert messages_blocks(out) == (["Hello", "", "I look.", ""], "tool_use")


def test_a_restarted_message_that_is_cut_again_ends_well() -> None:
    first, second = SURFACES["messages"].watcher({}), SURFACES["messages"].watcher({})
    out = first.feed(cut(SAMPLES["messages"], b"Hello"))
    second.join(first)
    out += second.feed(cut(SAMPLES["messages_tools"], b"I look."))
    assert messages_blocks(out + second.finishing()) == (["Hello", "", "\n\nI look."], "max_tokens")
    third = SURFACES["messages"].watcher({})
    third.join(second)
    assert messages_blocks(out + third.finishing()) == (["Hello", "", "\n\nI look."], "max_tokens")


def test_a_response_is_not_restarted() -> None:
    surface = SURFACES["responses"]
    assert not surface.watcher({}).restartable and SURFACES["chat"].watcher({}).restartable
    assert not SURFACES["chat"].watcher({"n": 2}).restartable
    with pytest.raises(ValueError, match="can't be joined"):
        surface.watcher({}).join(surface.watcher({}))
    with pytest.raises(ValueError, match="can't be joined"):
        SURFACES["chat"].watcher({}).join(SURFACES["messages"].watcher({}))


def test_continued_requests() -> None:
    message = {"role": "user", "content": "hi"}
    assert SURFACES["chat"].continued({"messages": [message]}, "So ")["messages"] == [
        message,
        {"role": "assistant", "content": "So "},
    ]
    assert SURFACES["messages"].continued({"messages": [message]}, "So ")["messages"][-1] == {"role": "assistant", "content": "So"}
    assert SURFACES["responses"].continued({"input": "hi"}, "So")["input"] == [message, {"role": "assistant", "content": "So"}]
    assert SURFACES["completions"].continued({"prompt": "1,"}, " 2")["prompt"] == "1, 2"
    assert parse(SURFACES["chat"].dumped({"a": "\ud83d"})) == {"a": "\ud83d"}


def test_completions_stream() -> None:
    chunk = b'data: {"id":"cmpl-1","object":"text_completion","created":1,"choices":[{"text":"%s","index":0,"logprobs":null,"finish_reason":%s}],"model":"m"}\n\n'
    watcher = SURFACES["completions"].watcher({}, keep_text=True)
    assert watcher.feed(chunk % (b"", b"null")) == b""
    assert watcher.feed(chunk % (b"a", b"null")) == chunk % (b"", b"null") + chunk % (b"a", b"null")
    assert watcher.text == "a" and not watcher.ended
    last, done = values(watcher.finishing())
    assert last["choices"] == [{"index": 0, "text": "", "finish_reason": "length"}] and done == "[DONE]"


# -- paths and models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", "chat"), ("/v1/responses", "responses"), ("/v1/messages", "messages"),
        ("/v1/embeddings", "embeddings"), ("/v1/completions", "completions"), ("/v1/messages/count_tokens", "messages"),
        ("/v1/responses/resp_1", "responses"), ("/v1/models", None), ("/v1/messagesx", None), ("/", None),
    ],
)  # fmt: skip
def test_paths(path: str, api: str | None) -> None:
    found = surface_of("POST", path)
    assert (found.api if found else None) == api and (found is None or found is SURFACES[found.api])


POLICY = """edition 1
policy shop "A shop"
model mini  { provider openai  id "gpt-5-mini"  in $1  out $2 }
model local { provider openai  url "http://127.0.0.1:1/v1"  id "smollm2"  in $0  out $0 }
otherwise { then mini }
"""


def test_models() -> None:
    policy = check_text(POLICY).policy
    openai = json.loads(listed(policy))
    assert openai["object"] == "list" and [entry["id"] for entry in openai["data"]] == ["auto", "mini", "local"]
    assert openai["data"][0] == {"id": "auto", "object": "model", "created": 0, "owned_by": "policyroute"}
    assert openai["data"][1]["owned_by"] == "openai"
    anthropic = json.loads(listed(policy, anthropic=True))
    assert (anthropic["first_id"], anthropic["last_id"], anthropic["has_more"]) == ("auto", "local", False)
    assert {*anthropic["data"][1]} == {"type", "id", "display_name", "created_at"}
    assert json.loads(one_listed(policy, "auto") or b"")["owned_by"] == "policyroute"
    assert json.loads(one_listed(policy, "gpt-5-mini", anthropic=True) or b"")["id"] == "mini"
    assert one_listed(policy, "gpt-9") is None
