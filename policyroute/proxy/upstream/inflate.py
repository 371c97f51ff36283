"""Compressed answers, inflated piece by piece, so that a small one can't become a large one in memory.

Nobody asks for them (`accept-encoding: identity`), and some upstreams compress all the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from policyroute.proxy.upstream.parser import MalformedResponse

PIECE = 64 << 10  # bytes that are inflated at once
_LONGER = "its compressed answer goes on after its end"
_ANY, _RAW = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class Inflated:
    """A compressed body: `add` its bytes, and ask for `more` until nothing comes. Raises MalformedResponse."""

    def __init__(self, encoding: str) -> None:
        self._inflater = zlib.decompressobj(_ANY)
        self._open = encoding == "deflate"  # two bytes say whether it has zlib's frame: some servers send it without
        self._rest = b""
        self._full = False  # the last piece was cut by its limit: there is more, though no input may be left
        self._seen = False

    @property
    def whole(self) -> bool:
        """Whether the body has ended where its compression says."""
        return self._inflater.eof or not self._seen

    def add(self, data: bytes) -> None:
        """Bytes as they came."""
        if self._inflater.eof:
            raise MalformedResponse(_LONGER)
        self._rest += data
        self._seen = True

    def more(self) -> bytes:
        """The next piece, empty where more input is needed."""
        if self._open and len(self._rest) > 1:
            self._open = False
            self._inflater = zlib.decompressobj(_ANY if _framed(self._rest) else _RAW)
        if self._open or not (self._rest or self._full):
            return b""
        try:
            piece = self._inflater.decompress(self._rest, PIECE)
        except zlib.error:
            raise MalformedResponse("its compressed answer can't be read") from None
        self._rest, self._full = self._inflater.unconsumed_tail, len(piece) == PIECE
        if self._inflater.unused_data:
            raise MalformedResponse(_LONGER)
        return piece


def _framed(start: bytes) -> bool:
    """Whether the bytes begin zlib's frame (RFC 1950, 2.2)."""
    return start[0] & 15 == 8 and (start[0] << 8 | start[1]) % 31 == 0


def inflated(headers: Mapping[str, str]) -> Inflated | None:
    """The inflater that a body needs, None for none. Raises MalformedResponse for a coding that isn't known."""
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise MalformedResponse("its answer is compressed in a way that was not asked for")
    return Inflated(encoding)
