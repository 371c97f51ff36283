"""The classifiers of a policy, asked: what a reader of live requests is given as its `classify`.

Rules of this module
- A classifier costs at most its time (`within`, 5 s where it isn't said, for connecting, asking and the whole answer) and one call.
  There is no second try: without a good answer it has its `failed` member, and the decision goes on.
- `ask` may name a tier: its first model is asked. It is asked over Chat Completions where it speaks them, else over Messages, else
  over Responses, with the gateway's credential and with no header of the client's.
- A circuit of its own opens after failures in a row, as a model's does (`breaker`): what is too slow for a classifier may be quick
  enough for an answer, so it never closes a model to requests. Where the model's own circuit is open, it isn't asked either.
- Good answers are remembered where the policy says so, failures never. Two equal questions at once are both asked.
- No text of a request, answer or error is logged or kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from policyroute.language.effects import canonical
from policyroute.language.policy import Model, Policy, Signal
from policyroute.language.statements import Classifier
from policyroute.prices.cost import Cost, cost
from policyroute.prices.price import PriceList
from policyroute.proxy import headers
from policyroute.proxy.attempts import CIRCUIT_OPEN, Failure
from policyroute.proxy.breaker import Breaker
from policyroute.proxy.classifier.fetching import Fetched, fetched
from policyroute.proxy.classifier.memory import Memory, key_of
from policyroute.proxy.classifier.question import Manner, body_of, corrected, manner_of, shown, widened
from policyroute.proxy.classifier.reply import Words, failure_in, ran_out, said_in
from policyroute.proxy.means import Means
from policyroute.proxy.providers import Endpoint
from policyroute.proxy.served import Classified
from policyroute.proxy.upstream.transport import Call
from policyroute.proxy.wire.surface import SURFACES, BadBody, parse
from policyroute.signals.facts import Facts
from policyroute.signals.request import Api
from policyroute.signals.values import Values

WITHIN = 5.0  # seconds for a classifier that says no time
PREFERRED: tuple[Api, ...] = ("chat", "messages", "responses")
FREE = Cost(0)

ASKED, REMEMBERED = "asked", "remembered"
UNCLEAR = "unclear"  # the answer names no member, or several
EMPTY = "nothing to show"  # the request has none of the text, or no messages
NO_API = "no api"  # the model speaks none in which it could be asked


@dataclass(frozen=True, slots=True)
class _Asked:
    """A classifier with all that asking it takes."""

    classifier: Classifier
    model: Model
    endpoint: Endpoint
    api: Api | None
    words: Words
    definition: str

    @property
    def within(self) -> float:
        """Seconds that the call may take."""
        return WITHIN if self.classifier.within is None else self.classifier.within / 1000


class _Told(NamedTuple):
    """What came of it: the member ("" for none), where it comes from or why there is none, and what it cost."""

    member: str
    result: str
    cost: Cost | None = FREE


class Classifiers:
    """Asks a policy's classifiers. `prices` are those of its models by name; `memory` may outlive it, for the next policy.

    Safe to share between threads.
    """

    def __init__(
        self,
        policy: Policy,
        endpoints: Mapping[str, Endpoint],
        prices: Mapping[str, PriceList],
        means: Means,
        memory: Memory | None = None,
    ) -> None:
        self._prices, self._means = prices, means
        self._memory = Memory() if memory is None else memory
        self._all = {name: _asked(policy, one, endpoints) for name, one in policy.classifiers.items()}
        self._breaker = Breaker()  # by classifier
        self._manners: dict[str, Manner] = {}  # by model, where its provider complained of what was guessed

    def classify(self, values: Values, signal: Signal) -> str:
        """The member for a request, noted in `values.classified`. One that the policy was loaded without has its default, unasked."""
        asked = self._all.get(signal.name)
        if asked is None:
            return str(signal.default)
        clock = self._means.clock
        began = clock()
        told = self._told(asked, values.facts, began)
        member = told.member or asked.classifier.failed
        values.classified.append(Classified(signal.name, member, told.result, (clock() - began) * 1000, told.cost))
        return member

    def _told(self, asked: _Asked, facts: Facts, now: float) -> _Told:
        text = shown(asked.classifier, facts)
        if not text:
            return _Told("", EMPTY)
        if asked.api is None:
            return _Told("", NO_API)
        remember = asked.classifier.remember / 1000
        key = key_of(asked.definition, text) if remember else b""
        if remember and (member := self._memory.find(key, now)):
            return _Told(member, REMEMBERED)
        if self._is_open(asked, now):
            return _Told("", CIRCUIT_OPEN)
        told = self._answered(asked, asked.api, text)
        if remember and told.member:
            self._memory.keep(key, told.member, self._means.clock() + remember)
        return told

    def _is_open(self, asked: _Asked, now: float) -> bool:
        """Whether the model is left alone; False is the leave to ask it, which has to be reported on."""
        if self._means.breaker.states(now).get(asked.model.name) == "open":
            return True
        return self._breaker.closed(asked.classifier.name, now) > 0

    def _answered(self, asked: _Asked, api: Api, text: str) -> _Told:
        manner = self._manners.get(asked.model.name) or manner_of(asked.model)
        got = fetched(self._means.transport, self._call(asked, api, text, manner), asked.within)
        told = self._told_by(asked, api, got, manner)
        if told.result in (ASKED, UNCLEAR):
            self._breaker.succeeded(asked.classifier.name)
        else:
            failure = Failure(told.result, headers.retry_after(got.headers, time.time()))
            self._breaker.failed(asked.classifier.name, failure, self._means.clock())
        return told

    def _told_by(self, asked: _Asked, api: Api, got: Fetched, manner: Manner) -> _Told:
        if got.failure:
            return _Told("", got.failure, None if got.sent else FREE)
        if got.status in (400, 422):
            self._learned(asked, manner, corrected(manner, got.body.decode("utf-8", "replace")))
        if got.status >= 400:
            return _Told("", str(got.status))
        return self._read(asked, api, got, manner)

    def _call(self, asked: _Asked, api: Api, text: str, manner: Manner) -> Call:
        surface, endpoint = SURFACES[api], asked.endpoint
        body = surface.dumped(body_of(api, asked.model, asked.classifier.prompt, text, manner))
        url = endpoint.base_url + surface.path.removeprefix("/v1")
        return Call(url, headers.to_upstream({}, endpoint), body, min(self._means.settings.connect, asked.within))

    def _read(self, asked: _Asked, api: Api, got: Fetched, manner: Manner) -> _Told:
        """What an answer with a good status says."""
        try:
            answer = parse(got.body)
        except BadBody:
            return _Told("", "malformed", None)
        if got.status != 200:
            return _Told("", "malformed", None)
        if failure := failure_in(answer):
            return _Told("", failure)
        said, surface = said_in(api, answer), SURFACES[api]
        counted = surface.usage(answer)
        prices = self._prices.get(asked.model.name)
        spent = cost(counted.usage, prices, datetime.now(UTC), counted.service_tier or "standard") if counted else None
        if ran_out(said, surface.finish_reason(answer)):
            self._learned(asked, manner, widened(manner))
        member = asked.words.only(said)
        return _Told(member, ASKED if member else UNCLEAR, spent)

    def _learned(self, asked: _Asked, before: Manner, manner: Manner) -> None:
        if manner != before:
            self._manners[asked.model.name] = manner


def _asked(policy: Policy, classifier: Classifier, endpoints: Mapping[str, Endpoint]) -> _Asked:
    model = policy.models[policy.tiers.get(classifier.ask, (classifier.ask,))[0]]
    endpoint = endpoints[model.name]
    api = next((api for api in PREFERRED if api in endpoint.apis), None)
    return _Asked(classifier, model, endpoint, api, Words(classifier.members), canonical((classifier, model)))
