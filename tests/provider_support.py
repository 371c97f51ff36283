"""A provider that speaks Chat Completions, Responses and Messages on loopback, as `llm-comply` wants them spoken.

It always says the same. Offered tools it calls the first one, with arguments that fit its schema, until the last message holds a
result or the request wants no call. A request that lacks a field which the API demands is a 400.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

TEXT = "The capital of France is Paris."
CREATED = 1_764_000_000
DEMANDED = {
    "chat/completions": ("model", "messages"),
    "responses": ("model", "input"),
    "messages": ("model", "max_tokens", "messages"),
    "embeddings": ("model", "input"),
}
SAMPLES = {"string": "Paris", "integer": 3, "number": 1.5, "boolean": True, "array": [], "object": {}}


@dataclass
class Provider:
    """A running provider. `seen` are the requests' path, headers and parsed body; `delay` waits before each answer."""

    port: int
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    text: str = TEXT
    delay: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    provider: Provider


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client to acknowledge its head
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        fields = json.loads(body)
        provider = self.server.provider
        provider.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, fields))
        if provider.delay:
            time.sleep(provider.delay)
        name = self.path.split("?")[0].rsplit("/v1/", 1)[1]
        made = {"chat/completions": chat, "responses": responses, "messages": messages, "embeddings": embeddings}.get(name)
        if made is None:
            self._fail(404, name, "no such path")
        elif missing := next((wanted for wanted in DEMANDED[name] if wanted not in fields), None):
            self._fail(400, name, f"{missing}: Field required")
        elif fields.get("stream"):
            events = {"chat/completions": chat_events, "responses": responses_events, "messages": messages_events}[name]
            self._stream(events(fields, provider.text))
        else:
            self._send(200, made(fields, provider.text))

    def _fail(self, status: int, name: str, message: str) -> None:
        error = {"type": "invalid_request_error", "message": message}
        whole = {"type": "error", "error": error} if name == "messages" else {"error": error | {"param": None, "code": None}}
        self._send(status, whole)

    def _send(self, status: int, answer: Mapping[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-request-id", "req_upstream")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextmanager
def provider(text: str = TEXT) -> Iterator[Provider]:
    """A provider on a free port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.provider = Provider(server.server_address[1], text=text)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.provider
    finally:
        server.shutdown()
        server.server_close()


# -- what is said ------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A tool call: the tool's name and the arguments' JSON text."""

    name: str
    arguments: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The arguments as a stream brings them: cut where no JSON value ends."""
        middle = len(self.arguments) // 2
        return self.arguments[:middle], self.arguments[middle:]


def _pieces(text: str) -> list[str]:
    return [word if at == 0 else f" {word}" for at, word in enumerate(text.split(" "))]


def call_of(fields: Mapping[str, Any]) -> Call | None:
    """The call of the first function that the request offers; None where a result came last or no call is wanted."""
    choice = fields.get("tool_choice")
    unwanted = choice == "none" or (isinstance(choice, dict) and choice.get("type") == "none")
    tools = [tool for tool in fields.get("tools") or [] if tool.get("type", "function") in ("function", "custom")]
    if unwanted or not tools or _is_result(fields):
        return None
    tool = tools[0].get("function", tools[0])
    schema = tool.get("parameters") or tool.get("input_schema") or {}
    properties = schema.get("properties") or {}
    return Call(tool["name"], json.dumps({name: _sample(properties.get(name, {})) for name in schema.get("required") or ()}))


def _sample(schema: Mapping[str, Any]) -> Any:
    return schema["enum"][0] if schema.get("enum") else SAMPLES.get(schema.get("type", "string"), "Paris")


def _is_result(fields: Mapping[str, Any]) -> bool:
    said = fields.get("messages") or fields.get("input")
    last = said[-1] if isinstance(said, list) and said else {}
    content = last.get("content")
    blocks = content if isinstance(content, list) else []
    said_by_tool = last.get("role") == "tool" or last.get("type") == "function_call_output"
    return said_by_tool or any(block.get("type") == "tool_result" for block in blocks)


# -- Chat Completions --------------------------------------------------------------------------------------------------


def chat(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    call = call_of(fields)
    message: dict[str, Any] = {"role": "assistant", "content": None if call else text, "refusal": None, "annotations": []}
    if call:
        function = {"name": call.name, "arguments": call.arguments}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": CREATED, "model": f"{fields.get('model')}-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if call else "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4}},
    }  # fmt: skip


def chat_events(fields: Mapping[str, Any], text: str) -> Iterator[bytes]:
    asked = bool((fields.get("stream_options") or {}).get("include_usage"))

    def event(choices: list[Any], usage: Any = None) -> bytes:
        made = {
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED, "model": fields.get("model"), "choices": choices,
        }  # fmt: skip
        return b"data: " + json.dumps(made | ({"usage": usage} if asked else {})).encode() + b"\n\n"

    def delta(said: dict[str, Any], ends: str | None = None) -> bytes:
        return event([{"index": 0, "delta": said, "logprobs": None, "finish_reason": ends}])

    call = call_of(fields)
    yield delta({"role": "assistant", "content": None if call else ""})
    if call:
        yield delta(
            {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": call.name, "arguments": ""}}]}
        )
        for part in call.parts:
            yield delta({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        for piece in _pieces(text):
            yield delta({"content": piece})
    yield delta({}, "tool_calls" if call else "stop")
    if asked:
        yield event([], {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
    yield b"data: [DONE]\n\n"


# -- Messages ----------------------------------------------------------------------------------------------------------


def messages(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    call = call_of(fields)
    block: dict[str, Any] = {"type": "text", "text": text, "citations": None}
    if call:
        block = {
            "type": "tool_use",
            "id": "toolu_1",
            "name": call.name,
            "input": json.loads(call.arguments),
            "caller": {"type": "direct"},
        }
    usage = {
        "input_tokens": 11, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 7, "cache_creation": None,
        "inference_geo": None, "output_tokens_details": None, "server_tool_use": None, "service_tier": "standard",
    }  # fmt: skip
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": fields.get("model"), "content": [block], "usage": usage,
        "stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None, "stop_details": None, "container": None,
    }  # fmt: skip


def _named(name: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def messages_events(fields: Mapping[str, Any], text: str) -> Iterator[bytes]:
    call, whole = call_of(fields), messages(fields, text)
    start = whole | {"content": [], "stop_reason": None, "usage": whole["usage"] | {"output_tokens": 1}}
    deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(text)]
    if call:
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *call.parts)]
    yield _named("message_start", {"message": start})
    yield _named(
        "content_block_start", {"index": 0, "content_block": whole["content"][0] | ({"input": {}} if call else {"text": ""})}
    )
    yield _named("ping", {})
    for delta in deltas:
        yield _named("content_block_delta", {"index": 0, "delta": delta})
    yield _named("content_block_stop", {"index": 0})
    ends = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _named("message_delta", {"delta": ends, "usage": {"output_tokens": 7}})
    yield _named("message_stop", {})


# -- Responses ---------------------------------------------------------------------------------------------------------


def responses(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    call = call_of(fields)
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    item: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    if call:
        item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "status": "completed", **call._asdict()}
    usage = {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 18,
    }  # fmt: skip
    tools = [{"description": None, "parameters": None, "strict": None} | tool for tool in fields.get("tools") or []]
    return {
        "id": "resp_1", "object": "response", "created_at": CREATED, "completed_at": CREATED + 1, "status": "completed",
        "model": fields.get("model"), "output": [item], "usage": usage, "error": None, "incomplete_details": None,
        "previous_response_id": None, "instructions": fields.get("instructions"), "metadata": fields.get("metadata") or {},
        "parallel_tool_calls": True, "tool_choice": fields.get("tool_choice", "auto"), "tools": tools, "max_tool_calls": None,
        "truncation": "disabled", "text": {"format": {"type": "text"}}, "reasoning": {"effort": None, "summary": None},
        "temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "top_logprobs": 0,
        "max_output_tokens": fields.get("max_output_tokens"), "store": True, "background": False, "service_tier": "default",
        "safety_identifier": None, "prompt_cache_key": None,
    }  # fmt: skip


def responses_events(fields: Mapping[str, Any], text: str) -> Iterator[bytes]:
    call, whole = call_of(fields), responses(fields, text)
    item = whole["output"][0]
    empty = whole | {"status": "in_progress", "output": [], "usage": None, "completed_at": None}
    listed: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": empty}), ("response.in_progress", {"response": empty}),
        ("response.output_item.added", {"item": item | {"status": "in_progress"} | ({"arguments": ""} if call else {"content": []})}),
        *(_call_events(call) if call else _text_events(item["content"][0])),
        ("response.output_item.done", {"item": item}), ("response.completed", {"response": whole}),
    ]  # fmt: skip
    for number, (name, data) in enumerate(listed):
        place = {} if "response" in data else {"output_index": 0}
        yield _named(name, {**place, **data, "sequence_number": number})


def _call_events(call: Call) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in call.parts:
        yield "response.function_call_arguments.delta", {"item_id": "fc_1", "delta": part}
    yield "response.function_call_arguments.done", {"item_id": "fc_1", **call._asdict()}


def _text_events(part: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    place = {"item_id": "msg_1", "content_index": 0}
    yield "response.content_part.added", {**place, "part": {**part, "text": ""}}
    for piece in _pieces(part["text"]):
        yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**place, "text": part["text"], "logprobs": []}
    yield "response.content_part.done", {**place, "part": part}


def embeddings(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    return {"object": "list", "data": data, "model": fields.get("model"), "usage": {"prompt_tokens": 3, "total_tokens": 3}}
