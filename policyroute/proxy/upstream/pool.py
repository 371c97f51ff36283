"""Sockets to upstreams, kept open between requests.

Rules of this module
- One pool per scheme, host and port; the connection that was used last is taken first, and there is no limit to their number: a
  limit would make a stream wait for another.
- A connection that lay idle may have been closed meanwhile. It is looked at before it is taken, and where it fails before the
  first byte of an answer, the request is sent once more on a fresh one.
- `close()` before a body's end closes the socket at once: that is how an upstream learns that its client has left.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from policyroute.proxy.upstream.inflate import Inflated, inflated
from policyroute.proxy.upstream.parser import MalformedResponse, Parser
from policyroute.proxy.upstream.transport import Call, UpstreamFailed

PIECE = 64 << 10  # bytes that are read at once
SMALL = 8 << 10  # bytes of room for a read that may wait long: a thousand waiting streams hold a thousand of these
KERNEL = sys.platform == "linux"  # whether sockets can be told how long to wait
IDLE = 30.0  # seconds after which an unused connection is closed
SEND_WITHIN = 60.0  # seconds that sending a request may take
_ENDS, _SPLITS = re.compile(r"[\r\n\0]"), re.compile(r"[\0-\x20\x7f]")
_NO_URL = "the upstream's address is not a URL"


class _Target(NamedTuple):
    """Whom to connect to."""

    tls: bool
    host: str
    port: int

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


class _Connection(NamedTuple):
    sock: socket.socket
    target: _Target
    used: float


class Pooled:
    """A transport that parses responses with `parser`."""

    def __init__(self, parser: Callable[[], Parser], idle: float = IDLE) -> None:
        self._parser, self._idle = parser, idle
        self._free: dict[_Target, list[_Connection]] = {}
        self._lock = threading.Lock()
        self._swept = time.monotonic()
        self._process = os.getpid()
        self._tls: ssl.SSLContext | None = None

    def open(self, call: Call) -> _Flight:
        """Connect, or take a free connection, and send."""
        target, head = _request(call)
        return _Flight(self, target, head + call.body, call.connect_within, self._parser)

    def close(self) -> None:
        """Close the free connections."""
        with self._lock:
            free, self._free = self._free, {}
        for connections in free.values():
            for connection in connections:
                connection.sock.close()

    def take(self, target: _Target) -> socket.socket | None:
        """A free connection that is still good, None where there is none."""
        if self._process != os.getpid():  # a fork's sockets are its parent's, and its lock may be held by a thread that isn't here
            self._lock, self._free, self._process = threading.Lock(), {}, os.getpid()
        while True:
            with self._lock:
                connections = self._free.get(target)
                found = connections.pop() if connections else None
            if found is None:
                return None
            if time.monotonic() - found.used < self._idle and not _readable(found.sock):
                return found.sock
            found.sock.close()

    def give(self, target: _Target, sock: socket.socket) -> None:
        """Keep a connection for the next request."""
        now = time.monotonic()
        with self._lock:
            old = self._outdated(now) if now - self._swept >= self._idle else []
            self._free.setdefault(target, []).append(_Connection(sock, target, now))
        for connection in old:
            connection.sock.close()

    def _outdated(self, now: float) -> list[_Connection]:
        """Take out what lay idle too long, of every target: one that a reload took out of the policy is asked for no more."""
        self._swept = now
        found = [one for kept in self._free.values() for one in kept]
        self._free = {}
        for one in found:
            if now - one.used < self._idle:
                self._free.setdefault(one.target, []).append(one)
        return [one for one in found if now - one.used >= self._idle]

    def connect(self, target: _Target, within: float) -> socket.socket:
        """A new connection."""
        end = time.monotonic() + within
        try:
            sock = _connected(target, end)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._secured(sock, target, end) if target.tls else _waited_for_by_the_kernel(sock)
        except TimeoutError:
            raise UpstreamFailed("timeout", f"{target.name}: no connection within {within:g} s") from None
        except (OSError, ValueError) as error:  # a name that can't be one is a ValueError
            raise UpstreamFailed("connection", f"{target.name}: {_reason(error)}") from None

    def _secured(self, sock: socket.socket, target: _Target, end: float) -> socket.socket:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        try:
            sock.settimeout(max(end - time.monotonic(), 0.001))
            return self._tls.wrap_socket(sock, server_hostname=target.host)
        except (OSError, ValueError):
            sock.close()
            raise


class _Flight:
    """One request on the wire."""

    def __init__(self, pool: Pooled, target: _Target, message: bytes, within: float, parser: Callable[[], Parser]) -> None:
        self._pool, self._target, self._message, self._within = pool, target, message, within
        self._make = parser
        self._parser = parser()
        self._closed = self._begun = self._heard = False
        self._unsent: OSError | None = None
        self._timeout = 0.0
        self._room = PIECE
        self._inflated: Inflated | None = None
        sock = pool.take(target)
        self._reused = sock is not None
        self._sock = sock or pool.connect(target, within)
        self._send()

    @property
    def status(self) -> int:
        """The status code."""
        return self._parser.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        return self._parser.headers

    def begin(self, within: float) -> bool:
        """Wait for status and headers."""
        end, left = time.monotonic() + within, within
        while not self._parser.begun:
            data = self._received(max(left, 0.001))
            if data is None:
                return False
            if data:
                self._feed(data)
            else:
                self._again(self._unsent)
            left = end - time.monotonic()
            if left <= 0 and not self._parser.begun:
                return False
        if not self._begun:
            self._begun, self._message = True, b""
            self._inflate()
        return True

    def read(self, within: float) -> bytes | None:
        """What of the body has arrived."""
        end, left = time.monotonic() + within, within
        while True:
            if body := self._body():
                return body
            if self._parser.done:
                return self._ended()
            data = self._received(max(left, 0.001))
            if data is None:
                return None
            left = end - time.monotonic()
            if data:
                self._feed(data)
                if left <= 0:
                    return self._body() or (self._ended() if self._parser.done else None)
            elif self._parser.until_close:
                return self._ended()
            else:
                raise UpstreamFailed("connection", f"{self._target.name}: closed before its answer's end")

    def close(self) -> None:
        """Done with it."""
        if self._closed:
            return
        self._closed = True
        if self._parser.done and self._parser.reusable and self._unsent is None:
            if self._timeout <= 0:  # it was looked at without waiting
                self._wait_up_to(SEND_WITHIN)
            self._pool.give(self._target, self._sock)
        else:
            self._sock.close()
        self._parser.release()

    # -- the socket --------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        try:
            if not KERNEL or self._target.tls:
                self._sock.settimeout(SEND_WITHIN)
                self._timeout = SEND_WITHIN
            self._sock.sendall(self._message)
        except (TimeoutError, BlockingIOError):
            self.close()
            raise UpstreamFailed("timeout", f"{self._target.name}: the request could not be sent in time") from None
        except OSError as error:  # the answer may be there all the same: 413 to a body that is too large
            self._unsent = error

    def _again(self, error: OSError | None) -> None:
        """A connection ended without an answer: once more on a fresh one, if it had lain idle and said nothing at all."""
        self._sock.close()
        if not self._reused or self._heard:
            reason = "closed without an answer" if error is None else _reason(error)
            raise UpstreamFailed("connection", f"{self._target.name}: {reason}")
        self._reused, self._unsent = False, None
        self._parser = self._make()
        self._sock = self._pool.connect(self._target, self._within)
        self._send()

    def _received(self, within: float) -> bytes | None:
        """Bytes from the wire, b"" at its end, None where none came in time."""
        sock = self._sock
        try:
            if within != self._timeout:  # a system call
                self._wait_up_to(within)
            data = sock.recv(self._room)
            self._room = PIECE if len(data) == self._room else SMALL
            if isinstance(sock, ssl.SSLSocket):
                while (more := sock.pending()) and len(data) < PIECE:
                    data += sock.recv(more)
        except (TimeoutError, BlockingIOError):
            return None
        except OSError as error:
            if self._reused and not self._heard:
                return b""
            raise UpstreamFailed("connection", f"{self._target.name}: {_reason(error)}") from None
        self._heard = self._heard or bool(data)
        return data

    def _wait_up_to(self, within: float) -> None:
        self._timeout = within
        if KERNEL and not self._target.tls and within > 0:
            self._sock.settimeout(None)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(within))
        else:
            self._sock.settimeout(max(within, 0.0))

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
        except MalformedResponse as error:
            raise UpstreamFailed("malformed", f"{self._target.name}: {error}") from None

    def _body(self) -> bytes:
        """What there is of the body without asking the socket."""
        inflater = self._inflated
        if inflater is None:
            return self._parser.take()
        try:
            body = inflater.more()
            while not body and (data := self._parser.take()):
                inflater.add(data)
                body = inflater.more()
        except MalformedResponse as error:
            raise UpstreamFailed("malformed", f"{self._target.name}: {error}") from None
        return body

    def _inflate(self) -> None:
        try:
            self._inflated = inflated(self._parser.headers)
        except MalformedResponse as error:
            raise UpstreamFailed("malformed", f"{self._target.name}: {error}") from None

    def _ended(self) -> bytes:
        if self._inflated is not None and not self._inflated.whole:
            raise UpstreamFailed("connection", f"{self._target.name}: a compressed answer was cut off")
        return b""


def _request(call: Call) -> tuple[_Target, bytes]:
    """Whom to call, and the bytes of the request's head. Raises UpstreamFailed for a URL or header that can't be sent."""
    try:
        parts = urlsplit(call.url)
        port = parts.port
    except ValueError:
        raise UpstreamFailed("malformed", _NO_URL) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UpstreamFailed("malformed", _NO_URL)
    tls = parts.scheme == "https"
    target = _Target(tls, parts.hostname, port or (443 if tls else 80))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = parts.netloc.rpartition("@")[2]
    lines = [f"{call.method} {path} HTTP/1.1", f"host: {host}", f"content-length: {len(call.body)}", "accept-encoding: identity"]
    lines += [f"{name}: {value}" for name, value in call.headers]
    head = "\r\n".join(lines)
    if _ENDS.search("".join(lines)) or _SPLITS.search(path) or _SPLITS.search(host):
        raise UpstreamFailed("malformed", "the request's address or a header holds what would end it")
    return target, f"{head}\r\n\r\n".encode("latin-1", "replace")


def _waited_for_by_the_kernel(sock: socket.socket) -> socket.socket:
    """A socket whose waits end by its own options: Python's time-outs cost a second system call and turn at each of them."""
    if KERNEL:
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_WITHIN))
    return sock


def _timeval(seconds: float) -> bytes:
    """`struct timeval` of a time, at least a microsecond: none at all would mean for ever."""
    return struct.pack("@ll", *divmod(max(round(seconds * 1_000_000), 1), 1_000_000))


def _connected(target: _Target, end: float) -> socket.socket:
    """A socket to the first of the host's addresses that takes it. One that is silent leaves time for the others."""
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    for left in range(len(found) - 1, -1, -1):
        family, kind, protocol, _, address = found[-1 - left]
        time_left = end - time.monotonic()
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(time_left / 2 if left else time_left, 0.001))
            sock.connect(address)
        except OSError:
            sock.close()
            if not left:
                raise
        else:
            return sock
    raise OSError("the host has no address")


def _readable(sock: socket.socket) -> bool:
    """Whether something is there to be read: on a connection that nobody uses, its end or something that nobody asked for."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _reason(error: Exception) -> str:
    """Why, in a few words that hold nothing of what was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.lower().rstrip('.')}"
    text = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return str(text).lower()
