"""Guarantees: for every possible request, or with a request that breaks them.

A request can reach what its rule's chain has left after limits, whatever a split or `explore` draws, and what `effects` names: by
failures, used-up limits, a conversation's past, weak answers. Cost is the worst case: all input at the dearest input rate that is or will be valid, output at `max_output`, one answer,
standard service tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from policyroute.analysis.arms import drawn
from policyroute.analysis.conditions import before, both, either, opposite, stuck, taken
from policyroute.analysis.effects import reach, refused
from policyroute.analysis.finding import Finding
from policyroute.analysis.solver import Solver
from policyroute.analysis.unproven import unproven
from policyroute.language.diagnostics import Diagnostic, Label, Severity
from policyroute.language.policy import (
    FALSE,
    TRUE,
    Apply,
    Expression,
    Guarantee,
    Literal,
    Policy,
    Read,
    Refuse,
    Route,
    Rule,
    Target,
    Value,
)
from policyroute.language.reference import evaluate
from policyroute.prices.money import exact_dollars
from policyroute.prices.price import PriceList

Prices = Mapping[str, PriceList]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a guarantee holds: `proved`, `broken`, `vacuous` (no request is as it says) or `unknown`; a finding unless proved."""

    guarantee: str
    status: str
    finding: Finding | None = None


def verdicts(solver: Solver, prices: Prices, now: datetime) -> Iterator[Verdict]:
    """Each guarantee's verdict, in the order of the file."""
    for guarantee in solver.policy.guarantees:
        yield _Claim(solver, guarantee, prices, now).verdict()


@dataclass(frozen=True)
class _Claim:
    solver: Solver
    guarantee: Guarantee
    prices: Prices
    now: datetime

    def verdict(self) -> Verdict:
        claim, policy = self.guarantee, self.solver.policy
        if self.solver.ask(claim.condition, minimal=False).status == "none":
            return Verdict(claim.name, "vacuous", Finding(self._vacuous()))
        unpriced = [model for model in self._priced() if model not in self.prices]
        if unpriced:
            return self._unknown(f"guarantee `{claim.name}`: no price is known for `{unpriced[0]}`")
        for numbers in _alike(policy):
            broken = both(claim.condition, self._broken(policy.rules[numbers[0]]))
            if broken == FALSE or (found := self.solver.ask_taken(broken, numbers)).status == "none":
                continue
            if found.status == "unknown":
                return self._unknown(f"guarantee `{claim.name}`, of the requests of `{policy.rules[numbers[0]].name}`")
            return self._shown(broken, numbers)
        return Verdict(claim.name, "proved")

    def _shown(self, broken: Expression, numbers: Sequence[int]) -> Verdict:
        """The first of the rules that breaks it, with a request: one whose key is drawn to the arm that does, if arms are."""
        policy = self.solver.policy
        for number in numbers:
            rule = policy.rules[number]
            found = self.solver.ask(both(rule.condition, broken), before(policy, number))
            if found.status == "some":
                route = next(route for route, broken_by in self._ways(rule) if evaluate(broken_by, found.values))
                values = drawn(policy, rule, route, found.values) or found.values
                region = both(taken(policy, number), broken)
                return Verdict(self.guarantee.name, "broken", Finding(self._told(rule, route, values), region, values))
        return self._unknown(f"guarantee `{self.guarantee.name}`")

    def _priced(self) -> tuple[str, ...]:
        return tuple(self.solver.policy.models) if self.guarantee.cost else ()

    # -- what breaks it ------------------------------------------------------------------------------------------------

    def _broken(self, rule: Rule) -> Expression:
        """The requests that break the claim, were `rule` to take them."""
        return either(*(broken for _, broken in self._ways(rule)))

    def _ways(self, rule: Rule) -> Iterator[tuple[Route | None, Expression]]:
        """Each route of the rule, or None for its refusal, with the requests that break the claim there."""
        if isinstance(rule.target, Refuse):
            yield None, TRUE if self.guarantee.refused and self.guarantee.quantifier == "never" else FALSE
            return
        for route in rule.routes:
            lost = refused(self.solver.policy, route)
            ways = reach(self.solver.policy, route)
            wrongly = either(*(both(reached, bad) for model, reached, _ in ways if (bad := self._bad(model)) != FALSE))
            if not self.guarantee.refused:
                yield route, wrongly
            elif self.guarantee.quantifier == "never":
                yield route, either(lost, wrongly)
            else:
                yield route, wrongly if self.guarantee.models else opposite(stuck(self.solver.policy, route.chain))

    def _bad(self, model: str) -> Expression:
        """The requests whose sending to `model` breaks the claim."""
        claim = self.guarantee
        if claim.cost is not None:
            relation, bound = claim.cost
            within = either(*self._costs(model, relation, bound))
            if claim.quantifier == "never":
                return within
            return either(*self._costs(model, _OPPOSITE[relation], bound))
        if claim.quantifier == "never":
            return TRUE if model in claim.models else FALSE
        return FALSE if model in claim.models or not claim.models else TRUE

    def _costs(self, model: str, relation: str, bound: int) -> Iterator[Expression]:
        """The worst cost at each price that may apply stands in the relation to the bound."""
        valid = [
            price for price in self.prices[model].prices if price.tier == "standard" and (not price.until or price.until > self.now)
        ]
        for price in valid:
            dearest = max(rate for rate in (price.input, price.cached, price.write_5m, price.write_1h) if rate is not None)
            cost = _sum(_times(dearest, "tokens"), _times(price.output or 0, "max_output"), Literal(price.request))
            higher = min((other.above for other in valid if other.above > price.above), default=None)
            size = [Apply(">", (Read("tokens"), Literal(price.above)))] if price.above else []
            size += [Apply("<=", (Read("tokens"), Literal(higher)))] if higher else []
            yield both(*size, Apply(relation, (cost, Literal(bound))))

    # -- what is said ------------------------------------------------------------------------------------------------------

    def _told(self, rule: Rule, route: Route | None, values: Mapping[str, Value]) -> Diagnostic:
        claim = self.guarantee
        labels = (Label(rule.span, f"`{rule.name}` takes the request"),)
        message = f"`{claim.name}` does not hold: {self._how(route, values)}"
        return Diagnostic("guarantee-broken", message, claim.span, "change the rule, or the claim", labels)

    def _how(self, route: Route | None, values: Mapping[str, Value]) -> str:
        if route is None or (self.guarantee.refused and evaluate(refused(self.solver.policy, route), values)):
            return "a request is refused"
        for model, reached, by in reach(self.solver.policy, route):
            bad = self._bad(model)
            if bad != FALSE and evaluate(both(reached, bad), values):
                return f"a request can reach `{model}`{by}{self._dear(model, values)}"
        return "a request is not refused"

    def _dear(self, model: str, values: Mapping[str, Value]) -> str:
        if self.guarantee.cost is None:
            return ""
        worst = max((_worst(self.prices[model], values, price) for price in range(len(self.prices[model].prices))), default=0)
        return f", where it can cost ${exact_dollars(worst)}"

    def _vacuous(self) -> Diagnostic:
        message = f"`{self.guarantee.name}` says nothing: no request is as its condition asks"
        return Diagnostic(
            "vacuous-guarantee", message, self.guarantee.span, "correct the condition, or remove it", severity=Severity.WARNING
        )

    def _unknown(self, what: str) -> Verdict:
        return Verdict(self.guarantee.name, "unknown", unproven(what, self.guarantee.span))


def _alike(policy: Policy) -> Iterator[Sequence[int]]:
    """The served rules by target: those of one target can reach the same models."""
    groups: dict[Target, list[int]] = {}
    for number, rule in enumerate(policy.rules):
        if not rule.shadow:
            groups.setdefault(rule.target, []).append(number)
    yield from groups.values()


_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _times(rate: int, signal: str) -> Expression:
    return Apply("*", (Literal(rate), Read(signal)))


def _sum(first: Expression, *rest: Expression) -> Expression:
    for part in rest:
        first = Apply("+", (first, part))
    return first


def _worst(prices: PriceList, values: Mapping[str, Value], number: int) -> int:
    price = prices.prices[number]
    dearest = max(rate for rate in (price.input, price.cached, price.write_5m, price.write_1h) if rate is not None)
    return dearest * int(values["tokens"]) + (price.output or 0) * int(values["max_output"]) + price.request
