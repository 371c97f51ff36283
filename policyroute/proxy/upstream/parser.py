"""What a response parser is: bytes in, status, headers and body out, no sockets. And the rules that both parsers share.

Rules of this module
- Where two readings of the same bytes are possible, there is none: an answer that states its length twice, or in a transfer coding
  that isn't `chunked`, is malformed. What one reader takes for a body another one takes for the next answer.
- What comes without a body (headers, 1xx answers, a chunk's extension, trailers) is read up to a limit: none of it reaches anyone, and
  llhttp's wrapper joins the pieces of a trailer in time that grows with their square.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Protocol

LARGEST_HEAD = 64 << 10  # bytes of status line and headers
BODILESS = 2 * LARGEST_HEAD  # bytes that may come without one of a body among them
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)

Framing = Literal["none", "chunked", "length", "close"]


class MalformedResponse(Exception):  # noqa: N818 - as UpstreamFailed
    """Bytes that are no HTTP/1.1 response."""


class Parser(Protocol):
    """Parses one response, 1xx ones before it skipped.

    `begun`: status and headers are known. `done`: the body has ended. `until_close`: only the connection's end ends it, so that
    nobody can tell a whole body from a cut one. `reusable`: once done, the connection can carry another request.
    """

    status: int
    headers: dict[str, str]
    begun: bool
    done: bool
    until_close: bool
    reusable: bool

    def feed(self, data: bytes) -> None:
        """Take bytes from the wire. Raises MalformedResponse."""

    def take(self) -> bytes:
        """The body's bytes since the last call."""

    def release(self) -> None:
        """Let go of what refers back to the parser: nothing is fed any more, and it goes without waiting for the collector."""


def framing(status: int, headers: Mapping[str, str]) -> Framing:
    """How the body's end is told (RFC 9112, 6.3). Raises MalformedResponse."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise MalformedResponse("its transfer coding is unknown")
    if coding is not None and length is not None:
        raise MalformedResponse("it states two lengths")
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise MalformedResponse("its length is no number")
    if status in (204, 304):
        return "none"
    if coding is not None:
        return "chunked"
    return "close" if length is None else "length"


def lasting(version: str, headers: Mapping[str, str]) -> bool:
    """Whether the connection stays open after the answer; `version` is `1.0` or `1.1`."""
    words = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    return "close" not in words and (version == "1.1" or "keep-alive" in words)


def add(headers: dict[str, str], name: bytes, value: bytes) -> None:
    """One more header; several of a name are joined."""
    key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
    headers[key] = f"{headers[key]}, {text}" if key in headers else text
