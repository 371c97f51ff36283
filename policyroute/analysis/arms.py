"""A key that is drawn to an arm: solvers take every arm as open, and a witness has to show one."""

from __future__ import annotations

from collections.abc import Mapping

from policyroute.language.decision import PARTS, draw
from policyroute.language.policy import Policy, Route, Rule, Split, Value

KEYS = 20_000  # keys that are tried; an arm of 0.01 % is found with 86 % probability


def drawn(policy: Policy, rule: Rule, route: Route | None, values: Mapping[str, Value]) -> Mapping[str, Value] | None:
    """The request with a key for which `rule` takes `route`; as it is where the rule has no arms, None where no key was found."""
    if not isinstance(rule.target, Split) or route is None:
        return values
    first = 0
    for number, arm in enumerate(rule.target.arms):
        if arm.route == route and (number == 0 and not values.get(rule.target.key)):
            return values  # without a key the first arm is taken
        if arm.route == route:
            return _keyed(policy, rule, rule.target.key, range(first, first + arm.share), values)
        first += arm.share
    return None


def _keyed(policy: Policy, rule: Rule, name: str, parts: range, values: Mapping[str, Value]) -> Mapping[str, Value] | None:
    for number in range(KEYS):
        if draw(policy.name, rule.name, f"u{number}") % PARTS in parts:
            return {**values, name: f"u{number}"}
    return None
