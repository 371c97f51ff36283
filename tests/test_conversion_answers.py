"""Converted answers and streams: streams say what whole answers say, and clients' own schemas take both."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("linguafranca", reason="the extra `convert` is not installed")

from policyroute.proxy import conversion as convert
from tests.test_conversion import PAIRS, Json, asked

# -- answers and streams -----------------------------------------------------------------------------------------------------

CALLS = [("c1", "f", '{"x":1}'), ("c2", "g", "{}")]
USAGE: dict[str, Json] = {
    "chat": {"prompt_tokens": 35, "completion_tokens": 9, "total_tokens": 44, "prompt_tokens_details": {"cached_tokens": 20}},
    "responses": {"input_tokens": 35, "output_tokens": 9, "total_tokens": 44, "input_tokens_details": {"cached_tokens": 20}},
    "messages": {"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5, "output_tokens": 9},
}
CASES = [
    ("stop", "hello", []),
    ("length", "hel", []),
    ("tool", "hello", CALLS),
    ("tool", "", CALLS[:1]),
    ("filter", "no", []),
    ("stop", "", []),
]
ENDS: dict[str, dict[str, str]] = {
    "chat": {"stop": "stop", "length": "length", "tool": "tool_calls", "filter": "content_filter"},
    "messages": {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use", "filter": "refusal"},
}


def plain(api: str, word: str, text: str, calls: list[tuple[str, str, str]]) -> Json:
    """An answer of a provider."""
    if api == "chat":
        made = [{"id": one, "type": "function", "function": {"name": name, "arguments": given}} for one, name, given in calls]
        message = {"role": "assistant", "content": text or None, "refusal": None, **({"tool_calls": made} if made else {})}
        choice = {"index": 0, "message": message, "finish_reason": ENDS["chat"][word], "logprobs": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "m",
            "choices": [choice],
            "usage": USAGE[api],
        }
    if api == "messages":
        used = [{"type": "tool_use", "id": one, "name": name, "input": json.loads(given)} for one, name, given in calls]
        content = [{"type": "text", "text": text, "citations": None}] * bool(text) + used
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
        return {**head, "stop_reason": ENDS[api][word], "stop_sequence": None, "usage": USAGE[api]}
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    items: list[Json] = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}] * bool(
        text
    )
    for one, name, arguments in calls:
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{one}",
                "call_id": one,
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
        )
    reason = {"length": "max_output_tokens", "filter": "content_filter"}.get(word)
    status = {"status": "incomplete" if reason else "completed", "incomplete_details": {"reason": reason} if reason else None}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "model": "m",
        **status,
        "output": items,
        "usage": USAGE[api],
    }


def streamed(api: str, word: str, text: str, calls: list[tuple[str, str, str]]) -> list[bytes]:
    """The same answer as that provider's stream."""
    whole = plain(api, word, text, calls)
    if api == "chat":
        return _chunks(whole, text, calls)
    if api == "messages":
        return _blocks(whole, text, calls)
    return _items(whole)


def _event(value: Json, named: bool = True) -> bytes:
    name = f"event: {value['type']}\n" if named else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


def _chunks(whole: Json, text: str, calls: list[tuple[str, str, str]]) -> list[bytes]:
    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": letter} for letter in text)]
    for place, (one, name, arguments) in enumerate(calls):
        head = {"index": place, "id": one, "type": "function", "function": {"name": name, "arguments": arguments if place else ""}}
        deltas.append({"tool_calls": [head]})
        deltas += [{"tool_calls": [{"index": place, "function": {"arguments": letter}}]} for letter in arguments if not place]
    base = {"id": whole["id"], "object": "chat.completion.chunk", "created": whole["created"], "model": "m"}
    reason = whole["choices"][0]["finish_reason"]
    out = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None} for delta in deltas]
    out.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return [*(_event(each, False) for each in (*out, {**base, "choices": [], "usage": whole["usage"]})), b"data: [DONE]\n\n"]


def _blocks(whole: Json, text: str, calls: list[tuple[str, str, str]]) -> list[bytes]:
    out: list[Json] = [
        {
            "type": "message_start",
            "message": {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}},
        }
    ]
    out.append({"type": "ping"})
    for index, block in enumerate(whole["content"]):
        used = block["type"] == "tool_use"
        arguments = next((each[2] for each in calls if used and each[0] == block["id"]), "")
        start = {**block, "input": {}} if used else {**block, "text": ""}
        out.append({"type": "content_block_start", "index": index, "content_block": start})
        pieces = [{"type": "text_delta", "text": letter} for letter in text]
        if used:
            pieces = [{"type": "input_json_delta", "partial_json": letter} for letter in arguments if arguments != "{}"]
        out += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
        out.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    out += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    return [_event(each) for each in out]


def _items(whole: Json) -> list[bytes]:
    running = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    out: list[Json] = [{"type": "response.created", "response": running}, {"type": "response.in_progress", "response": running}]
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        empty = {"content": []} if item["type"] == "message" else {"arguments": ""}
        out.append(
            {"type": "response.output_item.added", "output_index": index, "item": {**item, **empty, "status": "in_progress"}}
        )
        if item["type"] == "message":
            part = item["content"][0]
            out.append({"type": "response.content_part.added", **place, "content_index": 0, "part": {**part, "text": ""}})
            out += [{"type": "response.output_text.delta", **place, "content_index": 0, "delta": letter} for letter in part["text"]]
            out.append({"type": "response.output_text.done", **place, "content_index": 0, "text": part["text"]})
            out.append({"type": "response.content_part.done", **place, "content_index": 0, "part": part})
        else:
            out += [{"type": "response.function_call_arguments.delta", **place, "delta": letter} for letter in item["arguments"]]
            out.append({"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]})
        out.append({"type": "response.output_item.done", "output_index": index, "item": item})
    out.append({"type": f"response.{whole['status']}", "response": whole})
    return [_event({**each, "sequence_number": number}) for number, each in enumerate(out)]


def values(data: bytes) -> list[Json]:
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def collected(api: str, data: bytes) -> tuple[str, list[Any], str, Json]:
    """Text, calls, ending and tokens of a client's stream."""
    found, text, calls = values(data), "", {}
    if api == "responses":
        last = found[-1]["response"]
        told = [each["delta"] for each in found if each["type"] == "response.output_text.delta"]
        assert "".join(told) == gist(api, last)[0]
        assert [each["sequence_number"] for each in found] == list(range(len(found)))
        return gist(api, last)
    if api == "chat":
        ending = usage = None
        for each in found:
            usage = each.get("usage") or usage
            for choice in each["choices"]:
                ending, delta = choice["finish_reason"] or ending, choice["delta"]
                text += delta.get("content") or ""
                for call in delta.get("tool_calls", ()):
                    kept = calls.setdefault(call["index"], [call.get("id"), call["function"].get("name"), ""])
                    kept[2] += call["function"].get("arguments") or ""
        return text, [(one, name, json.loads(given)) for one, name, given in calls.values()], str(ending), usage or {}
    opened: list[int] = []
    for each in found:
        match each["type"]:
            case "content_block_start":
                assert not opened, "a block begins before the one before it has ended"
                opened.append(each["index"])
                if each["content_block"]["type"] == "tool_use":
                    calls[each["index"]] = [each["content_block"]["id"], each["content_block"]["name"], ""]
            case "content_block_delta":
                assert opened == [each["index"]]
                text += each["delta"].get("text", "")
                if "partial_json" in each["delta"]:
                    calls[each["index"]][2] += each["delta"]["partial_json"]
            case "content_block_stop":
                opened.remove(each["index"])
    assert [each["type"] for each in found][:1] == ["message_start"] and [each["type"] for each in found][-2:] == [
        "message_delta",
        "message_stop",
    ]
    delta = found[-2]
    return (
        text,
        [(one, name, json.loads(given)) for one, name, given in calls.values()],
        delta["delta"]["stop_reason"],
        delta["usage"],
    )


def gist(api: str, body: Json) -> tuple[str, list[Any], str, Json]:
    """Text, calls, ending and tokens of a client's whole answer."""
    if api == "chat":
        choice = body["choices"][0]
        made = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in choice["message"].get("tool_calls", ())
        ]
        return choice["message"]["content"] or "", made, choice["finish_reason"], body["usage"]
    if api == "messages":
        text = "".join(block.get("text", "") for block in body["content"])
        used = [(block["id"], block["name"], block["input"]) for block in body["content"] if block["type"] == "tool_use"]
        return text, used, body["stop_reason"], body["usage"]
    text = "".join(part["text"] for item in body["output"] if item["type"] == "message" for part in item["content"])
    called = [
        (item["call_id"], item["name"], json.loads(item["arguments"])) for item in body["output"] if item["type"] == "function_call"
    ]
    return text, called, str((body["incomplete_details"] or {}).get("reason", body["status"])), body["usage"]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@pytest.mark.parametrize(("word", "text", "calls"), CASES)
def test_answers_say_what_the_upstream_said(
    client: str, upstream: str, word: str, text: str, calls: list[tuple[str, str, str]]
) -> None:
    body = json.loads(convert.answer(client, upstream, json.dumps(plain(upstream, word, text, calls)).encode()))  # type: ignore[arg-type]
    found, made, ending, usage = gist(client, body)
    assert (found, made) == (text, [(one, name, json.loads(given)) for one, name, given in calls])
    own = gist(client, plain(client, word, text, calls))
    assert ending == own[2]
    if client == "messages":
        assert usage["input_tokens"] + usage["cache_creation_input_tokens"] == 15 and usage["cache_read_input_tokens"] == 20
    else:
        total, details = (
            ("prompt_tokens", "prompt_tokens_details") if client == "chat" else ("input_tokens", "input_tokens_details")
        )
        assert usage[total] == 35 and usage[details]["cached_tokens"] == 20
    assert usage.get("completion_tokens", usage.get("output_tokens")) == 9
    assert body.get("created", body.get("created_at", 1)) > 0


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(PAIRS), st.sampled_from(CASES), st.data())
def test_a_stream_says_what_the_whole_answer_says(pair: tuple[str, str], case: Any, data: st.DataObject) -> None:
    client, upstream = pair
    fields = asked(client, stream=True, stream_options={"include_usage": True})
    stream = convert.stream(client, upstream, fields)  # type: ignore[arg-type]
    out, left = b"", streamed(upstream, *case)
    while left:
        cut = data.draw(st.integers(1, len(left)))
        out += stream.feed(b"".join(left[:cut]))
        left = left[cut:]
    out += stream.rest()
    assert stream.rest() == b""
    whole = json.loads(convert.answer(client, upstream, json.dumps(plain(upstream, *case)).encode()))  # type: ignore[arg-type]
    assert collected(client, out) == gist(client, whole)
    assert out.endswith(b"data: [DONE]\n\n") is (client == "chat")


def test_counts_only_where_they_were_asked_for() -> None:
    stream = convert.stream("chat", "messages", asked("chat", stream=True))
    out = stream.feed(b"".join(streamed("messages", *CASES[0]))) + stream.rest()
    assert out and not [each for each in values(out) if "usage" in each]


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@pytest.mark.parametrize("case", CASES)
def test_the_clients_own_sdk_takes_it(client: str, upstream: str, case: Any) -> None:
    name = "anthropic" if client == "messages" else "openai"
    pytest.importorskip(name, reason=f"the {name} SDK is not installed")
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")
    if client == "messages":
        from anthropic.types import Message as Whole
        from anthropic.types import RawMessageStreamEvent as Event
    elif client == "chat":
        from openai.types.chat import ChatCompletion as Whole
        from openai.types.chat import ChatCompletionChunk as Event
    else:
        from openai.types.responses import Response as Whole
        from openai.types.responses import ResponseStreamEvent as Event
    Whole.model_validate_json(convert.answer(client, upstream, json.dumps(plain(upstream, *case)).encode()))  # type: ignore[arg-type]
    stream = convert.stream(client, upstream, asked(client, stream=True, stream_options={"include_usage": True}))  # type: ignore[arg-type]
    for value in values(stream.feed(b"".join(streamed(upstream, *case))) + stream.rest()):
        pydantic.TypeAdapter(Event).validate_python(value)
