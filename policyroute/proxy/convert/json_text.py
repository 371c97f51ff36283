"""JSON text of values that came from JSON: by orjson where it is installed and can, which is five times as fast."""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson
except ImportError:  # the extra `serve` is not installed: the same text, written more slowly
    orjson = None  # type: ignore[assignment]


def text_of(value: Any) -> bytes:
    """A value's text in UTF-8. Half a surrogate pair, which UTF-8 can't hold, becomes a question mark."""
    if orjson is not None:
        try:
            return orjson.dumps(value)
        except TypeError:  # half a surrogate pair, or a whole number of more than 64 bits
            pass
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def line_of(value: Any) -> bytes:
    """A value's text for an event's line: some clients take Unicode's separators for the end of one."""
    line = text_of(value)
    for separator, escape in _SEPARATORS:
        if separator in line:
            line = line.replace(separator, escape)
    return line


_SEPARATORS = tuple((char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\x85\u2028\u2029")
