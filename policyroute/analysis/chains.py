"""Findings on chains: requests left without a model, models that can never take what a rule sends them, fallbacks that go down."""

from __future__ import annotations

from collections.abc import Iterator

from policyroute.analysis.arms import drawn
from policyroute.analysis.conditions import able, before, both, either, opposite, reached, stuck, taken
from policyroute.analysis.finding import Finding
from policyroute.analysis.solver import Solver
from policyroute.analysis.unproven import unproven
from policyroute.language.diagnostics import Diagnostic, Severity
from policyroute.language.limits import blocked
from policyroute.language.policy import FALSE, REQUESTED, Chain, Expression, Policy, Route, Rule
from policyroute.language.source import Span
from policyroute.language.vocabulary import ABILITIES


def findings(solver: Solver) -> Iterator[Finding]:
    """Each served route's findings, in the order of the file; last, the requests that no model of the policy could take."""
    policy = solver.policy
    risky = set(_risky(solver))
    for number, rule in enumerate(policy.rules):
        if rule.shadow or solver.ask(rule.condition, before(policy, number), minimal=False).status == "none":
            continue
        for route in dict.fromkeys(rule.routes):
            if route.chain in risky:
                yield from _dead_end(solver, number, rule, route)
            yield from _useless(solver, number, rule, route)
            yield from _down(policy, rule, route)
    yield from _beyond(solver)


def _lost(policy: Policy, chain: Chain) -> Expression:
    """The requests that no model of the chain can take, though another model of the policy could."""
    return both(stuck(policy, chain), either(*(able(policy, model) for model in policy.models)))


def _risky(solver: Solver) -> Iterator[Chain]:
    """Chains that may be left without a model by one of the rules that send requests there: one question for all of those."""
    policy = solver.policy
    users: dict[Chain, list[int]] = {}
    for number, rule in enumerate(policy.rules):
        for chain in dict.fromkeys(route.chain for route in rule.routes if not rule.shadow):
            users.setdefault(chain, []).append(number)
    for chain, numbers in users.items():
        lost = _lost(policy, chain)
        if lost != FALSE and solver.ask_taken(lost, numbers).status != "none":
            yield chain


def _dead_end(solver: Solver, number: int, rule: Rule, route: Route) -> Iterator[Finding]:
    policy = solver.policy
    found = solver.ask(both(rule.condition, _lost(policy, route.chain)), before(policy, number))
    if found.status == "unknown":
        yield unproven(f"whether `{rule.name}` leaves a request without a model", rule.span)
    elif found.status == "some":
        message = f"`{rule.name}` leaves requests without a model"
        help_ = "add a fallback that can take them, or a rule above that refuses them in words of its own"
        diagnostic = Diagnostic("dead-end", message, _place(route, rule), help_, severity=Severity.WARNING)
        values = drawn(policy, rule, route, found.values) or found.values
        yield Finding(diagnostic, both(taken(policy, number), stuck(policy, route.chain)), values)


def _beyond(solver: Solver) -> Iterator[Finding]:
    """Requests that are sent to a chain, and that no model of the policy could take."""
    policy = solver.policy
    nobody = both(*(blocked(policy, model) for model in policy.models))
    senders = [number for number, rule in enumerate(policy.rules) if rule.routes and not rule.shadow]
    if nobody == FALSE or solver.ask_taken(nobody, senders).status != "some":
        return
    longest = max((model.context or 0 for model in policy.models.values()), default=0)
    message = "some requests can be taken by no model of the policy, and are refused"
    help_ = f'say so in words of your own: `rule too_long {{ when tokens + max_output > {longest} then refuse "..." }}`'
    span = policy.rules[-1].span
    yield Finding(Diagnostic("too-long-for-all", message, span, help_, severity=Severity.INFO), nobody)


def _useless(solver: Solver, number: int, rule: Rule, route: Route) -> Iterator[Finding]:
    """Models of the chain that can take none of the rule's requests."""
    above = before(solver.policy, number)
    for place, model in enumerate(route.chain):
        if model == REQUESTED or blocked(solver.policy, model) == FALSE:
            continue
        found = solver.ask(both(rule.condition, reached(solver.policy, route, model)), above, minimal=False)
        if found.status == "unknown":
            yield unproven(f"whether `{model}` can take a request of `{rule.name}`", rule.span)
        if found.status != "none":
            continue
        code, what = ("useless-fallback", "as a fallback of") if place else ("unable-model", "first choice of")
        message = f"`{model}`, {what} `{rule.name}`, can take none of its requests"
        yield Finding(Diagnostic(code, message, _place(route, rule), _why(solver, number, model), severity=Severity.WARNING))


def _why(solver: Solver, number: int, model: str) -> str:
    """Which of the model's limits holds for all of the rule's requests, where a single one does."""
    policy = solver.policy
    rule, above, declared = policy.rules[number], before(policy, number), policy.models[model]
    reasons = [(forbid.condition, "a `forbid` holds for all of them") for forbid in policy.forbids if model in forbid.models]
    if declared.can is not None:
        reasons += [
            (need, f"it lacks `{word}`, which all of them need") for word, need in ABILITIES.items() if word not in declared.can
        ]
    for condition, reason in reasons:
        if solver.ask(both(rule.condition, opposite(condition)), above, minimal=False).status == "none":
            return f"{reason}; take it out of the chain, or change the limit"
    return "limits, context and abilities together rule it out; take it out of the chain, or change them"


def _down(policy: Policy, rule: Rule, route: Route) -> Iterator[Finding]:
    """A fallback of a lower tier, where `sticky` says never to go down."""
    sticky = policy.sticky is not None and policy.sticky.mode == "never downgrade"
    ranks = [_rank(policy, model) for model in route.chain]
    if not sticky or not ranks or ranks[0] is None:
        return
    for model, rank in zip(route.chain[1:], ranks[1:], strict=True):
        if rank is not None and rank < ranks[0]:
            message = f"`{rule.name}` falls back to `{model}` of a lower tier, which `never downgrade` rules out"
            help_ = "fall back within the tier or upwards, or say `keep while cached`"
            yield Finding(Diagnostic("downgrading-fallback", message, _place(route, rule), help_, severity=Severity.WARNING))
            return


def _rank(policy: Policy, model: str) -> int | None:
    """The highest tier that holds the model."""
    return max((place for place, tier in enumerate(policy.order) if model in policy.tiers[tier]), default=None)


def _place(route: Route, rule: Rule) -> Span:
    return route.span if route.span != Span.NONE else rule.span
