"""How long an exchange waits for its upstream, and what the client is told meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

from policyroute.proxy.attempts import Attempts
from policyroute.proxy.means import EVENT_STREAM, PING, Means
from policyroute.proxy.outgoing import Incoming
from policyroute.proxy.stopwatch import Stopwatch
from policyroute.proxy.upstream.transport import Flight, UpstreamFailed


class Waiting:
    """The part of an exchange that knows of time. Whoever extends it sets these, and says how an answer begins."""

    means: Means
    incoming: Incoming
    watch: Stopwatch
    attempts: Attempts
    committed: bool

    def _set_head(self, status: int, found: list[tuple[str, str]], content_type: str) -> None:
        raise AssertionError("an exchange says how its answer begins")

    def _begin(self, flight: Flight) -> Iterator[bytes]:
        """Wait for status and headers; a stream is sent comments meanwhile."""
        limit = self.watch.now() + self._patience()
        while True:
            if self.watch.waiting(flight.begin, min(self._tick(), max(limit - self.watch.now(), 0.001))):
                return
            if self.watch.now() >= limit:
                raise UpstreamFailed("timeout", "no answer began in time")
            yield from self._ping()

    def _patience(self) -> float:
        """Seconds that this attempt may take until its answer begins: half of what is left, so that another one fits."""
        left = max(self.attempts.deadline - self.watch.now(), 0.05)
        return min(self.means.settings.first_byte, left / 2 if self.attempts.more else left)

    def _ping(self) -> Iterator[bytes]:
        if self.incoming.stream:
            self._set_head(200, [], EVENT_STREAM)
            yield from self.watch.sent(PING)

    def _wait(self, seconds: float) -> Iterator[bytes]:
        until = self.watch.now() + seconds
        while (left := until - self.watch.now()) > 0:
            self.watch.waiting(time.sleep, min(left, self._tick()))
            if until > self.watch.now():
                yield from self._ping()

    def _whole(self, flight: Flight, limit: int) -> bytes:
        """The rest of the body; raises UpstreamFailed where it is too large or doesn't come in time."""
        pieces: list[bytes] = []
        size, settings = 0, self.means.settings
        patience = settings.idle if self.incoming.stream else settings.first_byte
        while True:
            left = min(self.attempts.deadline - self.watch.now(), patience)
            data = self.watch.waiting(flight.read, max(left, 0.001))
            if data is None:
                raise UpstreamFailed("timeout", "the answer didn't end in time")
            if not data:
                return b"".join(pieces)
            size += len(data)
            if size > limit:
                raise UpstreamFailed("malformed", f"the answer is larger than {limit} bytes")
            pieces.append(data)

    def _tick(self) -> float:
        return self.means.settings.ping

    def _idle(self) -> float:
        """Seconds of silence after which a stream is given up; before its first content the deadline counts too."""
        if self.committed:
            return self.means.settings.idle
        return min(self.means.settings.idle, max(self.attempts.deadline - self.watch.now(), 0.0))
