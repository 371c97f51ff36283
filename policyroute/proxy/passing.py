"""Calls that no policy decides: embeddings, legacy completions, token counts. One upstream, no second try, bytes as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policyroute.language.limits import requested_names
from policyroute.language.policy import Model
from policyroute.language.source import Span
from policyroute.prices.cost import cost
from policyroute.proxy import headers
from policyroute.proxy.means import EVENT_STREAM, Head, Means
from policyroute.proxy.outgoing import Incoming
from policyroute.proxy.providers import Endpoint, EndpointError, endpoint_of
from policyroute.proxy.served import Attempt, Served
from policyroute.proxy.service import Service
from policyroute.proxy.stopwatch import Stopwatch
from policyroute.proxy.upstream.transport import Call, Flight, UpstreamFailed
from policyroute.proxy.wire.surface import BadBody, Counted, Watcher, parse


def endpoint_for(service: Service, name: str, api: str, environ: Mapping[str, str]) -> tuple[Endpoint, Model] | None:
    """Who serves `name`, a model of the policy or one of the price library; None where nobody who speaks `api` is known."""
    declared = requested_names(service.policy).get(name)
    if declared is not None:
        endpoint = service.endpoints[declared]
        return (endpoint, service.policy.models[declared]) if api in endpoint.apis else None
    prices = service.catalog.price_list(name)
    if prices is None:
        return None
    model = Model(name, name, prices.provider, span=Span.NONE)
    try:
        endpoint = endpoint_of(model, environ)
    except EndpointError:
        return None
    return (endpoint, model) if api in endpoint.apis else None


class Passing:
    """One passed-through call. `run()` gives the answer's bytes and has set `head` before the first."""

    def __init__(
        self, means: Means, service: Service, incoming: Incoming, served: Served, endpoint: Endpoint, model: Model
    ) -> None:
        self.means, self.service, self.incoming, self.served = means, service, incoming, served
        self.endpoint, self.model = endpoint, model
        self.head: Head | None = None
        self.watch = Stopwatch(means.clock, incoming.started)

    def run(self) -> Iterator[bytes]:
        """The answer's bytes."""
        served = self.served
        attempt = Attempt(self.model.name, 0.0, 0.0, "answered")
        served.attempts.append(attempt)
        served.model, served.model_id, served.provider = self.model.name, self.model.id, self.model.provider or ""
        flight: Flight | None = None
        try:
            flight = self._begun()
            if self.incoming.stream and flight.headers.get("content-type", "").startswith("text/event-stream"):
                yield from self._stream(flight)
            else:
                yield self._plain(flight)
        except GeneratorExit:
            attempt.result = served.verdict = "abandoned"
            raise
        except UpstreamFailed as error:
            attempt.result = served.error = error.cause
            served.verdict = "failed"
            yield self._failed()
        finally:
            if flight is not None:
                flight.close()
            attempt.took = served.latency = self.watch.ms()
            served.overhead = self.watch.overhead()
            served.status = self.head.status if self.head else 0

    def _begun(self) -> Flight:
        surface, incoming = self.incoming.surface, self.incoming
        url = self.endpoint.base_url + surface.path.removeprefix("/v1") + (f"?{incoming.query}" if incoming.query else "")
        body = surface.outgoing(incoming.body, incoming.fields, self.model.id)
        flight = self.means.transport.open(
            Call(url, headers.to_upstream(incoming.headers, self.endpoint), body, self.means.settings.connect)
        )
        try:
            if not self.watch.waiting(flight.begin, self.means.settings.first_byte):
                raise UpstreamFailed("timeout", "no answer began in time")
        except UpstreamFailed:
            flight.close()
            raise
        return flight

    def _plain(self, flight: Flight) -> bytes:
        body = self.watch.waiting(lambda _: whole(flight, self.means), 0.0)
        if flight.status in (401, 403):  # our credential is at fault, not the client's, and the text may name it
            raise UpstreamFailed("connection", "the provider refused the gateway's credential")
        self._count(self._usage(body))
        self._set_head(flight.status, flight.headers.get("content-type", "application/json"), _shown(flight, self.endpoint))
        return _without_key(body, self.endpoint) if flight.status >= 400 else body

    def _usage(self, body: bytes) -> Counted | None:
        try:
            return self.incoming.surface.usage(parse(body))
        except BadBody:
            return None

    def _count(self, counted: Counted | None) -> None:
        if counted is not None:
            prices = self.service.catalog.for_model(self.model)
            self.served.usage = counted.usage
            self.served.cost = cost(counted.usage, prices, self.served.at, counted.service_tier or "standard")

    def _stream(self, flight: Flight) -> Iterator[bytes]:
        watcher: Watcher = self.incoming.surface.watcher(self.incoming.fields)
        self._set_head(flight.status, EVENT_STREAM, _shown(flight, self.endpoint))
        while data := self.watch.waiting(flight.read, self.means.settings.idle):
            if out := watcher.feed(data):
                yield from self.watch.sent(out)
        if rest := watcher.rest():
            yield rest
        self._count(watcher.usage)
        if not watcher.ended:
            self.served.verdict, self.served.error = "cut", "cut"
            yield watcher.failing("the answer was cut off upstream", "cut")

    def _failed(self) -> bytes:
        message = "the provider could not be reached"
        if self.head is not None:
            return self.incoming.surface.watcher(self.incoming.fields).failing(message, "no_upstream")
        self._set_head(503, "application/json", [("retry-after", "1")])
        return self.incoming.surface.error(503, message, "no_upstream", self.served.id)

    def _set_head(self, status: int, content_type: str, found: list[tuple[str, str]]) -> None:
        self.head = Head(status, [("content-type", content_type), *found])


def whole(flight: Flight, means: Means) -> bytes:
    """The rest of an answer; raises UpstreamFailed where it is too large or falls silent."""
    pieces: list[bytes] = []
    size = 0
    while True:
        data = flight.read(means.settings.first_byte)
        if data is None:
            raise UpstreamFailed("timeout", "the answer didn't end in time")
        if not data:
            return b"".join(pieces)
        size += len(data)
        if size > means.settings.answer_limit:
            raise UpstreamFailed("malformed", "the answer is too large")
        pieces.append(data)


def counted(means: Means, service: Service, incoming: Incoming, model: str) -> bytes | None:
    """The answer of `model`'s provider to a `count_tokens` request, None where it gives none."""
    endpoint, declared = service.endpoints[model], service.policy.models[model]
    body = incoming.surface.outgoing(incoming.body, incoming.fields, declared.id)
    try:
        status, _, answer = forwarded(
            means, endpoint, "POST", f"/messages/count_tokens{_query(incoming.query)}", incoming.headers, body, 10.0
        )
    except UpstreamFailed:
        return None
    return answer if status == 200 else None


def forwarded(
    means: Means, endpoint: Endpoint, method: str, path: str, found: Mapping[str, str], body: bytes, within: float
) -> tuple[int, list[tuple[str, str]], bytes]:
    """One call, handed on as it is: status, headers for the client, body. Raises UpstreamFailed."""
    sent = headers.to_upstream(found, endpoint)
    flight = means.transport.open(Call(endpoint.base_url + path, sent, body, means.settings.connect, method))
    try:
        if not flight.begin(within):
            raise UpstreamFailed("timeout", "no answer began in time")
        answer = whole(flight, means)
        if flight.status in (401, 403):  # our credential is at fault, not the client's, and the text may name it
            raise UpstreamFailed("connection", "the provider refused the gateway's credential")
        kind = ("content-type", flight.headers.get("content-type", "application/json"))
        return flight.status, [kind, *_shown(flight, endpoint)], _without_key(answer, endpoint) if flight.status >= 400 else answer
    finally:
        flight.close()


def _query(text: str) -> str:
    return f"?{text}" if text else ""


def _shown(flight: Flight, endpoint: Endpoint) -> list[tuple[str, str]]:
    """The headers that are the client's to see, none that repeats our credential."""
    key = endpoint.key.reveal()
    return [(name, value) for name, value in headers.to_client(flight.headers) if not key or key not in value]


def _without_key(body: bytes, endpoint: Endpoint) -> bytes:
    key = endpoint.key.reveal().encode()
    return body.replace(key, b"***") if key else body
