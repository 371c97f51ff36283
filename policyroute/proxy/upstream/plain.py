"""Responses parsed in plain Python (RFC 9112): for where httptools isn't installed, and to check it against."""

from __future__ import annotations

import re

from policyroute.proxy.upstream.parser import BODILESS, LARGEST_HEAD, MalformedResponse, add, framing, lasting

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_SIZE = re.compile(rb"0*([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BARE = re.compile(rb"(?<!\r)\n")
LARGEST_LINE = 16 << 10  # bytes of a chunk's size line, or of a trailer


class Plain:
    """A `Parser`."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = self.done = self.until_close = self.reusable = False
        self._data = b""
        self._at = 0  # what comes before in `_data` was parsed
        self._body: list[bytes] = []
        self._left = 0  # bytes of the body, or of the chunk
        self._bodiless = 0  # bytes fed since the last of the body
        self._state = self._head
        self._lasting = True

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire."""
        if self.done:
            self.reusable = False  # bytes that nobody asked for
            return
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at, held = 0, len(self._body)
        while not self.done and self._state():
            pass
        self._bodiless = 0 if len(self._body) > held else self._bodiless + len(data)
        if self._bodiless > BODILESS and not self.done:
            raise MalformedResponse("its headers are too large" if not self.begun else "its trailers are too large")
        if self.done and self._at < len(self._data):
            self.reusable = False

    def take(self) -> bytes:
        """The body's bytes since the last call."""
        taken = b"".join(self._body)
        self._body.clear()
        return taken

    def release(self) -> None:
        """Let go of the state, which is a method of this parser."""
        self.done = True
        self._state = _over

    # -- states: each says whether it got on ------------------------------------------------------------------------------

    def _head(self) -> bool:
        end = self._data.find(b"\r\n\r\n", self._at)
        if end < 0:
            self._unfinished()
            return False
        first, *lines = self._data[self._at : end].split(b"\r\n")
        self._at = end + 4
        match = _STATUS.fullmatch(first)
        if match is None or match[2] == b"101":
            raise MalformedResponse("it has no status line")
        if sum(map(len, lines)) + 2 * len(lines) > LARGEST_HEAD:
            raise MalformedResponse("its headers are too large")
        status, headers = int(match[2]), _headers(lines)
        if status >= 200:
            self.status, self.headers, self.begun = status, headers, True
            self._lasting = lasting(f"1.{match[1].decode()}", headers)
            self._frame()
        return True

    def _unfinished(self) -> None:
        if not b"HTTP/1.".startswith(self._data[self._at : self._at + 7]):
            raise MalformedResponse("it is no HTTP response")
        if _BARE.search(self._data, self._at):
            raise MalformedResponse("a header is malformed")

    def _frame(self) -> None:
        """How the body's end is told."""
        kind = framing(self.status, self.headers)
        if kind == "close":
            self.until_close, self._state = True, self._all
        elif kind == "chunked":
            self._state = self._size
        elif kind == "none":
            self._end()
        else:
            self._left, self._state = int(self.headers["content-length"]), self._sized
            if not self._left:
                self._end()

    def _all(self) -> bool:
        self._left = len(self._data) - self._at
        self._given()
        return False

    def _sized(self) -> bool:
        self._given()
        if not self._left:
            self._end()
        return False

    def _size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _SIZE.fullmatch(line)
        if match is None:
            raise MalformedResponse("a chunk's size is no number")
        self._left = int(match[1], 16)
        self._state = self._chunk if self._left else self._trailer
        return True

    def _chunk(self) -> bool:
        self._given()
        if self._left or len(self._data) - self._at < 2:
            return False
        if self._data[self._at : self._at + 2] != b"\r\n":
            raise MalformedResponse("a chunk is longer than its size")
        self._at += 2
        self._state = self._size
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line == b"":
            self._end()
        elif line is not None:
            _headers([line])
        return line is not None

    def _line(self) -> bytes | None:
        end = self._data.find(b"\r\n", self._at)
        if end < 0:
            if len(self._data) - self._at > LARGEST_LINE:
                raise MalformedResponse("a line is too long")
            return None
        line = self._data[self._at : end]
        self._at = end + 2
        return line

    def _given(self) -> None:
        size = min(self._left, len(self._data) - self._at)
        if size:
            self._body.append(self._data[self._at : self._at + size])
            self._at += size
            self._left -= size

    def _end(self) -> None:
        self.done, self.reusable = True, self._lasting


def _headers(lines: list[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise MalformedResponse("a header is malformed")
        add(found, name, value)
    return found


def _over() -> bool:
    return False
