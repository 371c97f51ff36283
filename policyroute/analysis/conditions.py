"""Conditions about what a policy does, in the language's own expressions: so each is a question for a solver, a filter on a trace
and a thing that the reference can evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policyroute.language.limits import blocked
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
)  # fmt: skip


def both(*parts: Expression) -> Expression:
    """The conjunction."""
    return _joined("and", parts, neutral=TRUE, settling=FALSE)


def either(*parts: Expression) -> Expression:
    """The disjunction."""
    return _joined("or", parts, neutral=FALSE, settling=TRUE)


def opposite(node: Expression) -> Expression:
    """The negation."""
    match node:
        case Literal(bool() as value):
            return FALSE if value else TRUE
        case Apply("not", (inner,)):
            return inner
    return Apply("not", (node,))


def _joined(operator: str, parts: Iterable[Expression], neutral: Literal, settling: Literal) -> Expression:
    left = tuple(dict.fromkeys(part for part in parts if part != neutral))
    if settling in left:
        return settling
    return neutral if not left else left[0] if len(left) == 1 else Apply(operator, left)


def conjuncts(node: Expression) -> tuple[Expression, ...]:
    """The parts that all have to hold."""
    if isinstance(node, Apply) and node.operator == "and":
        return tuple(part for argument in node.arguments for part in conjuncts(argument))
    return (node,)


def before(policy: Policy, number: int) -> tuple[int, ...]:
    """The served rules above rule `number`."""
    return tuple(other for other in range(number) if not policy.rules[other].shadow)


def taken(policy: Policy, number: int) -> Expression:
    """The requests that rule `number` takes: its condition, and of none above it."""
    passed = (opposite(policy.rules[other].condition) for other in before(policy, number))
    return both(policy.rules[number].condition, *passed)


def able(policy: Policy, model: str) -> Expression:
    """The requests that no limit keeps from `model`."""
    return opposite(blocked(policy, model))


def stuck(policy: Policy, chain: Chain) -> Expression:
    """The requests that no model of `chain` can take."""
    return either(*(both(case, *(blocked(policy, model) for model in models)) for case, models in cases(policy, chain)))


def reached(policy: Policy, route: Route, model: str) -> Expression:
    """The requests that may be sent to `model` by this route's chain, as first choice or fallback."""
    if model in route.chain:
        return able(policy, model)
    return both(asks(model), able(policy, model)) if REQUESTED in route.chain else FALSE


def asks(model: str) -> Expression:
    """The caller asked for `model`."""
    return Apply("in", (Read(REQUESTED), Literal(model)))


def cases(policy: Policy, chain: Chain) -> Iterator[tuple[Expression, Chain]]:
    """The chain as it stands, or for each model that can be asked for the chain with it in the place of `requested`."""
    if REQUESTED not in chain:
        yield TRUE, chain
        return
    for model in policy.models:
        yield asks(model), tuple(dict.fromkeys(model if name == REQUESTED else name for name in chain))
    nobody = Apply("not", (Apply("in", (Read(REQUESTED), *(Literal(model) for model in policy.models))),))
    yield nobody, tuple(name for name in chain if name != REQUESTED)
