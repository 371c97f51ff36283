"""JSON of requests, answers and events, read as leniently as providers write it and refused with a place where it is none.

orjson reads where it is installed. What it refuses although a provider or client may send it (half of a surrogate pair as an
escape) is read by `json`. A number of more than 64 bits is a float in the parsed value; the bytes that go upstream keep it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

try:
    import orjson
except ImportError:  # the extra `serve` is not installed: the same values, read more slowly
    orjson = None  # type: ignore[assignment]


class BadBody(Exception):  # noqa: N818 - it is a body, and the word is what handlers read
    """A request body that is no JSON object: the message says what is wrong, and at which byte."""


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises BadBody for bad UTF-8, for no JSON, for JSON that is no object, or too deep a nesting."""
    value = _fast(body) if orjson is not None else _slow(body)
    if not isinstance(value, dict):
        raise BadBody(f"the body is not a JSON object: it is {_KINDS.get(type(value), 'null')}")
    return value


def loads(data: bytes) -> Any:
    """Any JSON value, or None where `data` holds none."""
    try:
        return _fast(data) if orjson is not None else _slow(data)
    except BadBody:
        return None


def exact(data: bytes) -> Any:
    """As `loads`, but whole numbers of any size stay whole: for what is written again."""
    try:
        return _slow(data)
    except BadBody:
        return None


def dumped(value: Mapping[str, Any]) -> bytes:
    """JSON text of a value that `parse` gave, ASCII only, without white space."""
    return json.dumps(value, separators=(",", ":")).encode()


_KINDS: dict[type, str] = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "true or false"}


def _fast(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _slow(body)


def _slow(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = len(text[: error.pos].encode())
        raise BadBody(f"the body is not JSON: {error.msg} at byte {place} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise BadBody("the body is nested too deeply") from None
    except ValueError as error:  # a whole number of more digits than Python reads
        raise BadBody(f"the body is not JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise BadBody(f"the body is not JSON: it has no number `{name}`")
