"""Conversion between APIs: what survives, what is lost, and that streams say what whole answers say."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("linguafranca", reason="the extra `convert` is not installed")

from policyroute.language.policy import Model, Policy
from policyroute.proxy import conversion as convert
from policyroute.proxy.conversion import findings as module
from policyroute.proxy.conversion import known
from policyroute.proxy.conversion.findings import findings
from policyroute.proxy.conversion.library import ConversionError

APIS = ("chat", "responses", "messages")
PAIRS = [(client, upstream) for client in APIS for upstream in APIS if client != upstream]
Json = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
MARK = "zz17"

BASE: dict[str, Json] = {
    "chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "responses": {"model": "m", "input": [{"role": "user", "content": "hi"}], "max_output_tokens": 9},
    "messages": {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
}
TOOLS: dict[str, Json] = {
    "chat": {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}},
    "responses": {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA},
    "messages": {"name": "f", "description": "d", "input_schema": SCHEMA},
}
NAMED: dict[str, Json] = {
    "chat": {"type": "function", "function": {"name": "f"}}, "responses": {"type": "function", "name": "f"},
    "messages": {"type": "tool", "name": "f"},
}  # fmt: skip
TURNS = {"chat": "messages", "responses": "input", "messages": "messages"}


def asked(client: str, **more: Any) -> Json:
    return {**copy.deepcopy(BASE[client]), **more}


def to(client: str, upstream: str, **more: Any) -> Json:
    return json.loads(convert.request(client, upstream, asked(client, **more)).body)  # type: ignore[arg-type]


def said(api: str, content: Any, **more: Any) -> list[Json]:
    return [{"role": "user", "content": content, **more}]


# -- requests: what is lost --------------------------------------------------------------------------------------------------

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
SAMPLES: dict[str, dict[str, Json]] = {
    "chat": {
        "choices beyond the first (`n`)": {"n": 3}, "`seed`": {"seed": 1717}, "`logit_bias`": {"logit_bias": {"1717": 1}},
        "`prediction`": {"prediction": {"type": "content", "content": MARK}},
        "audio (`modalities`, `audio`, `input_audio`)": {
            "messages": said("chat", [{"type": "text", "text": "a"}, {"type": "input_audio", "input_audio": {"data": MARK, "format": "wav"}}])
        },
        "names of participants": {"messages": said("chat", "a", name=MARK)},
        "tools other than functions": {"tools": [{"type": "custom", "custom": {"name": MARK}}]},
        "log probabilities": {"logprobs": True, "top_logprobs": 3}, "`verbosity`": {"verbosity": "low"},
        "stop words": {"stop": MARK}, "JSON mode without a schema": {"response_format": {"type": "json_object"}},
        "reasoning effort beside a forced tool call": {"reasoning_effort": "low", "tools": [TOOLS["chat"]], "tool_choice": "required"},
        "`temperature` and `top_p` beside a reasoning effort": {"reasoning_effort": "low", "temperature": 0.3},
        "`detail` of images": {"messages": said("chat", [PICTURE])},
        "reasoning of earlier answers, which only the model that wrote it takes back": {
            "messages": [*said("chat", "a"), {"role": "assistant", "content": "b", "reasoning_content": MARK}, *said("chat", "c")]
        },
        "the place of system messages after the first turn": {"messages": [*said("chat", "a"), {"role": "system", "content": "late"}]},
    },
    "responses": {
        "tools that the provider runs, and custom tools": {"tools": [{"type": "custom", "name": MARK}, {"type": "mcp", "server_label": MARK}]},
        "items of tools that the provider ran": {"input": [*said("responses", "a"), {"type": "web_search_call", "id": MARK}]},
        "`max_tool_calls`": {"max_tool_calls": 1717}, "`truncation`": {"truncation": "auto"},
        "reasoning of earlier answers, which only the model that wrote it takes back": {
            "input": [*said("responses", "a"), {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": MARK}]}]
        },
        "log probabilities": {"top_logprobs": 3}, "`text.verbosity`": {"text": {"verbosity": "low"}},
        "JSON mode without a schema": {"text": {"format": {"type": "json_object"}}},
        "reasoning effort beside a forced tool call": {
            "reasoning": {"effort": "low"}, "tools": [TOOLS["responses"]], "tool_choice": "required"
        },
        "`temperature` and `top_p` beside a reasoning effort": {"reasoning": {"effort": "low"}, "temperature": 0.3},
        "`detail` of images": {
            "input": said("responses", [{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}])
        },
        "the place of system messages after the first turn": {"input": [*said("responses", "a"), {"role": "system", "content": "late"}]},
    },
    "messages": {
        "`top_k`": {"top_k": 1717}, "stop words": {"stop_sequences": [MARK]},
        "prompt cache marks (`cache_control`)": {
            "messages": said("messages", [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
        },
        "`is_error` of tool results": {
            "messages": said("messages", [{"type": "tool_result", "tool_use_id": "t", "content": "r", "is_error": True}])
        },
        "server tools (web search, bash, computer use) and MCP servers": {"tools": [{"type": "bash_20250124", "name": MARK}]},
        "reasoning of earlier answers, which only the model that wrote it takes back": {
            "messages": [
                *said("messages", "a"),
                {"role": "assistant", "content": [{"type": "thinking", "thinking": MARK, "signature": "s"}, {"type": "text", "text": "b"}]},
            ]
        },
        "service tiers other than `auto` and `standard_only`": {"service_tier": MARK},
        "`context_management` and `container`": {"container": MARK},
    },
}  # fmt: skip
SHARED: dict[str, Json] = {
    "temperature above 1 (sent as 1)": {"temperature": 1.75},
    "`top_p` beside `temperature`": {"temperature": 0.5, "top_p": 0.75},
    "`frequency_penalty` and `presence_penalty`": {"frequency_penalty": 0.5, "presence_penalty": 0.25},
    "`store`": {"store": True}, "`prompt_cache_key`": {"prompt_cache_key": MARK}, "`metadata`": {"metadata": {"k": MARK}},
    "service tiers other than `auto` and `default`": {"service_tier": "flex"},
}  # fmt: skip
LINES = [(client, upstream, loss.name) for (client, upstream), lines in known.REQUESTS.items() for loss in lines]
TRACES = (
    MARK, "1717", "1.75", '"n"', "logprobs", "verbosity", "json_object", "effort", '"thinking"', "0.3,", '"detail"', '"truncation"', "top_p",
    "penalty", '"store"', "flex", "is_error", "cache_control",
)  # fmt: skip
"""What of a sample would be seen in the converted request if it were still there."""


@pytest.mark.parametrize(("client", "upstream", "name"), LINES)
def test_each_line_of_the_losses_is_lost(client: str, upstream: str, name: str) -> None:
    sample = SAMPLES[client].get(name) or SHARED[name]
    converted = convert.request(client, upstream, asked(client, **sample))  # type: ignore[arg-type]
    assert name in converted.losses
    body = converted.body.decode()
    if name.startswith("the place"):
        assert "system" in json.loads(body) and len(json.loads(body)["messages"]) == 1
        return
    kept = ['"effort"', "effort", '"thinking"'] if "beside a reasoning effort" in name else []
    present = [trace for trace in TRACES if trace not in kept and trace in json.dumps(asked(client, **sample))]
    assert present or "`temperature`" in name
    allowed = ["top_p", "0.3,"] if name == "temperature above 1 (sent as 1)" else []
    assert not [trace for trace in present if trace in body and trace not in allowed]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_plain_request_loses_nothing(client: str, upstream: str) -> None:
    more = {"tools": [TOOLS[client]], "tool_choice": NAMED[client], "temperature": 0.5, "stream": True}
    converted = convert.request(client, upstream, asked(client, **more))  # type: ignore[arg-type]
    out = json.loads(converted.body)
    assert converted.losses == ()
    assert out["temperature"] == 0.5 and out["stream"] is True and "cache_control" not in out
    assert out["tool_choice"] == NAMED[upstream]
    assert json.dumps(SCHEMA, sort_keys=True) in json.dumps(out["tools"], sort_keys=True)
    assert 9 in out.values()


# -- requests: what survives -------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
IDS = st.text("abc123", min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PAIRS), WORDS, WORDS, WORDS, IDS, st.integers(1, 9999), st.integers(-5, 5), st.booleans())
def test_what_isnt_listed_survives(
    pair: tuple[str, str], system: str, text: str, result: str, call: str, limit: int, x: int, alone: bool
) -> None:
    client, upstream = pair
    request = conversation(client, system, text, result, call, limit, x, alone)
    there = convert.request(client, upstream, request)  # type: ignore[arg-type]
    back = convert.request(upstream, client, json.loads(there.body))  # type: ignore[arg-type]
    assert there.losses == () and back.losses in ((), ("`store`",))
    for body in (json.loads(there.body), json.loads(back.body)):
        assert {system, text, result, call, "f"} <= set(strings(body))
        assert limit in body.values()
        assert parallel(body) is not alone


def conversation(client: str, system: str, text: str, result: str, call: str, limit: int, x: int, alone: bool) -> Json:
    arguments = {"x": x}
    if client == "messages":
        turns = [
            *said(client, text), {"role": "assistant", "content": [{"type": "tool_use", "id": call, "name": "f", "input": arguments}]},
            *said(client, [{"type": "tool_result", "tool_use_id": call, "content": result}]),
        ]  # fmt: skip
        choice = {"type": "auto", "disable_parallel_tool_use": alone}
        return {
            "model": "m",
            "max_tokens": limit,
            "system": system,
            "messages": turns,
            "tools": [TOOLS[client]],
            "tool_choice": choice,
        }
    if client == "chat":
        made = {"id": call, "type": "function", "function": {"name": "f", "arguments": json.dumps(arguments)}}
        turns = [
            {"role": "system", "content": system}, *said(client, text), {"role": "assistant", "content": None, "tool_calls": [made]},
            {"role": "tool", "tool_call_id": call, "content": result},
        ]  # fmt: skip
        return {"model": "m", "max_tokens": limit, "messages": turns, "tools": [TOOLS[client]], "parallel_tool_calls": not alone}
    turns = [
        *said(client, text), {"type": "function_call", "call_id": call, "name": "f", "arguments": json.dumps(arguments)},
        {"type": "function_call_output", "call_id": call, "output": result},
    ]  # fmt: skip
    out = {"model": "m", "max_output_tokens": limit, "instructions": system, "input": turns, "tools": [TOOLS[client]]}
    return {**out, "parallel_tool_calls": not alone}


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [found for each in value.values() for found in strings(each)]
    if isinstance(value, list):
        return [found for each in value for found in strings(each)]
    return [value] if isinstance(value, str) else []


def parallel(body: Json) -> bool:
    choice = body.get("tool_choice")
    one = isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True
    return body.get("parallel_tool_calls") is not False and not one


@pytest.mark.parametrize(
    ("client", "upstream", "more", "expected"),
    [
        ("chat", "messages", {"stop": "E"}, {"stop_sequences": ["E"]}),
        ("chat", "messages", {"max_tokens": None}, {"max_tokens": 4096}),
        ("chat", "messages", {"user": "u"}, {"metadata": {"user_id": "u"}}),
        ("messages", "chat", {"stop_sequences": ["E"]}, {"stop": ["E"]}),
        ("messages", "chat", {"metadata": {"user_id": "u"}}, {"user": "u"}),
        ("messages", "chat", {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}}, {"reasoning_effort": "xhigh"}),
        ("messages", "chat", {"thinking": {"type": "enabled", "budget_tokens": 5000}}, {"reasoning_effort": "medium"}),
        ("messages", "responses", {}, {"store": False}),
        ("messages", "responses", {"service_tier": "standard_only"}, {"service_tier": "default"}),
        ("responses", "messages", {"instructions": "i"}, {"system": "i"}),
        ("responses", "chat", {"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
    ],
)
def test_gaps_that_are_mended(client: str, upstream: str, more: Json, expected: Json) -> None:
    out = to(client, upstream, **more)
    assert {name: out.get(name) for name in expected} == expected
    assert "reasoning" not in out or upstream == "responses"


def test_a_long_user_is_sent_as_its_digest() -> None:
    assert len(to("messages", "chat", metadata={"user_id": "u" * 200})["user"]) == 64


def test_pictures_in_tool_results_follow_as_the_users() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    block = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}, picture]}
    tool, user = to("messages", "chat", messages=said("messages", [block]))["messages"]
    assert tool["role"] == "tool" and [part["type"] for part in tool["content"]] == ["text"]
    assert user["role"] == "user" and user["content"][0]["type"] == "image_url"


@pytest.mark.parametrize(
    ("client", "fields"),
    [
        ("responses", asked("responses", previous_response_id="r")), ("responses", asked("responses", conversation="c")),
        ("responses", asked("responses", input=[{"type": "item_reference", "id": "x"}])),
        ("chat", asked("chat", functions=[{"name": "f"}])), ("chat", asked("chat", messages=[{"role": "function", "content": "x"}])),
        ("chat", {"model": "m"}), ("chat", asked("chat", messages=[3])), ("chat", asked("chat", messages=None)), ("chat", asked("chat", tools=3)),
        ("chat", asked("chat", messages=said("chat", "\ud800"))),
    ],
)  # fmt: skip
def test_what_cant_be_converted_is_refused(client: str, fields: Json) -> None:
    with pytest.raises(ConversionError):
        convert.request(client, "messages", fields)  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "text", "user", "tool", "function", "auto"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "role", "content", "text", "tools", "function", "name", "id", "input", "messages", "usage", "source"]), inner, max_size=4
    ), max_leaves=12,
)  # fmt: skip
FIELDS = ("messages", "input", "tools", "tool_choice", "stop", "thinking", "reasoning", "text", "user", "metadata", "service_tier", "choices",
          "usage", "content", "output", "status", "type", "delta", "index", "message", "item", "response", "temperature", "max_tokens")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PAIRS), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_nothing_but_a_conversion_error_is_raised(pair: tuple[str, str], fields: Json) -> None:
    client, upstream = pair
    body = json.dumps(fields).encode()
    convert.error(client, upstream, 400, body)  # type: ignore[arg-type]
    stream = convert.stream(client, upstream, fields)  # type: ignore[arg-type]
    for act in (
        lambda: convert.request(client, upstream, {**asked(client), **fields}),  # type: ignore[arg-type]
        lambda: convert.answer(client, upstream, body),  # type: ignore[arg-type]
        lambda: stream.feed(b"data: %b\n\n" % body), stream.rest,
    ):  # fmt: skip
        try:
            act()
        except ConversionError:
            continue


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_errors_keep_their_message(client: str, upstream: str) -> None:
    inner = {"type": "invalid_request_error", "message": "too long", "code": "context_length_exceeded"}
    body = json.loads(convert.error(client, upstream, 400, json.dumps({"type": "error", "error": inner}).encode()))  # type: ignore[arg-type]
    assert body["error"]["message"] == "too long" and body["error"]["type"] == "invalid_request_error"
    assert client == "messages" or body["error"]["code"] == "context_length_exceeded"
    assert b"bad gateway" in convert.error(client, upstream, 502, b"<p>bad gateway</p>")  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"type":"message"}', b'{"status":"failed","output":[]}'])
@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_what_is_no_answer_is_refused(client: str, upstream: str, body: bytes) -> None:
    with pytest.raises(ConversionError):
        convert.answer(client, upstream, body)  # type: ignore[arg-type]


# -- findings ----------------------------------------------------------------------------------------------------------------


def _policy(*places: str | None) -> Policy:
    models = {f"m{number}": Model(f"m{number}", "id", provider=place) for number, place in enumerate(places)}
    return Policy("p", "", "UTC", {}, {}, {}, models, {}, (), (), (), None, (), (), "")


def test_a_conversion_is_found_once_for_each_pair_of_apis() -> None:
    reached = {"m0": frozenset({"chat"}), "m1": frozenset({"chat"}), "m2": frozenset({"messages"})}
    found = findings(_policy("a", "a", "a"), reached, ("chat", "messages"))
    assert [finding.code for finding in found] == ["lossy-conversion"] * 2
    assert "`m2`" in found[0].message and "`m0`, `m1`" in found[1].message
    assert all(loss in found[0].message for loss in convert.losses("chat", "messages"))


def test_nothing_is_found_where_all_speak_the_clients_api() -> None:
    assert findings(_policy("a"), {"m0": frozenset({"chat"})}, ("chat",)) == ()


def test_a_missing_extra_names_what_cant_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda: False)
    (found,) = findings(_policy("a"), {"m0": frozenset({"messages"})}, ("chat",))
    assert found.code == "conversion-missing" and "chat" in found.message and "`m0`" in found.message


def test_sessions_can_move_between_places() -> None:
    reached = {"m0": frozenset({"responses"}), "m1": frozenset({"responses"})}
    assert [finding.code for finding in findings(_policy("a", "b"), reached, ("responses",))] == ["session-can-move"]
    assert findings(_policy("a", "a"), reached, ("responses",)) == ()
