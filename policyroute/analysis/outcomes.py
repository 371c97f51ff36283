"""When two rules, of one policy or of two, send a request different ways: as a condition.

A rule's outcome is the chain that limits leave, or the refusal. What is drawn by a hash is the same only where all that goes into
the hash is: policy, rule and key. So two splits of different rules count as different wherever any of their arms differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations

from policyroute.analysis.conditions import both, cases, either, opposite
from policyroute.language.limits import blocked
from policyroute.language.policy import FALSE, TRUE, Apply, Chain, Expression, Policy, Read, Refuse, Route, Rule, Split


@dataclass(frozen=True, eq=False)
class Side:
    """One of two policies that are asked of at once. `names` are its signals that mean something else than the other's of that name."""

    policy: Policy
    names: Mapping[str, str] = field(default_factory=dict)

    def seen(self, node: Expression) -> Expression:
        """A condition of this policy, in the names that both share."""
        if not self.names:
            return node
        match node:
            case Read(signal, span):
                return Read(self.names.get(signal, signal), span)
            case Apply(operator, arguments, span):
                return Apply(operator, tuple(self.seen(argument) for argument in arguments), span)
        return node

    def able(self, model: str) -> Expression:
        """The requests that no limit keeps from `model`."""
        return _able(self, model)

    def cases(self, chain: Chain) -> Iterator[tuple[Expression, Chain]]:
        """See `conditions.cases`."""
        return ((self.seen(case), models) for case, models in cases(self.policy, chain))


@cache
def _able(side: Side, model: str) -> Expression:
    return side.seen(opposite(blocked(side.policy, model)))


def different(one: Side, first: Rule, other: Side, second: Rule, words: bool = True) -> Expression:
    """The requests that the two rules would send different ways, were they to take them. Without `words`, refused is refused."""
    if isinstance(first.target, Refuse) or isinstance(second.target, Refuse):
        return (FALSE if first.target == second.target else TRUE) if words else _answered(one, first, other, second)
    explored = _explored(one, first, other)
    arms = _arms(one, first, other, second)
    return either(explored, *(chains(one, a, other, b) for a, b in arms))


def _answered(one: Side, first: Rule, other: Side, second: Rule) -> Expression:
    """The requests that the one of two rules that doesn't refuse has a model for; none where both refuse."""
    side, rule = (other, second) if isinstance(first.target, Refuse) else (one, first)
    return either(
        *(both(case, side.able(model)) for route in rule.routes for case, models in side.cases(route.chain) for model in models)
    )


def _arms(one: Side, first: Rule, other: Side, second: Rule) -> list[tuple[Chain, Chain]]:
    """The chains that have to be compared: arm by arm where the same draw chooses them, else each with each."""
    a, b = first.target, second.target
    drawn_alike = one.policy.name == other.policy.name and first.name == second.name
    if isinstance(a, Split) and isinstance(b, Split) and drawn_alike and _shares(a) == _shares(b):
        return [(x.route.chain, y.route.chain) for x, y in zip(a.arms, b.arms, strict=True)]
    return sorted({(x.chain, y.chain) for x in first.routes for y in second.routes})


def _shares(split: Split) -> tuple[object, ...]:
    return (split.key, *(arm.share for arm in split.arms))


def _explored(one: Side, rule: Rule, other: Side) -> Expression:
    """`explore` draws otherwise: what it can move may differ."""
    mine, theirs = ((side.policy.explore, side.policy.name) for side in (one, other))
    if mine == theirs or (mine[0] is None and theirs[0] is None):
        return FALSE
    return either(*(_several(one, route) for route in rule.routes))


def _several(side: Side, route: Route) -> Expression:
    """The requests of which the chain has at least two models left."""
    return either(
        *(
            both(case, side.able(first), side.able(second))
            for case, models in side.cases(route.chain)
            for first, second in combinations(models, 2)
        )
    )


def chains(one: Side, first: Chain, other: Side, second: Chain) -> Expression:
    """The requests for which two chains differ after limits."""
    found = [
        both(case, also, _unequal(one, here, other, there))
        for case, here in one.cases(first)
        for also, there in other.cases(second)
    ]
    return either(*found)


def _unequal(one: Side, first: Chain, other: Side, second: Chain) -> Expression:
    """Two chains of distinct models differ in who is left, or in the order of two that are."""
    alike = [model for model in first if model in second and _same(one, other, model)]
    only = [one.able(model) for model in first if model not in alike] + [
        other.able(model) for model in second if model not in alike
    ]
    left = [_unlike(one.able(model), other.able(model)) for model in alike]
    turned = [
        both(one.able(here), one.able(there)) for here, there in combinations(alike, 2) if second.index(here) > second.index(there)
    ]
    return either(*only, *left, *turned)


def _same(one: Side, other: Side, model: str) -> bool:
    """Whether the name stands for the same call: id, provider and address."""
    if one is other:
        return True
    mine, theirs = one.policy.models.get(model), other.policy.models.get(model)
    return (
        mine is not None and theirs is not None and (mine.id, mine.provider, mine.url) == (theirs.id, theirs.provider, theirs.url)
    )


def _unlike(one: Expression, other: Expression) -> Expression:
    if one == other:
        return FALSE
    return either(both(one, opposite(other)), both(opposite(one), other))
