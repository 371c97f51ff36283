"""The gateway in front of upstreams that fail: for each fault, what the client saw and what was written down."""

from __future__ import annotations

import atexit
import gzip
import http.client
import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from policyroute.proxy.app import App, create
from policyroute.proxy.journal.lines import rows_of
from tests import gateway_support
from tests.faulty import (
    END,
    Faulty,
    Peer,
    Script,
    answer,
    chunk,
    close,
    drip,
    gzip_bomb,
    hang,
    head,
    read,
    reset,
    send,
    stream_head,
)  # fmt: skip

waitress = pytest.importorskip("waitress")
wasyncore = pytest.importorskip("waitress.wasyncore")

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Capital of France?"}]
POLICY = """edition 1
policy desk
model bad  {{ provider openai  id "gpt-4o-mini"  url "{bad}"   in $0.15  out $0.60  context 128k  can tools, images, json }}
model good {{ provider openai  id "gpt-4o"       url "{good}"  in $2.50  out $10.00 context 128k  can tools, images, json }}
tier all = {tier}
otherwise {{ then all }}
{more}
"""
GOOD = "Paris, says the second one."
SECRETS = ("sk-provider-0123456789abcdef", "sk-model-fedcba9876543210", "client-key-13579bdf02468ace")


# -- the pieces --------------------------------------------------------------------------------------------------------


def delta(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def event(value: Any) -> bytes:
    made = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", **value}
    return b"data: " + json.dumps(made).encode() + b"\n\n"


def tool(arguments: str, name: str | None = None) -> bytes:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    call = {"index": 0, "function": function, **({"id": "call_1", "type": "function"} if name else {})}
    return event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
STOP = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"
HALF = stream_head() + chunk(ROLE) + chunk(delta("The capital"))
CALLING = stream_head() + chunk(ROLE) + chunk(tool("", "weather")) + chunk(tool('{"city": "Pa'))


def good(peer: Peer) -> None:
    """Answers each request, streamed or not."""
    while True:
        peer.read()
        fields = json.loads(peer.server.requests[-1].body)
        if fields.get("stream"):
            parts = b"".join(map(chunk, gateway_support.chat_events(fields, GOOD)))
            peer.send(stream_head() + parts + END)
        else:
            peer.send(answer(json.dumps(gateway_support.chat(fields, GOOD)).encode()))


def error(status: int, message: str = "no", headers: dict[str, str] | None = None) -> bytes:
    return answer(json.dumps({"error": {"message": message, "type": "some_error"}}).encode(), status, headers)


class Saw(NamedTuple):
    """What a client got. `whole`: the answer had a clean end."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        if not self.headers["content-type"].startswith("text/event-stream"):
            return str(self.json["choices"][0]["message"]["content"])
        found = gateway_support.events(self.body)
        return "".join(choice["delta"].get("content") or "" for one in found for choice in one.get("choices", []))


class Running:
    """The gateway under waitress in this process."""

    def __init__(self, app: App, port: int, folder: Path) -> None:
        self.app, self.port, self.folder = app, port, folder

    def ask(self, stream: bool = False, headers: dict[str, str] | None = None, body: bytes | None = None, **fields: Any) -> Saw:
        made = body if body is not None else json.dumps({"model": "auto", "messages": HELLO, "stream": stream, **fields}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", CHAT, made, {"content-type": "application/json", **(headers or {})})
            got = connection.getresponse()
            try:
                return Saw(got.status, _lower(got), got.read())
            except http.client.IncompleteRead as cut:
                return Saw(got.status, _lower(got), cut.partial, False)
        finally:
            connection.close()

    def get(self, path: str) -> Saw:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {SECRETS[2]}"})
            got = connection.getresponse()
            return Saw(got.status, _lower(got), got.read())
        finally:
            connection.close()

    def rows(self, count: int = 1, within: float = 5.0) -> list[dict[str, Any]]:
        """The journal's rows, once there are `count`."""
        end = time.monotonic() + within
        while True:
            self.app.gateway.recorder.drain()
            files = sorted(path for path in (self.folder / "journal").rglob("*") if path.is_file() and "json" in path.name)
            found = [row for file in files for row in rows_of(file) if row]
            if len(found) >= count or time.monotonic() > end:
                assert len(found) == count, f"{len(found)} rows"
                return found
            time.sleep(0.02)

    def row(self) -> tuple[str, list[tuple[str, str]]]:
        """The one row's verdict, and what its attempts came to."""
        (row,) = self.rows()
        return row["verdict"], [(one["model"], one["result"]) for one in json.loads(row["attempts"])]


def _lower(got: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in got.getheaders()}


@contextmanager
def running(folder: Path, bad: str, good_one: str, tier: str = "bad, good", more: str = "", **options: Any) -> Iterator[Running]:
    file = folder / "desk.route"
    file.write_text(POLICY.format(bad=bad, good=good_one, tier=tier, more=more))
    given = {"watch": 0.0, "journal": folder / "journal", "window": 0.01, "first_byte": 0.5, "idle": 0.5, "answer_limit": 1 << 20}
    app = create(file, **{**given, **options})
    assert app.gateway.journal is not None
    app.gateway.journal.compact = False  # a process with an engine, for each test
    sockets: dict[int, Any] = {}
    server = waitress.create_server(app, map=sockets, host="127.0.0.1", port=0, threads=8)
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            wasyncore.loop(timeout=0.02, map=sockets, use_poll=True, count=1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield Running(app, server.effective_port, folder)
    finally:
        over.set()
        thread.join(5)
        server.task_dispatcher.shutdown(timeout=5)
        for one in list(sockets.values()):
            one.close()
        atexit.unregister(app.gateway.close)
        app.gateway.close()


@pytest.fixture
def upstream() -> Iterator[Faulty]:
    """The first model's."""
    with Faulty([hang]) as server:
        yield server


@pytest.fixture(scope="module")
def second() -> Iterator[Faulty]:
    """The second model's, which answers."""
    with Faulty([good]) as server:
        yield server


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever an upstream does is no fault of the program."""
    caplog.set_level(logging.WARNING)
    yield
    assert not [record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


# -- faults before anything has reached the client -----------------------------------------------------------------------

EARLY: dict[str, tuple[Script, str]] = {
    "closed": ([read, close], "connection"),
    "reset": ([read, reset], "connection"),
    "reset at once": ([reset], "connection"),
    "hangs before headers": ([read, hang], "timeout"),
    "hangs in headers": ([read, send(b"HTTP/1.1 200 OK\r\ncontent-"), hang], "timeout"),
    "drips headers": ([read, drip([b"HTTP/1.1 200 OK\r\n", *[b"x-a: b\r\n"] * 200], 0.02)], "timeout"),
    "hangs after headers": ([read, send(head(200, {"content-type": "application/json", "content-length": "99"})), hang], "timeout"),
    "429": ([read, send(error(429, headers={"retry-after": "7"}))], "429"),
    "500": ([read, send(error(500))], "500"),
    "500 in HTML": ([read, send(answer(b"<h1>Oops</h1>", 500, kind="text/html"))], "500"),
    "503 without a body": ([read, send(head(503, {"content-length": "0"}))], "503"),
    "500 cut": ([read, send(error(500)[:-3]), close], "connection"),
    "529": ([read, send(error(529))], "529"),
    "401": ([read, send(error(401, f"Incorrect API key provided: {SECRETS[1]}"))], "401"),
    "403": ([read, send(error(403))], "403"),
    "404": ([read, send(error(404, "no such model"))], "404"),
    "a redirect": ([read, send(head(302, {"location": "http://169.254.169.254/", "content-length": "0"}))], "malformed"),
    "204": ([read, send(head(204))], "malformed"),
    "malformed JSON": ([read, send(answer(b'{"choices": [{'))], "malformed"),
    "bad UTF-8": ([read, send(answer(b'{"choices": "\xff\xfe"}'))], "malformed"),
    "an error with 200": ([read, send(answer(b'{"error": {"message": "busy", "code": 429}}'))], "429"),
    "an array": ([read, send(answer(b"[]"))], "malformed"),
    "an empty 200": ([read, send(answer(b""))], "malformed"),
    "HTML": ([read, send(answer(b"<h1>Sign in</h1>", kind="text/html"))], "malformed"),
    "a cut body": ([read, send(answer(b'{"choices": []}')[:-2]), close], "connection"),
    "no HTTP": ([read, send(b"SSH-2.0-x\r\n\r\n")], "malformed"),
    "a header that breaks lines": ([read, send(b"HTTP/1.1 200 OK\r\nx-a: b\rx-evil: 1\r\n\r\n{}")], "malformed"),
    "too large": ([read, send(answer(b'"' + b"x" * (2 << 20) + b'"'))], "malformed"),
    "a gzip bomb": ([read, send(answer(gzip_bomb(64 << 20), headers={"content-encoding": "gzip"})), hang], "malformed"),
    "headers too large": ([read, send(b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000 + b"\r\n")], "malformed"),
}

EARLY_STREAMS: dict[str, tuple[Script, str]] = {
    "hangs after headers": ([read, send(stream_head()), hang], "timeout"),
    "hangs after the role": ([read, send(stream_head() + chunk(ROLE)), hang], "timeout"),
    "ends without an event": ([read, send(stream_head() + END)], "cut"),
    "ends after the role": ([read, send(stream_head() + chunk(ROLE) + END)], "cut"),
    "cut after the role": ([read, send(stream_head() + chunk(ROLE)), close], "connection"),
    "broken JSON": ([read, send(stream_head() + chunk(b"data: {broken\n\n")), hang], "malformed"),
    "bad UTF-8": ([read, send(stream_head() + chunk(b"data: {\"choices\": \"\xff\"}\n\n")), hang], "malformed"),
    "no event at all": ([read, send(stream_head() + chunk(b"<h1>Sign in</h1>\n\n") + END)], "cut"),
    "a chunk of no size": ([read, send(stream_head() + b"zz\r\n")], "malformed"),
    "an error in the stream": ([read, send(stream_head() + chunk(event({"error": {"type": "overloaded_error", "message": "busy"}})) + END)], "529"),
    "an error after the role": ([read, send(stream_head() + chunk(ROLE) + chunk(b'data: {"error": {"code": 429}}\n\n')), hang], "429"),
    "an endless event": ([read, send(stream_head() + chunk(b"data: " + b"x" * (17 << 20))), hang], "malformed"),
}  # fmt: skip


def _cases() -> list[Any]:
    plain = [pytest.param(*case, False, id=f"{name}, plain") for name, case in EARLY.items()]
    streamed = [pytest.param(*case, True, id=f"{name}, streamed") for name, case in EARLY.items() if name != "hangs after headers"]
    return plain + streamed + [pytest.param(*case, True, id=f"{name}, stream") for name, case in EARLY_STREAMS.items()]


@pytest.mark.parametrize("script, cause, stream", _cases())
def test_the_second_model_answers(
    script: Script, cause: str, stream: bool, upstream: Faulty, second: Faulty, tmp_path: Path
) -> None:
    upstream.play(script)
    with running(tmp_path, upstream.url, second.url) as gateway:
        saw = gateway.ask(stream)
        assert (saw.status, saw.text, saw.whole) == (200, GOOD, True)
        assert (saw.headers["x-policyroute-target"], saw.headers["x-policyroute-attempts"]) == ("good", "2")
        assert not stream or saw.body.endswith(b"data: [DONE]\n\n")
        assert gateway.row() == ("answered", [("bad", cause), ("good", "answered")])
        assert SECRETS[1].encode() not in saw.body and "x-evil" not in saw.headers


@pytest.mark.parametrize("script, cause, stream", _cases())
def test_without_a_second_model_it_is_said_honestly(
    script: Script, cause: str, stream: bool, upstream: Faulty, tmp_path: Path
) -> None:
    upstream.play(script)
    with running(tmp_path, upstream.url, upstream.url, "bad") as gateway:
        saw = gateway.ask(stream)
        assert (saw.status, saw.whole) == (503, True)
        assert saw.json["error"]["type"] == "server_error" and saw.json["error"]["code"] == "no_upstream"
        assert int(saw.headers["retry-after"]) >= 1
        assert SECRETS[1].encode() not in saw.body and b"Oops" not in saw.body
        assert gateway.row() == ("failed", [("bad", cause)])
        assert gateway.rows()[0]["error_type"] == cause and gateway.rows()[0]["status_code"] == 503


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_listens(stream: bool, second: Faulty, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with running(tmp_path, nowhere, second.url) as gateway:
            assert gateway.ask(stream).text == GOOD
            assert gateway.row() == ("answered", [("bad", "connection"), ("good", "answered")])


def test_a_retry_after_is_handed_on(upstream: Faulty, tmp_path: Path) -> None:
    upstream.play(EARLY["429"][0])
    with running(tmp_path, upstream.url, upstream.url, "bad") as gateway:
        assert gateway.ask().headers["retry-after"] == "7"


def test_the_clients_own_error_is_handed_on(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([read, send(error(400, "bad tools", {"x-request-id": "req_9"}))])
    with running(tmp_path, upstream.url, second.url) as gateway:
        saw = gateway.ask()
        assert (saw.status, saw.json["error"]["message"], saw.headers["x-request-id"]) == (400, "bad tools", "req_9")
        assert gateway.row() == ("answered", [("bad", "400")])


TOLD = {"error": {"type": "invalid_request_error", "message": "bad tools"}}


@pytest.mark.parametrize("value", [TOLD, {"error": {"code": 400, "message": "bad tools"}}])
def test_a_clients_own_error_inside_a_stream_is_no_answer(value: Any, upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([read, send(stream_head() + chunk(event(value)) + END)])
    with running(tmp_path, upstream.url, second.url) as gateway:
        assert gateway.ask(True).text == GOOD
        assert gateway.row() == ("answered", [("bad", "invalid_request_error"), ("good", "answered")])


def test_a_clients_own_error_inside_a_stream_without_a_second_model(upstream: Faulty, tmp_path: Path) -> None:
    upstream.play([read, send(stream_head() + chunk(event(TOLD)) + END)])
    with running(tmp_path, upstream.url, upstream.url, "bad") as gateway:
        saw = gateway.ask(True)
        assert (saw.status, saw.json["error"]["code"]) == (503, "no_upstream")


# -- faults after content ------------------------------------------------------------------------------------------------

LATE: dict[str, tuple[Script, str]] = {
    "cut": ([read, send(HALF), close], "cut"),
    "ended without its end": ([read, send(HALF + END)], "cut"),
    "reset": ([read, send(HALF), drip([b""], 0.05), reset], "cut"),
    "an event cut": ([read, send(HALF + chunk(b'data: {"choices": [{"del') + END)], "cut"),
    "falls silent": ([read, send(HALF), hang], "timeout"),
    "broken chunks": ([read, send(HALF), drip([b""], 0.05), send(b"zz\r\n"), hang], "malformed"),
    "an error in the stream": (
        [read, send(HALF + chunk(event({"error": {"type": "overloaded_error", "message": "busy"}})) + END)],
        "529",
    ),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("tier", ["bad, good", "bad"])
def test_a_cut_stream_ends_with_an_error(name: str, tier: str, upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    script, cause = LATE[name]
    upstream.play(script)
    with running(tmp_path, upstream.url, second.url, tier) as gateway:
        saw = gateway.ask(True)
        assert saw.status == 200 and saw.text == "The capital" and b"[DONE]" not in saw.body
        *_, last = gateway_support.events(saw.body)
        assert last["error"]["type"] == "server_error" and last["error"]["message"] == "the answer was cut off upstream"
        assert gateway.row() == ("cut", [("bad", cause)])


@pytest.mark.parametrize("name", LATE)
def test_a_cut_stream_is_finished_where_that_is_declared(name: str, upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    script, cause = LATE[name]
    upstream.play(script)
    with running(tmp_path, upstream.url, second.url, more="on stream failure { otherwise finish }") as gateway:
        saw = gateway.ask(True)
        assert saw.status == 200 and saw.text == "The capital" and saw.body.endswith(b"data: [DONE]\n\n") and saw.whole
        assert gateway_support.events(saw.body)[-1]["choices"][0]["finish_reason"] == "length"
        assert gateway.row() == ("cut", [("bad", cause)])


def test_a_cut_stream_is_begun_again_where_that_is_declared(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play(LATE["cut"][0])
    with running(tmp_path, upstream.url, second.url, more="on stream failure { otherwise restart }") as gateway:
        saw = gateway.ask(True)
        assert saw.text == f"The capital\n\n{GOOD}" and saw.body.endswith(b"data: [DONE]\n\n")
        assert gateway.row() == ("answered", [("bad", "cut"), ("good", "answered")])


@pytest.mark.parametrize(
    "action",
    [
        "",
        "on stream failure { otherwise finish }",
        "on stream failure { otherwise restart }",
        "on stream failure { otherwise continue }",
    ],
)
def test_half_a_tool_call_is_never_ended_as_a_whole_one(action: str, upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([read, send(CALLING), close])
    with running(tmp_path, upstream.url, second.url, more=action) as gateway:
        saw = gateway.ask(True)
        *_, last = gateway_support.events(saw.body)
        assert "error" in last and b"[DONE]" not in saw.body and b'"finish_reason":"' not in saw.body and GOOD not in saw.text
        assert gateway.row() == ("cut", [("bad", "cut")])


def test_a_tool_call_in_pieces_is_whole(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    done = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}) + b"data: [DONE]\n\n"
    events = CALLING.removeprefix(stream_head()) + chunk(tool('ris"}')) + chunk(done) + END
    pieces = [stream_head(), *(events[at : at + 37] for at in range(0, len(events), 37))]
    upstream.play([read, drip(pieces, 0.001)])
    with running(tmp_path, upstream.url, second.url) as gateway:
        saw = gateway.ask(True)
        calls = [
            one["choices"][0]["delta"].get("tool_calls", [{}])[0].get("function", {}) for one in gateway_support.events(saw.body)
        ]
        assert json.loads("".join(call.get("arguments", "") for call in calls)) == {"city": "Paris"}
        assert gateway.row() == ("answered", [("bad", "answered")])


def test_a_slow_drip_is_a_stream(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    data = b"".join(chunk(one) for one in (ROLE, delta("Grüße "), delta("aus "), delta("Paris"), STOP)) + END
    pieces = [stream_head(), *(data[at : at + 9] for at in range(0, len(data), 9))]
    upstream.play([read, drip(pieces, 0.01)])
    with running(tmp_path, upstream.url, second.url, first_byte=0.4, idle=0.4) as gateway:
        saw = gateway.ask(True)
        assert saw.text == "Grüße aus Paris" and saw.body.endswith(b"data: [DONE]\n\n")
        assert gateway.row() == ("answered", [("bad", "answered")])


@pytest.mark.parametrize("end", [[close], [hang], [send(END)]])
def test_after_the_protocols_end_the_connections_end_does_not_matter(
    end: Script, upstream: Faulty, second: Faulty, tmp_path: Path
) -> None:
    upstream.play([read, send(HALF + chunk(STOP)), *end])
    with running(tmp_path, upstream.url, second.url, idle=5.0) as gateway:
        began = time.monotonic()
        saw = gateway.ask(True)
        assert saw.text == "The capital" and saw.whole and time.monotonic() - began < 2
        assert gateway.row() == ("answered", [("bad", "answered")])


def test_a_waiting_stream_is_sent_comments_and_its_failure_is_an_event(upstream: Faulty, tmp_path: Path) -> None:
    upstream.play([read, hang])
    with running(tmp_path, upstream.url, upstream.url, "bad", ping=0.1) as gateway:
        saw = gateway.ask(True)
        assert saw.status == 200 and saw.body.startswith(b": ping\n\n") and b"[DONE]" not in saw.body
        assert gateway_support.events(saw.body)[-1]["error"]["code"] == "no_upstream"
        assert gateway.row() == ("failed", [("bad", "timeout")])


def test_after_comments_the_second_model_still_answers(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([read, hang])
    with running(tmp_path, upstream.url, second.url, ping=0.1) as gateway:
        saw = gateway.ask(True)
        assert saw.text == GOOD and saw.body.endswith(b"data: [DONE]\n\n")
        assert gateway.row() == ("answered", [("bad", "timeout"), ("good", "answered")])


# -- clients that leave --------------------------------------------------------------------------------------------------


def leaving(port: int, until: Callable[[bytes], bool]) -> float:
    """Ask for a stream, read until `until` holds, and leave with a reset. The moment of leaving."""
    body = json.dumps({"model": "auto", "messages": HELLO, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        got = b""
        while not until(got):
            got += sock.recv(65536)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return time.monotonic()


def flowing(peer: Peer) -> None:
    """A stream without end."""
    peer.read()
    peer.send(HALF)
    drip([chunk(delta(" and"))] * 2000, 0.02)(peer)


def test_a_client_that_leaves_in_mid_stream_ends_its_upstream(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([flowing])
    with running(tmp_path, upstream.url, second.url, ping=0.2) as gateway:
        left = leaving(gateway.port, lambda got: b"and" in got)
        assert upstream.gone.get(timeout=5)[1] - left < 1
        verdict, attempts = gateway.row()
        assert verdict == "abandoned" and [model for model, _ in attempts] == ["bad"]
        assert gateway.rows()[0]["error_type"] == "client_gone"


def test_a_client_that_leaves_a_silent_stream_ends_its_upstream(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([read, send(HALF), hang])
    with running(tmp_path, upstream.url, second.url, ping=0.2, idle=30.0) as gateway:
        left = leaving(gateway.port, lambda got: b"capital" in got)
        assert upstream.gone.get(timeout=5)[1] - left < 1
        assert gateway.row()[0] == "abandoned"


def test_a_client_that_leaves_before_the_first_byte_ends_its_upstream(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([read, hang])
    with running(tmp_path, upstream.url, second.url, ping=0.2, first_byte=30.0) as gateway:

        def asked(got: bytes) -> bool:
            return upstream.asked.get(timeout=5) is not None

        left = leaving(gateway.port, asked)
        assert upstream.gone.get(timeout=5)[1] - left < 1.5
        assert (gateway.row()[0] == "abandoned" and not second.requests) or second.requests[-1].connection >= 0


def test_who_left_is_no_failure_of_the_upstream(upstream: Faulty, second: Faulty, tmp_path: Path) -> None:
    upstream.play([flowing])
    with running(tmp_path, upstream.url, second.url, ping=0.2) as gateway:
        for _ in range(6):
            leaving(gateway.port, lambda got: b"and" in got)
            upstream.gone.get(timeout=5)
        gateway.rows(6)
        assert gateway.get("/healthz").json["status"] == "ok"
        assert {json.loads(row["attempts"])[0]["result"] for row in gateway.rows(6)} == {"abandoned"}


# -- requests that attack ------------------------------------------------------------------------------------------------


def test_a_gzip_bomb_is_refused(upstream: Faulty, tmp_path: Path) -> None:
    with running(tmp_path, upstream.url, upstream.url, "bad", body_limit=1 << 20) as gateway:
        saw = gateway.ask(body=gzip_bomb(512 << 20), headers={"content-encoding": "gzip"})
        assert saw.status == 413 and not upstream.requests


def test_a_compressed_request_is_read(second: Faulty, tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps({"model": "auto", "messages": HELLO}).encode())
    with running(tmp_path, second.url, second.url, "bad") as gateway:
        assert gateway.ask(body=packed, headers={"content-encoding": "gzip"}).text == GOOD


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_USER_AGENT": "a\r\nx-evil: 1"},
        {"HTTP_TRACEPARENT": "00\nx-evil: 1"},
        {"HTTP_ANTHROPIC_BETA": "a\0\rx-evil: 1"},
        {"HTTP_IDEMPOTENCY_KEY": "\x7f\x85x"},
        {"HTTP_X_STAINLESS_RETRY_COUNT": "\u0661"},
    ],
)
def test_a_clients_header_stays_one(headers: dict[str, str], second: Faulty, tmp_path: Path) -> None:
    from io import BytesIO

    body = json.dumps({"model": "auto", "messages": HELLO}).encode()
    file = tmp_path / "desk.route"
    file.write_text(POLICY.format(bad=second.url, good=second.url, tier="bad", more=""))
    app = create(file, watch=0.0)
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": CHAT, "QUERY_STRING": "", "REMOTE_ADDR": "127.0.0.1", "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body), **headers,
    }  # fmt: skip
    seen: list[tuple[str, list[tuple[str, str]]]] = []
    b"".join(app(environ, lambda status, found: seen.append((status, found))))
    app.gateway.close()
    assert seen[0][0] == "200 OK"
    assert not any("\r" in value or "\n" in value or "\0" in value for _, value in seen[0][1])
    assert "x-evil" not in second.requests[-1].headers and not any(name.startswith("x-evil") for name, _ in seen[0][1])


def test_an_upstreams_headers_are_cleaned(upstream: Faulty, tmp_path: Path) -> None:
    body = json.dumps(gateway_support.chat({}, "hi")).encode()
    told = {
        "x-policyroute-target": "evil",
        "set-cookie": "a=b",
        "x-odd": "a\tb\x80\xff",
        "transfer-encoding": "chunked",
        "x-request-id": "req_1",
    }
    upstream.play([read, send(head(200, {"content-type": "application/json", **told}) + chunk(body) + END)])
    with running(tmp_path, upstream.url, upstream.url, "bad") as gateway:
        saw = gateway.ask()
        assert (saw.text, saw.headers["x-policyroute-target"], saw.headers["x-request-id"]) == ("hi", "bad", "req_1")
        assert "set-cookie" not in saw.headers and saw.headers["content-length"] == str(len(body))


@pytest.mark.parametrize("stream", [False, True])
def test_odd_text_is_passed_byte_for_byte(stream: bool, upstream: Faulty, tmp_path: Path) -> None:
    odd = rb'"\ud800 \u0000 \udfff\ud83d" '
    sent = b'{"model":"auto","stream":%b,"messages":[{"role":"user","content":%b}],"x": 1e400, "y":123456789012345678901234567890}'
    body = sent % (b"true" if stream else b"false", odd)
    plain = (
        b'{"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": '
        + odd
        + b'}, "finish_reason": "stop"}]}'
    )
    events = b'data: {"choices":[{"index":0,"delta":{"content":' + odd + b'},"finish_reason":null}]}\n\n' + STOP
    upstream.play([read, send(stream_head() + chunk(events) + END if stream else answer(plain))])
    with running(tmp_path, upstream.url, upstream.url, "bad", prompts=True) as gateway:
        saw = gateway.ask(body=body)
        assert saw.status == 200 and saw.body == (events if stream else plain)
        seen = upstream.requests[0].body
        assert odd in seen and b'"x": 1e400, "y":123456789012345678901234567890' in seen and b'"gpt-4o-mini"' in seen
        assert gateway.row() == ("answered", [("bad", "answered")])


@pytest.mark.parametrize(
    "body", [b"\xff\xfe{}", b'{"model": "\xc3"}', b'{"messages": "\xed\xa0\x80"}', b"", b"nul", b'{"a":' * 3000]
)
def test_a_body_that_is_no_json_reaches_nobody(body: bytes, upstream: Faulty, tmp_path: Path) -> None:
    with running(tmp_path, upstream.url, upstream.url, "bad") as gateway:
        saw = gateway.ask(body=body)
        assert saw.status == 400 and saw.json["error"]["type"] == "invalid_request_error" and not upstream.requests


# -- secrets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 400, 500, 200])
@pytest.mark.parametrize("stream", [False, True])
def test_secrets_are_in_no_output(
    status: int, stream: bool, upstream: Faulty, second: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    provider, model, client = SECRETS
    monkeypatch.setenv("OPENAI_API_KEY", provider)
    monkeypatch.setenv("POLICYROUTE_BAD_API_KEY", model)
    caplog.set_level(logging.DEBUG, "policyroute")

    def echo(peer: Peer) -> None:
        peer.read()
        told = peer.server.requests[-1].headers["authorization"]
        peer.send(error(status, f"Incorrect API key provided: {told}", {"x-echo": told, "www-authenticate": told}))

    upstream.play([echo])
    with running(tmp_path, upstream.url, second.url, access_log=str(tmp_path / "access.log"), prompts=True) as gateway:
        saws = [gateway.ask(stream, {"authorization": f"Bearer {client}", "x-api-key": client, "cookie": client})]
        saws += [gateway.get(path) for path in ("/healthz", "/metrics", "/v1/models", "/nowhere", f"/v1/models/{client[:5]}")]
        gateway.rows()
    assert upstream.requests[0].headers["authorization"] == f"Bearer {model}"  # it is sent to whom it is for
    outputs = {f"answer {number}": saw.body + repr(saw.headers).encode() for number, saw in enumerate(saws)}
    outputs |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    outputs |= {"stdout and stderr": "".join(capfd.readouterr()).encode(), "log": caplog.text.encode()}
    found = {name for name, text in outputs.items() for secret in SECRETS if secret.encode() in text}
    assert not found
    assert not any(client.encode() in repr(one.headers).encode() for one in (*upstream.requests, *second.requests))


# -- under granian -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow() -> Iterator[Faulty]:
    """An upstream that streams ten chunks, the first word of the request in each, 100 ms apart, or without end."""

    def script(peer: Peer) -> None:
        while True:
            peer.read()
            word = json.loads(peer.server.requests[-1].body)["messages"][0]["content"]
            peer.send(stream_head() + chunk(ROLE))
            drip([chunk(delta(f"{word}.{number} ")) for number in range(2000 if word == "endless" else 10)], 0.1)(peer)
            peer.send(chunk(STOP) + END)

    with Faulty([script]) as server:
        yield server


@pytest.fixture(scope="module")
def granian(flow: Faulty, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gateway_support.Gateway]:
    policy = POLICY.format(bad=flow.url, good=flow.url, tier="bad", more="")
    with gateway_support.serving(policy, tmp_path_factory.mktemp("granian"), "--ping", "0.2") as gateway:
        yield gateway


def port_of(gateway: gateway_support.Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


def memory(gateway: gateway_support.Gateway) -> int:
    """Bytes that the gateway's processes have taken at most."""
    pids, found = [gateway.process.pid], 0
    while pids:
        pid = pids.pop()
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        found += int(
            next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]
        )
    return found << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_body_of_100_megabytes_costs_no_memory(granian: gateway_support.Gateway) -> None:
    before, size, status = memory(granian), 100 << 20, b""
    with socket.create_connection(("127.0.0.1", port_of(granian)), timeout=20) as sock:
        sock.sendall(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), size))
        try:
            for _ in range(100):
                sock.sendall(bytes(1 << 20))
        except OSError:
            pass  # refused before all was sent
        try:
            status = sock.recv(65536)
        except OSError:
            status = b""
    assert status.startswith(b"HTTP/1.1 413") or not status
    assert memory(granian) - before < 80 << 20
    assert granian.get("/healthz")[0] == 200


def test_leaving_is_seen_through_granian_too(granian: gateway_support.Gateway, flow: Faulty) -> None:
    while not flow.gone.empty():
        flow.gone.get()
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "endless"}], "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port_of(granian)), timeout=10) as sock:
        sock.sendall(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        got = b""
        while b"endless.1" not in got:
            got += sock.recv(65536)
    left = time.monotonic()
    assert flow.gone.get(timeout=5)[1] - left < 1


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_requests_one_after_another_on_a_connection(cut: int, granian: gateway_support.Gateway) -> None:
    one = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    last = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    data = one * 3 + last
    with socket.create_connection(("127.0.0.1", port_of(granian)), timeout=10) as sock:
        for at in range(0, len(data), cut):
            sock.sendall(data[at : at + cut])
        got = b""
        while more := sock.recv(65536):
            got += more
    assert got.count(b"HTTP/1.1 200 OK") == 4


def many_streams(gateway: gateway_support.Gateway, count: int) -> None:
    def run(number: int) -> tuple[str, bool]:
        asked = {"model": "auto", "messages": [{"role": "user", "content": f"s{number}"}], "stream": True}
        _, _, body = gateway.post(CHAT, asked)
        text = "".join(one["choices"][0]["delta"].get("content") or "" for one in gateway_support.events(body))
        return text, body.endswith(b"data: [DONE]\n\n")

    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(run, range(count)))
    assert found == [("".join(f"s{number}.{part} " for part in range(10)), True) for number in range(count)]


def test_some_slow_streams_at_once(granian: gateway_support.Gateway) -> None:
    many_streams(granian, 20)


@pytest.mark.slow
def test_many_slow_streams_at_once(granian: gateway_support.Gateway) -> None:
    began = time.monotonic()
    many_streams(granian, 200)
    assert time.monotonic() - began < 30 * max(1.0, 2 / (os.cpu_count() or 1))
    assert "Traceback" not in granian.log
