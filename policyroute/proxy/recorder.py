"""What is written down of a finished request, off the request's path: metrics, journal, access log, spans.

One daemon thread per worker takes finished requests from a queue. Where it falls behind by more than `BEHIND` requests, the
request's own thread does the work: nothing is dropped here. What can be lost is said by the journal and counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from policyroute.backends.chance import model_probability
from policyroute.prices.cost import cost
from policyroute.proxy.served import Attempt, Served, Shadow
from policyroute.proxy.service import Service

BEHIND = 2_000  # requests
GATHER = 0.02  # seconds
QUIET = 5.0  # seconds between two warnings
Writer = Callable[[Served], None]

log = logging.getLogger("policyroute")


class Recorder:
    """Completes each request (propensity, the shadow policy's decision) and hands it to the writers in turn."""

    def __init__(self, writers: Sequence[Writer]) -> None:
        self.writers = tuple(writers)
        self._waiting: deque[tuple[Served, Service]] = deque()
        self._some = threading.Event()
        self._recording = threading.Lock()
        self._lock = threading.Lock()
        self._process = 0
        self._closing = False
        self._complained = -QUIET

    def add(self, served: Served, service: Service) -> None:
        """Write down a finished request, soon."""
        if self._process != os.getpid():
            self._start()
        if len(self._waiting) >= BEHIND:
            self._record(served, service)
            return
        self._waiting.append((served, service))
        if not self._some.is_set():
            self._some.set()

    def drain(self) -> None:
        """Write what was added before."""
        with self._recording:
            while self._waiting:
                self._record(*self._waiting.popleft())

    def close(self) -> None:
        """Write what is left; the thread ends."""
        self._closing = True
        self._some.set()
        self.drain()

    def _start(self) -> None:
        with self._lock:
            if self._process != os.getpid():
                self._closing = False
                threading.Thread(target=self._run, name="policyroute-recorder", daemon=True).start()
                self._process = os.getpid()

    def _run(self) -> None:
        """Requests are gathered for a moment: a thread that woke for each of them would take turns with those that serve."""
        while not self._closing:
            self._some.wait()
            time.sleep(GATHER)
            self._some.clear()
            self.drain()

    def _complain(self, served: Served) -> None:
        """Say in the log that nobody answered, at most once in `QUIET` seconds: metrics count the others."""
        now = time.monotonic()
        if now - self._complained >= QUIET:
            self._complained = now
            log.warning("no model answered %s (%s)", served.id, "; ".join(map(_said, served.attempts)) or "none could be asked")

    def _record(self, served: Served, service: Service) -> None:
        try:
            _complete(served, service)
            if served.verdict == "failed":
                self._complain(served)
            for write in self.writers:
                write(served)
        except Exception:
            log.exception("a finished request could not be recorded: %s", served.id)


def _said(attempt: Attempt) -> str:
    return f"{attempt.model}: {attempt.result}" + (f" ({attempt.detail})" if attempt.detail else "")


def _complete(served: Served, service: Service) -> None:
    decision, values = served.decision, served.values
    if decision is None or values is None:
        return
    values.quiet = True  # a classifier that the decision didn't need is asked by nobody here
    deciding = service.deciding
    if decision.chain and not decision.acted and served.model in ("", decision.chain[0]):  # of what state chose, chance has no part
        served.propensity = model_probability(deciding.policy, decision, values, lambda model: not deciding.allows(model, values))
    if service.shadow is not None and served.shadow_values is not None:
        shadow = service.shadow
        other = shadow.decide(served.shadow_values)
        price = shadow.prices.get(other.chain[0]) if other.chain else None
        usage = served.usage
        served.shadow = Shadow(
            shadow.policy, other, cost(usage, price, served.at, served.service_tier or "standard") if usage else None
        )
