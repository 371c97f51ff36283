"""An upstream's stream in the client's API, event by event.

Rules of this module
- `Reader`s cut each event down as `reading` does for a whole answer, and mend what linguafranca trips over: arguments in a call's
  first chunk, a call without arguments, counts that only the start of a stream tells, counts that come early.
- `Writer`s complete its events: one open block at a time, `event:` names, `[DONE]`, the usage chunk only where it was asked for.
- How the upstream's bytes were cut into calls of `feed` doesn't matter, as long as events are whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from policyroute.proxy.conversion import library
from policyroute.proxy.conversion.library import ConversionError
from policyroute.proxy.conversion.readers import READERS
from policyroute.proxy.conversion.writers import WRITERS
from policyroute.proxy.wire.body import loads
from policyroute.proxy.wire.sse import data_of, events
from policyroute.signals.request import Api


class Stream:
    """One stream on its way. Raises ConversionError for events that can't be read."""

    def __init__(self, client: Api, upstream: Api, fields: Mapping[str, Any]) -> None:
        self._events = library.Events(upstream, client)
        self._reader = READERS[upstream](client)
        self._writer = WRITERS[client](fields, int(time.time()))
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """The client's events for the upstream's whole events in `data`."""
        with library.guarded():
            return b"".join(self._each(data))

    def rest(self) -> bytes:
        """The events that end the stream, as far as they haven't been given; call it once no more comes."""
        with library.guarded():
            return b"".join(self._end())

    def _each(self, data: bytes) -> Iterator[bytes]:
        for event in events(data):
            inner = data_of(event)
            if inner == b"[DONE]":
                yield from self._end()
            elif inner:
                yield from self._one(inner)

    def _one(self, inner: bytes) -> Iterator[bytes]:
        value = loads(inner)
        if not isinstance(value, dict):
            raise ConversionError("an event is no JSON object")
        for event in self._reader.read(value):
            yield from self._written(self._events.feed(event))
        if self._reader.over:
            yield from self._end()

    def _end(self) -> Iterator[bytes]:
        if self._over:
            return
        self._over = True
        for event in self._reader.last():
            yield from self._written(self._events.feed(event))
        yield from self._written(self._events.end())
        yield self._writer.last()

    def _written(self, found: list[dict[str, Any]]) -> Iterator[bytes]:
        for event in found:
            yield self._writer.written(event, self._reader.ending)
