"""Server-sent events without IO: where one ends, and what its data is.

An event ends after a blank line: LF LF, CR LF CR LF or CR CR. Whether bytes end an event depends on nothing that comes after
them, so that a stream is cut in the same places however it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(rb"\n\n|\n\r\n|\r\r")
_DATA = re.compile(rb"(?:\A|[\r\n])data: ?([^\r\n]*)")
_NAME = re.compile(rb"(?:\A|[\r\n])event: ?([^\r\n]*)")
_LF = 10


class Blocks:
    """Cuts bytes as they arrive into blocks of whole events."""

    __slots__ = ("tail",)

    def __init__(self) -> None:
        self.tail = bytearray()
        """What has arrived of an event that hasn't ended."""

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes, as one block; empty where there are none."""
        tail = self.tail
        if not tail:
            end = whole(data)
            if end == len(data):
                return data
            tail += data[end:]
            return data[:end]
        seen = max(len(tail) - 2, 0)  # an end that these bytes complete begins at most two before them
        tail += data
        end = whole(bytes(tail[seen:]))
        if not end:
            return b""
        block = bytes(tail[: seen + end])
        del tail[: seen + end]
        return block


def whole(data: bytes) -> int:
    """How many bytes of `data`, which begins with an event, are whole events."""
    if b"\r" not in data:
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            return 0
        if end < 3 or data[end - 3] != _LF:
            return end
    end = 0
    for each in _ends(data):
        end = each
    return end


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block of whole ones, each with its blank line."""
    place = 0
    for end in _ends(block):
        yield block[place:end]
        place = end


def _ends(block: bytes) -> Iterator[int]:
    if b"\r" in block:
        yield from (found.end() for found in _END.finditer(block))
        return
    end = block.find(b"\n\n") + 2
    while end > 1:
        yield end
        end = block.find(b"\n\n", end) + 2


def data_of(event: bytes) -> bytes:
    """The data of an event, its lines joined; empty for a comment."""
    line = event.find(b"\n") + 1 if event.startswith(b"event:") else 0
    if event.startswith(b"data: ", line) and event.find(b"\n", line) >= len(event) - 2 and b"\r" not in event:
        return event[line + 6 :].strip()
    return b"\n".join(_DATA.findall(event)).strip()


def name_of(event: bytes) -> bytes:
    """The event's name (`event: error`), empty where it has none."""
    found = _NAME.search(event) if b"event:" in event else None
    return found[1].strip() if found else b""


def event_of(data: bytes, name: str = "") -> bytes:
    """An event."""
    return b"data: %b\n\n" % data if not name else b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data under the same name."""
    return event_of(data, name_of(event).decode("utf-8", "replace"))
