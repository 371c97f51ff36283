"""One model call from its decision to the end of its answer: the attempts machine's actions carried out.

Rules of this module
- What to do next is said by `attempts`, what bytes mean by `wire`; here they are only brought together with an upstream.
- `run()` is a generator of the answer's bytes. Before its first bytes it has set `head`. Its end, however it comes, closes the
  upstream and fills `served`.
- Time spent waiting for the upstream or the client is counted apart, so that the overhead is what is left.
- A stream that waits for long is sent comments: they find clients that are gone, and commit to nothing but the status 200.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from policyroute.prices.cost import cost
from policyroute.proxy import convert, headers
from policyroute.proxy.attempts import Attempts, Continue, Failure, Finish, GiveUp, Pass, Restart, Try
from policyroute.proxy.escalation import WEAK, Escalating, Reply
from policyroute.proxy.means import EVENT_STREAM, Head, Means
from policyroute.proxy.outgoing import Outgoing
from policyroute.proxy.served import Attempt, Served
from policyroute.proxy.service import Service
from policyroute.proxy.stopwatch import Stopwatch
from policyroute.proxy.upstream.transport import Flight, UpstreamFailed
from policyroute.proxy.waiting import Waiting
from policyroute.proxy.weak import Spoken, spoken
from policyroute.proxy.wire.errors import error_type
from policyroute.proxy.wire.surface import Counted, Watcher, cause_of

ERROR_LIMIT = 1 << 20  # bytes of an upstream's error that are handed on
GRACE = 0.2  # seconds for the last bytes of a stream whose end was seen


class _Rejected(NamedTuple):
    """An upstream's answer that is an error."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange(Waiting):
    """One request under a decision that names models."""

    def __init__(self, means: Means, service: Service, outgoing: Outgoing, served: Served, chain: tuple[str, ...]) -> None:
        self.means, self.service, self.outgoing, self.served = means, service, outgoing, served
        self.incoming = incoming = outgoing.incoming
        self.head: Head | None = None
        self.watch = Stopwatch(means.clock, incoming.started)
        policy = service.policy
        self.attempts = Attempts(
            chain, self._above, policy.on_failure, policy.on_stream_failure, served.id, incoming.started, self._closed
        )
        self.escalating = Escalating(service, outgoing, served)
        self.keep_text = policy.on_stream_failure is not None and "continue" in (
            policy.on_stream_failure.early, policy.on_stream_failure.late,
        )  # fmt: skip
        # A second stream can be joined to the first only where both speak the client's API.
        self.joinable = all(outgoing.surface(model) is incoming.surface for model in policy.models)
        self.watcher: Watcher | None = None
        self.converter: Any = None
        self.rejected: _Rejected | None = None
        self.unsaid = ""  # why the request can't be said in the API of the model that was tried last
        self.committed = False

    # -- the whole -----------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[bytes]:
        """The answer's bytes. A client that leaves ends it by `close()`."""
        try:
            yield from self._attempted()
        except GeneratorExit:
            if self.watcher is None or not self.watcher.over:  # a client may leave when it has seen the end
                self.served.verdict, self.served.error = "abandoned", "client_gone"
            raise
        finally:
            self._finished()
            del self.attempts  # it holds this exchange: without a circle, memory is free at once

    def _attempted(self) -> Iterator[bytes]:
        action: object = self.attempts.start(self.watch.now())
        while True:
            self._passed_over()
            match action:
                case Try(model, wait):
                    yield from self._wait(wait)
                    failure = yield from self._one(model, "")
                case Restart(model):
                    failure = yield from self._one(model, "restart")
                case Continue(model):
                    failure = yield from self._one(model, "continue")
                case Finish():
                    yield from self._finishing()
                    return
                case Pass() | GiveUp() if self.escalating.first is not None:
                    yield from self._replied(self.escalating.first)
                    return
                case Pass():
                    yield from self._passing()
                    return
                case GiveUp(message, retry_after):
                    yield from self._giving_up(message, retry_after)
                    return
                case _:
                    yield from self._failing("the answer was cut off upstream", "cut")
                    return
            if failure is None:
                return
            action = self._higher() if failure is WEAK else self._next(failure)

    def _higher(self) -> object:
        """What follows a weak answer: the next tier up, with its fallbacks, in what is left of the time."""
        clause = self.service.policy.on_failure
        self.attempts = Attempts(
            self.escalating.higher(), tuple, clause, None, f"{self.served.id} up", self.incoming.started, self._closed
        )
        return self.attempts.start(self.watch.now())

    def _next(self, failure: Failure) -> object:
        now = self.watch.now()
        if not self.committed:
            return self.attempts.failed(failure, now)
        watcher = self.watcher
        assert watcher is not None
        whole = self.incoming.structured or not (self.joinable and watcher.restartable)
        limit = max(1, self.incoming.max_output)
        return self.attempts.broke(failure, watcher.delivered / limit, watcher.tool_begun, whole, now)

    # -- one attempt ---------------------------------------------------------------------------------------------------

    def _one(self, model: str, mode: str) -> Generator[bytes, None, Failure | None]:
        """Try one model. None: its answer has gone to the client. Else why it hasn't, or why it broke off."""
        began = self.watch.now()
        attempt = Attempt(model, self.watch.ms(began), 0.0, "")
        self.served.attempts.append(attempt)
        failure: Failure | None = Failure("connection")
        flight: Flight | None = None
        try:
            text = self.watcher.text if mode == "continue" and self.watcher else ""
            call = self.outgoing.call(model, min(self.means.settings.connect, self._patience()), continued=text)
            flight = self.watch.waiting(lambda _: self.means.transport.open(call), 0.0)
            yield from self._begin(flight)
            failure = yield from self._answer(flight, model, mode)
        except UpstreamFailed as error:
            attempt.detail = error.detail
            failure = Failure("cut" if self.committed and error.cause == "connection" else error.cause)
        except convert.ConversionError as error:
            failure, self.unsaid = Failure("malformed"), str(error) if flight is None else self.unsaid
        except GeneratorExit:
            attempt.result = "abandoned"
            raise
        finally:
            if flight is not None:
                flight.close()
            attempt.took = self.watch.ms() - attempt.began
            attempt.result = attempt.result or (failure.cause if failure else "answered")
        if flight is not None or not self.unsaid:  # what its API can't say is no fault of the upstream
            self._report(model, None if failure is WEAK else failure)
        return failure

    def _answer(self, flight: Flight, model: str, mode: str) -> Generator[bytes, None, Failure | None]:
        if flight.status >= 400:
            body = self._whole(flight, ERROR_LIMIT)
            self.rejected = _Rejected(
                flight.status, self.outgoing.headers(model, flight.headers), self.outgoing.error(model, flight.status, body)
            )
            return Failure(str(flight.status), headers.retry_after(flight.headers, time.time()))
        if flight.status != 200:
            return Failure("malformed")
        if self.incoming.stream and flight.headers.get("content-type", "").startswith("text/event-stream"):
            return (yield from self._stream(flight, model, mode))
        if self.committed:
            return Failure("malformed")
        return (yield from self._plain(flight, model))

    def _plain(self, flight: Flight, model: str) -> Generator[bytes, None, Failure | None]:
        body = self._whole(flight, self.means.settings.answer_limit)
        answer = self.outgoing.parsed(body)
        if answer is None:
            return Failure("malformed")
        if isinstance(answer.get("error"), dict) and not any(answer.get(name) for name in ("choices", "output", "content")):
            return _told(error_type(answer))  # an error that calls itself 200
        surface = self.outgoing.surface(model)
        reply = Reply(
            model, self.outgoing.answer(model, body), self.outgoing.headers(model, flight.headers), "application/json",
            surface.usage(answer), surface.finish_reason(answer), surface.response_model(answer),
        )  # fmt: skip
        if not self.incoming.stream and self.escalating.tests and self.escalating.weak(spoken(answer, reply.finish_reason)):
            self.escalating.first = reply
            return WEAK
        yield from self._replied(reply)
        return None

    def _replied(self, reply: Reply) -> Iterator[bytes]:
        """Send a whole answer."""
        served = self.served
        self._answered(reply.model)
        self._counted(reply.counted)
        served.finish_reason, served.response_model = reply.finish_reason, reply.response_model
        served.first = self.watch.ms()
        served.answer = None if reply.content_type == EVENT_STREAM else reply.body
        self._set_head(200, reply.headers, reply.content_type)
        yield from self.watch.sent(reply.body)

    def _stream(self, flight: Flight, model: str, mode: str) -> Generator[bytes, None, Failure | None]:
        held = bytearray() if self.escalating.holds and not self.committed else None
        previous, watcher = self.watcher, self.outgoing.watcher(model, keep_text=self.keep_text or held is not None)
        if mode:
            assert previous is not None
            watcher.join(previous, continued=mode == "continue")
        self.watcher, self.converter = watcher, self.outgoing.converter(model)
        quiet = self.watch.now()
        while True:
            tick = GRACE if watcher.over else min(self._tick(), max(quiet + self._idle() - self.watch.now(), 0.001))
            try:
                data = self.watch.waiting(flight.read, tick)
            except UpstreamFailed:
                if not watcher.over:
                    raise
                break
            if data is None and watcher.over:
                break
            if data is None:
                if self.watch.now() - quiet >= self._idle():
                    return Failure("timeout")
                yield from self._ping()
                continue
            quiet = self.watch.now()
            if not data:
                break
            out = self._converted(watcher.feed(data))
            if held is not None:
                held += out
                if len(held) > self.means.settings.answer_limit:
                    return Failure("malformed")
            elif out:
                yield from self._passed(out, flight, model)
            if watcher.failure:
                return _told(watcher.failure)
        last = self._converted(watcher.rest())
        whole = watcher.ended
        if whole and self.converter is not None:
            last += self.converter.rest()
        if held is not None and whole:
            last = bytes(held) + last
            if self.escalating.weak(Spoken(watcher.text, watcher.tool_begun, watcher.finish_reason)):
                found = self.outgoing.headers(model, flight.headers)
                self.escalating.first = Reply(
                    model, last, found, EVENT_STREAM, watcher.usage, watcher.finish_reason, watcher.response_model
                )
                return WEAK
        if last and (held is None or whole):
            yield from self._passed(last, flight, model)
        if not whole:
            return _told(watcher.failure) if watcher.failure else Failure("cut")
        self._streamed(watcher, model)
        return None

    def _converted(self, out: bytes) -> bytes:
        return out if self.converter is None or not out else bytes(self.converter.feed(out))

    def _passed(self, out: bytes, flight: Flight, model: str) -> Iterator[bytes]:
        if not self.committed:
            self.committed = True
            self.means.breaker.succeeded(model)
            self.served.first = self.watch.ms()
            self._answered(model)
            self._set_head(200, self.outgoing.headers(model, flight.headers), EVENT_STREAM)
        yield from self.watch.sent(out)

    def _streamed(self, watcher: Watcher, model: str) -> None:
        self._answered(model)
        self._counted(watcher.usage)
        self.served.finish_reason, self.served.response_model = watcher.finish_reason, watcher.response_model

    # -- endings -------------------------------------------------------------------------------------------------------

    def _passing(self) -> Iterator[bytes]:
        """The upstream's own error for the client's own fault."""
        assert self.rejected is not None
        status, found, body = self.rejected
        self.served.error = self.served.error or "client_error"
        if self.served.attempts:
            self._answered(self.served.attempts[-1].model)
        if self.head is not None:
            yield from self._failing("the provider refused the request", str(status))
            return
        self._set_head(status, found, "application/json")
        yield from self.watch.sent(body)

    def _giving_up(self, message: str, retry_after: int) -> Iterator[bytes]:
        self.served.verdict = "failed"
        self.served.error = self.served.attempts[-1].result if self.served.attempts else "no_upstream"
        if self.head is not None:
            yield from self._failing(message, "no_upstream", "failed")
            return
        if self.unsaid:
            self._set_head(400, [("x-should-retry", "false")], "application/json")
            yield from self.watch.sent(self.incoming.surface.error(400, self.unsaid, "not_convertible", self.served.id))
            return
        body = self.incoming.surface.error(503, message, "no_upstream", self.served.id)
        self._set_head(503, [("retry-after", str(retry_after))], "application/json")
        yield from self.watch.sent(body)

    def _finishing(self) -> Iterator[bytes]:
        """A cut answer ends well-formed, and marked as cut."""
        assert self.watcher is not None
        self.served.verdict, self.served.error = "cut", "cut"
        out = self.watcher.finishing()
        if self.converter is not None:
            out = self.converter.feed(out) + self.converter.rest()
        self.served.finish_reason = self.watcher.finish_reason
        yield from self.watch.sent(out)

    def _failing(self, message: str, code: str, verdict: str = "cut") -> Iterator[bytes]:
        """An error event: HTTP can't say any more that the stream is no success."""
        self.served.verdict = "failed" if verdict == "failed" else "cut"
        self.served.error = self.served.error or code
        watcher = self.watcher if self.watcher and not self.converter else self.incoming.surface.watcher(self.incoming.fields)
        yield from self.watch.sent(watcher.failing(message, code))

    def _finished(self) -> None:
        served = self.served
        served.status = self.head.status if self.head else served.status
        served.latency, served.overhead = self.watch.ms(), self.watch.overhead()
        if served.usage is None and self.watcher is not None:
            self._counted(self.watcher.usage if served.verdict == "answered" else None)

    # -- small -----------------------------------------------------------------------------------------------------------

    def _answered(self, model: str) -> None:
        declared = self.service.policy.models[model]
        self.served.model, self.served.model_id = model, declared.id
        self.served.provider = declared.provider or ""
        first = self.escalating.first
        if first is not None and model != first.model:
            usage, prices = first.counted and first.counted.usage, self.service.deciding.prices.get(first.model)
            tier = (first.counted and first.counted.service_tier) or "standard"
            self.served.escalated_from, self.served.first_usage = first.model, usage or None
            self.served.first_cost = cost(usage, prices, self.served.at, tier) if usage else None

    def _counted(self, counted: Counted | None) -> None:
        served = self.served
        if counted is None:
            return
        served.usage, served.reasoning, served.service_tier = counted.usage, counted.reasoning, counted.service_tier
        prices = self.service.deciding.prices.get(served.model)
        served.cost = cost(counted.usage, prices, served.at, counted.service_tier or "standard")

    def _report(self, model: str, failure: Failure | None) -> None:
        if failure is None:
            self.means.breaker.succeeded(model)
        else:
            self.means.breaker.failed(model, failure, self.watch.now())

    def _passed_over(self) -> None:
        while self.attempts.skipped:
            model, why = self.attempts.skipped.pop(0)
            self.served.attempts.append(Attempt(model, self.watch.ms(), 0.0, f"skipped: {why}"))

    def _above(self) -> tuple[str, ...]:
        assert self.served.decision is not None and self.served.values is not None
        found = self.service.deciding.above(self.served.decision.chain, self.served.values)
        return self.outgoing.reachable(self.incoming.caller.permitted(found, self.service.policy))

    def _closed(self, model: str) -> float:
        return self.means.breaker.closed(model, self.watch.now())

    def _set_head(self, status: int, found: list[tuple[str, str]], content_type: str) -> None:
        if self.head is None:
            own = headers.ours(self.served, self.watch.overhead()) if self.means.settings.headers else []
            self.head = Head(status, [("content-type", content_type), *found, *own])


def _told(failure: str) -> Failure:
    """An error that came with 200 as a failure. It is never the client's to see: there is no answer of its status to hand on."""
    cause = cause_of(failure)
    return Failure("invalid_request_error" if Failure(cause).clients_own else cause)
