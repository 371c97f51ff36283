"""Which upstream is asked next: one request's attempts as a machine without clocks and sockets.

The models
- The chain is the decision's: its first choice, then its fallbacks, in order. The fallbacks hold without any clause. With `then
  next`, the models of the next tiers up follow when the chain is used up, as far as limits allow them.
- Only models that the machine is given are ever named, each once, apart from its retries. A model whose circuit is open is passed
  over for this request, and reported in `skipped`.

Before anything of the answer has reached the client
- A failure is the upstream's fault, or it is the client's own. The client's own (a 4xx that isn't named here) is `Pass`: its answer
  is handed on as it is, no other model is asked. The upstream's are `timeout`, `connection`, `malformed`, `cut`, 401, 402, 403, 404,
  408, 409, 429, every 5xx, and every status that `retry ... on` lists.
- An error inside a stream that has begun with 200 counts as the status that its type stands for (`overloaded_error`: 529; a type
  that isn't known: 500). It is never `Pass`: there is no answer with such a status to hand on.
- `retry N on CAUSES` tries a model up to N times more when the failure's cause is listed. `timeout` covers timeouts of the gateway,
  `connection` covers connection, malformed and cut; statuses are listed as numbers. Without the clause nothing is retried.
- A retry waits 0.25 s, doubled with each retry of that model, at most 8 s; of that, a part between a half and the whole is drawn by
  a hash of seed, model and number, so that requests which failed together don't come back together. Where the upstream's
  Retry-After is longer, the wait is that.
- A wait for a Retry-After of more than 2 s gives way to another usable model, which is tried at once. A wait of more than 10 s, or
  one that ends at the deadline or behind it, is not waited for. Nor is one for a model whose circuit stays open longer than it.
- `within` is the time from the request's arrival until an answer has begun, for all attempts together: 600 s where it isn't said.
  At the deadline and behind it, no model is tried.
- When nothing is left the answer is `GiveUp` (503): the clause's `last answer`, else a plain sentence, and a Retry-After: the soonest
  moment at which a failed upstream, by its last word, may be tried again, or a circuit lets a request through; at least 1 s, and 1 s
  where no such moment is known.

After a part of it has reached the client
- Never again once a tool call has begun: `Fail`, whatever the clause says, because half a tool call is worse than none. Without
  `on stream failure`: `Fail`.
- `before 20% restart otherwise finish` restarts below 20 % of the expected answer and finishes from there on. `Restart` asks the
  next usable model from the beginning, `Continue` asks it to go on: at most one of them per request, never a model that was asked
  before, with `within` anew from the break on. An answer whose structure is asked for (JSON) can't be joined: `Fail` instead.
- Where there is no such model left, the clause's other arm acts if it is `finish`, else `Fail`.
- `Finish` ends the answer well-formed and marked as cut.

`Pass`, `GiveUp`, `Finish` and `Fail` are final: whatever is reported after them, no model is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from policyroute.language.decision import draw
from policyroute.language.policy import Chain
from policyroute.language.statements import OnFailure, OnStreamFailure, StreamAction

WITHIN = 600.0  # seconds until an answer has begun, where the policy doesn't say
BACKOFF, LONGEST_BACKOFF = 0.25, 8.0  # seconds before the first retry and before a late one
PATIENCE = 2.0  # seconds of a Retry-After that are waited for although another model is usable
LONGEST_WAIT = 10.0  # seconds that are waited for at all
LONGEST_ASKED = 86_400.0  # seconds of a Retry-After that are believed
SHARES = 10_000

UPSTREAM_STATUSES = frozenset({"401", "402", "403", "404", "408", "409", "429"})
COVERED = {"timeout": "timeout", "connection": "connection", "malformed": "connection", "cut": "connection"}
"""Causes that are no status, and the word of `retry ... on` that covers each."""
IN_STREAM = {
    "invalid_request_error": "400", "authentication_error": "401", "billing_error": "402", "permission_error": "403",
    "not_found_error": "404", "request_too_large": "413", "rate_limit_error": "429", "rate_limit_exceeded": "429",
    "insufficient_quota": "429", "api_error": "500", "server_error": "500", "timeout_error": "504", "overloaded_error": "529",
}  # fmt: skip
"""Types of errors that come inside a stream, and the status with which the same error comes before one."""
IN_STREAM_UNKNOWN = "500"

CIRCUIT_OPEN = "circuit open"
UNAVAILABLE = "No model is available at the moment, please try again later."
OUT_OF_TIME = "No model answered in time, please try again later."
ALL_FAILED = "No model could answer, please try again later."


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    `cause` is `timeout`, `connection`, `malformed`, `cut`, a status code as text (`429`), or the type of an error that came inside
    a stream (`overloaded_error`). `retry_after` is how many seconds the upstream asked to wait, None where it didn't.
    """

    cause: str
    retry_after: float | None = None

    @property
    def listed_as(self) -> str:
        """The cause as `retry ... on` lists it: `timeout`, `connection`, or a status code."""
        if self.cause.isdecimal():
            return self.cause
        return COVERED.get(self.cause) or IN_STREAM.get(self.cause, IN_STREAM_UNKNOWN)

    @property
    def clients_own(self) -> bool:
        """Whether the request is at fault, and no upstream."""
        status = self.listed_as
        return len(status) == 3 and status.startswith("4") and status not in UPSTREAM_STATUSES

    @property
    def asked(self) -> float:
        """Seconds that the upstream asked to wait, 0 where it didn't."""
        return min(max(0.0, self.retry_after or 0.0), LONGEST_ASKED)


@dataclass(frozen=True, slots=True)
class Try:
    """Ask `model`, after `wait` seconds."""

    model: str
    wait: float


@dataclass(frozen=True, slots=True)
class Pass:
    """Hand the upstream's answer on as it is: the client's own error."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Answer 503 with `message` and a Retry-After of `retry_after` seconds."""

    message: str
    retry_after: int


@dataclass(frozen=True, slots=True)
class Restart:
    """Ask `model` for the whole answer anew, behind what the client has."""

    model: str


@dataclass(frozen=True, slots=True)
class Continue:
    """Ask `model` to go on where the answer broke off."""

    model: str


@dataclass(frozen=True, slots=True)
class Finish:
    """End the answer well-formed, marked as cut."""


@dataclass(frozen=True, slots=True)
class Fail:
    """End the answer with an error."""


Ending = TypeVar("Ending", bound="Pass | GiveUp | Finish | Fail")


class Attempts:
    """The attempts of one request.

    `chain` is the decision's; `above` gives the models of the next tiers up that limits allow, and is asked at most once, when the
    chain is used up. `seed` is the request's id. `started` is its arrival; every moment is in seconds of one clock that only goes
    forward. `closed(model)` is in how many seconds the model's circuit lets a request through. Its 0 is a leave that may be given
    to one request only (a half-open circuit's probe), so it is asked for the model that would be tried next, and never in advance.
    """

    __slots__ = (
        "_above", "_again", "_clause", "_closed", "_joined", "_left", "_model", "_over", "_retried", "_seed", "_seen",
        "_stream", "_within", "deadline", "skipped",
    )  # fmt: skip

    def __init__(
        self,
        chain: Chain,
        above: Callable[[], Chain],
        on_failure: OnFailure | None,
        on_stream_failure: OnStreamFailure | None,
        seed: str,
        started: float,
        closed: Callable[[str], float],
    ) -> None:
        self._clause = clause = on_failure or OnFailure()
        self._stream = on_stream_failure
        self._seed, self._closed = seed, closed
        self._within = WITHIN if clause.within is None else clause.within / 1000
        self.deadline = started + self._within
        """The moment by which an answer must have begun."""
        self.skipped: list[tuple[str, str]] = []
        """Models that were passed over, and why; whoever reads it empties it."""
        self._left = list(dict.fromkeys(chain))
        self._seen = set(chain)
        self._above: Callable[[], Chain] | None = above if clause.up else None
        self._model, self._retried = "", 0  # the last that was tried, and how often again
        self._again: dict[str, float] = {}  # from when a model may be usable again, where that is known
        self._joined = False  # a second model was asked after the break
        self._over = False

    @property
    def more(self) -> bool:
        """Whether another try may follow should the one under way time out, so that it may not use up all of the time."""
        again = "timeout" in self._clause.causes and self._retried < self._clause.retries and not self._over
        return again or self._names_left()

    def start(self, now: float) -> Try | GiveUp:
        """The first try."""
        return self._other(now) or self._give_up(now)

    def failed(self, failure: Failure, now: float) -> Try | Pass | GiveUp:
        """What follows the failure of the last try, of which nothing has reached the client."""
        if failure.clients_own and failure.cause.isdecimal() and failure.cause not in self._clause.causes:
            return self._end(Pass())
        self._again.pop(self._model, None)  # what it said before is no longer so
        if failure.asked:
            self._again[self._model] = now + failure.asked
        wait = self._wait(failure, now)
        if wait is None:
            return self._other(now) or self._give_up(now)
        if failure.asked > PATIENCE:
            return self._other(now) or self._same(wait, now) or self._give_up(now)
        return self._same(wait, now) or self._other(now) or self._give_up(now)

    def broke(
        self, failure: Failure, share: float, tool_begun: bool, structured: bool, now: float
    ) -> Restart | Continue | Finish | Fail:
        """What follows the failure of the last try, of which a part has reached the client.

        `share` is how much of the expected answer that is, from 0 to 1; `tool_begun`: it holds the beginning of a tool call;
        `structured`: the answer has a structure that a second one can't be joined to.
        """
        clause = self._stream
        if clause is None or tool_begun:
            return self._end(Fail())
        early = clause.before is not None and share * SHARES < clause.before
        action, other = (clause.early, clause.late) if early else (clause.late, clause.early)
        if action in ("finish", "fail"):
            return self._end(_ending(action))
        if structured:
            return self._end(Fail())
        model = self._second(now)
        if not model:
            return self._end(_ending(other))
        return Restart(model) if action == "restart" else Continue(model)

    # -- before the answer has begun -----------------------------------------------------------------------------------

    def _wait(self, failure: Failure, now: float) -> float | None:
        """Seconds until the same model may be tried again, None where it may not."""
        clause = self._clause
        if self._over or failure.listed_as not in clause.causes or self._retried >= clause.retries:
            return None
        wait = max(self._backoff(), failure.asked)
        return wait if wait <= LONGEST_WAIT and now + wait < self.deadline else None

    def _backoff(self) -> float:
        whole = min(BACKOFF * 2.0 ** min(self._retried, 16), LONGEST_BACKOFF)
        drawn = draw(self._seed, self._model, str(self._retried + 1)) / (1 << 60)
        return whole * (0.5 + drawn / 2)

    def _same(self, wait: float, now: float) -> Try | None:
        closed = self._closed(self._model)
        if closed > wait:
            self._again[self._model] = now + closed
            return None
        self._retried += 1
        return Try(self._model, wait)

    def _other(self, now: float) -> Try | None:
        model = self._next(now)
        return Try(model, 0.0) if model else None

    def _give_up(self, now: float) -> GiveUp:
        plain = OUT_OF_TIME if now >= self.deadline else ALL_FAILED if self._model else UNAVAILABLE
        wait = max(1, ceil(min(self._again.values(), default=now) - now))
        return self._end(GiveUp(self._clause.last_answer or plain, wait))

    # -- after it ------------------------------------------------------------------------------------------------------

    def _second(self, now: float) -> str:
        """The model that is asked for the rest, "" where none may be."""
        if self._joined:
            return ""
        self._joined = True
        self.deadline = now + self._within
        return self._next(now)

    # -- models --------------------------------------------------------------------------------------------------------

    def _next(self, now: float) -> str:
        """The next usable model, which is then the last that was tried; "" where there is none, or no time."""
        while now < self.deadline and self._names_left():
            model = self._left.pop(0)
            closed = self._closed(model)
            if closed <= 0:
                self._model, self._retried = model, 0
                return model
            self.skipped.append((model, CIRCUIT_OPEN))
            self._again[model] = now + closed
        return ""

    def _names_left(self) -> bool:
        if not self._left and self._above is not None:
            above, self._above = self._above, None
            self._left = [model for model in dict.fromkeys(above()) if model not in self._seen]
        return bool(self._left)

    def _end(self, ending: Ending) -> Ending:
        self._over, self._joined = True, True
        self._left, self._above = [], None
        return ending


def _ending(action: StreamAction) -> Finish | Fail:
    return Finish() if action == "finish" else Fail()
