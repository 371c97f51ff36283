"""From a WSGI environment to an answer: who calls, what is asked, what the policy decides, and who is asked for the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from policyroute.language.decision import NO_MODEL, Decision
from policyroute.language.policy import Refuse
from policyroute.proxy import headers as heads
from policyroute.proxy.bodies import BodyError, read_body
from policyroute.proxy.exchange import Exchange
from policyroute.proxy.feedback import decision_id
from policyroute.proxy.gateway import Gateway
from policyroute.proxy.keeping import ESCALATED
from policyroute.proxy.keys import LOCAL, Caller, facts_of
from policyroute.proxy.means import Head
from policyroute.proxy.outgoing import Incoming, Outgoing
from policyroute.proxy.passing import Passing, endpoint_for
from policyroute.proxy.refusal import NO_RETRY, Refusal
from policyroute.proxy.served import Served
from policyroute.proxy.service import Service
from policyroute.proxy.wire.surface import BadBody, Surface, parse
from policyroute.signals.values import Values
from policyroute.state.deciding import seconds_until

Environ = dict[str, Any]
Answer = tuple[int, list[tuple[str, str]], bytes]

JSON = ("content-type", "application/json")
LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1", "", "localhost"})
STATELESS = "conversations, quotas and budgets can't be looked up at the moment"


class Running:
    """An answer under way. `first()` gives its first bytes, and sets `head`; `over` says whether that was all."""

    def __init__(self, run: Iterator[bytes], head: Callable[[], Head | None], finish: Callable[[], None]) -> None:
        self._run, self._head, self._finish = run, head, finish
        self._first: bytes | None = None
        self.over = False

    @property
    def head(self) -> Head:
        """Status and headers, once `first()` was called."""
        found = self._head()
        assert found is not None
        return found

    def first(self) -> bytes:
        """The first bytes; a whole answer is over with them."""
        came = False
        try:
            first = next(self._run, b"")
            came = True
        finally:
            if not came:  # it is written down all the same
                self.close()
        if any(name == "content-type" and value.startswith("text/event-stream") for name, value in self.head.headers):
            self._first = first
            return first
        next(self._run, None)
        self.over = True
        self._finish()
        return first

    def __iter__(self) -> Iterator[bytes]:
        """All bytes, the first ones included."""
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._run)

    def close(self) -> None:
        """The server's word that nobody reads any more, or that all is sent."""
        close = getattr(self._run, "close", None)
        if close is not None:
            close()
        if not self.over:
            self.over = True
            self._finish()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that was read and decided."""

    incoming: Incoming
    values: Values
    served: Served
    service: Service


class Calls:
    """Serves the model APIs of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    # -- model calls -----------------------------------------------------------------------------------------------------

    def serve(self, surface: Surface, environ: Environ) -> Running:
        """Answer a model call. Raises Refusal."""
        gateway, service = self.gateway, self.gateway.service
        started = gateway.means.clock()
        found = heads.of_environ(environ)
        caller = self.caller(environ, found)
        body, fields = self.body(environ)
        if surface.api not in ("chat", "responses", "messages"):
            return self._passed(Incoming(surface, fields, body, found, environ.get("QUERY_STRING", ""), caller, started))
        if surface.api not in service.apis:
            raise Refusal(
                404, f"`{surface.path}` is not served: not every model of the policy is reached from it", "api_not_served"
            )
        asked = self._asked(service, surface, environ, found, caller, body, fields, started)
        return self._decided(asked)

    def _asked(
        self, service: Service, surface: Surface, environ: Environ, found: Mapping[str, str], caller: Caller,
        body: bytes, fields: dict[str, Any], started: float,
    ) -> _Asked:  # fmt: skip
        at = datetime.now(UTC)
        deciding, policy = service.deciding, service.policy
        values = service.asking(facts_of(fields, found, caller, at, policy))
        conversation = _key(values, policy, "conversation")
        if service.wishes and conversation and self.gateway.keeping.wished(conversation, at):
            setattr(values, policy.signals[ESCALATED].identifier, True)
        served = Served(decision_id(conversation), at, surface.api, policy, policy.digest, values, classified=values.classified)
        plain = deciding.decide(values)
        served.decision = self.gateway.keeping.decide(deciding, plain, served, values, at)
        served.tier, served.caller = (served.state and served.state.tier) or deciding.tier(plain), caller.name
        served.user, served.team, served.conversation = _key(values, policy, "user"), _key(values, policy, "team"), conversation
        served.requested = fields["model"] if isinstance(fields.get("model"), str) else ""
        served.stream = fields.get("stream") is True
        served.retry = int(count) if (count := found.get("x-stainless-retry-count", "")).isdecimal() and len(count) < 4 else 0
        served.headers = {name: found[name] for name in ("traceparent", "tracestate", "user-agent") if name in found}
        if self.gateway.settings.prompts:
            served.prompt = body
        if service.shadow is not None:
            shadow = service.shadow
            served.shadow_values = shadow.reader(facts_of(fields, found, caller, at, shadow.policy))
        incoming = Incoming(
            surface, fields, body, found, environ.get("QUERY_STRING", ""), caller, started,
            getattr(values, policy.signals["max_output"].identifier), getattr(values, policy.signals["json"].identifier),
        )  # fmt: skip
        return _Asked(incoming, values, served, service)

    def _decided(self, asked: _Asked) -> Running:
        served, service, incoming = asked.served, asked.service, asked.incoming
        if served.decision is None:
            raise self._ended(asked, Refusal(503, STATELESS, "state_unavailable", [NO_RETRY, ("retry-after", "1")]))
        if served.decision.refused:
            raise self._refused(asked)
        outgoing = Outgoing(service, incoming)
        permitted = incoming.caller.permitted(served.decision.chain, service.policy)
        if not permitted:
            raise self._ended(
                asked, Refusal(403, "this key may not use any model that the policy allows here", "model_not_permitted")
            )
        cached = self._cached(asked, permitted)
        if cached is not None:
            return cached
        reached = outgoing.reachable(permitted)
        if not reached:
            why = outgoing.why_not(permitted[0])
            raise self._ended(asked, Refusal(400, f"no model of the decision can take this request: {why}", "no_model"))
        exchange = Exchange(self.gateway.means, service, outgoing, served, reached)
        exchange.watch.waited = _classifying(served)

        streams = self.gateway.streams
        if incoming.stream:
            streams.add(served.id)

        def finish() -> None:
            streams.discard(served.id)
            self._keep(asked, permitted)
            self.gateway.record(served, service)

        return Running(exchange.run(), lambda: exchange.head, finish)

    def _refused(self, asked: _Asked) -> Refusal:
        decision, policy = asked.served.decision, asked.service.policy
        assert decision is not None
        full = asked.served.state.full if asked.served.state else None
        if full is not None and not _left_over(decision):
            wait = ("retry-after", str(seconds_until(full, asked.served.at)))
            return self._ended(asked, Refusal(429, decision.refused, f"{full.allowance.kind}_used_up", [NO_RETRY, wait]))
        stated = any(rule.name == decision.rule and isinstance(rule.target, Refuse) for rule in policy.rules)
        code = "refused_by_policy" if stated else "no_model"
        return self._ended(asked, Refusal(400, decision.refused, code))

    def _ended(self, asked: _Asked, refusal: Refusal) -> Refusal:
        """Write down a request that no upstream was asked for."""
        served = asked.served
        served.verdict, served.status, served.error = "refused", refusal.status, refusal.code
        served.latency = served.overhead = (self.gateway.means.clock() - asked.incoming.started) * 1000
        self.gateway.record(served, asked.service)
        own = heads.ours(served, served.overhead) if self.gateway.settings.headers else []
        refusal.headers, refusal.id = [*refusal.headers, *own], served.id
        return refusal

    # -- the answer cache --------------------------------------------------------------------------------------------------

    def _cached(self, asked: _Asked, permitted: tuple[str, ...]) -> Running | None:
        """The kept answer to an equal question, if this request could have been given it."""
        answers, incoming, served = self.gateway.answers, asked.incoming, asked.served
        if answers is None:
            return None
        now = self.gateway.means.clock()
        entry = answers.find(incoming.caller, incoming.surface.api, incoming.fields, now, _apart(incoming, permitted))
        if entry is None or entry.model not in permitted:
            return None
        served.verdict, served.status, served.saved = "cached", 200, entry.saved
        served.model, served.model_id, served.provider = entry.model, entry.model_id, entry.provider
        served.latency = served.overhead = (now - incoming.started) * 1000
        own = heads.ours(served, served.overhead) if self.gateway.settings.headers else []
        head = Head(200, [("content-type", entry.content_type), *own])
        return Running(iter([entry.body]), lambda: head, lambda: self.gateway.record(served, asked.service))

    def _keep(self, asked: _Asked, permitted: tuple[str, ...]) -> None:
        """Keep a whole good answer for the next equal question."""
        answers, incoming, served = self.gateway.answers, asked.incoming, asked.served
        if answers is not None and served.verdict == "answered" and served.status == 200 and served.answer is not None:
            ttl, now = self.gateway.settings.answers, self.gateway.means.clock()
            answers.keep(incoming.caller, incoming.surface.api, incoming.fields, served, ttl, now, _apart(incoming, permitted))

    # -- what no policy decides ----------------------------------------------------------------------------------------------

    def _passed(self, incoming: Incoming) -> Running:
        """A call that no policy decides: to the model that it names."""
        gateway, service, surface = self.gateway, self.gateway.service, incoming.surface
        named = incoming.fields.get("model")
        known = endpoint_for(service, named, surface.api, gateway.environ) if isinstance(named, str) else None
        if known is None:
            raise Refusal(404, "no provider is known that serves this model here", "model_not_found")
        if not incoming.caller.permitted((known[1].name,), service.policy):
            raise Refusal(403, "this key may not use this model", "model_not_permitted")
        served = Served(f"pr_{uuid4().hex}", datetime.now(UTC), surface.api, service.policy, service.policy.digest)
        served.verdict, served.caller, served.requested = "passed", incoming.caller.name, str(named)
        passing = Passing(gateway.means, service, incoming, served, *known)
        return Running(passing.run(), lambda: passing.head, lambda: gateway.record(served, service))

    # -- who and what --------------------------------------------------------------------------------------------------------

    def caller(self, environ: Environ, found: Mapping[str, str]) -> Caller:
        """Whose key it is. Raises Refusal where there is none; without a keys file, only this machine is served."""
        keys = self.gateway.service.keys
        if keys is None:
            _refuse_strangers(environ, found)
            return LOCAL
        caller = keys.find(found, datetime.now(UTC))
        if caller is None:
            raise Refusal(401, "no valid API key: send yours as `Authorization: Bearer` or `x-api-key`", "invalid_api_key")
        return caller

    def read(self, environ: Environ) -> bytes:
        """The bytes of a request's body. Raises Refusal."""
        try:
            return read_body(environ, self.gateway.settings.body_limit, self.gateway.settings.body_limit)
        except BodyError as error:
            raise Refusal(error.status, error.message, error.code) from None

    def body(self, environ: Environ) -> tuple[bytes, dict[str, Any]]:
        """A request's body, and the JSON object in it. Raises Refusal."""
        body = self.read(environ)
        try:
            return body, parse(body)
        except BadBody as error:
            raise Refusal(400, str(error), "invalid_json") from None


def _classifying(served: Served) -> float:
    return sum(one.took for one in served.classified) / 1000


def _left_over(decision: Decision) -> bool:
    """Whether a refusal is for want of a model, and not what a used-up quota or budget says."""
    return decision.refused == NO_MODEL


def _apart(incoming: Incoming, permitted: tuple[str, ...]) -> tuple[str, ...]:
    """What keeps equal questions apart: the models that may answer, and the header that changes what the API means."""
    return (*permitted, incoming.headers.get("anthropic-beta", ""))


def _key(values: Values, policy: Any, name: str) -> str:
    return str(getattr(values, policy.signals[name].identifier))


def _refuse_strangers(environ: Environ, found: Mapping[str, str]) -> None:
    """Without keys: other machines, and web pages that a browser on this one shows."""
    host = found.get("host", "localhost").rsplit(":", 1)[0].strip("[]")
    page = found.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if environ.get("REMOTE_ADDR", "") not in LOOPBACK or page or host not in LOOPBACK:
        raise Refusal(403, "without a keys file only this machine is served: start the gateway with `--keys FILE`", "keys_needed")
