"""Makes the mutants of a policy: each differs from it in one place.

Shadow rules are left as they are: they decide nothing. Mutants that can't be told from the policy are sorted out later, by proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from policyroute.language.policy import TRUE, Arm, Expression, Policy, Refuse, Route, Rule, Split, Target
from policyroute.language.source import Span
from policyroute.language.wording import written
from policyroute.testing.mutation.conditions import OPERATORS as CONDITIONS
from policyroute.testing.mutation.conditions import Place, places, replaced

TARGETS = 2  # other targets that a rule's own is changed to
REFUSAL = Refuse("(a mutant refuses)")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A policy with one change: by which `operator`, of what (`rule quick_question`), where, and what stood there and stands now."""

    operator: str
    of: str
    span: Span
    before: str
    after: str
    policy: Policy


def mutants(policy: Policy) -> Iterator[Mutant]:
    """All mutants, in the order of the operators. A change that leaves the policy as it was is none."""
    for name, change in CHANGES.items():
        for mutant in change(policy):
            if (mutant.policy.rules, mutant.policy.forbids) != (policy.rules, policy.forbids):
                yield replace(mutant, operator=name)
    yield from _conditions(policy)


# -- conditions ------------------------------------------------------------------------------------------------------------


def _conditions(policy: Policy) -> Iterator[Mutant]:
    owners = [(f"rule {rule.name}", rule.condition) for rule in policy.rules if not rule.shadow]
    owners += [(f"forbid {', '.join(forbid.models)}", forbid.condition) for forbid in policy.forbids]
    seen: set[Place] = set()
    for owner, condition in owners:
        for place in places(condition):
            if place not in seen:
                seen.add(place)
                yield from _at(policy, owner, place)


def _at(policy: Policy, owner: str, place: Place) -> Iterator[Mutant]:
    for name, mutations in CONDITIONS.items():
        for by in mutations(policy, place.node):
            yield Mutant(name, owner, place.span, *_change(policy, place, by), _with(policy, place, by))


def _with(policy: Policy, place: Place, by: Expression) -> Policy:
    rules = tuple(rule if rule.shadow else replace(rule, condition=replaced(rule.condition, place, by)) for rule in policy.rules)
    forbids = tuple(replace(forbid, condition=replaced(forbid.condition, place, by)) for forbid in policy.forbids)
    return replace(policy, rules=rules, forbids=forbids)


def _change(policy: Policy, place: Place, by: Expression) -> tuple[str, str]:
    """The smallest comparison around the place, before and after: `tokens > 3k`, not `3k`."""
    conditions = [*(rule.condition for rule in policy.rules), *(forbid.condition for forbid in policy.forbids)]
    around = next((node for condition in conditions for node in _around(condition, place)), place.node)
    return written(around), written(replaced(around, place, by))


def _around(condition: Expression, place: Place) -> Iterator[Expression]:
    """The innermost boolean node that holds the place."""
    for inner in reversed(list(places(condition))):
        node = inner.node
        if getattr(node, "operator", "") not in ("+", "-", "*", "") and any(part == place for part in places(node)):
            yield node


# -- rules, targets, limits ------------------------------------------------------------------------------------------------


def _swapped(policy: Policy) -> Iterator[Mutant]:
    served = [number for number, rule in enumerate(policy.rules) if not rule.shadow and rule.condition != TRUE]
    for first, second in pairwise(served):
        rules = list(policy.rules)
        rules[first], rules[second] = rules[second], rules[first]
        upper, lower = policy.rules[first], policy.rules[second]
        yield Mutant(
            "",
            f"rule {upper.name}",
            upper.span,
            f"{upper.name} above {lower.name}",
            f"{lower.name} above {upper.name}",
            replace(policy, rules=tuple(rules)),
        )


def _deleted(policy: Policy) -> Iterator[Mutant]:
    for rule in _changeable(policy):
        if rule.condition != TRUE:
            rules = tuple(other for other in policy.rules if other is not rule)
            yield Mutant("", f"rule {rule.name}", rule.span, rule.name, "nothing", replace(policy, rules=rules))


def _retargeted(policy: Policy) -> Iterator[Mutant]:
    for rule in _changeable(policy):
        for target in _others(policy, rule):
            yield _target(policy, rule, target)


def _reordered(policy: Policy) -> Iterator[Mutant]:
    for rule in _changeable(policy):
        if isinstance(rule.target, Route) and len(rule.target.chain) > 1:
            first, second, *rest = rule.target.chain
            yield _target(policy, rule, Route((second, first, *rest), span=rule.target.span))


def _shortened(policy: Policy) -> Iterator[Mutant]:
    for rule in _changeable(policy):
        if isinstance(rule.target, Route) and len(rule.target.chain) > 1:
            yield _target(policy, rule, Route(rule.target.chain[:-1], span=rule.target.span))


def _shifted(policy: Policy) -> Iterator[Mutant]:
    """A split without its last arm, whose share goes to the first one."""
    for rule in _changeable(policy):
        if isinstance(rule.target, Split):
            first, *rest = rule.target.arms
            arms = (Arm(first.share + rest[-1].share, first.route), *rest[:-1]) if rest else ()
            target = Split(rule.target.key, arms) if len(arms) > 1 else first.route
            yield _target(policy, rule, target)


def _allowed(policy: Policy) -> Iterator[Mutant]:
    for forbid in policy.forbids:
        left = tuple(other for other in policy.forbids if other is not forbid)
        names = ", ".join(forbid.models)
        yield Mutant(
            "",
            f"forbid {names}",
            forbid.span,
            f"forbid {names} when {written(forbid.condition)}",
            "nothing",
            replace(policy, forbids=left),
        )


CHANGES: Mapping[str, Callable[[Policy], Iterator[Mutant]]] = {
    "swapped rules": _swapped,
    "deleted rule": _deleted,
    "changed target": _retargeted,
    "reordered chain": _reordered,
    "dropped fallback": _shortened,
    "moved share": _shifted,
    "dropped forbid": _allowed,
}
OPERATORS = (*CHANGES, *CONDITIONS)


def _changeable(policy: Policy) -> Sequence[Rule]:
    return [rule for rule in policy.rules if not rule.shadow]


def _others(policy: Policy, rule: Rule) -> list[Target]:
    """Other targets of the policy: the neighbouring tiers where the rule names one, else what other rules name; or a refusal."""
    order = list(policy.order)
    tier = rule.target.tier if isinstance(rule.target, Route) else ""
    near = (
        [order[place] for place in (order.index(tier) - 1, order.index(tier) + 1) if 0 <= place < len(order)]
        if tier in order
        else []
    )
    found: list[Target] = [Route(policy.tiers[name], name, rule.span) for name in near]
    found += [other.target for other in policy.rules if isinstance(other.target, Route) and other.target != rule.target]
    if not isinstance(rule.target, Refuse):
        found.append(REFUSAL)
    return list(dict.fromkeys(found))[:TARGETS]


def _target(policy: Policy, rule: Rule, target: Target) -> Mutant:
    rules = tuple(replace(other, target=target) if other is rule else other for other in policy.rules)
    before, after = target_text(rule.target), target_text(target)
    return Mutant("", f"rule {rule.name}", rule.span, f"then {before}", f"then {after}", replace(policy, rules=rules))


def target_text(target: Target) -> str:
    """A target in the language's words; a tier by its name."""
    match target:
        case Route(chain, tier):
            return tier or (chain[0] if len(chain) == 1 else f"{chain[0]} fallback {', '.join(chain[1:])}")
        case Split(key, arms):
            shares = ", ".join(f"{arm.share / 100:g}% {target_text(arm.route)}" for arm in arms)
            return f"split by {key} {{ {shares} }}"
    return "refuse"
