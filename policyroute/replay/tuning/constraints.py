"""Constraints of a tuning: `share(premium)<=15%`, `changed<=40%`, `users<=30%`, `quality>=80%`; and the figure that each is about.

Figures are pairs of whole numbers, part and whole, so that a bound is compared exactly. Shares are of the requests whose decision is known,
`changed` of those whose models before and after are known, `users` of the users in the trace, `quality` the mean score of outcomes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from policyroute.language.diagnostics import did_you_mean
from policyroute.language.policy import Policy
from policyroute.replay.options import SimulationError
from policyroute.replay.outcomes.table import MICRO
from policyroute.replay.tuning.totals import Totals

Pair = tuple[int, int]
METRICS: dict[str, Callable[[Totals, str, Pair], Pair]] = {
    "share": lambda totals, name, _users: (_rows_of(totals, name), totals.known),
    "changed": lambda totals, _name, _users: (totals.moved, totals.compared),
    "users": lambda _totals, _name, users: users,
    "quality": lambda totals, _name, _users: (totals.score, totals.scored * MICRO),
}
_RELATIONS: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<=": lambda value, bound: value <= bound, "<": lambda value, bound: value < bound,
    ">=": lambda value, bound: value >= bound, ">": lambda value, bound: value > bound,
}  # fmt: skip
_EXAMPLES = "write `share(premium)<=15%`, `changed<=40%`, `users<=30%` or `quality>=80%`"


@dataclass(frozen=True, slots=True)
class Figure:
    """What a front has on one axis: a metric and its argument, and whether less of it is better."""

    metric: str
    argument: str = ""
    less: bool = True

    @property
    def name(self) -> str:
        """As a constraint writes it."""
        return f"{self.metric}({self.argument})" if self.argument else self.metric

    def of(self, totals: Totals, users: Pair = (0, 0)) -> Pair:
        """Part and whole; the whole is 0 where there is nothing that the figure could be of."""
        return METRICS[self.metric](totals, self.argument, users)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound of a figure, in percent."""

    figure: Figure
    relation: str
    bound: Decimal

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.figure.name} {self.relation} {format(self.bound, 'f')}%"

    def short_by(self, pair: Pair) -> Fraction:
        """How far a figure is from the bound, as a part of one; 0 where it meets it. Without a whole nothing is met."""
        part, whole = pair
        if whole <= 0:
            return Fraction(1)
        value, bound = Fraction(part, whole), Fraction(self.bound) / 100
        if _RELATIONS[self.relation](value, bound):
            return Fraction(0)
        return abs(value - bound) or Fraction(1, 10**9)


def parse_constraint(text: str, policy: Policy) -> Constraint:
    """A constraint as the command line gives it. Raises `SimulationError` for one that isn't, or that names what the policy hasn't."""
    found = re.fullmatch(
        r"\s*([a-z_]+)\s*(?:\(\s*([a-z_][a-z0-9_]*)\s*\))?\s*(<=|>=|<|>)\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%?\s*", text
    )
    if not found:
        raise SimulationError(f"`{text}` is no constraint", _EXAMPLES)
    metric, argument, relation, bound = found[1], found[2] or "", found[3], Decimal(found[4])
    if metric not in METRICS:
        raise SimulationError(f"there is no `{metric}` to constrain", did_you_mean(metric, METRICS) or _EXAMPLES)
    if bool(argument) != (metric == "share"):
        raise SimulationError(
            f"`{metric}` {'needs the name of a tier, model or rule' if metric == 'share' else 'takes no name'}", _EXAMPLES
        )
    known = [*policy.tiers, *policy.models, *(rule.name for rule in policy.rules if not rule.shadow)]
    if argument and argument not in known:
        raise SimulationError(
            f"no tier, model or rule is named `{argument}`",
            did_you_mean(argument, known) or f"tiers are {', '.join(policy.tiers) or 'none'}",
        )
    if bound > 100:
        raise SimulationError(f"`{text}` bounds a share above 100 %", _EXAMPLES)
    return Constraint(Figure(metric, argument, relation.startswith("<")), relation, bound)


def default_figure(policy: Policy) -> Figure:
    """The share of the highest tier, where rules send requests to it; else the share of requests whose model changes."""
    sent = {route.tier for rule in policy.rules if not rule.shadow for route in rule.routes}
    ranked = [tier for tier in policy.order if tier in sent]
    return Figure("share", ranked[-1]) if ranked and len(policy.order) > 1 and ranked[-1] == policy.order[-1] else Figure("changed")


def _rows_of(totals: Totals, name: str) -> int:
    """Requests of a tier, model or rule; a name that is several of them is the first, as in gates."""
    for counted in (totals.tiers, totals.models, totals.rules):
        if name in counted:
            return counted[name]
    return 0
