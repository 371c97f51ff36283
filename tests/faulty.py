"""A server that does what a test says, byte by byte: one script per connection, and a record of what it was sent.

A script is a list of steps, each a function of the `Peer`. Connection n follows script n; the last one repeats.
"""

from __future__ import annotations

import queue
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

PIECE = 64 << 10
TICK = 0.05  # seconds after which a waiting thread looks whether the server stops


class Request(NamedTuple):
    """What was asked: headers have names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Ended(Exception):  # noqa: N818 - the end of a script
    """The peer has closed, or the server stops."""


class Peer:
    """One connection, as its script sees it."""

    def __init__(self, server: Faulty, sock: socket.socket, number: int) -> None:
        self.server, self.sock, self.number = server, sock, number
        self.data = b""

    def received(self) -> bytes:
        while not self.server.over.is_set():
            try:
                data = self.sock.recv(PIECE)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            if not data:
                if not self.server.over.is_set():
                    self.server.gone.put((self.number, time.monotonic()))
                raise Ended
            return data
        raise Ended

    def read(self) -> None:
        while b"\r\n\r\n" not in self.data:
            self.data += self.received()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        pieces, size = [self.data], len(self.data)
        while size < length:
            pieces.append(self.received())
            size += len(pieces[-1])
        whole = b"".join(pieces)
        body, self.data = whole[:length], whole[length:]
        self.server.requests.append(Request(method, path, headers, body, self.number))
        self.server.asked.put(self.server.requests[-1])

    def send(self, data: bytes) -> None:
        try:
            self.sock.settimeout(10)
            self.sock.sendall(data)
            self.sock.settimeout(TICK)
        except OSError:
            if not self.server.over.is_set():
                self.server.gone.put((self.number, time.monotonic()))
            raise Ended from None


Step = Callable[[Peer], None]
Script = Sequence[Step]


class Faulty:
    """The server, as a context manager. `gone` holds (connection, moment) for each peer that closed while a script looked."""

    def __init__(self, *scripts: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.scripts = scripts
        self.tls = tls
        self.over = threading.Event()
        self.requests: list[Request] = []
        self.asked: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.gone: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self.connections = 0
        self._socket = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512)
        self._socket.settimeout(TICK)
        self.port: int = self._socket.getsockname()[1]
        self.host = f"[{host}]" if ":" in host else host
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The base URL of its API."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/v1"

    def play(self, *scripts: Script) -> Faulty:
        """Other scripts from the next connection on, and nothing recorded."""
        self.connections, self.scripts = 0, scripts
        self.requests.clear()
        self.gone, self.asked = queue.SimpleQueue(), queue.SimpleQueue()
        return self

    def __enter__(self) -> Faulty:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for sock in (self._socket, *list(self._open)):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
        for thread in self._threads:
            thread.join(5)
        self._socket.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                sock, _ = self._socket.accept()
            except OSError:
                continue
            self._open.add(sock)
            number, self.connections = self.connections, self.connections + 1
            self._start(self._play, sock, number, self.scripts[min(number, len(self.scripts) - 1)])

    def _play(self, sock: socket.socket, number: int, script: Script) -> None:
        sock.settimeout(TICK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(self, sock, number)
        try:
            if self.tls is not None:
                sock.settimeout(5)
                peer.sock = self.tls.wrap_socket(sock, server_side=True)
                peer.sock.settimeout(TICK)
            for step in script:
                step(peer)
        except (Ended, OSError):
            pass
        finally:
            self._open.discard(sock)
            peer.sock.close()


# -- steps -----------------------------------------------------------------------------------------------------------


def read(peer: Peer) -> None:
    """Read one whole request."""
    peer.read()


def send(data: bytes) -> Step:
    """Send bytes."""
    return lambda peer: peer.send(data)


def drip(pieces: Sequence[bytes], every: float) -> Step:
    """Send piece after piece, `every` seconds apart."""

    def step(peer: Peer) -> None:
        for piece in pieces:
            peer.send(piece)
            if peer.server.over.wait(every):
                raise Ended

    return step


def wait(event: threading.Event) -> Step:
    """Wait until a test sets `event`."""

    def step(peer: Peer) -> None:
        while not event.wait(0.02):
            if peer.server.over.is_set():
                raise Ended

    return step


def hang(peer: Peer) -> None:
    """Say nothing more, until the peer closes."""
    while True:
        peer.received()


def close(peer: Peer) -> None:
    """Close in good order."""
    peer.sock.shutdown(socket.SHUT_RDWR)
    peer.sock.close()


def reset(peer: Peer) -> None:
    """Close with a reset."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


def serve(answer: bytes) -> Step:
    """Answer each request of the connection alike."""

    def step(peer: Peer) -> None:
        while True:
            peer.read()
            peer.send(answer)

    return step


# -- bytes -----------------------------------------------------------------------------------------------------------


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, kind: str = "application/json") -> bytes:
    """A whole answer of known length."""
    return head(status, {"content-type": kind, "content-length": str(len(body)), **(headers or {})}) + body


def stream_head(headers: Mapping[str, str] | None = None) -> bytes:
    """The head of a chunked stream of events."""
    return head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **(headers or {})})


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def gzip_bomb(size: int) -> bytes:
    """Zeros, compressed to a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()
