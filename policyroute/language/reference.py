"""The reference interpreter: LANGUAGE.md read aloud. Slow, without caching, without cleverness.

Every other reading is tested against it. Rules for whoever edits this file: no optimisation; no code shared with
another reading but the policy's own values and the documented hash.
"""

from __future__ import annotations

from collections.abc import Mapping

from policyroute.language.decision import NO_ARM, NO_MODEL, PARTS, Decision, draw, propensity
from policyroute.language.policy import (
    REQUESTED,
    Apply,
    Chain,
    Expression,
    Literal,
    Model,
    Policy,
    Read,
    Refuse,
    Route,
    Rule,
    Split,
    Value,
)  # fmt: skip
from policyroute.language.vocabulary import ABILITIES, OPERATORS

Values = Mapping[str, Value]


def evaluate(expression: Expression, values: Values) -> Value:
    """The value of an expression for one request. `and` and `or` stop at the first argument that settles them."""
    match expression:
        case Literal(value):
            return value
        case Read(signal):
            return values[signal]
        case Apply("and", arguments):
            return all(evaluate(argument, values) for argument in arguments)
        case Apply("or", arguments):
            return any(evaluate(argument, values) for argument in arguments)
        case Apply(operator, arguments):
            found: Value = OPERATORS[operator].meaning(*(evaluate(argument, values) for argument in arguments))
            return found


def decide(policy: Policy, values: Values) -> Decision:
    """The one decision for a request, given a value for every signal that the policy reads."""
    shadows: list[str] = []
    for rule in policy.rules:
        if not evaluate(rule.condition, values):
            continue
        if rule.shadow:
            shadows.append(rule.name)
            continue
        return _served(policy, rule, values, tuple(shadows))
    raise AssertionError("a checked policy ends in `otherwise`")


def why_not(policy: Policy, model: Model, values: Values) -> str:
    """Why `model` can't take this request, or the empty string where it can."""
    for forbid in policy.forbids:
        if model.name in forbid.models and evaluate(forbid.condition, values):
            return f"forbidden: {forbid.because}" if forbid.because else "forbidden"
    if model.context is not None:
        wanted = int(values["tokens"]) + int(values["max_output"])
        if wanted > model.context:
            return f"context: {wanted} tokens wanted, {model.context} there"
    if model.can is not None:
        for ability, needed in ABILITIES.items():
            if ability not in model.can and evaluate(needed, values):
                return f"it can't take {ability}"
    return ""


def _served(policy: Policy, rule: Rule, values: Values, shadows: tuple[str, ...]) -> Decision:
    if isinstance(rule.target, Refuse):
        return Decision(rule.name, (), refused=rule.target.message, shadows=shadows)
    arm, share, route = _arm(policy, rule, values)
    chain = _left(policy, route.chain, values)
    if not chain:
        return Decision(rule.name, (), arm, propensity(share, 0, 0, False), NO_MODEL, shadows=shadows)
    key = str(values[policy.explore.key]) if policy.explore else ""
    others = len(chain) - 1
    if policy.explore is None or not key or not others:
        return Decision(rule.name, chain, arm, propensity(share, 0, 0, False), shadows=shadows)
    explored = draw(policy.name, "explore", key) % PARTS < policy.explore.share
    if explored:
        other = 1 + draw(policy.name, "explore model", key) % others
        chain = (chain[other], *chain[:other], *chain[other + 1 :])
    return Decision(rule.name, chain, arm, propensity(share, policy.explore.share, others, explored), "", explored, shadows)


def _arm(policy: Policy, rule: Rule, values: Values) -> tuple[int, int, Route]:
    if isinstance(rule.target, Route):
        return NO_ARM, PARTS, rule.target
    assert isinstance(rule.target, Split)
    key = str(values[rule.target.key])
    drawn = draw(policy.name, rule.name, key) % PARTS if key else 0
    for number, arm in enumerate(rule.target.arms):
        if drawn < arm.share:
            return number, arm.share, arm.route
        drawn -= arm.share
    raise AssertionError("the shares of a checked split add up to 100 %")


def _left(policy: Policy, chain: Chain, values: Values) -> Chain:
    """The chain with the caller's model in its place, each model once, without those that can't take the request."""
    asked = str(values[REQUESTED]) if REQUESTED in chain else ""
    named = [asked if name == REQUESTED else name for name in chain]
    known = [name for name in dict.fromkeys(named) if name in policy.models]
    return tuple(name for name in known if not why_not(policy, policy.models[name], values))
