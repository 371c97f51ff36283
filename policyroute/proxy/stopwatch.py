"""Time of one request: since its arrival, and how much of it was spent waiting for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

Waited = TypeVar("Waited")


class Stopwatch:
    """Reads one clock that only goes forward, in seconds. `waited` is the time spent on the upstream and on the client."""

    def __init__(self, clock: Callable[[], float], started: float) -> None:
        self._clock, self.started = clock, started
        self.waited = 0.0

    def now(self) -> float:
        """The moment."""
        return self._clock()

    def ms(self, moment: float | None = None) -> float:
        """Milliseconds from the request's arrival to `moment`, or until now."""
        return ((self._clock() if moment is None else moment) - self.started) * 1000

    def overhead(self) -> float:
        """Milliseconds since the arrival that weren't spent waiting."""
        return max(0.0, self.ms() - self.waited * 1000)

    def waiting(self, wait: Callable[[float], Waited], seconds: float) -> Waited:
        """What `wait(seconds)` gives, its time counted as waited."""
        began = self._clock()
        try:
            return wait(seconds)
        finally:
            self.waited += self._clock() - began

    def sent(self, out: bytes) -> Iterator[bytes]:
        """Hand bytes to the server; the time until it asks for more is the client's."""
        began = self._clock()
        yield out
        self.waited += self._clock() - began
