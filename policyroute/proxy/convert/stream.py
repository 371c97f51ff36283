"""A stream from one API into another, without IO: an upstream's bytes in, the client's bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyroute.proxy.convert import library
from policyroute.proxy.convert.failures import shown
from policyroute.proxy.convert.sources import SOURCES
from policyroute.proxy.convert.targets import TARGETS
from policyroute.proxy.wire.body import loads
from policyroute.proxy.wire.errors import cause_of, error_type
from policyroute.proxy.wire.sse import Blocks, data_of, events
from policyroute.proxy.wire.watching import DONE
from policyroute.signals.request import Api


class Stream:
    """One answer. It ends for the client when it has for the upstream: a stream that is cut stays open, for the caller to end it
    with the upstream's own last events (a `Watcher`'s `finishing`) or to fail it."""

    def __init__(self, client: Api, upstream: Api, fields: Mapping[str, Any]) -> None:
        self._source = SOURCES[upstream](client)
        self._target = TARGETS[client](fields, self._source)
        self._library = library.Events(client, upstream)
        self._blocks = Blocks()
        self._closed = False
        self._quiet = 0

    def feed(self, data: bytes) -> bytes:
        """The client's events that the upstream's bytes give, cut however they are. Raises ConversionError."""
        block = self._blocks.feed(data)
        return b"".join([self._one(event) for event in events(block)]) if block else b""

    def rest(self) -> bytes:
        """What is left when the upstream has closed: a last event without its blank line, and where the answer said why it ended,
        the events that end it. Raises ConversionError."""
        tail = bytes(self._blocks.tail).rstrip(b"\r\n")
        self._blocks.tail.clear()
        out = self._one(tail + b"\n\n") if tail else b""
        return out + (self._end() if self._source.end else b"")

    def _one(self, event: bytes) -> bytes:
        data = data_of(event)
        if self._closed:
            return b""
        if not data:
            return event if event.startswith(b":") else b""
        if data == DONE:
            return self._end()
        value = loads(data)
        if not isinstance(value, dict):
            return b""
        source = self._source
        source.quiet = False
        out = b"".join([self._target.put(made) for read in source.read(value) for made in self._library.push(read)])
        if source.error is not None:
            return out + self._fail()
        if source.over:
            return out + self._end()
        return out or (self._alive() if source.quiet else b"")

    def _alive(self) -> bytes:
        """A sign of life at the first event that gives nothing, and then at every sixteenth."""
        self._quiet += 1
        return self._target.alive() if self._quiet % 16 == 1 else b""

    def _end(self) -> bytes:
        if self._closed:
            return b""
        self._closed = True
        last = [made for read in self._last() for made in self._library.push(read)] + self._library.last()
        last.sort(key=lambda made: made.get("output_index", 0))  # an item ends before the next begins
        return b"".join([self._target.put(made) for made in last]) + self._target.end()

    def _last(self) -> list[dict[str, Any]]:
        return list(self._source.last()) if self._source.begun else []

    def _fail(self) -> bytes:
        self._closed = True
        error = self._source.error or {}
        status = int(cause_of(error_type({"error": error})))
        return self._target.fail(status, shown(status, error.get("message")))
