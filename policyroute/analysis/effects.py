"""Whom a request can reach beside its rule's chain: by `on failure`, a used-up quota or budget, `sticky`, `escalate`.

What earlier requests have left behind is open here: a quota may be used up or not, a conversation may have been anywhere. So a proof
holds for every state.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyroute.analysis.conditions import able, both, cases, either, reached, stuck
from policyroute.language.limits import blocked, reachable
from policyroute.language.policy import FALSE, REQUESTED, TRUE, Chain, Expression, Policy, Refuse, Route
from policyroute.language.reach import above
from policyroute.language.statements import Allowance

Reach = tuple[str, Expression, str]  # model, the requests that can reach it, and by what beside the rule


def reach(policy: Policy, route: Route) -> Iterator[Reach]:
    """All models that a request of this route can be sent to, whatever the state and whatever fails."""
    yield from _sent(policy, route.chain, TRUE, "")
    for allowance in _allowances(policy, route):
        if isinstance(allowance.target, Route):
            yield from _sent(policy, allowance.target.chain, allowance.condition, f", when `{allowance.title}` is used up")
    for chain in _held(policy, route):
        yield from _sent(policy, chain, TRUE, ", held by `sticky`")


def refused(policy: Policy, route: Route) -> Expression:
    """The requests of this route that can be refused: no model is left, or a used-up limit says so."""
    limits = (both(o.condition, _unanswered(policy, o)) for o in _allowances(policy, route))
    return either(stuck(policy, route.chain), *limits)


def _unanswered(policy: Policy, allowance: Allowance) -> Expression:
    if isinstance(allowance.target, Refuse):
        return TRUE
    return stuck(policy, allowance.target.chain) if isinstance(allowance.target, Route) else FALSE


def _sent(policy: Policy, chain: Chain, when: Expression, by: str) -> Iterator[Reach]:
    """A chain's models, and those above it that a failure or a weak answer leads to."""
    for model in policy.models:
        found = both(when, reached(policy, Route(chain), model))
        if found != FALSE:
            yield model, found, by
    if policy.on_failure and policy.on_failure.up:
        yield from ((model, both(when, found), by or ", by `on failure`") for model, found in _upwards(policy, chain))
    for tier in _escalated(policy, chain):
        yield from ((model, both(when, able(policy, model)), by or ", by `escalate`") for model in policy.tiers[tier])


def _upwards(policy: Policy, chain: Chain) -> Iterator[tuple[str, Expression]]:
    """Models of the tiers above that `on failure` may go to, by the first model that the chain has left."""
    for case, models in cases(policy, chain):
        for place, first in enumerate(models):
            left = both(case, able(policy, first), *(blocked(policy, model) for model in models[:place]))
            ranked = any(policy.tiers[tier][:1] == (first,) for tier in policy.order)
            for model in above(policy, (first,) if ranked else models[place:]):
                yield model, both(left, able(policy, model))


def _escalated(policy: Policy, chain: Chain) -> Iterator[str]:
    """The tiers to which a weak answer of the chain's models is taken: one above those that escalate."""
    for tier in policy.escalates:
        place = policy.order.index(tier) + 1 if tier in policy.order else len(policy.order)
        if place < len(policy.order) and (REQUESTED in chain or set(policy.tiers[tier]) & set(chain)):
            yield policy.order[place]


def _allowances(policy: Policy, route: Route) -> Iterator[Allowance]:
    """The quotas and budgets that can act on the route. A conversation that `sticky` holds elsewhere can meet any of them, and one that
    lowers a request can lead it to another."""
    reached, left = set(route.chain), list(policy.allowances)
    while True:
        acting = [one for one in left if not one.of or policy.sticky or REQUESTED in reached or set(one.of) & reached]
        if not acting:
            return
        yield from acting
        left = [one for one in left if one not in acting]
        reached.update(model for one in acting if isinstance(one.target, Route) for model in one.target.chain)


def _held(policy: Policy, route: Route) -> Iterator[Chain]:
    """Chains that `sticky` may put in the place of the route's: never a lower tier, but where `keep model` keeps whatever it was."""
    ranks = [place for place, tier in enumerate(policy.order) if set(policy.tiers[tier]) & set(route.chain)]
    lowest = min(ranks) if ranks and REQUESTED not in route.chain else 0
    mode = policy.sticky.mode if policy.sticky else ""
    if mode == "keep model" or (mode == "keep while cached" and not ranks):
        yield reachable(policy)
    elif mode:
        yield from (policy.tiers[tier] for tier in policy.order[lowest:])
