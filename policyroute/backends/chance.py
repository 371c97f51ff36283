"""The probability with which a live decision named its first model: what off-policy estimators need beside the outcome.

The same as `probability` computes in SQL: over the draws of `split` and `explore`, all other signals being as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from policyroute.language.decision import PARTS, Decision
from policyroute.language.policy import REQUESTED, Chain, Policy, Rule, Split

Blocked = Callable[[str], bool]


def model_probability(policy: Policy, decision: Decision, values: Any, blocked: Blocked) -> float | None:
    """The probability of `decision.chain[0]`; None where the decision names no model.

    `values` has an attribute per signal identifier; `blocked` says of a model whether a limit keeps it from the request.
    """
    if not decision.chain:
        return None
    rule = next(rule for rule in policy.rules if rule.name == decision.rule)
    if not isinstance(rule.target, Split) and policy.explore is None:
        return 1.0
    total = sum(
        (share * _first(policy, left, decision.chain[0], values) for share, left in _arms(policy, rule, values, blocked)),
        Fraction(),
    )
    return float(total)


def _arms(policy: Policy, rule: Rule, values: Any, blocked: Blocked) -> list[tuple[Fraction, Chain]]:
    """The probability of each arm, and what limits leave of its chain."""
    if not isinstance(rule.target, Split):
        shares = [Fraction(1)]
    elif _key(policy, rule.target.key, values):
        shares = [Fraction(arm.share, PARTS) for arm in rule.target.arms]
    else:
        shares = [Fraction(1), *[Fraction()] * (len(rule.target.arms) - 1)]
    asked = getattr(values, policy.signals[REQUESTED].identifier)
    chains = (dict.fromkeys(asked if model == REQUESTED else model for model in route.chain) for route in rule.routes)
    lefts = (tuple(model for model in chain if model in policy.models and not blocked(model)) for chain in chains)
    return list(zip(shares, lefts, strict=True))


def _first(policy: Policy, left: Chain, model: str, values: Any) -> Fraction:
    """The probability that `model` comes first of what is left of a chain."""
    if model not in left:
        return Fraction()
    explore, others = policy.explore, len(left) - 1
    if explore is None or not others or not _key(policy, explore.key, values):
        return Fraction(model == left[0])
    share = Fraction(explore.share, PARTS)
    return 1 - share if model == left[0] else share / others


def _key(policy: Policy, name: str, values: Any) -> str:
    return str(getattr(values, policy.signals[name].identifier))
