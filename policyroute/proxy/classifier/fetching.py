"""One call within a time that holds, whatever the network does.

The call is made in a thread of its own. Looking up a name, and sending to a peer that doesn't read, can't be ended from outside;
whoever waits for the answer is let go all the same, and the thread ends when the system gives the call up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from policyroute.proxy.upstream.transport import Call, Flight, Transport, UpstreamFailed

LARGEST = 1 << 20  # bytes of an answer
GRACE = 0.05  # seconds beyond its time in which a call that ends in good order says so itself


class Fetched:
    """What came of a call: `status`, `headers` and `body`, or `failure` (`timeout`, `connection`, `malformed`). `sent` is whether
    the request was on its way, so that it may cost something."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self.failure = "malformed"  # what it is as long as nobody has said how it ended
        self.sent = False


def fetched(transport: Transport, call: Call, within: float) -> Fetched:
    """Make a call, and wait for its end `within` seconds. It doesn't raise."""
    made, over = Fetched(), threading.Event()

    def run() -> None:
        try:
            _fetch(transport, call, time.monotonic() + within, made)
        except UpstreamFailed as error:
            made.failure = error.cause
        finally:
            over.set()

    try:
        threading.Thread(target=run, name="policyroute-classifier", daemon=True).start()
    except RuntimeError:  # the system has no thread left
        made.failure = "connection"
        return made
    if over.wait(within + GRACE):
        return made
    left = Fetched()  # not the one that the thread may still write to
    left.failure, left.sent = "timeout", made.sent
    return left


def _fetch(transport: Transport, call: Call, end: float, made: Fetched) -> None:
    flight = transport.open(call)
    made.sent = True
    try:
        if not flight.begin(_left(end)):
            raise UpstreamFailed("timeout", "no answer began in time")
        made.body = _whole(flight, end)
        made.status, made.headers, made.failure = flight.status, flight.headers, ""
    finally:
        flight.close()


def _whole(flight: Flight, end: float) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while size <= LARGEST:
        data = flight.read(_left(end))
        if data is None or time.monotonic() > end:
            raise UpstreamFailed("timeout", "the answer didn't end in time")
        if not data:
            return b"".join(pieces)
        size += len(data)
        pieces.append(data)
    raise UpstreamFailed("malformed", "the answer is too large")


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.001)
