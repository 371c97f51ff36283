"""Candidate policies of a sweep: one file's thresholds moved, and what of a request tells the candidates apart.

A *leaf* is the largest part of a condition that has no tunable in it, or a comparison that has one. Two requests for which every leaf
of every candidate has the same truth value (unknown included), with the same arm of every split and the same luck in `explore`, are decided
alike by all candidates. So requests fall into classes, and a candidate has to decide one request of each.

Comparisons of one number with several thresholds are one key: how many thresholds the number has reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from policyroute.backends.sql import draw, expression, quoted
from policyroute.language.decision import PARTS
from policyroute.language.limits import blocked, reachable
from policyroute.language.policy import REQUESTED, Apply, Expression, IntType, Literal, Policy, Read, Split
from policyroute.language.vocabulary import COMPARISONS

Values = Mapping[str, int]
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_WIDTH = 39  # digits to base 3 that a BIGINT holds


class Threshold(NamedTuple):
    """A comparison of a number, which no tunable moves, with a constant; `tunable` is the constant's name, "" if it has none."""

    subject: Expression
    operator: str
    value: int
    tunable: str


# -- policies ------------------------------------------------------------------------------------------------------


def tuned(policy: Policy, values: Values) -> Policy:
    """`policy` with other values of its tunables. Its digest is "", since what it covers is known to the checker alone."""
    tunables = {name: replace(one, value=values.get(name, one.value)) for name, one in policy.tunables.items()}
    rules = tuple(replace(rule, condition=_moved(rule.condition, values)) for rule in policy.rules)
    forbids = tuple(replace(forbid, condition=_moved(forbid.condition, values)) for forbid in policy.forbids)
    return replace(policy, tunables=tunables, rules=rules, forbids=forbids, digest="")


def _moved(node: Expression, values: Values) -> Expression:
    match node:
        case Literal(tunable=name) if name in values:
            return replace(node, value=values[name])
        case Apply(arguments=arguments):
            return replace(node, arguments=tuple(_moved(argument, values) for argument in arguments))
        case _:
            return node


def lifted(policy: Policy) -> Policy:
    """`policy` with its tunables read from columns (`column_of`) in place of their values: the same for all candidates of one file."""
    rules = tuple(replace(rule, condition=_lifted(rule.condition)) for rule in policy.rules)
    forbids = tuple(replace(forbid, condition=_lifted(forbid.condition)) for forbid in policy.forbids)
    return replace(policy, tunables={}, rules=rules, forbids=forbids, doc="", tests=(), gates=(), digest="")


def column_of(tunable: str) -> str:
    """The column that `lifted` reads; no signal has such a name."""
    return f"tunable {tunable}"


def _lifted(node: Expression) -> Expression:
    match node:
        case Literal(tunable=name) if name:
            return Read(column_of(name))
        case Apply(arguments=arguments):
            return replace(node, arguments=tuple(_lifted(argument) for argument in arguments))
        case _:
            return node


def tunables_of(node: Expression) -> set[str]:
    """Names of the tunables in an expression."""
    match node:
        case Literal(tunable=name):
            return {name} if name else set()
        case Apply(arguments=arguments):
            return {name for argument in arguments for name in tunables_of(argument)}
        case _:
            return set()


def conditions(policy: Policy) -> Iterator[Expression]:
    """Every condition that a decision can depend on: those of the rules that serve, and the limits of the models."""
    yield from (rule.condition for rule in policy.rules if not rule.shadow)
    yield from (blocked(policy, model) for model in reachable(policy))


def moving(policy: Policy) -> tuple[str, ...]:
    """The tunables that a decision can depend on, in order of declaration."""
    found = {name for condition in conditions(policy) for name in tunables_of(condition)}
    return tuple(name for name in policy.tunables if name in found)


# -- leaves --------------------------------------------------------------------------------------------------------


def leaves(node: Expression) -> Iterator[Expression]:
    """The leaves of a condition; constants are none."""
    if isinstance(node, Literal):
        return
    if isinstance(node, Apply) and node.operator in ("and", "or", "not") and tunables_of(node):
        for argument in node.arguments:
            yield from leaves(argument)
        return
    yield node


def threshold(node: Expression) -> Threshold | None:
    """A leaf as a comparison with a constant; None where it is none, or where a tunable stands on both sides."""
    if not isinstance(node, Apply) or node.operator not in COMPARISONS:
        return None
    left, right = node.arguments
    operator = node.operator
    if isinstance(left, Literal):
        left, right, operator = right, left, _MIRRORED[operator]
    if not isinstance(right, Literal) or isinstance(left, Literal) or tunables_of(left):
        return None
    return Threshold(left, operator, int(right.value), right.tunable)


def _cuts(found: Threshold) -> tuple[int, ...]:
    """The numbers from which on the comparison's truth can be another one."""
    match found.operator:
        case "<" | ">=":
            return (found.value,)
        case "<=" | ">":
            return (found.value + 1,)
        case _:
            return (found.value, found.value + 1)


# -- keys ----------------------------------------------------------------------------------------------------------


def keys(policies: Sequence[Policy]) -> list[str]:
    """SQL over signal columns: requests that agree in all of them are decided alike by all `policies`."""
    found = dict.fromkeys(leaf for policy in policies for condition in conditions(policy) for leaf in leaves(condition))
    cuts: dict[Expression, set[int]] = {}
    plain: list[str] = []
    for leaf in found:
        compared = threshold(leaf)
        if compared is None:
            plain.append(expression(leaf))
        else:
            cuts.setdefault(compared.subject, set()).update(_cuts(compared))
    numbers = [_reached(expression(subject), sorted(places)) for subject, places in cuts.items()]
    chances = dict.fromkeys(sql for policy in policies for sql in _chances(policy))
    asked = any(REQUESTED in route.chain for policy in policies for rule in policy.rules for route in rule.routes)
    return [*numbers, *_packed(plain), *chances, *([quoted(REQUESTED)] if asked else [])]


def _reached(number: str, cuts: Sequence[int]) -> str:
    """How many of the ascending `cuts` a number has reached, by bisection; NULL where it is unknown."""
    return f"CASE WHEN {number} IS NULL THEN NULL ELSE {_bisected(number, cuts, 0)} END"


def _bisected(number: str, cuts: Sequence[int], before: int) -> str:
    if not cuts:
        return str(before)
    middle = len(cuts) // 2
    below, above = _bisected(number, cuts[:middle], before), _bisected(number, cuts[middle + 1 :], before + middle + 1)
    return f"CASE WHEN {number} < {cuts[middle]} THEN {below} ELSE {above} END"


def _packed(conditions: Sequence[str]) -> list[str]:
    """Truth values as digits to base 3, many to a column: grouping by one number is cheaper than by many truth values."""
    return [
        " + ".join(
            f"coalesce(CAST({sql} AS BIGINT), 2) * {3**place}" for place, sql in enumerate(conditions[start : start + _WIDTH])
        )
        for start in range(0, len(conditions), _WIDTH)
    ]


def _chances(policy: Policy) -> Iterator[str]:
    """The arm that each split would take, and whoever is drawn to explore, who stays alone: what explores depends on the chain."""
    for rule in policy.rules:
        if isinstance(rule.target, Split) and not rule.shadow:
            key = quoted(rule.target.key)
            drawn = f"CASE WHEN {key} = '' THEN 0 ELSE {draw((policy.name, rule.name), rule.target.key)} % {PARTS} END"
            shares = [arm.share for arm in rule.target.arms]
            yield _reached(drawn, [sum(shares[:place]) for place in range(1, len(shares))])
    if policy.explore:
        key = quoted(policy.explore.key)
        luck = f"{draw((policy.name, 'explore'), policy.explore.key)} % {PARTS} < {policy.explore.share}"
        yield f"CASE WHEN {key} <> '' AND {luck} THEN {key} END"


# -- values to try -------------------------------------------------------------------------------------------------


def subjects(policy: Policy, name: str) -> tuple[Expression, ...]:
    """The numbers that a tunable is compared with, where it stands alone on one side."""
    found = (threshold(leaf) for condition in conditions(policy) for leaf in leaves(condition))
    return tuple(dict.fromkeys(one.subject for one in found if one is not None and one.tunable == name))


def evenly(type_: IntType, count: int) -> list[int]:
    """`count` whole numbers that divide a range evenly, its ends left out."""
    width = type_.high - type_.low
    return [type_.low + width * place // (count + 1) for place in range(1, count + 1)]


def reading(names: Sequence[str]) -> Expression:
    """A condition that reads these signals; it is never evaluated, and only makes a preparation extract them."""
    return Apply("and", tuple(Read(name) for name in names))
