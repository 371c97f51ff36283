"""Answers in no API's words, their forms in each API whole and streamed, and what a client collects from a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.convert_support import compact, names, objects, texts

Json = dict[str, Any]
REASONS = {
    "chat": {"stop": "stop", "length": "length", "tools": "tool_calls", "filter": "content_filter"},
    "messages": {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "filter": "refusal"},
}


@dataclass(frozen=True)
class Answer:
    """`usage` is input, cached of it, written of it, output, reasoning of it."""

    said: list[str] = field(default_factory=list)
    thoughts: str = ""
    calls: list[tuple[str, str, Json]] = field(default_factory=list)
    end: str = "stop"
    usage: tuple[int, int, int, int, int] = (35, 20, 5, 7, 3)


@st.composite
def answers(draw: Any) -> Answer:
    calls = [(f"call_{place}", *each) for place, each in enumerate(draw(st.lists(st.tuples(names, objects), max_size=3)))]
    cached, written, reasoning = (draw(st.integers(0, 10**6)) for _ in range(3))
    usage = (cached + written + draw(st.integers(0, 10**6)), cached, written, reasoning + draw(st.integers(0, 10**6)), reasoning)
    end = "tools" if calls else draw(st.sampled_from(["stop", "length", "filter"]))
    return Answer(draw(st.lists(texts, max_size=2)), draw(st.sampled_from(["", "hm, so"])), calls, end, usage)


# -- whole -------------------------------------------------------------------------------------------------------------------


def whole(api: str, answer: Answer) -> Json:
    return {"chat": _chat, "messages": _message, "responses": _response}[api](answer)


def _chat(answer: Answer) -> Json:
    message: Json = {"role": "assistant", "content": "".join(answer.said) or None, "refusal": None}
    if answer.thoughts:
        message["reasoning_content"] = answer.thoughts
    if answer.calls:
        message["tool_calls"] = [
            {"id": identifier, "type": "function", "function": {"name": name, "arguments": compact(arguments)}}
            for identifier, name, arguments in answer.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": REASONS["chat"][answer.end], "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "m-1", "choices": [choice]}
    return {**head, "usage": _chat_usage(answer)}


def _chat_usage(answer: Answer) -> Json:
    given, cached, written, made, reasoning = answer.usage
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    reasoned = {"reasoning_tokens": reasoning}
    told = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    return {**told, "prompt_tokens_details": details, "completion_tokens_details": reasoned}


def _message(answer: Answer) -> Json:
    content: list[Json] = [{"type": "thinking", "thinking": answer.thoughts, "signature": "sig"}] if answer.thoughts else []
    content += [{"type": "text", "text": each, "citations": None} for each in answer.said]
    content += [
        {"type": "tool_use", "id": identifier, "name": name, "input": arguments} for identifier, name, arguments in answer.calls
    ]
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": content}
    return {**head, "stop_reason": REASONS["messages"][answer.end], "stop_sequence": None, "usage": _message_usage(answer)}


def _message_usage(answer: Answer) -> Json:
    given, cached, written, made, reasoning = answer.usage
    told = {"input_tokens": given - cached - written, "cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
    return {**told, "output_tokens": made, "output_tokens_details": {"thinking_tokens": reasoning}}


def _response(answer: Answer) -> Json:
    output: list[Json] = []
    if answer.thoughts:
        output.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": answer.thoughts}]})
    if answer.said:
        content = [{"type": "output_text", "text": each, "annotations": [], "logprobs": []} for each in answer.said]
        output.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content})
    for identifier, name, arguments in answer.calls:
        call = {"type": "function_call", "id": f"fc_{identifier}", "call_id": identifier, "name": name}
        output.append({**call, "arguments": compact(arguments), "status": "completed"})
    given, cached, written, made, reasoning = answer.usage
    usage = {"input_tokens": given, "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written}}
    usage |= {"output_tokens": made, "output_tokens_details": {"reasoning_tokens": reasoning}, "total_tokens": given + made}
    cut = {"length": "max_output_tokens", "filter": "content_filter"}.get(answer.end)
    state = {"status": "incomplete" if cut else "completed", "incomplete_details": {"reason": cut} if cut else None}
    head = {"id": "resp_1", "object": "response", "created_at": 1700000000, "model": "m-1", "output": output}
    return {**head, **state, "usage": usage}


# -- streamed ----------------------------------------------------------------------------------------------------------------


def streamed(api: str, answer: Answer, step: int = 3) -> list[bytes]:
    """The events of the answer's stream; texts and arguments come in pieces of `step` characters."""
    made = {"chat": _chunks, "messages": _message_events, "responses": _response_events}[api](answer, step)
    out = [sse(event, named=api != "chat") for event in made]
    return [*out, b"data: [DONE]\n\n"] if api == "chat" else out


def sse(event: Json, named: bool) -> bytes:
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def _pieces(said: str, step: int) -> list[str]:
    return [said[place : place + step] for place in range(0, len(said), step)]


def chunk(delta: Json, reason: str | None = None, **more: Any) -> Json:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m-1"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def _chunks(answer: Answer, step: int) -> list[Json]:
    out = [chunk({"role": "assistant", "content": ""})]
    out += [chunk({"reasoning_content": piece}) for piece in _pieces(answer.thoughts, step)]
    out += [chunk({"content": piece}) for piece in _pieces("".join(answer.said), step)]
    for place, (identifier, name, arguments) in enumerate(answer.calls):
        first, *rest = [*_pieces(compact(arguments), step)]
        start = {"index": place, "id": identifier, "type": "function", "function": {"name": name, "arguments": first}}
        out.append(chunk({"tool_calls": [start]}))
        out += [chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]}) for piece in rest]
    return [*out, chunk({}, REASONS["chat"][answer.end]), {**chunk({}), "choices": [], "usage": _chat_usage(answer)}]


def _message_events(answer: Answer, step: int) -> list[Json]:
    message = _message(answer)
    usage = {**message["usage"], "output_tokens": 0, "output_tokens_details": None}
    out: list[Json] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "ping"},
    ]
    for place, block in enumerate(message["content"]):
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}.get(kind, {**block, "input": {}})
        said, delta, member = {
            "text": (block.get("text"), "text_delta", "text"),
            "thinking": (block.get("thinking"), "thinking_delta", "thinking"),
            "tool_use": (compact(block["input"]) if block.get("input") else "", "input_json_delta", "partial_json"),
        }[kind]
        out.append({"type": "content_block_start", "index": place, "content_block": {"type": kind, **empty}})
        out += [
            {"type": "content_block_delta", "index": place, "delta": {"type": delta, member: piece}}
            for piece in _pieces(said, step)
        ]
        if kind == "thinking":
            out.append({"type": "content_block_delta", "index": place, "delta": {"type": "signature_delta", "signature": "sig"}})
        out.append({"type": "content_block_stop", "index": place})
    told = {"output_tokens": message["usage"]["output_tokens"], "output_tokens_details": message["usage"]["output_tokens_details"]}
    end = {"type": "message_delta", "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}, "usage": told}
    return [*out, end, {"type": "message_stop"}]


def _response_events(answer: Answer, step: int) -> list[Json]:
    response = _response(answer)
    begun = {**response, "output": [], "status": "in_progress", "usage": None}
    out: list[Json] = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]
    for place, item in enumerate(response["output"]):
        out += _item_events(place, item, step)
    out.append({"type": f"response.{response['status']}", "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(out)]


def _item_events(place: int, item: Json, step: int) -> list[Json]:
    at = {"output_index": place, "item_id": item["id"]}
    inner: list[Json] = []
    if item["type"] == "reasoning":
        inner.append(
            {
                "type": "response.reasoning_summary_part.added",
                **at,
                "summary_index": 0,
                "part": {"type": "summary_text", "text": ""},
            }
        )
        delta = {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0}
        inner += [{**delta, "delta": piece} for piece in _pieces(item["summary"][0]["text"], step)]
    if item["type"] == "function_call":
        inner += [
            {"type": "response.function_call_arguments.delta", **at, "delta": piece} for piece in _pieces(item["arguments"], step)
        ]
        inner.append({"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"], "name": item["name"]})
    for number, part in enumerate(item.get("content", [])):
        here = {**at, "content_index": number}
        inner.append({"type": "response.content_part.added", **here, "part": {**part, "text": ""}})
        inner += [
            {"type": "response.output_text.delta", **here, "delta": piece, "logprobs": []} for piece in _pieces(part["text"], step)
        ]
        inner.append({"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []})
        inner.append({"type": "response.content_part.done", **here, "part": part})
    empty = {**item, **{name: value for name, value in (("content", []), ("arguments", ""), ("summary", [])) if name in item}}
    begun = {"type": "response.output_item.added", "output_index": place, "item": empty}
    return [begun, *inner, {"type": "response.output_item.done", "output_index": place, "item": item}]


# -- what a client collects --------------------------------------------------------------------------------------------------


def events_of(stream: bytes) -> list[Json]:
    """The events' data; `[DONE]` and comments left out."""
    lines = [line.removeprefix("data: ") for line in stream.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def collected(api: str, stream: bytes) -> Json:
    """The whole answer that a stream tells."""
    found = events_of(stream)
    if api == "responses":
        return dict(found[-1]["response"])
    return _collected_message(found) if api == "messages" else _collected_chunks(found)


def _collected_message(found: list[Json]) -> Json:
    message = dict(found[0]["message"])
    blocks: dict[int, Json] = {}
    for event in found:
        if event["type"] == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"])
        if event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            name = "input_text" if delta["type"] == "input_json_delta" else "text"
            block[name] = block.get(name, "") + (delta.get("text") or delta.get("partial_json") or "")
        if event["type"] == "message_delta":
            message |= {**event["delta"], "usage": event["usage"]}
    for block in blocks.values():
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.pop("input_text", "") or "{}")
    return {**message, "content": list(blocks.values())}


def _collected_chunks(found: list[Json]) -> Json:
    message: Json = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
    calls: list[Json] = []
    reason = None
    for delta, ended in [(choice["delta"], choice["finish_reason"]) for event in found for choice in event["choices"]]:
        reason = ended or reason
        for name in ("content", "reasoning_content", "refusal"):
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        for piece in delta.get("tool_calls", []):
            if piece["index"] == len(calls):
                calls.append(
                    {"id": piece["id"], "type": "function", "function": {"name": piece["function"]["name"], "arguments": ""}}
                )
            calls[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments") or ""
    if calls:
        message |= {"tool_calls": calls, "content": message["content"] or None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    head = {name: found[0][name] for name in ("id", "created", "model")}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": found[-1].get("usage")}


def bare(api: str, answer: Json) -> Json:
    """An answer without what a stream and a whole answer number differently: time, and identifiers of items."""
    found = {name: value for name, value in answer.items() if name not in ("created", "created_at")}
    if api == "responses":
        found["output"] = [{name: value for name, value in item.items() if name != "id"} for item in answer["output"]]
    return found
