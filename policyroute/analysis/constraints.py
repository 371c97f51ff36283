"""Conditions as constraints that a search can work on: sums that are at most zero, sets of members, and their ands and ors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from policyroute.language.policy import Apply, Expression, Literal, Read, Value


@dataclass(frozen=True, slots=True)
class AtMost:
    """The sum of `factors` times signals, plus `constant`, is at most 0."""

    factors: tuple[tuple[str, int], ...]
    constant: int


@dataclass(frozen=True, slots=True)
class Among:
    """A boolean or enum is one of `members`, or with `out` none of them."""

    signal: str
    members: frozenset[Value]
    out: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Constraint, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds; without parts nothing does."""

    parts: tuple[Constraint, ...]


Constraint = AtMost | Among | All | Some


def constraint(node: Expression, holds: bool = True) -> Constraint:
    """The condition, or with `holds` False its negation."""
    match node:
        case Literal(value):
            return All(()) if bool(value) == holds else Some(())
        case Read(signal):
            return Among(signal, frozenset((holds,)))
        case Apply("not", (inner,)):
            return constraint(inner, not holds)
        case Apply("and" | "or" as operator, arguments):
            parts = tuple(constraint(argument, holds) for argument in arguments)
            return All(parts) if (operator == "and") == holds else Some(parts)
        case Apply("in", (Read(signal), *members)):
            return Among(signal, frozenset(member.value for member in members if isinstance(member, Literal)), not holds)
        case Apply(relation, (left, right)):
            return _compared(relation if holds else _OPPOSITE[relation], _difference(left, right))
    raise AssertionError(f"not a condition: {node}")


_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
Linear = tuple[dict[str, int], int]


def _compared(relation: str, difference: Linear) -> Constraint:
    """The difference of two sums stands in the relation to 0."""
    factors, constant = difference
    turned = {name: -factor for name, factor in factors.items()}, -constant
    match relation:
        case "<=":
            return _at_most(factors, constant)
        case "<":
            return _at_most(factors, constant + 1)
        case ">=":
            return _at_most(*turned)
        case ">":
            return _at_most(turned[0], turned[1] + 1)
        case "==":
            return All((_at_most(factors, constant), _at_most(*turned)))
    return Some((_at_most(factors, constant + 1), _at_most(turned[0], turned[1] + 1)))


def _at_most(factors: Mapping[str, int], constant: int) -> Constraint:
    left = tuple((name, factor) for name, factor in factors.items() if factor)
    if not left:
        return All(()) if constant <= 0 else Some(())
    return AtMost(left, constant)


def _difference(left: Expression, right: Expression) -> Linear:
    return _added(_linear(left), _linear(right), -1)


def _linear(node: Expression) -> Linear:
    match node:
        case Literal(value):
            return {}, int(value)
        case Read(signal):
            return {signal: 1}, 0
        case Apply("+", (left, right)):
            return _added(_linear(left), _linear(right), 1)
        case Apply("-", (left, right)):
            return _added(_linear(left), _linear(right), -1)
        case Apply("*", (left, right)):
            (one, constant), (other, factor) = _linear(left), _linear(right)
            if one and other:
                raise AssertionError("a product of signals is no condition")
            many, by = (one, factor) if one else (other, constant)
            return {name: each * by for name, each in many.items()}, constant * factor
    raise AssertionError(f"not a number: {node}")


def _added(one: Linear, other: Linear, sign: int) -> Linear:
    factors = dict(one[0])
    for name, factor in other[0].items():
        factors[name] = factors.get(name, 0) + sign * factor
    return factors, one[1] + sign * other[1]


def flattened(parts: Sequence[Constraint]) -> Iterator[Constraint]:
    """The parts of a conjunction, and of conjunctions in it."""
    for part in parts:
        if isinstance(part, All):
            yield from flattened(part.parts)
        else:
            yield part
