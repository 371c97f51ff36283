"""Which upstreams are left alone for a while: one circuit per model.

- A circuit is closed, open, or half-open. It opens after 5 failures in a row, for 10 s, doubled with each time that it opens again
  without a success between, at most 120 s. When that is over it is half-open: one request at a time is let through, as a probe. A
  success closes it, a failure opens it again. A probe that doesn't report within 60 s (its client has left) is forgotten.
- Failures are those that are the upstream's fault (see `attempts`): time-outs, connections, malformed and cut answers, 5xx, and what
  keeps every request from a model: 401, 402, 403, 404, 408, 409, 429. The client's own 4xx shows that the upstream is alive, and
  counts as a success.
- A 429 with a Retry-After opens the circuit at once for that long, at most 60 s, and doesn't make the next time longer.
- What is reported while the circuit is open comes from requests that began before: a late failure doesn't lengthen the time (unless
  a 429 asks for more), a late success doesn't end it.

A circuit is a value and its transitions are functions of it; `Breaker` holds one for each model and can be shared by threads. All
moments are seconds of one clock that only goes forward.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

from policyroute.proxy.attempts import Failure

FAILURES = 5  # in a row, until a circuit opens
SHORTEST, LONGEST = 10.0, 120.0  # seconds for which it does, the first time and after many
LONGEST_ASKED = 60.0  # seconds of a 429's Retry-After
PROBE = 60.0  # seconds after which a probe without a report is forgotten
PROBED = 1.0  # seconds in which the report of another's probe is awaited

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class Circuit:
    """One model's circuit.

    `failures` are in a row, `trips` how often it opened since the last success. `until` is the moment from which a probe is let
    through, None while it is closed; `probing` is since when one is under way, None where none is.
    """

    failures: int = 0
    trips: int = 0
    until: float | None = None
    probing: float | None = None

    def state(self, now: float) -> State:
        """What it is at a moment."""
        if self.until is None:
            return "closed"
        return "open" if now < self.until else "half-open"


CLOSED = Circuit()


def allows(circuit: Circuit, now: float) -> float:
    """Seconds until the circuit lets a request through, 0 where it does now; 1 at most while another's probe is under way."""
    if circuit.until is None:
        return 0.0
    if now < circuit.until:
        return circuit.until - now
    if circuit.probing is None:
        return 0.0
    return min(max(0.0, circuit.probing + PROBE - now), PROBED)


def entered(circuit: Circuit, now: float) -> Circuit:
    """A request was let through: a probe, unless the circuit is closed."""
    return circuit if circuit.until is None else replace(circuit, probing=now)


def succeeded(circuit: Circuit) -> Circuit:
    """A request was answered. An open circuit without a probe is left as it is: the request began before it opened."""
    return circuit if circuit.until is not None and circuit.probing is None else CLOSED


def failed(circuit: Circuit, failure: Failure, now: float) -> Circuit:
    """A request failed."""
    if failure.clients_own:
        return succeeded(circuit)
    asked = min(failure.asked, LONGEST_ASKED) if failure.listed_as == "429" else 0.0
    state = circuit.state(now)
    failures = circuit.failures + 1
    if asked:
        return replace(circuit, failures=failures, until=max(now + asked, circuit.until or 0.0), probing=None)
    if state == "open":
        return circuit
    if state == "closed" and failures < FAILURES:
        return replace(circuit, failures=failures)
    lasts = min(SHORTEST * 2.0 ** min(circuit.trips, 16), LONGEST)
    return Circuit(failures, circuit.trips + 1, now + lasts)


class Breaker:
    """The circuits of a worker, by model."""

    def __init__(self) -> None:
        self._circuits: dict[str, Circuit] = {}
        self._lock = threading.Lock()

    def closed(self, model: str, now: float) -> float:
        """Seconds until `model` may be asked. 0 is the leave to ask it now: of a half-open circuit, one request gets it."""
        if model not in self._circuits:
            return 0.0
        with self._lock:
            circuit = self._circuits[model]
            wait = allows(circuit, now)
            if wait <= 0:
                self._circuits[model] = entered(circuit, now)
            return wait

    def succeeded(self, model: str) -> None:
        """`model` has answered."""
        if self._circuits.get(model, CLOSED) is CLOSED:
            return
        with self._lock:
            self._circuits[model] = succeeded(self._circuits[model])

    def failed(self, model: str, failure: Failure, now: float) -> None:
        """`model` has failed."""
        with self._lock:
            self._circuits[model] = failed(self._circuits.get(model, CLOSED), failure, now)

    def states(self, now: float) -> dict[str, State]:
        """The state of each model's circuit; a model that never failed isn't there, and its circuit is closed."""
        with self._lock:
            return {model: circuit.state(now) for model, circuit in self._circuits.items()}
