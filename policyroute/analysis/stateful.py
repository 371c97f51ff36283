"""Findings on state and on what is learned: tiers that can't be held, limits and escalations that never act, classifiers that decide nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from policyroute.analysis.conditions import able, before, both, either, opposite, reached, stuck
from policyroute.analysis.equivalence import compared
from policyroute.analysis.finding import Finding
from policyroute.analysis.solver import Solver
from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.limits import reachable
from policyroute.language.policy import (
    FALSE,
    REQUESTED,
    TRUE,
    Apply,
    Chain,
    Expression,
    Literal,
    Policy,
    Read,
    Route,
    reads,
)  # fmt: skip
from policyroute.language.source import Span
from policyroute.language.statements import Allowance, Escalation

COMPARING = 10.0  # seconds for all questions on a policy's classifiers


def findings(solver: Solver, *, proofs: bool) -> Iterator[Finding]:
    """All of them; with `proofs`, z3 is there to compare what a classifier's answers lead to."""
    policy = solver.policy
    if policy.sticky is not None and policy.sticky.mode == "never downgrade":
        yield from _unholdable(solver, policy.sticky.span)
    for one in policy.allowances:
        yield from _idle(solver, one)
        yield from _pointless(policy, one)
    for escalation in policy.escalations:
        for tier in escalation.tiers:
            yield from _unheard(solver, escalation, tier)
    for name in policy.classifiers if proofs else ():
        yield from _silent(policy, name)


def _warning(code: str, message: str, span: Span, help_: str) -> Diagnostic:
    return Diagnostic(code, message, span, help_, severity=Severity.WARNING)


# -- sticky --------------------------------------------------------------------------------------------------------


def _unholdable(solver: Solver, span: Span) -> Iterator[Finding]:
    """Tiers of which a `forbid` can leave no model, for a request that a lower tier could take."""
    policy = solver.policy
    for place, tier in enumerate(policy.order):
        chain = policy.tiers[tier]
        lower = either(*(able(policy, model) for other in policy.order[:place] for model in policy.tiers[other]))
        wanted = both(stuck(policy, chain), lower, either(*(_forbidden(policy, model) for model in chain)))
        found = solver.ask(wanted) if wanted != FALSE else None
        if found is not None and found.status == "some":
            message = f"`never downgrade` can't hold a conversation in `{tier}`: a `forbid` can leave none of its models"
            help_ = (
                f"add a model to `{tier}` that isn't forbidden then; such a request falls back to the tier that its rule decides"
            )
            yield Finding(_warning("unholdable-tier", message, span, help_), wanted, found.values)


def _forbidden(policy: Policy, model: str) -> Expression:
    """The requests that a `forbid`, and neither context nor abilities, keeps from a model."""
    forbids = either(*(forbid.condition for forbid in policy.forbids if model in forbid.models))
    alone = replace(policy, forbids=())
    return both(forbids, able(alone, model))


# -- quotas and budgets --------------------------------------------------------------------------------------------


def _idle(solver: Solver, one: Allowance) -> Iterator[Finding]:
    """A limit that counts no request: none for which its condition holds comes to a model that it covers."""
    policy = solver.policy
    covered = one.of or tuple(policy.models)
    for number, rule in enumerate(policy.rules):
        for route in () if rule.shadow else rule.routes:
            counted = either(*(reached(policy, route, model) for model in covered))
            wanted = both(rule.condition, one.condition, counted)
            if wanted != FALSE and solver.ask(wanted, before(policy, number), minimal=False).status != "none":
                return
    elsewhere = [model for model in _led_to(policy, one) if model in covered]
    wanted = both(one.condition, either(*(able(policy, model) for model in elsewhere)))
    if wanted != FALSE and solver.ask(wanted, minimal=False).status != "none":
        return
    message = f"`{one.title}` never counts a request: none that it asks for comes to a model that it covers"
    yield Finding(_warning("idle-limit", message, one.span, "widen its `when` or its `of`, or remove it"))


def _led_to(policy: Policy, one: Allowance) -> Iterator[str]:
    """Models to which stickiness or another limit may lead a request."""
    if policy.sticky is not None:
        yield from reachable(policy)
    for other in policy.allowances:
        if other != one and isinstance(other.target, Route):
            yield from policy.models if REQUESTED in other.target.chain else other.target.chain


def _pointless(policy: Policy, one: Allowance) -> Iterator[Finding]:
    """A limit that sends what no longer fits where it went anyway."""
    if not isinstance(one.target, Route) or policy.sticky is not None:
        return
    routes = [route for rule in policy.rules if not rule.shadow for route in rule.routes]
    routes += [other.target for other in policy.allowances if other != one and isinstance(other.target, Route)]
    chains: set[Chain] = {route.chain for route in routes if not one.of or set(route.chain) & set(one.of)}
    if chains == {one.target.chain}:
        message = f"`{one.title}` changes nothing: what no longer fits goes to the same models"
        yield Finding(_warning("pointless-limit", message, one.span, 'name a lower tier, or `refuse "..."`'))


# -- escalation ----------------------------------------------------------------------------------------------------


def _unheard(solver: Solver, escalation: Escalation, tier: str) -> Iterator[Finding]:
    """A tier whose weak answers can be asked of nobody: nothing is above it, or nothing above it can take its requests."""
    policy = solver.policy
    place = policy.order.index(tier) if tier in policy.order else len(policy.order)
    if place + 1 == len(policy.order):
        message = f"weak answers of `{tier}` have nowhere to go up to: it is the highest tier"
        yield Finding(_warning("top-escalation", message, escalation.span, f"take `{tier}` out, or rank a tier above it"))
        return
    if place + 1 > len(policy.order):
        return
    higher = either(*(able(policy, model) for model in policy.tiers[policy.order[place + 1]]))
    for number, rule in enumerate(policy.rules):
        for route in () if rule.shadow else rule.routes:
            if route.tier != tier and not set(route.chain) & set(policy.tiers[tier]):
                continue
            wanted = both(rule.condition, higher)
            if wanted != FALSE and solver.ask(wanted, before(policy, number), minimal=False).status != "none":
                return
    message = f"weak answers of `{tier}` are never asked again: no model of `{policy.order[place + 1]}` can take its requests"
    yield Finding(_warning("top-escalation", message, escalation.span, "add a model above that can take them, or remove it"))


# -- classifiers ---------------------------------------------------------------------------------------------------


def _silent(policy: Policy, name: str) -> Iterator[Finding]:
    """A classifier whose every answer leads to the same decision."""
    if not any(name in reads(condition) for condition in _conditions(policy)):
        return
    first, *others = (_answered(policy, name, member) for member in policy.classifiers[name].members)
    if all(
        found is not None and found.complete and not found.differences for found in (compared(first, o, COMPARING) for o in others)
    ):
        message = f"whatever the classifier `{name}` answers, no decision is another one"
        help_ = "remove it, or send its members different ways: each call costs money and time"
        yield Finding(_warning("silent-classifier", message, policy.classifiers[name].span, help_))


def _conditions(policy: Policy) -> Iterator[Expression]:
    yield from (rule.condition for rule in policy.rules)
    yield from (forbid.condition for forbid in policy.forbids)
    yield from (one.condition for one in policy.allowances)


def _answered(policy: Policy, name: str, member: str) -> Policy:
    """The policy as it is where the classifier answers `member`."""
    return replace(
        policy,
        rules=tuple(replace(rule, condition=_with(rule.condition, name, member)) for rule in policy.rules),
        forbids=tuple(replace(forbid, condition=_with(forbid.condition, name, member)) for forbid in policy.forbids),
        allowances=tuple(replace(one, condition=_with(one.condition, name, member)) for one in policy.allowances),
    )


def _with(node: Expression, name: str, member: str) -> Expression:
    """A condition with the classifier's answer written in."""
    match node:
        case Apply("in", (Read(signal), *members)) if signal == name:
            return TRUE if Literal(member) in members else FALSE
        case Apply("and", arguments):
            return both(*(_with(argument, name, member) for argument in arguments))
        case Apply("or", arguments):
            return either(*(_with(argument, name, member) for argument in arguments))
        case Apply("not", (inner,)):
            return opposite(_with(inner, name, member))
    return node
