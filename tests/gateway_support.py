"""A provider that speaks the three APIs on loopback, and the gateway as a process in front of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TEXT = "The capital of France is Paris."
POLICY = """edition 1
policy desk
signal plan : free | pro = free  from header "x-user-plan", metadata "plan", column "user_plan"
words urgent = "outage", "data loss"
model mini   {{ provider openai  id "gpt-4o-mini"  url "{url}"  in $0.15  out $0.60  context 128k  can tools, images, json }}
model strong {{ provider openai  id "gpt-4o"       url "{url}"  in $2.50  out $10.00 context 128k  can tools, images, json }}
tier cheap = mini, strong
tier best  = strong
order cheap < best
rule long     {{ when tokens > 20k then refuse "Too long. Please shorten it." }}
rule incident {{ when prompt has urgent and plan is pro then best }}
otherwise     {{ then cheap }}
{more}
test "short ones are cheap" {{ given tokens 10 expect otherwise -> mini, strong }}
"""


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
            self._send(404, "application/json", b'{"error":{"message":"no such path","type":"invalid_request_error"}}')
            return
        if fields.get("stream"):
            events = {"chat/completions": chat_events, "responses": responses_events, "messages": messages_events}[name]
            self._stream(events(fields, provider.text))
        else:
            self._send(200, "application/json", json.dumps(made(fields, provider.text)).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
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


# -- answers ---------------------------------------------------------------------------------------------------------


def _pieces(text: str) -> list[str]:
    return [word if at == 0 else f" {word}" for at, word in enumerate(text.split(" "))]


def chat(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_764_000_000, "model": f"{fields.get('model')}-2026",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 4}},
    }  # fmt: skip


def chat_events(fields: Mapping[str, Any], text: str) -> Iterator[bytes]:
    asked = bool((fields.get("stream_options") or {}).get("include_usage"))

    def event(choices: list[Any], usage: Any = None) -> bytes:
        made = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_764_000_000,
            "model": fields.get("model"),
            "choices": choices,
        }
        return b"data: " + json.dumps(made | ({"usage": usage} if asked else {})).encode() + b"\n\n"

    yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}])
    for piece in _pieces(text):
        yield event([{"index": 0, "delta": {"content": piece}, "logprobs": None, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])
    if asked:
        yield event([], {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18})
    yield b"data: [DONE]\n\n"


def messages(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    usage = {"input_tokens": 11, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 7}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": fields.get("model"), "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _named(name: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def messages_events(fields: Mapping[str, Any], text: str) -> Iterator[bytes]:
    start = messages(fields, text) | {"content": [], "stop_reason": None}
    start["usage"] = start["usage"] | {"output_tokens": 1}
    yield _named("message_start", {"message": start})
    yield _named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
    yield _named("ping", {})
    for piece in _pieces(text):
        yield _named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield _named("content_block_stop", {"index": 0})
    yield _named("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 7}})
    yield _named("message_stop", {})


def responses(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    usage = {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 18,
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1_764_000_000, "status": "completed", "model": fields.get("model"),
        "output": [item], "usage": usage, "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
    }  # fmt: skip


def responses_events(fields: Mapping[str, Any], text: str) -> Iterator[bytes]:
    whole = responses(fields, text)
    item = whole["output"][0]
    empty = whole | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = item["content"][0]
    listed: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": empty}), ("response.in_progress", {"response": empty}),
        ("response.output_item.added", {"output_index": 0, "item": item | {"status": "in_progress", "content": []}}),
        ("response.content_part.added", {**place, "part": part | {"text": ""}}),
        *[("response.output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in _pieces(text)],
        ("response.output_text.done", {**place, "text": text, "logprobs": []}), ("response.content_part.done", {**place, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}), ("response.completed", {"response": whole}),
    ]  # fmt: skip
    for number, (name, data) in enumerate(listed):
        yield _named(name, {**data, "sequence_number": number})


def embeddings(fields: Mapping[str, Any], text: str) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    return {"object": "list", "data": data, "model": fields.get("model"), "usage": {"prompt_tokens": 3, "total_tokens": 3}}


# -- the gateway -----------------------------------------------------------------------------------------------------


@dataclass
class Gateway:
    """A running gateway: its base URL without `/v1`, its process, its folder."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of the answer, whatever the status."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"content-type": "application/json", **(headers or {})})
        return _fetched(asked)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        return _fetched(urllib.request.Request(self.url + path, headers=dict(headers or {})))

    def stop(self, within: float = 30.0) -> int:
        """End it as an operator would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)


def _fetched(asked: urllib.request.Request) -> tuple[int, dict[str, str], bytes]:
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    policy: str, folder: Path, *options: str, env: Mapping[str, str] | None = None, server: str = "serve", workers: int = 1
) -> Iterator[Gateway]:
    """The gateway in a process of its own, under `policyroute serve` (granian), gunicorn or waitress."""
    file, port = folder / "desk.route", free_port()
    file.write_text(policy)
    command = {
        "serve": [sys.executable, "-m", "policyroute", "serve", str(file), "--port", str(port), "--workers", str(workers), "--journal", "journal", *options],
        "gunicorn": [
            sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "16", "-w", str(workers), "-b", f"127.0.0.1:{port}",
            f"policyroute.proxy.app:create({str(file)!r})",
        ],
        "waitress": [sys.executable, "-c", _WAITRESS, str(file), str(port)],
    }[server]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}
            | dict(env or {}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    gateway = Gateway(f"http://127.0.0.1:{port}", process, folder)
    try:
        _until_ready(gateway)
        yield gateway
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_WAITRESS = """
import sys
from waitress import serve
from policyroute.proxy.app import create
serve(create(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), threads=8)
"""


def _until_ready(gateway: Gateway, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if gateway.process.poll() is not None:
            raise AssertionError(f"the gateway ended: {gateway.log}")
        try:
            if gateway.get("/readyz")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway did not get ready: {gateway.log}")


def events(body: bytes) -> list[Any]:
    """The JSON of a stream's `data:` lines."""
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
