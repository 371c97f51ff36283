"""Calling upstreams: both parsers through real sockets, against a server that does what each test says."""

from __future__ import annotations

import gc
import gzip
import os
import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyroute.proxy.upstream.inflate import Inflated
from policyroute.proxy.upstream.llhttp import Llhttp
from policyroute.proxy.upstream.parser import LARGEST_HEAD, MalformedResponse, Parser
from policyroute.proxy.upstream.plain import Plain
from policyroute.proxy.upstream.pool import Pooled
from policyroute.proxy.upstream.transport import Call, UpstreamFailed, best
from tests.faulty import (
    END,
    Faulty,
    Script,
    answer,
    chunk,
    close,
    drip,
    gzip_bomb,
    hang,
    read,
    reset,
    send,
    serve,
    stream_head,
    wait,
)  # fmt: skip

PARSERS = [Llhttp, Plain]
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(params=PARSERS)
def pool(request: pytest.FixtureRequest) -> object:
    made = Pooled(request.param)
    yield made
    made.close()


def call(server: Faulty, body: bytes = b"{}", **others: object) -> Call:
    return Call(f"{server.url}/chat", (("content-type", "application/json"),), body, 5.0)._replace(**others)


def whole(pool: Pooled, asked: Call, within: float = 5.0) -> tuple[int, dict[str, str], bytes]:
    """One call to its end."""
    flight = pool.open(asked)
    try:
        assert flight.begin(within)
        pieces = []
        while data := flight.read(within):
            pieces.append(data)
        assert data is not None, "it didn't end in time"
        return flight.status, dict(flight.headers), b"".join(pieces)
    finally:
        flight.close()


def failure(pool: Pooled, asked: Call, within: float = 5.0) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as caught:
        whole(pool, asked, within)
    return caught.value


# -- answers ---------------------------------------------------------------------------------------------------------

TEXT = "Grüße, 世界".encode() * 50
WHOLE: dict[str, tuple[bytes, int, bytes]] = {
    "by its length": (answer(TEXT), 200, TEXT),
    "of no length": (OK + b"content-length: 0\r\n\r\n", 200, b""),
    "in chunks": (CHUNKED + chunk(TEXT[:7]) + chunk(TEXT[7:]) + END, 200, TEXT),
    "in chunks with extensions and trailers": (CHUNKED + b"002;a=b;c\r\nhi\r\n0;x\r\nx-sum: 1\r\nstatus: 500\r\n\r\n", 200, b"hi"),
    "until it closes": (OK + b"content-type: text/plain\r\n\r\n" + TEXT, 200, TEXT),
    "after 1xx ones": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + answer(b"hi"), 200, b"hi"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, b""),
    "an error": (answer(b'{"error":{}}', 529), 529, b'{"error":{}}'),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhi", 200, b"hi"),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", 200, b"hi"),
    "followed by what nobody asked for": (answer(b"hi") + answer(b"SMUGGLED", 500, {"x-evil": "1"}), 200, b"hi"),
    "followed by rubbish": (answer(b"hi") + b"\0\0", 200, b"hi"),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_an_answer_is_read_however_it_is_cut(pool: Pooled, name: str, size: int) -> None:
    data, status, body = WHOLE[name]
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    with Faulty([read, drip(pieces, 0), close]) as server:
        found = whole(pool, call(server))
    assert (found[0], found[2]) == (status, body)
    assert not {"x-sum", "link", "x-evil", "status"} & set(found[1])


def test_a_request_is_what_was_asked(pool: Pooled) -> None:
    with Faulty([read, send(answer(b"hi"))]) as server:
        asked = call(
            server,
            body=b"\x00\xff" * 100_000,
            url=f"{server.url}/a/b?c=d%20e&f",
            headers=(("x-one", "1"), ("x-two", "ü")),
            method="PUT",
        )
        whole(pool, asked)
        (seen,) = server.requests
    assert (seen.method, seen.path, seen.body) == ("PUT", "/v1/a/b?c=d%20e&f", asked.body)
    assert seen.headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-length": "200000",
        "accept-encoding": "identity",
        "x-one": "1",
        "x-two": "ü",
    }


def test_headers_of_a_name_are_joined(pool: Pooled) -> None:
    with Faulty([read, send(OK + b"X-A: 1\r\nx-a:  2\t\r\nX-Empty:\r\ncontent-length: 0\r\n\r\n")]) as server:
        assert whole(pool, call(server))[1] == {"x-a": "1, 2", "x-empty": "", "content-length": "0"}


BROKEN: dict[str, tuple[Script, str]] = {
    "closed without a word": ([read, close], "connection"),
    "reset without a word": ([read, reset], "connection"),
    "cut in the status line": ([read, send(b"HTTP/1.1 2"), close], "connection"),
    "cut in the headers": ([read, send(OK + b"a: b\r\n"), close], "connection"),
    "cut in the body": ([read, send(answer(b"hello")[:-1]), close], "connection"),
    "reset in the body": ([read, send(answer(b"hello")[:-1]), reset], "connection"),
    "reset in a body until it closes": ([read, send(OK + b"\r\nhi"), reset], "connection"),
    "cut in a chunk": ([read, send(CHUNKED + b"5\r\nhel"), close], "connection"),
    "cut before the last chunk": ([read, send(CHUNKED + chunk(b"hello")), close], "connection"),
    "cut in the last chunk": ([read, send(CHUNKED + chunk(b"hello") + b"0\r\n"), close], "connection"),
    "gzip cut": ([read, send(answer(gzip.compress(TEXT)[:-5], headers={"content-encoding": "gzip"})), close], "connection"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_breaks_off_is_no_answer(pool: Pooled, name: str) -> None:
    script, cause = BROKEN[name]
    with Faulty(script) as server:
        failed = failure(pool, call(server))
    assert failed.cause == cause and failed.detail.startswith(f"127.0.0.1:{server.port}: ")


MALFORMED: dict[str, bytes] = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxx",
    "a header without colon": OK + b"nocolon\r\n\r\n",
    "a header without name": OK + b": x\r\n\r\n",
    "a space before the colon": OK + b"content-length : 2\r\n\r\nhi",
    "a folded header": OK + b"a: b\r\n c\r\n\r\n",
    "a control character": OK + b"a: \x01\r\n\r\n",
    "a bare line feed": OK + b"a: b\nc: d\r\n\r\n",
    "a bare carriage return": OK + b"a: b\rc: d\r\n\r\n",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi",
    "a length and chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "a negative length": OK + b"content-length: -2\r\n\r\nhi",
    "a length in hex": OK + b"content-length: 0x2\r\n\r\nhi",
    "an endless length": OK + b"content-length: 99999999999999999999\r\n\r\nhi",
    "an unknown coding": OK + b"transfer-encoding: gzip\r\n\r\nhi",
    "a coding after chunked": OK + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "a chunk of negative size": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "a chunk of endless size": CHUNKED + b"fffffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"2\r\nhix\r\n0\r\n\r\n",
    "a trailer without colon": CHUNKED + b"0\r\nbad\r\n\r\n",
    "headers too large": OK + b"".join(b"h%d: %b\r\n" % (at, b"x" * 1000) for at in range(80)) + b"\r\n",
    "a header without end": OK + b"a: " + b"x" * (3 * LARGEST_HEAD),
    "a status line without end": OK[:-2] + b"x" * (3 * LARGEST_HEAD),
    "brotli": answer(b"x", headers={"content-encoding": "br"}),
    "no gzip": answer(b"hello", headers={"content-encoding": "gzip"}),
    "more after gzip's end": answer(gzip.compress(b"x") + b"hello", headers={"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_answer_is_malformed(pool: Pooled, name: str) -> None:
    with Faulty([read, send(MALFORMED[name]), hang]) as server:
        failed = failure(pool, call(server))
    assert failed.cause == "malformed" and "xxx" not in failed.detail


def test_large_headers_within_the_limit_are_read(pool: Pooled) -> None:
    with Faulty([read, send(OK + b"a: " + b"x" * (LARGEST_HEAD - 2000) + b"\r\ncontent-length: 2\r\n\r\nhi")]) as server:
        assert whole(pool, call(server))[2] == b"hi"


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a trailer": (CHUNKED + b"0\r\nx: ", b"y" * 8192),
    "a trailer's name": (CHUNKED + chunk(b"hi") + b"0\r\n", b"y" * 8192),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n" * 1000),
    "a chunk's extension": (CHUNKED + b"2;", b"y" * 8192),
    "1xx answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 300),
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("name", ENDLESS)
def test_what_goes_on_without_a_body_is_not_listened_to_for_long(parser: Callable[[], Parser], name: str) -> None:
    start, more = ENDLESS[name]
    made = parser()
    if start:
        made.feed(start)
    with pytest.raises(MalformedResponse):
        for _ in range(4 * LARGEST_HEAD // len(more)):
            made.feed(more)


@pytest.mark.parametrize("parser", PARSERS)
def test_many_small_chunks_and_their_extensions_are_a_body(parser: Callable[[], Parser]) -> None:
    made, found = parser(), 0
    made.feed(CHUNKED)
    for _ in range(4 * LARGEST_HEAD // 64):
        for piece in (b"1;", b"y" * 64, b"\r\n", b"a\r\n"):
            made.feed(piece)
        found += len(made.take())
    made.feed(b"0\r\nx: " + b"y" * 1000 + b"\r\n\r\n")
    assert made.done and found == 4 * LARGEST_HEAD // 64


# -- requests that can't be sent ---------------------------------------------------------------------------------------

UNSENT: dict[str, dict[str, object]] = {
    "a line break in a value": {"headers": (("x-a", "1\r\nx-evil: 1"),)},
    "a line feed in a value": {"headers": (("x-a", "1\nx-evil: 1"),)},
    "a carriage return in a value": {"headers": (("x-a", "1\rx"),)},
    "a null in a value": {"headers": (("x-a", "1\0"),)},
    "a line break in a name": {"headers": (("x-a: 1\r\nx-evil", "1"),)},
    "a space in the path": {"url": "http://127.0.0.1:1/a b"},
    "no URL": {"url": "127.0.0.1:1/v1"},
    "another scheme": {"url": "file:///etc/passwd"},
    "no host": {"url": "http:///v1"},
    "no port": {"url": "http://127.0.0.1:http/"},
    "a port too large": {"url": "http://127.0.0.1:99999/"},
    "half an address": {"url": "http://[::1/v1"},
}


@pytest.mark.parametrize("name", UNSENT)
def test_a_request_that_would_be_another_is_not_sent(pool: Pooled, name: str) -> None:
    with Faulty([read, send(answer(b"hi"))]) as server:
        failed = failure(pool, call(server, **UNSENT[name]))
        assert failed.cause == "malformed" and "evil" not in failed.detail and not server.connections


def test_line_breaks_of_a_url_are_left_out(pool: Pooled) -> None:
    with Faulty([read, send(answer(b"hi"))]) as server:
        whole(pool, call(server, url=f"{server.url}/a\r\nx-evil: 1".replace(" ", "")))
        assert "x-evil" not in server.requests[0].headers


# -- time ------------------------------------------------------------------------------------------------------------


def test_waiting_is_bounded(pool: Pooled) -> None:
    going = threading.Event()
    with Faulty([read, wait(going), send(stream_head()), hang]) as server:
        flight = pool.open(call(server))
        began = time.monotonic()
        assert flight.begin(0.05) is False and flight.begin(0.05) is False
        assert 0.1 <= time.monotonic() - began < 1
        going.set()
        assert flight.begin(5) is True and flight.begin(0.01) is True
        began = time.monotonic()
        assert flight.read(0.05) is None and flight.read(0) is None
        assert 0.05 <= time.monotonic() - began < 1
        flight.close()


def test_no_time_at_all_is_enough_for_what_is_there(pool: Pooled) -> None:
    with Faulty([read, send(stream_head()), lambda peer: peer.received(), send(chunk(b"hi")), hang]) as server:
        flight = pool.open(call(server))
        assert flight.begin(5) and flight.read(0) is None
        flight._sock.sendall(b"go")  # type: ignore[attr-defined]
        flight._sock.setblocking(True)  # type: ignore[attr-defined]
        flight._timeout = -1.0  # type: ignore[attr-defined]
        assert flight._sock.recv(1, socket.MSG_PEEK)  # type: ignore[attr-defined]
        assert flight.read(0) == b"hi"
        flight.close()


def test_a_drip_of_bytes_does_not_stretch_the_time(pool: Pooled) -> None:
    with Faulty([read, drip([bytes([byte]) for byte in answer(b"hello")], 0.02), hang]) as server:
        flight = pool.open(call(server))
        began = time.monotonic()
        assert flight.begin(0.2) is False
        assert time.monotonic() - began < 1
        flight.close()


def test_what_arrives_is_given_at_once_and_together(pool: Pooled) -> None:
    going = threading.Event()
    with Faulty(
        [read, send(stream_head() + chunk(b"one ")), wait(going), send(chunk(b"two ") + chunk(b"three") + END), hang]
    ) as server:
        flight = pool.open(call(server))
        assert flight.begin(5) and flight.read(5) == b"one "
        going.set()
        assert flight.read(5) == b"two three" and flight.read(5) == b""
        flight.close()
        flight.close()


def test_a_refused_connection(pool: Pooled) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        failed = failure(pool, Call(f"http://127.0.0.1:{taken.getsockname()[1]}/", (), b"", 5.0))
    assert (failed.cause, failed.detail.partition(": ")[2]) == ("connection", "connection refused")


def test_a_connection_that_nobody_takes(pool: Pooled) -> None:
    with socket.socket() as full:  # a listener whose queue is full answers nobody
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        began = time.monotonic()
        failed = failure(pool, Call(f"http://127.0.0.1:{full.getsockname()[1]}/", (), b"", 0.2))
        for one in waiting:
            one.close()
    assert failed.cause == "timeout" and time.monotonic() - began < 1


def test_a_host_that_is_none(pool: Pooled) -> None:
    assert failure(pool, Call("http://" + "a" * 70 + ".invalid/", (), b"", 2.0)).cause == "connection"
    assert failure(pool, Call("http://nowhere.invalid/", (), b"", 2.0)).cause in ("connection", "timeout")


# -- the pool --------------------------------------------------------------------------------------------------------


def test_connections_are_used_again_and_the_last_one_first(pool: Pooled) -> None:
    with Faulty([serve(answer(b"hi"))]) as server:
        for _ in range(5):
            whole(pool, call(server))
        assert [one.connection for one in server.requests] == [0] * 5
        flights = [pool.open(call(server)) for _ in range(3)]
        assert all(flight.begin(5) and flight.read(5) == b"hi" and flight.read(5) == b"" for flight in flights)
        assert server.connections == 3
        for flight in flights:
            flight.close()
        for _ in range(4):
            whole(pool, call(server))
        assert {one.connection for one in server.requests[-4:]} == {2} and server.connections == 3


@pytest.mark.parametrize(
    "data",
    [
        answer(b"hi", headers={"connection": "close"}),
        answer(b"hi", headers={"connection": "Keep-Alive, Close"}),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        answer(b"hi") + b"HTT",
        answer(b"hi") + answer(b"ho"),
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_used_again(pool: Pooled, data: bytes) -> None:
    with Faulty([serve(data)]) as server:
        for _ in range(3):
            assert whole(pool, call(server))[2] == b"hi"
        assert server.connections == 3


@pytest.mark.parametrize("end", [close, reset])
def test_a_connection_that_was_closed_meanwhile_costs_one_more_try(pool: Pooled, end: Callable[..., None]) -> None:
    with Faulty([read, send(answer(b"hi")), read, end], [serve(answer(b"ho"))]) as server:
        whole(pool, call(server))
        assert whole(pool, call(server, body=b"x" * 300_000))[2] == b"ho"
        assert [(one.connection, len(one.body)) for one in server.requests] == [(0, 2), (0, 300_000), (1, 300_000)]


def test_it_is_one_more_try_and_no_two(pool: Pooled) -> None:
    with Faulty([read, send(answer(b"hi")), read, close], [read, close]) as server:
        whole(pool, call(server))
        assert failure(pool, call(server)).cause == "connection" and server.connections == 2


def test_an_answer_that_has_begun_is_not_asked_for_again(pool: Pooled) -> None:
    with Faulty([read, send(answer(b"hi")), read, send(b"HTTP/1.1 2"), close], [serve(answer(b"ho"))]) as server:
        whole(pool, call(server))
        assert failure(pool, call(server)).cause == "connection" and server.connections == 1


def test_an_idle_connection_is_looked_at_before_it_is_taken(pool: Pooled) -> None:
    with Faulty([read, send(answer(b"hi")), close], [serve(answer(b"ho"))]) as server:
        whole(pool, call(server))
        (sock,) = [one.sock for kept in pool._free.values() for one in kept]
        sock.setblocking(True)
        assert sock.recv(1, socket.MSG_PEEK) == b""  # its end has arrived
        assert whole(pool, call(server))[2] == b"ho" and len(server.requests) == 2


@pytest.mark.parametrize("parser", PARSERS)
def test_idle_connections_are_let_go(parser: Callable[[], Parser]) -> None:
    pool = Pooled(parser, idle=0.05)
    with Faulty([serve(answer(b"hi"))]) as server:
        flights = [pool.open(call(server)) for _ in range(3)]
        for flight in flights:
            assert flight.begin(5) and flight.read(5) == b"hi"
            flight.close()
        time.sleep(0.1)
        whole(pool, call(server))
        assert server.connections == 4
        assert sorted(server.gone.get(timeout=5)[0] for _ in range(3)) == [0, 1, 2]
        pool.close()
        assert server.gone.get(timeout=5)[0] == 3


def test_idle_connections_of_a_host_that_is_asked_no_more_are_let_go() -> None:
    pool = Pooled(Llhttp, idle=0.05)
    with Faulty([serve(answer(b"hi"))]) as left, Faulty([serve(answer(b"hi"))]) as kept:
        whole(pool, call(left))
        time.sleep(0.1)
        whole(pool, call(kept))
        assert left.gone.get(timeout=5)[0] == 0
        whole(pool, call(kept))
        assert kept.connections == 1
    pool.close()


@pytest.mark.parametrize("data", [stream_head() + chunk(b"one"), answer(b"x" * 300_000)[:-1], b"", b"HTTP/1.1 2"])
def test_closing_in_mid_answer_is_seen_by_the_server_at_once(pool: Pooled, data: bytes) -> None:
    with Faulty([read, send(data), hang]) as server:
        flight = pool.open(call(server))
        if data.startswith(OK[:13]):
            assert flight.begin(5) and flight.read(5)
        else:
            assert flight.begin(0.05) is False
        began = time.monotonic()
        flight.close()
        _, moment = server.gone.get(timeout=5)
        assert moment - began < 0.5


def test_an_answer_before_the_request_was_read(pool: Pooled) -> None:
    def early(peer: object) -> None:
        peer.received()  # type: ignore[attr-defined]
        peer.send(answer(b"too large", 413, {"connection": "close"}))  # type: ignore[attr-defined]

    with Faulty([early]) as server:
        status = whole(pool, call(server, body=b"x" * (16 << 20)))[0]
    assert status == 413


def test_many_threads_at_once(pool: Pooled) -> None:
    found: list[object] = []
    with Faulty([serve(answer(TEXT))]) as server:

        def run(number: int) -> None:
            for turn in range(3):
                body = f"{number} {turn}".encode()
                found.append(whole(pool, call(server, body=body), 20)[2] == TEXT)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert found == [True] * 600 and server.connections <= 200
        assert sorted(one.body for one in server.requests) == sorted(f"{n} {t}".encode() for n in range(200) for t in range(3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_leaves_its_parents_connections_alone(pool: Pooled) -> None:
    with Faulty([serve(answer(b"hi"))]) as server:
        whole(pool, call(server))
        pool._lock.acquire()  # as if another thread held it
        child = os.fork()
        if child == 0:
            os._exit(0 if whole(pool, call(server))[2] == b"hi" else 1)
        pool._lock.release()
        assert os.waitpid(child, 0)[1] == 0
        whole(pool, call(server))
        assert [one.connection for one in server.requests] == [0, 1, 0]


def test_descriptors_above_a_thousand(pool: Pooled) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("no more than a thousand descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with Faulty([serve(answer(b"hi"))]) as server:
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            assert [whole(pool, call(server))[2] for _ in range(2)] == [b"hi", b"hi"]
            (sock,) = [one.sock for kept in pool._free.values() for one in kept]
            assert sock.fileno() > 1024 and server.connections == 1  # `select` can't look at it
        finally:
            for descriptor in taken:
                os.close(descriptor)
            pool.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_best_one_is_taken() -> None:
    transport = best()
    with Faulty([serve(answer(b"hi"))]) as server:
        assert whole(transport, call(server))[2] == b"hi"
    transport.close()


# -- compressed answers ------------------------------------------------------------------------------------------------


def _raw(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "encoding, pack", [("gzip", gzip.compress), ("X-Gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", _raw)]
)
def test_a_compressed_answer_is_inflated(pool: Pooled, encoding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    packed = pack(TEXT)
    pieces = [
        stream_head({"content-encoding": encoding}),
        *(chunk(packed[at : at + size]) for at in range(0, len(packed), size)),
        END,
    ]
    with Faulty([read, send(b"".join(pieces)), hang]) as server:
        _, _, body = whole(pool, call(server))
    assert body == TEXT


def test_an_empty_compressed_answer(pool: Pooled) -> None:
    with Faulty([serve(answer(b"", headers={"content-encoding": "gzip"}))]) as server:
        assert whole(pool, call(server))[2] == b""


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 131_330])
def test_no_byte_is_left_in_the_inflater(size: int) -> None:
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", _raw)):
        inflater = Inflated(encoding)
        inflater.add(pack(b"a" * size))
        found = b""
        while piece := inflater.more():
            found += piece
        assert len(found) == size and inflater.whole


def test_a_bomb_stays_small(pool: Pooled) -> None:
    packed = gzip_bomb(256 << 20)
    with Faulty([read, send(answer(packed, headers={"content-encoding": "gzip"})), hang]) as server:
        flight = pool.open(call(server))
        assert flight.begin(5)
        gc.collect()
        tracemalloc.start()
        size = 0
        while size < 64 << 20:
            size += len(flight.read(5) or b"")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        flight.close()
    assert peak < 2 << 20


# -- TLS and IPv6 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(file), "-out", str(file.with_suffix(".crt"))],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(file.read_bytes() + file.with_suffix(".crt").read_bytes())
    return file


@pytest.fixture
def tls(certificate: Path) -> object:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls(pool: Pooled, tls: object, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    large = os.urandom(300_000)
    with Faulty([serve(answer(large))], tls=tls) as server:  # type: ignore[arg-type]
        asked = call(server, url=f"https://localhost:{server.port}/v1", body=large)
        for _ in range(3):
            assert whole(pool, asked)[2] == large
        assert server.connections == 1 and server.requests[0].body == large
        assert "mismatch" in failure(pool, call(server)).detail  # 127.0.0.1 is not in the certificate


def test_a_certificate_that_nobody_vouches_for(pool: Pooled, tls: object) -> None:
    with Faulty([serve(answer(b"hi"))], tls=tls) as server:  # type: ignore[arg-type]
        failed = failure(pool, call(server, url=f"https://localhost:{server.port}/v1"))
    assert failed.cause == "connection" and "certificate" in failed.detail


def test_tls_cut_in_mid_stream(pool: Pooled, tls: object, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Faulty([read, send(CHUNKED + chunk(b"hi")), reset], tls=tls) as server:  # type: ignore[arg-type]
        assert failure(pool, call(server, url=f"https://localhost:{server.port}/v1")).cause == "connection"


def test_tls_that_never_shakes_hands(pool: Pooled) -> None:
    with Faulty([hang]) as server:
        began = time.monotonic()
        failed = failure(pool, call(server, url=f"https://127.0.0.1:{server.port}/", connect_within=0.2))
    assert failed.cause == "timeout" and time.monotonic() - began < 1


def test_no_tls_at_all(pool: Pooled) -> None:
    with Faulty([send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), hang]) as server:
        assert failure(pool, call(server, url=f"https://127.0.0.1:{server.port}/")).cause == "connection"


def test_ipv6(pool: Pooled) -> None:
    try:
        server = Faulty([serve(answer(b"hi"))], host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert whole(pool, call(server))[2] == b"hi" and server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_a_host_of_two_addresses_is_tried_at_both(pool: Pooled) -> None:
    with Faulty([serve(answer(b"hi"))]) as server:  # localhost is ::1 too on most machines, where nobody listens
        assert whole(pool, call(server, url=f"http://localhost:{server.port}/"))[2] == b"hi"


# -- the two parsers agree -----------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    ["content-length", "Content-Length", "transfer-encoding", "connection", "x-a", "upgrade", "", "x a", "ü", "content-encoding"]
)
_VALUES = st.sampled_from(
    ["2", "02", "5", "0", "-1", "+2", "2, 2", "chunked", "Chunked", "gzip, chunked", "chunked, gzip", "identity", "close", "keep-alive", "upgrade", "h2c",
     "", " ", "\t2\t", "a\x01b", "ü\xa0", "a\rb", "a\nb", "x" * 300, "\x7f"]
)  # fmt: skip
_BODIES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"hi", b"2\r\nhi\r\n0\r\n\r\n", b"2;a=b\r\nhi\r\n0\r\nx: y\r\n\r\n", b"0\r\n\r\n", b"2\r\nhix", b"2 \r\nhi\r\n0\r\n\r\n", b"g\r\n", b"00002\r\nhi\r\n00\r\n\r\n", b"2\r\nhi\r\n0\r\nbad\r\n\r\n", b"hi" + OK + b"content-length: 1\r\n\r\nx"]),
)  # fmt: skip
_STARTS = st.sampled_from(
    ["HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 204 No", "HTTP/1.1 304 x", "HTTP/1.1 500 ", "HTTP/1.1 999 x", "HTTP/1.1 20 x",
     "HTTP/1.1 101 x", "HTTP/2.0 200 OK", "HTTP/1.1  200 OK", "http/1.1 200 OK", "ICY 200 OK", "", "HTTP/1.1 200\tOK"]
)  # fmt: skip


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    first = draw(st.sampled_from(["", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 x\r\nlink: y\r\n\r\n"]))
    lines = draw(st.lists(st.builds("{}: {}".format, _NAMES, _VALUES), max_size=4))
    start = draw(st.one_of(st.just("HTTP/1.1 200 OK"), _STARTS))
    return "\r\n".join([first + start, *lines, "", ""]).encode("latin-1") + draw(_BODIES)


def outcome(parser: Parser, pieces: list[bytes]) -> object:
    """What a caller sees: the answer, or that there is none."""
    taken = []
    try:
        for piece in pieces:
            parser.feed(piece)
            taken.append(parser.take())
    except MalformedResponse:
        return "broken"
    if not parser.done and not parser.until_close:
        return "broken"
    return parser.status, parser.headers, b"".join(taken), parser.done


@settings(max_examples=600, deadline=None)
@given(responses(), st.lists(st.integers(1, 60), max_size=6))
def test_both_parsers_read_the_same_in_any_cut(data: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in pairwise(places)]
    bytewise = [data[at : at + 1] for at in range(len(data))]
    found = [outcome(made(), cut) for made in (Llhttp, Plain) for cut in ([data], pieces, bytewise)]
    assert all(one == found[0] for one in found), found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(1, 50))
def test_both_parsers_read_every_chunked_body(pieces: list[bytes], size: int) -> None:
    data = CHUNKED + b"".join(map(chunk, pieces)) + END
    cut = [data[at : at + size] for at in range(0, len(data), size)]
    for made in (Llhttp, Plain):
        assert outcome(made(), cut) == (200, {"transfer-encoding": "chunked"}, b"".join(pieces), True)
