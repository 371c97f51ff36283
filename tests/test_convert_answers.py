"""Answers and streams across APIs: a stream tells what the whole answer says, however it was cut, in the shape that clients demand."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.proxy import convert
from policyroute.proxy.convert import ConversionError
from tests.convert_answers import REASONS, Answer, answers, bare, chunk, collected, events_of, sse, streamed, whole
from tests.convert_support import PAIRS, compact

pytest.importorskip("linguafranca", reason="the extra `convert` is not installed")

ASKED = {"model": "auto", "stream": True, "stream_options": {"include_usage": True}}
FULL = Answer(["Well, ", "yes."], "hm", [("call_0", "look", {"z": 1, "a": "é😀"}), ("call_1", "mcp--leap", {})], "tools")


def answered(client: str, upstream: str, body: dict[str, Any], fields: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(convert.answer(client, upstream, json.dumps(body).encode(), fields))  # type: ignore[arg-type]
    return found


def run(client: str, upstream: str, pieces: list[bytes], fields: dict[str, Any] | None = None) -> bytes:
    stream = convert.stream(client, upstream, ASKED if fields is None else fields)  # type: ignore[arg-type]
    return b"".join(stream.feed(piece) for piece in pieces) + stream.rest()


def timeless(stream: bytes) -> bytes:
    return re.sub(rb'"created(_at)?":\d+', b"", stream)


# -- what is said ------------------------------------------------------------------------------------------------------------


def content(api: str, answer: dict[str, Any]) -> tuple[str, list[tuple[str, str, str]]]:
    """The text of an answer, and its calls as identifier, name and arguments."""
    if api == "chat":
        message = answer["choices"][0]["message"]
        calls = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls", [])]
        return message["content"] or "", calls
    if api == "messages":
        blocks = answer["content"]
        calls = [(b["id"], b["name"], compact(b["input"])) for b in blocks if b["type"] == "tool_use"]
        return "".join(b["text"] for b in blocks if b["type"] == "text"), calls
    items = answer["output"]
    said = "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
    return said, [(i["call_id"], i["name"], i["arguments"]) for i in items if i["type"] == "function_call"]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(answer=answers())
def test_an_answer_survives(client: str, upstream: str, answer: Answer) -> None:
    found = answered(client, upstream, whole(upstream, answer))
    said, calls = content(client, found)
    assert said == "".join(answer.said)
    assert calls == [(identifier, name, compact(arguments)) for identifier, name, arguments in answer.calls]
    assert found["model"] == "m-1"
    native = whole(client, answer)
    assert {name: native["usage"][name] for name in native["usage"]}.items() <= found["usage"].items()
    if client == "responses":
        assert (found["status"], found["incomplete_details"]) == (native["status"], native["incomplete_details"])
    elif client == "messages":
        assert found["stop_reason"] == native["stop_reason"]
    else:
        assert found["choices"][0]["finish_reason"] == native["choices"][0]["finish_reason"]
        assert found["choices"][0]["message"].get("reasoning_content", "") == answer.thoughts


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@settings(max_examples=30, deadline=None)
@given(answer=answers(), step=st.integers(1, 40), data=st.data())
def test_a_stream_tells_the_whole_answer(client: str, upstream: str, answer: Answer, step: int, data: st.DataObject) -> None:
    raw = b"".join(streamed(upstream, answer, step))
    out = run(client, upstream, [raw])
    assert bare(client, collected(client, out)) == bare(client, answered(client, upstream, whole(upstream, answer), ASKED))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert timeless(run(client, upstream, pieces)) == timeless(out)
    assert timeless(
        run(client, upstream, [raw[place : place + 1] for place in range(min(len(raw), 3000))] + [raw[3000:]])
    ) == timeless(out)


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_the_other_ends_of_a_stream(client: str, upstream: str) -> None:
    """CR LF, a last event without its blank line, no `[DONE]`: the answer is whole all the same."""
    events = [event for event in streamed(upstream, FULL) if b"[DONE]" not in event]
    wanted = timeless(run(client, upstream, streamed(upstream, FULL)))
    assert timeless(run(client, upstream, [event.replace(b"\n", b"\r\n") for event in events])) == wanted
    assert timeless(run(client, upstream, [b"".join(events)[:-2]])) == wanted


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_a_cut_stream_is_left_open(client: str, upstream: str) -> None:
    events = streamed(upstream, FULL)
    whole_stream = run(client, upstream, events)
    for place in range(len(events) - (3 if upstream == "chat" else 2)):
        out = run(client, upstream, events[:place])
        assert timeless(whole_stream).startswith(timeless(out))
        assert b"[DONE]" not in out and b"message_stop" not in out and b"response.completed" not in out


# -- shapes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", ["responses", "messages"])
def test_shape_of_chunks(upstream: str) -> None:
    out = run("chat", upstream, streamed(upstream, FULL))
    assert out.endswith(b"data: [DONE]\n\n") and out.count(b"[DONE]") == 1
    found = events_of(out)
    first, last = found[0], found[-1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None} | first["choices"][0]["delta"]
    assert all(
        c["id"] == first["id"].removesuffix("x") and c["object"] == "chat.completion.chunk" and c["created"] > 1_600_000_000
        for c in found
    )
    assert first["id"].startswith("chatcmpl-") and all("logprobs" in choice for event in found for choice in event["choices"])
    assert last["choices"] == [] and last["usage"]["prompt_tokens_details"] == {"cached_tokens": 20, "cache_write_tokens": 5}
    assert all(event["usage"] is None for event in found[:-1])
    unasked = run("chat", upstream, streamed(upstream, FULL), {"stream": True})
    assert b'"usage"' not in unasked and timeless(unasked).count(b"\n\n") == timeless(out).count(b"\n\n") - 1


@pytest.mark.parametrize("upstream", ["chat", "responses"])
def test_shape_of_message_events(upstream: str) -> None:
    out = run("messages", upstream, streamed(upstream, FULL))
    found = events_of(out)
    names = re.findall(rb"event: (\w+)", out)
    assert names == [event["type"].encode() for event in found]
    assert names[0] == b"message_start" and names[-2:] == [b"message_delta", b"message_stop"]
    begun = {"content": [], "stop_reason": None, "stop_sequence": None}
    assert found[0]["message"].items() >= begun.items() and found[0]["message"]["id"].startswith("msg_")
    opened: list[int] = []
    for event in found:
        match event["type"]:
            case "content_block_start":
                assert not opened, "one block at a time"
                opened.append(event["index"])
            case "content_block_delta":
                assert opened == [event["index"]]
            case "content_block_stop":
                assert opened.pop() == event["index"]
            case "message_delta":
                assert not opened
    indexes = [event["index"] for event in found if event["type"] == "content_block_start"]
    assert indexes == list(range(len(indexes))) and indexes


@pytest.mark.parametrize("upstream", ["chat", "messages"])
def test_shape_of_response_events(upstream: str) -> None:
    out = run("responses", upstream, streamed(upstream, FULL))
    found = events_of(out)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    kinds = [event["type"] for event in found]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
    item = ["response.output_item.added", "response.content_part.added", "response.output_text.delta", "response.output_text.done",
            "response.content_part.done", "response.output_item.done"]  # fmt: skip
    assert [kind for kind in dict.fromkeys(kinds) if kind in item] == item
    order = [event.get("output_index", -1) for event in found[:-1]]
    assert order == sorted(order), "an item ends before the next begins"
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert found[-1]["response"]["output"] == done and found[-1]["response"]["created_at"] > 1_600_000_000
    named = [event["name"] for event in found if event["type"] == "response.function_call_arguments.done"]
    assert named == ["look", "mcp--leap"] and found[-1]["response"]["id"].startswith("resp_")


def test_a_response_echoes_its_request() -> None:
    fields = {"tools": [{"type": "namespace", "name": "mcp", "tools": []}], "instructions": "sys", "temperature": 0.5}
    for found in (
        answered("responses", "chat", whole("chat", FULL), fields),
        collected("responses", run("responses", "chat", streamed("chat", FULL), fields)),
    ):
        assert found["instructions"] == "sys" and found["temperature"] == 0.5 and found["store"] is False
        assert [item.get("namespace") for item in found["output"]] == [None, None, "mcp"]
        assert found["output"][2]["name"] == "leap"


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_official_clients_read_it(client: str, upstream: str) -> None:
    """The models of the official packages, in their own validation."""
    package = pytest.importorskip("anthropic" if client == "messages" else "openai", reason="the official client is not installed")
    pydantic = pytest.importorskip("pydantic")
    types = pytest.importorskip(f"{package.__name__}.types")
    one, events = {
        "chat": ("chat.ChatCompletion", "chat.ChatCompletionChunk"),
        "messages": ("Message", "RawMessageStreamEvent"),
        "responses": ("responses.Response", "responses.ResponseStreamEvent"),
    }[client]
    for answer in (FULL, Answer(["x"], end="length"), Answer(["x"], "hm", end="filter"), Answer()):
        raw, found = run(client, upstream, streamed(upstream, answer)), answered(client, upstream, whole(upstream, answer))
        pydantic.TypeAdapter(_named(types, one)).validate_python(found, strict=False)
        adapter = pydantic.TypeAdapter(_named(types, events))
        for event in events_of(raw):
            if event["type"] != "ping" if client == "messages" else True:
                adapter.validate_python(event)


def _named(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


# -- what upstreams do -------------------------------------------------------------------------------------------------------

REASON = [
    ("messages", {"stop_reason": "stop_sequence", "stop_sequence": "X"}, "chat", "stop"),
    ("messages", {"stop_reason": "pause_turn"}, "chat", "stop"),
    ("messages", {"stop_reason": "model_context_window_exceeded"}, "chat", "length"),
    ("messages", {"stop_reason": None}, "chat", "stop"),
    ("chat", "model_length", "messages", "max_tokens"),
    ("chat", "eos", "messages", "end_turn"),
    ("chat", None, "messages", "end_turn"),
    ("chat", "function_call", "messages", "tool_use"),
]  # fmt: skip


@pytest.mark.parametrize(("upstream", "reason", "client", "wanted"), REASON)
def test_reasons(upstream: str, reason: Any, client: str, wanted: str) -> None:
    body = whole(upstream, Answer(["x"]))
    if upstream == "chat":
        body["choices"][0]["finish_reason"] = reason
    else:
        body |= reason
    found = answered(client, upstream, body)
    assert (found["choices"][0]["finish_reason"] if client == "chat" else found["stop_reason"]) == wanted


def test_what_servers_add_or_leave_out() -> None:
    """Half of these end a conversion by the bare library; the answers were paid for."""
    chat = whole("chat", Answer(["x"]))
    chat |= {"service_tier": "scale", "x": 1, "id": None, "created": None, "usage": None, "prompt_filter_results": []}
    chat["choices"][0]["message"] |= {
        "content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "x"}],
        "audio": None,
    }
    found = answered("messages", "chat", chat)
    assert (
        found["content"] == [{"text": "x", "type": "text", "citations": None}]
        and found["usage"]["input_tokens"] == 0
        and found["id"].startswith("msg_")
    )
    message = whole("messages", Answer(["x"])) | {"container": None, "context_management": {}, "stop_details": {}}
    message["content"] += [
        {"type": "code_execution_tool_result"},
        {"type": "text", "text": "y", "citations": [{"type": "char_location", "document_title": None}]},
    ]
    message["usage"] = {"output_tokens": 3}
    assert answered("chat", "messages", message)["choices"][0]["message"]["content"] == "xy"
    response = whole("responses", Answer(["x"])) | {"service_tier": "scale", "billing": {}}
    response["output"][0]["content"][0]["annotations"] = [{"type": "file_citation", "index": 0}]
    response["output"] += [{"type": "web_search_call", "id": "w"}]
    assert answered("chat", "responses", response)["choices"][0]["message"]["content"] == "x"


def test_refusals() -> None:
    chat = whole("chat", Answer())
    chat["choices"][0]["message"] |= {"content": None, "refusal": "no"}
    chunks = [chunk({"role": "assistant"}), chunk({"refusal": "no"}), chunk({}, "stop")]
    made = answered("messages", "chat", chat)
    assert (made["content"], made["stop_reason"]) == ([{"text": "no", "type": "text", "citations": None}], "refusal")
    raw = [sse(event, named=False) for event in chunks]
    assert bare("messages", collected("messages", run("messages", "chat", raw)))["content"] == made["content"]
    response = answered("responses", "chat", chat)
    assert response["output"][0]["content"] == [{"refusal": "no", "type": "refusal"}]
    assert collected("responses", run("responses", "chat", raw))["output"][0]["content"] == response["output"][0]["content"]
    back = answered("chat", "responses", {**whole("responses", Answer()), "output": [{**response["output"][0]}]})
    assert back["choices"][0]["message"]["refusal"] == "no" and back["choices"][0]["message"]["content"] is None


def test_calls_that_servers_mix_or_give_at_once() -> None:
    def piece(index: int, identifier: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
        return chunk(
            {
                "tool_calls": [
                    {"index": index, "id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
                ]
            }
        )

    wanted = [("a", "look", '{"x":1}'), ("b", "leap", '{"y":2}')]
    mixed = [piece(0, "a", "look", '{"x"'), piece(1, "b", "leap", '{"y"'), piece(0, None, None, ":1}"), piece(1, None, None, ":2}")]
    at_once = [piece(0, "a", "look", '{"x":1}'), piece(0, "b", "leap", '{"y":2}')]  # both numbered 0
    objects = [piece(0, "a", "look", {"x": 1}), piece(1, "b", "leap", {"y": 2})]
    for events in (mixed, at_once, objects):
        raw = [sse(event, named=False) for event in (*events, chunk({}, "stop"))]
        for client in ("messages", "responses"):
            assert content(client, collected(client, run(client, "chat", raw)))[1] == wanted
        assert collected("messages", run("messages", "chat", raw))["stop_reason"] == "tool_use"


def test_input_that_a_block_begins_with() -> None:
    block = {"type": "tool_use", "id": "t", "name": "look", "input": {"z": 1, "a": 2}}
    events = [event for event in streamed("messages", Answer()) if b"message_start" in event]
    events += [
        sse({"type": "content_block_start", "index": 0, "content_block": block}, True),
        sse({"type": "content_block_stop", "index": 0}, True),
    ]
    events += [
        event for event in streamed("messages", Answer(end="tools")) if b"message_delta" in event or b"message_stop" in event
    ]
    assert content("chat", collected("chat", run("chat", "messages", events)))[1] == [("t", "look", '{"z":1,"a":2}')]


def test_a_line_of_an_event_is_one_line() -> None:
    said = "a\x85b\u2028c\u2029d\x0be"
    for client, upstream in PAIRS:
        out = run(client, upstream, streamed(upstream, Answer([said]), 20))
        assert out.decode().splitlines() == out.decode().replace("\r", "").split("\n")[:-1]
        assert content(client, collected(client, out))[0] == said


def test_signs_of_life() -> None:
    """While a model thinks, a client that doesn't get its thoughts sees that it lives: now and then, not with each of them."""
    events = [sse(chunk({"reasoning_content": "hm"}), named=False) for _ in range(34)]
    assert run("messages", "chat", events).count(b"event: ping") == 3
    assert run("responses", "chat", events).count(b": alive\n\n") == 3
    assert b": ping\n\n" in run("messages", "chat", [*events[:1], b": ping\n\n"])


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_an_error_in_the_stream(client: str, upstream: str) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "too much", "code": "overloaded_error"}}
    failed = {"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "too much"}}}
    event = {"chat": {"error": error["error"]}, "messages": error, "responses": failed}[upstream]
    events = streamed(upstream, FULL)
    out = run(client, upstream, [*events[:4], sse(event, named=upstream != "chat"), *events[4:]])
    last = events_of(out)[-1]
    assert last["error"]["message"] == "too much" and b"[DONE]" not in out and b"message_stop" not in out
    assert last.get("type", "error") == "error"


@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b"\xff", b'{"choices":[]}', b'{"content":null}', b'{"status":"failed","output":[]}']
)
def test_no_answer_is_no_answer(upstream: str, body: bytes) -> None:
    with pytest.raises(ConversionError):
        convert.answer("chat" if upstream != "chat" else "messages", upstream, body)  # type: ignore[arg-type]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_event_is_converted_or_refused(client: str, upstream: str, data: st.DataObject) -> None:
    odd = (
        st.none()
        | st.booleans()
        | st.integers(-5, 5)
        | st.text(max_size=5)
        | st.just([])
        | st.just({})
        | st.just([None])
        | st.just([[{}]])
    )
    events = events_of(b"".join(streamed(upstream, FULL)))
    for kind in ("stream", "whole"):
        value: Any = (
            events if kind == "stream" else json.loads(json.dumps(whole(upstream, FULL)))
        )  # a copy: FULL's parts are shared
        top = value
        while isinstance(value, (dict, list)) and value:
            place = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
            if not isinstance(value[place], (dict, list)) or data.draw(st.booleans()):
                value[place] = data.draw(odd)
                break
            value = value[place]
        try:
            if kind == "stream":
                run(client, upstream, [f"data: {json.dumps(event)}\n\n".encode() for event in top])
            else:
                answered(client, upstream, top)
        except ConversionError:
            pass


def test_the_ends_have_words_in_all_apis() -> None:
    assert {api: sorted(words) for api, words in REASONS.items()} == {api: ["filter", "length", "stop", "tools"] for api in REASONS}
