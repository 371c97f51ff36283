"""The table of losses: each of its lines is really lost, and said to be. What is found at load. Errors of upstreams."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from policyroute.language.load import check_text
from policyroute.proxy import convert
from policyroute.proxy.convert import loss_table as table
from policyroute.proxy.convert.findings import findings
from policyroute.proxy.convert.library import available
from tests.convert_answers import Answer, whole
from tests.convert_support import APIS, PAIRS, PNG, request

pytest.importorskip("linguafranca", reason="the extra `convert` is not installed")

HI = [("user", [("text", "hi")])]
TOOL = [("look", "looks", {"type": "object", "properties": {}})]
ANSWERED = {table.ANSWERED_REASONING, table.ANSWERED_TIER, table.CITATIONS, table.SIGNATURES, table.STOP_SEQUENCE}
MARK = "zebra"

Made = dict[str, Any]


def unmarked(made: Made) -> bool:
    """The usual proof: the word that was in the request is in it no more."""
    return MARK not in json.dumps(made)


def said(role: str, *blocks: Any) -> Made:
    return {"messages": [{"role": "user", "content": "hi"}, {"role": role, "content": list(blocks)}]}


def items(*more: Any) -> Made:
    return {"input": [{"role": "user", "content": "hi"}, *more]}


def picture(detail: str) -> Made:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": detail}}]}]}


def inputs(detail: str) -> Made:
    return {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG, "detail": detail}]}]}


TEXT = {"type": "text", "text": "t"}
CALLED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
SHOWN = [TEXT, {"type": "image", "source": {"type": "url", "url": "https://example.com/zebra.png"}}]
LINES: list[tuple[str, str, Made, Callable[[Made], bool]]] = [
    ("chat", table.SYSTEM_PLACE, {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"}]},
     lambda made: made["system"] == "b"),
    ("responses", table.SYSTEM_PLACE, items({"role": "developer", "content": "b"}, {"role": "user", "content": "c"}), lambda made: made["system"] == "b"),
    ("chat", table.NAMES, {"messages": [{"role": "user", "content": "hi", "name": MARK}]}, unmarked),
    ("chat", table.REASONING, {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x", "reasoning_content": MARK}]}, unmarked),
    ("responses", table.REASONING, items({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": MARK}]}), unmarked),
    ("messages", table.REASONING, said("assistant", {"type": "thinking", "thinking": MARK, "signature": "s"}, TEXT), unmarked),
    ("chat", table.DETAIL, picture("low"), lambda made: "low" not in json.dumps(made)),
    ("responses", table.DETAIL, inputs("low"), lambda made: "low" not in json.dumps(made)),
    ("chat", table.ORIGINAL, picture("original"), lambda made: "original" not in json.dumps(made) and '"high"' in json.dumps(made)),
    ("responses", table.ORIGINAL, inputs("original"), lambda made: "original" not in json.dumps(made) and '"high"' in json.dumps(made)),
    ("chat", table.CACHE, said("user", {**TEXT, "cache_control": {"type": MARK}}), unmarked),
    ("messages", table.CACHE, said("user", {**TEXT, "cache_control": {"type": MARK}}), unmarked),
    ("messages", table.CACHE, {"cache_control": {"type": MARK}}, unmarked),
    ("chat", table.CACHE_PLACES, said("user", {**TEXT, "cache_control": {"type": "ephemeral"}}),
     lambda made: made["cache_control"] == {"type": "ephemeral"} and json.dumps(made).count("cache_control") == 1),
    ("messages", table.IS_ERROR, {"messages": [CALLED, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r", "is_error": True}]}]},
     lambda made: "is_error" not in json.dumps(made)),
    ("chat", table.OWN_TOOLS, {"tools": [{"type": "web_search", "web_search": {"user": MARK}}]}, lambda made: "tools" not in made),
    ("responses", table.OWN_TOOLS, {"tools": [{"type": "file_search", "vector_store_ids": [MARK]}]}, lambda made: "tools" not in made),
    ("messages", table.OWN_TOOLS, {"tools": [{"type": "web_search_20250305", "name": MARK}]}, lambda made: "tools" not in made),
    ("chat", table.CUSTOM_TOOLS, {"tools": [{"type": "custom", "custom": {"name": MARK}}]}, lambda made: "tools" not in made),
    ("responses", table.CUSTOM_TOOLS, {"tools": [{"type": "custom", "name": MARK}]}, lambda made: "tools" not in made),
    ("responses", table.OWN_CALLS, items({"type": "web_search_call", "id": MARK, "status": "completed"}), unmarked),
    ("messages", table.OWN_CALLS, said("assistant", {"type": "server_tool_use", "id": "s", "name": MARK, "input": {}}, TEXT), unmarked),
    ("messages", table.CITED, said("assistant", {**TEXT, "citations": [{"type": "char_location", "cited_text": MARK}]}), unmarked),
    ("chat", table.SCHEMA_NAME, {"response_format": {"type": "json_schema", "json_schema": {"name": MARK, "schema": {"type": "object"}}}}, unmarked),
    ("responses", table.SCHEMA_NAME, {"text": {"format": {"type": "json_schema", "name": MARK, "schema": {"type": "object"}}}}, unmarked),
    ("chat", table.JSON_OBJECT, {"response_format": {"type": "json_object"}}, lambda made: "json" not in json.dumps(made)),
    ("responses", table.JSON_OBJECT, {"text": {"format": {"type": "json_object"}}}, lambda made: "json" not in json.dumps(made)),
    ("messages", table.PICTURES_OF_RESULTS, {"messages": [CALLED, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": SHOWN}]}]},
     lambda made: made["messages"][1] == {"role": "tool", "content": "t", "tool_call_id": "t1"} and not unmarked(made)),
    ("responses", table.PICTURES_OF_RESULTS, items({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
     {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": PNG}]}),
     lambda made: made["messages"][2]["content"] == "" and made["messages"][3]["role"] == "user"),
    ("messages", table.BORDERS, {"system": [TEXT, TEXT]}, lambda made: made["messages"][0]["content"] == "t\n\nt"),
    ("responses", table.BORDERS, {"instructions": "t", "input": [{"role": "developer", "content": "t"}, {"role": "user", "content": "hi"}]},
     lambda made: made["messages"][0]["content"] == "t\n\nt"),
    ("chat", table.TOO_HOT, {"temperature": 1.2}, lambda made: made["temperature"] == 1),
    ("responses", table.TOO_HOT, {"temperature": 1.2}, lambda made: made["temperature"] == 1),
    ("chat", table.BOTH_SAMPLINGS, {"temperature": 0.2, "top_p": 0.5}, lambda made: "top_p" not in made),
    ("responses", table.BOTH_SAMPLINGS, {"temperature": 0.2, "top_p": 0.5}, lambda made: "top_p" not in made),
    ("chat", table.SAMPLING_OF_REASONING, {"temperature": 0.2, "reasoning_effort": "low"}, lambda made: "temperature" not in made),
    ("responses", table.SAMPLING_OF_REASONING, {"top_p": 0.2, "reasoning": {"effort": "low"}}, lambda made: "top_p" not in made),
    ("chat", table.FORCED_REASONING, {"tool_choice": "required", "reasoning_effort": "low"}, lambda made: "thinking" not in made),
    ("responses", table.FORCED_REASONING, {"tool_choice": "required", "reasoning": {"effort": "low"}}, lambda made: "thinking" not in made),
    ("chat", table.BLANK_STOPS, {"stop": "\n"}, lambda made: "stop_sequences" not in made),
    ("chat", table.SAFETY, {"user": "u", "safety_identifier": MARK}, unmarked),
    ("responses", table.SAFETY, {"user": "u", "safety_identifier": MARK}, unmarked),
    ("chat", table.BLANK_TEXTS, said("user", {"type": "text", "text": " "}, TEXT), lambda made: '" "' not in json.dumps(made)),
    ("responses", table.BLANK_TEXTS, items({"role": "user", "content": " "}), lambda made: '" "' not in json.dumps(made)),
    ("messages", table.MORE_STOPS, {"stop_sequences": ["a", "b", "c", "d", MARK]}, unmarked),
    ("messages", table.BUDGET, {"thinking": {"type": "enabled", "budget_tokens": 1234}}, lambda made: "1234" not in json.dumps(made)),
    ("messages", table.TOOL_DETAILS, {"tools": [{"name": "look", "input_schema": {"type": "object"}, "input_examples": [{"a": MARK}]}]}, unmarked),
    ("chat", table.SMALL_LIMIT, {"max_tokens": 7}, lambda made: made["max_output_tokens"] == 16),
    ("messages", table.SMALL_LIMIT, {"max_tokens": 7}, lambda made: made["max_output_tokens"] == 16),
    *((api, table.UNKNOWN, {"stripes": MARK}, unmarked) for api in APIS),
]  # fmt: skip


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_each_line_is_lost(client: str, upstream: str) -> None:
    """With one of these in the request, the line is reported, and the request for the upstream is without it."""
    lines = set(convert.losses(client, upstream)) - ANSWERED  # type: ignore[arg-type]
    for name, line, fields, gone in LINES:
        if name != client or line not in lines:
            continue
        found = convert.request(client, upstream, {**request(client, HI, TOOL), **fields})  # type: ignore[arg-type]
        assert line in found.losses, line
        assert gone(json.loads(found.body)), line
        lines.discard(line)
    for line in [line for line in lines if line.strip("`").isidentifier()]:
        found = convert.request(client, upstream, {**request(client, HI, TOOL), line.strip("`"): MARK})  # type: ignore[arg-type]
        assert found.losses == (line,) and unmarked(json.loads(found.body)), line
        lines.discard(line)
    assert not lines, "lines that no request of this test loses"


CITED = {"type": "url_citation", "start_index": 0, "end_index": 1, "title": MARK, "url": "https://example.com"}


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_each_line_about_answers_is_lost(client: str, upstream: str) -> None:
    lines = set(convert.losses(client, upstream)) & ANSWERED  # type: ignore[arg-type]
    marked = {
        "chat": {table.ANSWERED_TIER: {"service_tier": MARK}},
        "responses": {table.ANSWERED_TIER: {"service_tier": MARK}},
        "messages": {table.STOP_SEQUENCE: {"stop_reason": "stop_sequence", "stop_sequence": MARK}},
    }[upstream]
    found = whole(upstream, Answer(["x"], MARK if client != "chat" else "hm"))
    said = {"chat": lambda: found["choices"][0]["message"], "messages": lambda: found, "responses": lambda: found["output"][1]}[
        upstream
    ]()
    if upstream == "messages":
        said["content"][1]["citations"] = [{"type": "char_location", "cited_text": MARK}]
        said["content"][0]["signature"] = MARK
        found["usage"]["service_tier"] = MARK
    elif upstream == "responses":
        said["content"][0]["annotations"] = [CITED]
        found["output"][0]["encrypted_content"] = MARK
    else:
        said["annotations"] = [{"type": "url_citation", "url_citation": CITED}]
    for more in marked.values():
        found |= more
    made = json.loads(convert.answer(client, upstream, json.dumps(found).encode()))  # type: ignore[arg-type]
    assert unmarked(made)
    reasoned = {table.SIGNATURES} if client == "chat" else {table.ANSWERED_REASONING}
    stopped = {table.STOP_SEQUENCE} if {client, upstream} == {"chat", "messages"} else set()
    assert lines == {table.CITATIONS, table.ANSWERED_TIER, *reasoned, *stopped}
    if client == "messages":
        assert made["stop_sequence"] is None
    elif client == "chat":
        assert made["choices"][0]["message"]["reasoning_content"] == "hm"


def test_nothing_is_lost_within_an_api() -> None:
    assert all(convert.losses(api, api) == () for api in APIS)  # type: ignore[arg-type]


@pytest.mark.parametrize(("client", "given"), [
    ("chat", {"logprobs": False, "frequency_penalty": 0, "logit_bias": {}, "seed": None, "n": 1, "service_tier": "auto", "tools": []}),
    ("responses", {"truncation": "disabled", "include": [], "metadata": {}, "store": False, "previous_response_id": None}),
    ("messages", {"speed": "standard", "mcp_servers": [], "thinking": {"type": "disabled"}}),
])  # fmt: skip
def test_what_says_nothing_is_no_loss(client: str, given: Made) -> None:
    for upstream in APIS:
        if upstream != client:
            assert convert.request(client, upstream, request(client, HI, **given)).losses == ()  # type: ignore[arg-type]


POLICY = """
edition 1
policy desk
model mini  { id "gpt-4o-mini" }
model haiku { id "claude-haiku-4-5" }
rule short { when tokens < 500 then mini }
otherwise  { then haiku }
"""


def test_findings_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = check_text(POLICY)
    assert not checked.failed, checked.diagnostics
    policy = checked.policy
    reached = {name: frozenset({"messages"}) if name == "haiku" else frozenset({"chat", "responses"}) for name in policy.models}
    found = findings(policy, reached, ("chat", "messages"))  # type: ignore[arg-type]
    assert [one.code for one in found] == ["lossy-conversion", "lossy-conversion"]
    assert "Chat Completions" in found[0].message and "`haiku`" in found[0].message and "`seed`" in found[0].help
    assert "Messages" in found[1].message and "`mini`" in found[1].message and table.IS_ERROR in found[1].help
    assert findings(policy, {name: frozenset(APIS) for name in policy.models}, APIS) == ()  # type: ignore[arg-type]
    mute = findings(policy, {name: frozenset({"embeddings"}) for name in policy.models}, ("chat",))
    assert [one.code for one in mute] == ["conversion-missing"]
    monkeypatch.setattr("policyroute.proxy.convert.findings.available", lambda: False)
    missing = findings(policy, reached, ("chat", "messages"))  # type: ignore[arg-type]
    assert [one.code for one in missing] == ["conversion-missing", "conversion-missing"]
    assert "`haiku`" in missing[0].message and "`convert`" in missing[0].help


def test_the_extra_is_installed_here() -> None:
    assert available() and convert.available()


# -- errors ------------------------------------------------------------------------------------------------------------------

ERRORS = [
    ("messages", "chat", 400, {"error": {"message": "bad", "type": "invalid_request_error", "code": "c"}},
     {"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}, "request_id": None}),
    ("messages", "chat", 429, {"error": {"message": "slow down"}}, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}, "request_id": None}),
    ("chat", "messages", 404, {"type": "error", "error": {"type": "not_found_error", "message": "no"}, "request_id": "r"},
     {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "not_found_error"}}),
    ("responses", "messages", 529, {"error": {"message": "busy", "type": "overloaded_error"}},
     {"error": {"message": "busy", "type": "server_error", "param": None, "code": "overloaded_error"}}),
    ("messages", "chat", 422, {"detail": "odd"}, {"type": "error", "error": {"type": "invalid_request_error", "message": "odd"}, "request_id": None}),
    ("chat", "messages", 401, {"error": {"message": "bad key sk-canary"}},
     {"error": {"message": "the provider refused the gateway's credential", "type": "authentication_error", "param": None, "code": "invalid_api_key"}}),
]  # fmt: skip


@pytest.mark.parametrize(("client", "upstream", "status", "body", "wanted"), ERRORS)
def test_errors(client: str, upstream: str, status: int, body: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert json.loads(convert.error(client, upstream, status, json.dumps(body).encode())) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"error":[1]}', b"\xff"])
def test_errors_without_words(body: bytes) -> None:
    found = json.loads(convert.error("messages", "chat", 502, body))
    assert found["error"] == {"type": "api_error", "message": "the provider answered with status 502"}
