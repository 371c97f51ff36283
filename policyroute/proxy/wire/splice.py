"""Edits of a JSON body by bytes: what isn't edited stays as the client wrote it.

Parsing and writing again would change float spellings, integers beyond 64 bits, repeated keys, escapes and lone surrogates, and
with them what a provider reads or caches. So a body is cut at the values that are replaced.

Rules of this module
- The body has been parsed: it is a JSON object, and `fields` is what it says.
- A key may be written with escapes (`"\\u006dodel"`) and may be repeated: every top-level spelling of it is replaced.
- The quick ways are taken only where they are proven right; else the top level is read member by member.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from policyroute.proxy.wire.body import loads

INCLUDED = b'{"include_usage":true}'


class Edit(NamedTuple):
    """`start` to `end` of the body become `put`."""

    start: int
    end: int
    put: bytes


def with_model(body: bytes, fields: Mapping[str, Any], model_id: str, *, ask_usage: bool = False) -> bytes:
    """`body` with `model_id` as its model, and with a stream's usage asked for where `ask_usage`; all other bytes as they are."""
    quoted = _quoted(model_id)
    usage = list(_usage_edits(body, fields)) if ask_usage and fields.get("stream") is True else []
    place = _only_model(body, fields)
    if place is not None and not usage:
        return body[: place[0]] + quoted + body[place[1] :]
    model = [Edit(*place, quoted)] if place is not None else list(_model_edits(body, quoted))
    return edited(body, [*model, *usage])


def edited(body: bytes, edits: Iterable[Edit]) -> bytes:
    """The body after edits, which must not overlap. Those of one place are put in their order."""
    pieces: list[bytes] = []
    place = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        pieces += (body[place : edit.start], edit.put)
        place = edit.end
    return b"".join((*pieces, body[place:]))


@lru_cache(maxsize=256)
def _quoted(text: str) -> bytes:
    return json.dumps(text).encode()


# -- the model -----------------------------------------------------------------------------------------------------

_NAMED = re.compile(rb'"model"\s*:\s*("[^"\\]*+")?')
_FIRST = re.compile(rb'\s*\{\s*"model"\s*:\s*("[^"\\]*+")')
_ESCAPED_LETTER = re.compile(rb"\\u006")  # as all five letters of `model` are written in escapes


def _only_model(body: bytes, fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """Where the value of the only top-level `model` is, where that is plain to see."""
    if not isinstance(fields.get("model"), str):
        return None
    found = _NAMED.finditer(body)
    first, second = next(found, None), next(found, None)
    if first is None:
        return None
    if second is None and first[1] is not None and not (b"\\" in body and _ESCAPED_LETTER.search(body)):
        # The top level holds `model`, no escape hides it, so it is this one; a nested one would have been a second.
        return first.span(1)
    return _proven_first(body)


def _proven_first(body: bytes) -> tuple[int, int] | None:
    """The value of a first member `model`, where no later one takes its place: put in null, and it is null that is read."""
    first = _FIRST.match(body)
    if first is None:
        return None
    start, end = first.span(1)
    tried = loads(b"".join((body[:start], b"null", body[end:])))
    return (start, end) if isinstance(tried, dict) and tried.get("model", "") is None else None


def _model_edits(body: bytes, quoted: bytes) -> Iterator[Edit]:
    places = [(start, end) for key, start, end in members(body) if key == "model"]
    if not places:
        yield _added(body, b'"model":' + quoted)
    for start, end in places:
        yield Edit(start, end, quoted)


# -- usage of streams ----------------------------------------------------------------------------------------------


def _usage_edits(body: bytes, fields: Mapping[str, Any]) -> Iterator[Edit]:
    asked = fields.get("stream_options")
    if isinstance(asked, dict) and asked.get("include_usage") is True:
        return
    if "stream_options" not in fields:
        yield _added(body, b'"stream_options":' + INCLUDED)
        return
    for key, start, end in list(members(body)):
        if key == "stream_options":
            yield from _included(body, start, end)


def _included(body: bytes, start: int, end: int) -> Iterator[Edit]:
    if body[start : start + 1] != b"{":
        yield Edit(start, end, INCLUDED)
        return
    inside = body[start:end]
    places = [(start + low, start + high) for key, low, high in members(inside) if key == "include_usage"]
    for low, high in places:
        yield Edit(low, high, b"true")
    if not places:
        edit = _added(inside, b'"include_usage":true')
        yield Edit(start + edit.start, start + edit.end, edit.put)


def _added(body: bytes, member: bytes) -> Edit:
    """A member put first in an object."""
    start = body.index(b"{") + 1
    return Edit(start, start, member if _EMPTY.match(body, start) else member + b",")


# -- the top level ---------------------------------------------------------------------------------------------------

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_EMPTY = re.compile(rb"\s*\}")
_KEY = re.compile(rb"[\s,]*(" + _STRING + rb")\s*:\s*", re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^\s,{}\[\]"]++', re.DOTALL)
_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+([{}\[\]])", re.DOTALL)


def members(body: bytes) -> Iterator[tuple[str, int, int]]:
    """The members of the object that `body` is: key, and where its value starts and ends. `body` must be JSON."""
    place = body.index(b"{") + 1
    text = body.decode("latin-1")  # a character a byte: what is skipped needs to be delimited, not understood
    while key := _KEY.match(body, place):
        place = _end(body, text, key.end())
        yield json.loads(key[1].decode()), key.end(), place


def _end(body: bytes, text: str, start: int) -> int:
    """Where the value that starts at `start` ends."""
    scalar = _SCALAR.match(body, start)
    if scalar:
        return scalar.end()
    try:
        return _DECODER.raw_decode(text, start)[1]
    except RecursionError:
        return _end_of_deep(body, start)


def _end_of_deep(body: bytes, start: int) -> int:
    """The same for a value that is nested too deeply for `json`, five times as slowly."""
    depth, place = 0, start
    for found in _BRACKET.finditer(body, start):
        depth += 1 if found[1] in b"{[" else -1
        place = found.end()
        if depth == 0:
            break
    return place
