"""Decisions with state, one request at a time: what a server does, and `policyroute test`.

A decision reads and writes the keys of its conversation, quotas and budgets in one step of the store. What a budget reserved is
settled by `settle` when the cost is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from policyroute.backends.live import Live
from policyroute.language.decision import NO_MODEL, Decision, propensity
from policyroute.language.policy import REQUESTED, Chain, Policy, Refuse, Route, Rule, Split
from policyroute.language.statements import Allowance
from policyroute.prices.caching import cache_rule
from policyroute.prices.cost import Usage, cost
from policyroute.prices.price import PriceList
from policyroute.state.stores.store import Kept, Key, Store
from policyroute.state.transitions import (
    KEPT,
    NONE,
    OVER,
    PLAIN,
    TIER,
    Last,
    Outcome,
    settled,
    taken,
    tier_of,
    transitions,
)  # fmt: skip
from policyroute.state.windows import end, micros, window

GRACE = 86_400_000_000  # microseconds for which a window that is over is kept: answers may still be under way


class Taken(NamedTuple):
    """What a request took of one budget: under which key, and how many picodollars."""

    key: Key
    reserved: int


class Left(NamedTuple):
    """What is left of a quota or budget after a decision, for the headers: its unit is that of `allowance.amount`."""

    allowance: Allowance
    left: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision with state. `number` is the store's step, `tier` the decided tier ("" without one), `budgets` is what waits to be
    settled, `left` what the request's quotas and budgets have left, `full` the limit that refused it (None: none did)."""

    decision: Decision
    number: int = 0
    tier: str = ""
    budgets: tuple[Taken, ...] = ()
    left: tuple[Left, ...] = ()
    full: Left | None = None


class Stateful:
    """A policy's decisions with state. `prices` are those of its models, for what budgets reserve."""

    def __init__(self, live: Live, prices: Mapping[str, PriceList]) -> None:
        self.policy: Policy = live.policy
        self.live, self.prices = live, prices
        self.transitions = transitions(live.policy)
        self.names = tuple(live.policy.models)
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.rules: dict[str, Rule] = {rule.name: rule for rule in live.policy.rules}

    def decide(self, store: Store, plain: Decision, values: Any, at: datetime) -> Decided:
        """What becomes of the rule's own decision `plain`. Raises StoreUnreachableError."""
        request = _Request(self, plain, values, at)
        keys = request.keys()
        number, outcome = store.step(keys, request.change, micros(at))
        return request.decided(number, outcome)

    def peek(self, store: Store, plain: Decision, values: Any, at: datetime) -> Decided:
        """The same without leaving anything behind. Raises StoreUnreachableError."""
        request = _Request(self, plain, values, at)
        _, outcome = request.change(store.read(request.keys()))
        return request.decided(0, outcome)


def settle(store: Store, budgets: Sequence[Taken], picodollars: int | None, now: int) -> int:
    """Put a request's cost in the place of what its budgets reserved; None is a cost that isn't known. The step's number.

    `now` is in microseconds since 1970. Raises StoreUnreachableError: then the reservations stand.
    """

    def change(kept: Sequence[Kept | None]) -> tuple[list[Kept | None], None]:
        return [settled(_amount(each), one.reserved, picodollars) for each, one in zip(kept, budgets, strict=True)], None

    return store.step([one.key for one in budgets], change, now)[0]


class _Request:
    """One request's choices (see `transitions.Choices`), with the keys that it reads."""

    def __init__(self, machine: Stateful, plain: Decision, values: Any, at: datetime) -> None:
        self.machine, self.policy, self.plain, self.values, self.at = machine, machine.policy, plain, values, at
        self.time = micros(at)
        self.ruled = isinstance(machine.rules[plain.rule].target, Refuse)  # the rule itself refuses: state has no say
        self.model = machine.numbers[plain.chain[0]] if plain.chain else NONE
        self.guards = () if self.ruled else tuple(n for n, guard in enumerate(machine.live.guards) if guard(values))
        self.windows = {place: window(one.period, at, self.policy.timezone) for place, one in self._allowances()}
        self.used: dict[int, int] = {}

    def _allowances(self) -> list[tuple[int, Allowance]]:
        return [(place, self.policy.allowances[place]) for place in self.guards]

    # -- keys ----------------------------------------------------------------------------------------------------------

    @property
    def sticks(self) -> bool:
        """Whether the request belongs to a conversation that `sticky` knows."""
        return self.policy.sticky is not None and not self.ruled and bool(self._read(self.policy.sticky.key))

    def keys(self) -> list[Key]:
        """The conversation's key, where there is one, then those of the guards in order."""
        sticky = self.policy.sticky
        found = []
        if sticky is not None and self.sticks:
            found.append(Key(self._key(sticky.title, sticky.key, ""), self.time + sticky.lifetime * 1_000))
        for place, one in self._allowances():
            until = micros(end(one.period, self.windows[place], self.policy.timezone)) + GRACE
            found.append(Key(self._key(one.title, one.key, str(self.windows[place])), until))
        return found

    def _key(self, title: str, key: str, window_name: str) -> str:
        """A name that tells no user's: a store may lie on a disk, or on another machine."""
        parts = (self.policy.name, title, key, window_name, self._read(key))
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).hexdigest()[:40]

    def _read(self, signal: str) -> str:
        return str(getattr(self.values, self.policy.signals[signal].identifier))

    # -- choices -------------------------------------------------------------------------------------------------------

    @property
    def tier(self) -> int:
        """The place of the rule's own decision in the order of tiers."""
        routes = self.machine.rules[self.plain.rule].routes
        route = routes[max(self.plain.arm, 0)] if routes else Route(())
        return tier_of(self.policy, route, self.plain.chain[0] if self.plain.chain else "")

    def of_tier(self, tier: int) -> int:
        """The first usable model of a tier."""
        return self._first(self.policy.tiers[self.policy.order[tier]])

    def usable(self, model: int) -> bool:
        """Whether no limit keeps the request from a model."""
        return not self.machine.live.blocked[self.machine.names[model]](self.values)

    def beyond(self, place: int) -> int:
        """The first usable model of a used-up limit's target."""
        target = self.policy.allowances[place].target
        return self._first(target.chain) if isinstance(target, Route) else NONE

    def wanted(self, place: int, model: int) -> int | None:
        """One request of a quota; of a budget what the model costs at most: all input at its full price, the longest output."""
        if self.policy.allowances[place].kind == "quota":
            return 1
        usage = Usage(int(self._number("tokens")), int(self._number("max_output")))
        found = cost(usage, self.machine.prices.get(self.machine.names[model]), self.at)
        return None if found is None else found.picodollars

    def warm(self, model: int) -> int:
        """Until when the model's provider keeps the prompt's prefix; its beginning where it keeps none."""
        if self.policy.sticky is None or self.policy.sticky.mode != "keep while cached":
            return self.time
        rule = cache_rule(self.policy.models[self.machine.names[model]].provider or "")
        if rule is None or self._number("tokens") < rule.minimum:
            return self.time - 1
        return self.time + rule.lifetime * 1_000_000

    def _number(self, signal: str) -> int:
        return int(getattr(self.values, self.policy.signals[signal].identifier))

    def _first(self, chain: Chain) -> int:
        left = self._left(chain)
        return self.machine.numbers[left[0]] if left else NONE

    def _left(self, chain: Chain) -> Chain:
        """What limits leave of a chain, with the caller's model in its place."""
        asked = self._read(REQUESTED) if REQUESTED in chain else ""
        named = dict.fromkeys(asked if name == REQUESTED else name for name in chain)
        blocked = self.machine.live.blocked
        return tuple(name for name in named if name in blocked and not blocked[name](self.values))

    # -- the step ------------------------------------------------------------------------------------------------------

    def change(self, kept: Sequence[Kept | None]) -> tuple[list[Kept | None], Outcome]:
        """The step: what is kept under the keys becomes what the transition says."""
        if self.ruled:
            return [], Outcome(PLAIN, NONE, NONE, NONE, False, (), (), None)
        places: list[Kept | None] = list(kept)
        last = self._last(places.pop(0)) if self.sticks else None
        self.used = {place: _amount(each) for place, each in zip(self.guards, places, strict=True)}
        outcome = self.machine.transitions.next(self, self.time, last, self.used)
        new = dict(outcome.taken)
        counted: list[Kept | None] = [taken(self.used[place], new[place]) if place in new else None for place in self.guards]
        return ([self._kept(outcome.last)] if self.sticks else []) + counted, outcome

    def _last(self, kept: Kept | None) -> Last | None:
        """A conversation's last decision by the names that it is kept with; None where the policy knows them no more."""
        if not isinstance(kept, list):
            return None
        tier, model, at, warm = kept
        if model not in self.machine.numbers:
            return None
        place = self.policy.order.index(str(tier)) if tier in self.policy.order else NONE
        return Last(place, self.machine.numbers[str(model)], int(at), int(warm))

    def _kept(self, last: Last | None) -> Kept | None:
        if last is None:
            return None
        return ["" if last.tier == NONE else self.policy.order[last.tier], self.machine.names[last.model], last.at, last.warm]

    # -- the decision --------------------------------------------------------------------------------------------------

    def decided(self, number: int, outcome: Outcome) -> Decided:
        """The outcome in the policy's words."""
        acted = self._acted(outcome)
        decision = self.plain if not acted else self._changed(outcome, acted)
        keys = dict(zip(self.guards, self.keys()[1 if self.sticks else 0 :], strict=True))
        budgets = tuple(
            Taken(keys[place], amount) for place, amount in outcome.taken if self.policy.allowances[place].kind == "budget"
        )
        left = tuple(self._left_of(place, dict(outcome.taken).get(place, 0)) for place in self.guards)
        refusing = decision.refused and outcome.acted
        full = left[self.guards.index(outcome.place)] if refusing else None
        tier = "" if outcome.tier == NONE else self.policy.order[outcome.tier]
        return Decided(decision, number, tier if acted else "", budgets, left, full)

    def _acted(self, outcome: Outcome) -> tuple[str, ...]:
        sticky = (self.policy.sticky.title,) if self.policy.sticky and outcome.held else ()
        return (*sticky, *(self.policy.allowances[place].title for place in outcome.acted))

    def _changed(self, outcome: Outcome, acted: tuple[str, ...]) -> Decision:
        target = self.policy.allowances[outcome.place].target if outcome.source == OVER else None
        chain = self._chain(outcome)
        refused = target.message if isinstance(target, Refuse) else "" if chain else NO_MODEL
        rule = self.machine.rules[self.plain.rule]
        share = rule.target.arms[self.plain.arm].share if isinstance(rule.target, Split) else 10_000
        return replace(
            self.plain, chain=chain, refused=refused, explored=False, propensity=propensity(share, 0, 0, False), acted=acted
        )

    def _chain(self, outcome: Outcome) -> Chain:
        if outcome.source == TIER:
            return self._left(self.policy.tiers[self.policy.order[outcome.tier]])
        if outcome.source == KEPT:
            name = self.machine.names[outcome.model]
            return (name, *(model for model in self.plain.chain if model != name))
        target = self.policy.allowances[outcome.place].target
        return self._left(target.chain) if isinstance(target, Route) else ()

    def _left_of(self, place: int, took: int) -> Left:
        one = self.policy.allowances[place]
        until = end(one.period, self.windows[place], self.policy.timezone)
        return Left(one, max(0, one.amount - self.used[place] - took), until)


def _amount(kept: Kept | None) -> int:
    return kept if isinstance(kept, int) else 0


def seconds_until(left: Left, at: datetime) -> int:
    """Whole seconds from `at` until a window is over, at least 1."""
    return max(1, -((at - left.until) // timedelta(seconds=1)))
