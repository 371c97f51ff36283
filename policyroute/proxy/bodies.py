"""The bytes of a request's body: read within a limit, inflated within a limit.

Rules of this module
- No more than the limit is ever held, whatever `Content-Length` says and whatever a small compressed body grows to.
- A body that is too large is refused, and then read on and thrown away as far as a legal body would have been: many clients read
  the answer only after they have sent all, and see a broken connection where we stop reading. It costs no more than a legal body.
- What is compressed must be so from its first byte to its last. Several gzip members in one body are allowed by RFC 1952 and sent
  by nobody; a body of a million empty ones would be work without end.
- That a chunked body was cut is for the server to say: gunicorn and waitress do, granian hands over what came. Cut JSON is no JSON.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

PIECE = 1 << 18  # bytes read at a time: most bodies are one piece


class BodyError(Exception):
    """A body that can't be taken: the status to answer with, what is wrong, and a short word for it."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def read_body(environ: Mapping[str, Any], limit: int, inflated_limit: int) -> bytes:
    """The body of a WSGI request, inflated where it is compressed. Limits in bytes, of what is sent and of what it grows to.

    Raises BodyError: 400 for a body that is cut, corrupt, or has no right length, 408 where the client stopped sending,
    413 for one that is too large, 415 for a `Content-Encoding` that isn't known here.
    """
    bits = _window(environ.get("HTTP_CONTENT_ENCODING", ""))
    length = _length(environ)
    if length is not None and length > limit:
        _drain(environ, length, limit)
        raise _too_large(limit)
    pieces = _bounded(_pieces(environ, length), environ, limit)
    return _joined(pieces) if bits is None else _inflated(pieces, bits, inflated_limit)


def read_off(environ: Mapping[str, Any]) -> None:
    """Read what is left of a body that nobody looked at, as far as it is short, and throw it away.

    A server that still holds a part of the body when the answer is there closes the connection without saying so (granian), and the
    client's next request on it breaks.
    """
    try:
        length = _length(environ)
    except BodyError:
        return
    waits = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
    if not waits and (length is None or length <= PIECE):
        _thrown_away(_pieces(environ, length), PIECE)


def _length(environ: Mapping[str, Any]) -> int | None:
    """How long the body is by its header; None where it lasts until it ends, 0 where there is none."""
    stated = environ.get("CONTENT_LENGTH") or ""
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if chunked or not stated:  # chunks win over a length (RFC 9112, 6.3)
        return None if chunked or environ.get("wsgi.input_terminated") else 0
    if not (stated.isascii() and stated.isdigit() and len(stated) <= 18):
        raise BodyError(400, "`Content-Length` is not a number of bytes", "invalid_length")
    return int(stated)


def _pieces(environ: Mapping[str, Any], length: int | None) -> Iterator[bytes]:
    """The body as it comes. A body of known length is read to there and no further: the server may not end its input."""
    read = environ["wsgi.input"].read
    left = length
    while left is None or left:
        try:
            piece: bytes = read(PIECE if left is None else min(PIECE, left))
        except TimeoutError:
            raise BodyError(408, "the request's body did not arrive in time", "body_timeout") from None
        except _broken():
            raise _cut() from None
        if not piece:
            if left is None:
                return
            raise _cut()
        if left is not None:
            left -= len(piece)
        yield piece


def _broken() -> tuple[type[Exception], ...]:
    """What servers raise for bad chunks, and for a client that is gone: each its own, and gunicorn's are no OSErrors."""
    errors = sys.modules.get("gunicorn.http.errors")
    return (OSError, EOFError, RuntimeError, ValueError, *((errors.ParseException,) if errors else ()))


def _bounded(pieces: Iterator[bytes], environ: Mapping[str, Any], limit: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            _thrown_away(pieces, limit)
            raise _too_large(limit)
        yield piece


def _drain(environ: Mapping[str, Any], length: int, limit: int) -> None:
    """Read a body that was refused by its length; not one whose client waits to be asked for it, nor one that has no end in sight."""
    if length <= 2 * limit and environ.get("HTTP_EXPECT", "").lower() != "100-continue":
        _thrown_away(_pieces(environ, length), 2 * limit)


def _thrown_away(pieces: Iterator[bytes], most: int) -> None:
    size = 0
    try:
        for piece in pieces:
            size += len(piece)
            if size >= most:
                return
    except BodyError:
        return  # it is refused as too large, whatever its end


def _joined(pieces: Iterator[bytes]) -> bytes:
    found = list(pieces)
    return found[0] if len(found) == 1 else b"".join(found)


# -- Content-Encoding --------------------------------------------------------------------------------------------------

_GZIP, _DEFLATE = 31, 15  # window bits of zlib: with gzip's frame, with zlib's own
_ENCODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _DEFLATE}


def _window(encoding: str) -> int | None:
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
    if not names:
        return None
    if len(names) > 1 or names[0] not in _ENCODINGS:
        raise BodyError(
            415, "this `Content-Encoding` is not read here: send gzip, deflate, or the body as it is", "unsupported_encoding"
        )
    return _ENCODINGS[names[0]]


def _inflated(pieces: Iterator[bytes], bits: int, limit: int) -> bytes:
    """The pieces, inflated. `limit` bounds what a piece may grow to, so a bomb is never unpacked."""
    inflating: Any = None
    found: list[bytes] = []
    left = limit
    for piece in pieces:
        if inflating is None:
            inflating, piece = _begun(bits, piece, pieces)
        if inflating.eof:
            raise _corrupt("has bytes after its end")
        try:
            grown = inflating.decompress(piece, left + 1)
        except zlib.error:
            raise _corrupt("is corrupt") from None
        left -= len(grown)
        if left < 0:
            _thrown_away(pieces, limit)
            raise _too_large(limit, "inflated ")
        if inflating.unused_data:
            raise _corrupt("has bytes after its end")
        found.append(grown)
    if inflating is not None and not inflating.eof:
        raise _corrupt("is cut")
    return b"".join(found)


def _begun(bits: int, piece: bytes, pieces: Iterator[bytes]) -> tuple[Any, bytes]:
    """`deflate` is zlib's frame by RFC 9110, and bare by many clients: zlib's two first bytes say which.

    A bare stream can't begin with them: its first block would be a stored one with odd padding, which no compressor writes.
    """
    if bits == _GZIP:
        return zlib.decompressobj(bits), piece
    while len(piece) < 2 and (more := next(pieces, b"")):
        piece += more
    framed = len(piece) >= 2 and piece[0] & 15 == 8 and int.from_bytes(piece[:2], "big") % 31 == 0
    return zlib.decompressobj(bits if framed else -bits), piece


def _too_large(limit: int, what: str = "") -> BodyError:
    return BodyError(413, f"the {what}body is larger than {limit} bytes", "request_too_large")


def _cut() -> BodyError:
    return BodyError(400, "the request's body ended before its end", "body_cut")


def _corrupt(what: str) -> BodyError:
    return BodyError(400, f"the compressed body {what}", "invalid_encoding")
