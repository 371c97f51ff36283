"""Responses parsed by llhttp (Node's parser), through httptools.

Rules of this module
- llhttp goes on with whatever follows a response. What follows is nobody's answer: it is dropped, and ends the connection's use.
- llhttp also reads HTTP/2.0, RTSP and status 099; those are malformed here.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from policyroute.proxy.upstream.parser import BODILESS, LARGEST_HEAD, MalformedResponse, add, framing, lasting

_START = b"HTTP/1."


class Llhttp:
    """A `Parser`; the methods `on_...` are llhttp's callbacks."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = self.done = self.until_close = self.reusable = False
        self._parser = HttpResponseParser(self)
        self._body: list[bytes] = []
        self._start = b""
        self._size = 0  # bytes of headers
        self._bodiless = 0  # bytes fed since the last of the body
        self._passing = False  # a 1xx response is under way
        self._lasting = True
        self._fault = ""

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire."""
        if self.done:
            self.reusable = False  # bytes that nobody asked for
            return
        if not self.begun:
            self._before(data)
        held = len(self._body)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if not self.done:
                raise MalformedResponse(self._fault or _said(error)) from None
        if self._fault:
            raise MalformedResponse(self._fault)
        self._bodiless = 0 if len(self._body) > held else self._bodiless + len(data)
        if self._bodiless > BODILESS and not self.done:  # a header or trailer that doesn't end is not reported
            raise MalformedResponse("its headers are too large" if not self.begun else "its trailers are too large")

    def take(self) -> bytes:
        """The body's bytes since the last call."""
        if not self._body:
            return b""
        taken = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return taken

    def _before(self, data: bytes) -> None:
        if len(self._start) < len(_START):
            self._start += data[: len(_START) - len(self._start)]
            if not _START.startswith(self._start):
                raise MalformedResponse("it is no HTTP response")

    def release(self) -> None:
        """Let go of llhttp's parser, which holds this one's callbacks."""
        self.done = True
        del self._parser

    # -- llhttp's callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A response begins: another one, where the first is done."""
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self.begun:
            return  # a trailer, or nobody's answer
        self._size += len(name) + len(value) + 4
        if self._size > LARGEST_HEAD:
            self._fault = "its headers are too large"
        else:
            add(self.headers, name, value)

    def on_headers_complete(self) -> None:
        """All headers are there."""
        if self.begun:
            return
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.0", "1.1") or not 100 <= status < 1000 or status == 101:
            self._fault = "it has no status line"
            return
        self._passing = status < 200
        if self._passing:
            self.headers = {}
            return
        try:
            self.until_close = framing(status, self.headers) == "close"
        except MalformedResponse as error:
            self._fault = str(error)
        self.status, self.begun = status, True
        self._lasting = lasting(version, self.headers)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.begun and not self.done:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The body has ended."""
        if self._passing:
            self._passing = False
        elif not self.done:
            self.done, self.reusable = True, self._lasting


def _said(error: Exception) -> str:
    text = str(error)
    return text.lower() if text and not text.isdecimal() else "it asks for another protocol"
