"""Rows as lines of JSON and back. Every line is UTF-8, ends in a line feed, and holds one object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import orjson
except ImportError:  # the extra `serve` has it; without it the journal is slower
    orjson = None  # type: ignore[assignment]


def line_of(row: Mapping[str, object]) -> bytes:
    """A row as one line. Halves of surrogate pairs, which UTF-8 can't hold, become `?`, as in `language.decision.draw`."""
    if orjson is not None:
        try:
            return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # such a half, or a number beyond 64 bits
            pass
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace") + b"\n"


def rows_of(path: Path) -> Iterator[dict[str, Any] | None]:
    """The rows of a segment; None stands for a line that isn't whole."""
    with path.open("rb") as stream:
        for line in stream:
            yield row_of_line(line)


def row_of_line(line: bytes) -> dict[str, Any] | None:
    """The row of a line, or None where the line isn't whole: without its line feed, or no JSON object."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
