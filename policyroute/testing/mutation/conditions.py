"""Mutations of conditions: one row of `OPERATORS` each, from a node to what may stand in its place.

A `let` is written out in a checked policy, so one place of the text may stand in several rules: a mutation changes all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from policyroute.language.policy import Apply, BoolType, EnumType, Expression, Literal, Policy, Read
from policyroute.language.source import Span

Mutations = Callable[[Policy, Expression], Iterator[Expression]]
MEMBERS = 3  # members that a list is widened by, one at a time
_SWAPPED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "and": "or", "or": "and"}


@dataclass(frozen=True, slots=True)
class Place:
    """A node of a condition, as it stands in the text."""

    node: Expression
    span: Span


def places(condition: Expression) -> Iterator[Place]:
    """All nodes with the span of the text that they come from, outer ones first."""
    if condition.span != Span.NONE:
        yield Place(condition, condition.span)
    if isinstance(condition, Apply):
        for argument in condition.arguments:
            yield from places(argument)


def replaced(condition: Expression, place: Place, by: Expression) -> Expression:
    """The condition with another node wherever the place's node stands."""
    if condition == place.node and condition.span == place.span:
        return by
    if isinstance(condition, Apply):
        return Apply(condition.operator, tuple(replaced(part, place, by) for part in condition.arguments), condition.span)
    return condition


def _thresholds(policy: Policy, node: Expression) -> Iterator[Expression]:
    """A number, one more and one less."""
    if isinstance(node, Literal) and type(node.value) is int:
        yield Literal(node.value + 1, node.span)
        if node.value:
            yield Literal(node.value - 1, node.span)


def _swaps(policy: Policy, node: Expression) -> Iterator[Expression]:
    """The neighbouring relation; `and` for `or`."""
    if isinstance(node, Apply) and node.operator in _SWAPPED:
        yield Apply(_SWAPPED[node.operator], node.arguments, node.span)


def _drops(policy: Policy, node: Expression) -> Iterator[Expression]:
    """A conjunction or disjunction without one of its parts."""
    if isinstance(node, Apply) and node.operator in ("and", "or"):
        for part in node.arguments:
            rest = tuple(other for other in node.arguments if other is not part)
            yield rest[0] if len(rest) == 1 else Apply(node.operator, rest, node.span)


def _negations(policy: Policy, node: Expression) -> Iterator[Expression]:
    """The opposite of a condition or of a part of it."""
    match node:
        case Apply("not", (inner,)):
            yield inner
        case Read(signal) if isinstance(policy.signals[signal].type, BoolType):
            yield Apply("not", (node,), node.span)
        case Apply("in", _):
            yield Apply("not", (node,), node.span)


def _members(policy: Policy, node: Expression) -> Iterator[Expression]:
    """A list of members with one less, or one more."""
    if not isinstance(node, Apply) or node.operator != "in":
        return
    subject, *members = node.arguments
    for member in members if len(members) > 1 else ():
        yield Apply("in", (subject, *(other for other in members if other is not member)), node.span)
    assert isinstance(subject, Read)
    type_ = policy.signals[subject.signal].type
    missing = [name for name in type_.all if Literal(name) not in members] if isinstance(type_, EnumType) else []
    for name in missing[:MEMBERS]:
        yield Apply("in", (subject, *members, Literal(name)), node.span)


OPERATORS: Mapping[str, Mutations] = {
    "threshold": _thresholds,
    "relation": _swaps,
    "dropped part": _drops,
    "negation": _negations,
    "members": _members,
}
