"""The conversion library behind two functions and a stream, imported when the first of them is called.

`martian-linguafranca` (imported as `linguafranca`) is in Rust and takes and gives JSON text. Its functions on text are used, which
the public ones wrap: a stream is pushed into it event by event, which the public iterator can't do.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from policyroute.proxy.convert.json_text import text_of
from policyroute.proxy.wire.body import loads
from policyroute.proxy.wire.counts import items, mapping
from policyroute.signals.request import Api

_FORMATS: dict[Api, str] = {"chat": "openai_chat_completions", "messages": "anthropic_messages", "responses": "open_responses"}


class ConversionError(Exception):
    """What can't be said in the other API. The message says what, and holds nothing of the conversation."""


@cache
def available() -> bool:
    """Whether the library (the extra `convert`) is installed."""
    return find_spec("linguafranca") is not None


def request(client: Api, upstream: Api, fields: dict[str, Any]) -> dict[str, Any]:
    """A request in the upstream's API. Raises ConversionError."""
    raw, refused = _library()
    try:
        return _value(raw.convert_request_json_str(_text(fields), _FORMATS[client], _FORMATS[upstream], None))
    except refused as error:
        raise ConversionError(f"the request can't be converted: {_reason(error)}") from None


def answer(client: Api, upstream: Api, body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer in the client's API. Raises ConversionError."""
    raw, refused = _library()
    try:
        return _value(raw.convert_response_json_str(_text(body), _FORMATS[upstream], _FORMATS[client]))
    except refused as error:
        raise ConversionError(f"the answer can't be converted: {_reason(error)}") from None


class Events:
    """A stream's events on their way into the client's API. All of it raises ConversionError."""

    def __init__(self, client: Api, upstream: Api) -> None:
        raw, self._refused = _library()
        self._converter = raw.create_response_stream_converter(_FORMATS[upstream], _FORMATS[client])

    def push(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """The client's events that an upstream's event gives."""
        try:
            return items(loads(self._converter.transform_json_str(_text(event)).encode()))
        except self._refused as error:
            raise ConversionError(f"an event can't be converted: {_reason(error)}") from None

    def last(self) -> list[dict[str, Any]]:
        """The events that the library held back until the end."""
        try:
            return items(loads(self._converter.flush_json_str().encode()))
        except self._refused as error:
            raise ConversionError(f"the stream's end can't be converted: {_reason(error)}") from None


@cache
def _library() -> tuple[Any, type[Exception]]:
    if not available():
        raise ConversionError("the extra `convert` is not installed")
    import linguafranca

    return linguafranca._linguafranca, linguafranca.ConversionError


def _text(value: dict[str, Any]) -> str:
    return text_of(value).decode()


def _value(text: str) -> dict[str, Any]:
    return mapping(mapping(loads(text.encode())).get("value"))


def _reason(error: Exception) -> str:
    """The library's reason without what may be the user's words: it quotes unknown values."""
    return str(error).split("`", 1)[0].strip().rstrip(":,") or "it isn't in the API's shape"
