"""A request as it came in, and as it goes out to each model: which API, which bytes, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from policyroute.proxy import convert, headers
from policyroute.proxy.keys import Caller
from policyroute.proxy.service import APIS, Service
from policyroute.proxy.upstream.transport import Call
from policyroute.proxy.wire.surface import SURFACES, BadBody, Surface, Watcher, parse
from policyroute.signals.request import Api

STATEFUL = ("previous_response_id", "conversation")
"""Fields of a Responses request that name what a provider keeps: only an upstream of that API can know it."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A model call as the client sent it. `started` is its arrival on the clock that the exchange reads."""

    surface: Surface
    fields: dict[str, Any]
    body: bytes
    headers: Mapping[str, str]
    query: str
    caller: Caller
    started: float
    max_output: int = 1
    structured: bool = False

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.fields.get("stream") is True

    @property
    def stateful(self) -> bool:
        """Whether the request refers to what the provider of an earlier answer keeps."""
        return self.surface.api == "responses" and any(self.fields.get(name) for name in STATEFUL)


@dataclass
class Outgoing:
    """The request for each model."""

    service: Service
    incoming: Incoming

    def reachable(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `models` that the client's API reaches, and that know the session where it is kept by a provider."""
        return tuple(model for model in models if not self.why_not(model))

    def why_not(self, model: str) -> str:
        """Why `model` can't be sent this request, "" where it can."""
        apis = self.service.endpoints[model].apis
        if self.incoming.surface.api in apis:
            return ""
        if self.incoming.stateful:
            return "the session is kept by another provider"
        return "" if convert.available() and apis & set(APIS) else "it speaks another API"

    def api(self, model: str) -> Api:
        """The API in which `model` is asked: the client's where it is spoken there."""
        apis = self.service.endpoints[model].apis
        own = self.own
        return own if own in apis else next(api for api in APIS if api in apis)

    @cached_property
    def own(self) -> Api:
        """The client's API."""
        return next(api for api in APIS if api == self.incoming.surface.api)

    def surface(self, model: str) -> Surface:
        """The surface of that API."""
        return SURFACES[self.api(model)]

    def call(self, model: str, connect: float, continued: str = "") -> Call:
        """The call of `model`; `continued` is the answer so far, which it is to go on with."""
        endpoint = self.service.endpoints[model]
        surface = self.surface(model)
        own = surface is self.incoming.surface
        query = f"?{self.incoming.query}" if own and self.incoming.query else ""
        url = endpoint.base_url + surface.path.removeprefix("/v1") + query
        return Call(url, headers.to_upstream(self.incoming.headers, endpoint), self._body(model, continued), connect)

    def _body(self, model: str, continued: str) -> bytes:
        surface, incoming = self.surface(model), self.incoming
        identifier, ask = self.service.policy.models[model].id, self.service.endpoints[model].asks_usage
        if continued:
            fields = incoming.surface.continued(incoming.fields, continued)
            return surface.outgoing(surface.dumped(fields), fields, identifier, ask_usage=ask)
        if surface is incoming.surface:
            return surface.outgoing(incoming.body, incoming.fields, identifier, ask_usage=ask)
        converted = convert.request(self.own, self.api(model), incoming.fields)
        return surface.outgoing(converted.body, parse(converted.body), identifier, ask_usage=ask)

    # -- the way back ----------------------------------------------------------------------------------------------------

    def parsed(self, body: bytes) -> dict[str, Any] | None:
        """An answer's JSON object, None where it is none."""
        try:
            return parse(body)
        except BadBody:
            return None

    def answer(self, model: str, body: bytes) -> bytes:
        """A whole answer in the client's API."""
        api = self.api(model)
        return body if api == self.own else convert.answer(self.own, api, body, self.incoming.fields)

    def error(self, model: str, status: int, body: bytes) -> bytes:
        """An upstream's error in the client's API, without our credential should it repeat that."""
        key = self.service.endpoints[model].key.reveal().encode()
        body = body.replace(key, b"***") if key else body
        api = self.api(model)
        return body if api == self.own else convert.error(self.own, api, status, body)

    def watcher(self, model: str, *, keep_text: bool = False) -> Watcher:
        """The watcher of the model's stream. What is converted needs the usage, whatever the client asked for."""
        fields = self.incoming.fields
        if self.api(model) != self.own:
            fields = {**fields, "stream_options": {"include_usage": True}}
        return self.surface(model).watcher(fields, keep_text=keep_text)

    def headers(self, model: str, found: Mapping[str, str]) -> list[tuple[str, str]]:
        """An upstream's headers that are the client's to see, none that repeats our credential."""
        key = self.service.endpoints[model].key.reveal()
        return [(name, value) for name, value in headers.to_client(found) if not key or key not in value]

    def converter(self, model: str) -> Any:
        """What turns the model's stream into the client's API; None where both are the same."""
        api = self.api(model)
        return None if api == self.own else convert.stream(self.own, api, self.incoming.fields)
