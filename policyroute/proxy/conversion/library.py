"""linguafranca behind two functions and a stream: what crosses is JSON, what it refuses is a ConversionError.

It is imported by the first conversion. Its streams are driven one event at a time, which its public iterators can't do; the
converter beneath them can, and stays the same within the versions that the extra `convert` allows.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

from policyroute.proxy.wire.body import loads
from policyroute.signals.request import Api

_NAMES: Mapping[str, str] = {
    "chat": "openai_chat_completions", "responses": "open_responses", "messages": "anthropic_messages",
}  # fmt: skip
_QUOTED = 200  # characters of a reason that are repeated


class ConversionError(Exception):
    """A body that can't be converted; the message says why."""


@cache
def available() -> bool:
    """Whether the extra `convert` is installed."""
    return find_spec("linguafranca") is not None


@cache
def _core() -> Any:
    try:
        return importlib.import_module("linguafranca._linguafranca")
    except ImportError as error:
        raise ConversionError(f"the extra `convert` is not installed: {error}") from None


def request(source: Api, target: Api, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request body of `source` as one of `target`."""
    core = _core()
    try:
        text = core.convert_request_json_str(_text(fields), _NAMES[source], _NAMES[target], None)
    except ValueError as error:
        raise refused(error) from None
    return _object(loads(text.encode()).get("value"))


def answer(source: Api, target: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """A whole answer of `source` as one of `target`."""
    core = _core()
    try:
        text = core.convert_response_json_str(_text(body), _NAMES[source], _NAMES[target])
    except ValueError as error:
        raise refused(error) from None
    return _object(loads(text.encode()).get("value"))


class Events:
    """A stream of `source` as one of `target`, event by event."""

    def __init__(self, source: Api, target: Api) -> None:
        try:
            self._converter = _core().create_response_stream_converter(_NAMES[source], _NAMES[target])
        except ValueError as error:
            raise refused(error) from None

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The events that `event` gives."""
        try:
            return list(loads(self._converter.transform_json_str(_text(event)).encode()))
        except ValueError as error:
            raise refused(error) from None

    def end(self) -> list[dict[str, Any]]:
        """The events that were held back until the end."""
        try:
            return list(loads(self._converter.flush_json_str().encode()))
        except ValueError as error:
            raise refused(error) from None


@contextmanager
def guarded() -> Iterator[None]:
    """Bodies are a stranger's: what is of the wrong type anywhere in one is refused like what linguafranca's schema refuses."""
    try:
        yield
    except (TypeError, AttributeError, LookupError, ValueError, RecursionError) as error:
        raise refused(error) from error


def refused(error: Exception) -> ConversionError:
    """The error of a body that linguafranca's schema refuses."""
    return ConversionError(f"it can't be converted: {str(error)[:_QUOTED]}")


def _text(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise refused(error) from None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConversionError("it can't be converted: the result is no object")
    return value
