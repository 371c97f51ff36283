"""A candidate's totals: what it does with the requests of a sweep, as whole numbers that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from policyroute.backends.sql import NOBODY, STUCK, Query
from policyroute.language.policy import Policy

SUMS = ("rows", "priced", "changed", "old", "new", "compared", "moved", "scored", "score")


@dataclass(frozen=True, slots=True)
class Totals:
    """What a candidate does with some requests. Money is picodollars, `score` millionths.

    `old`, `new` and `changed` are of the `priced` requests, those that carry a saving; `moved` are of the `compared` ones, whose models
    before and after are known; `score` is of the `scored` ones, for which every model has an outcome. `tiers`, `models` and `rules` count the
    requests that a model answers, by name.
    """

    rows: int = 0
    unknown: int = 0
    refused: int = 0
    unroutable: int = 0
    priced: int = 0
    changed: int = 0
    old: int = 0
    new: int = 0
    compared: int = 0
    moved: int = 0
    scored: int = 0
    score: int = 0
    tiers: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, int] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """Requests whose decision is known."""
        return self.rows - self.unknown

    @property
    def saving(self) -> int:
        """The baseline's cost less the routed one."""
        return self.old - self.new


@dataclass(frozen=True, slots=True)
class Periods:
    """A candidate's totals before the cut and in the hold-out; without a cut all is `early`."""

    early: Totals
    late: Totals

    @property
    def whole(self) -> Totals:
        """Over the whole trace."""
        return added(self.early, self.late)


def totals_of(policy: Policy, query: Query, rows: Sequence[tuple[int, ...]]) -> Totals:
    """One candidate's totals from its groups: rule, arm, model, then `SUMS` in order."""
    tiers = {(rule, arm): route.tier or ",".join(route.chain) for rule, arm, route in query.routes}
    models, refusing = list(policy.models), query.refusals()
    counts = {"unknown": 0, "refused": 0, "unroutable": 0}
    by: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
    sums = [0] * len(SUMS)
    for rule, arm, model, *numbers in rows:
        sums = [a + int(b) for a, b in zip(sums, numbers, strict=True)]
        if model >= 0:
            for names, name in zip(by, (tiers[rule, arm], models[model], policy.rules[rule].name), strict=True):
                names[name] = names.get(name, 0) + int(numbers[0])
        elif rule < 0 or model == STUCK:
            counts["unknown"] += int(numbers[0])
        elif model == NOBODY:
            counts["refused" if rule in refusing else "unroutable"] += int(numbers[0])
    return Totals(**dict(zip(SUMS, sums, strict=True)), **counts, tiers=by[0], models=by[1], rules=by[2])


def added(one: Totals, other: Totals) -> Totals:
    """The totals of two disjoint sets of requests together."""

    def both(a: int | Mapping[str, int], b: int | Mapping[str, int]) -> int | dict[str, int]:
        if isinstance(a, int) or isinstance(b, int):
            return a + b  # type: ignore[operator]
        return {name: a.get(name, 0) + b.get(name, 0) for name in dict.fromkeys((*a, *b))}

    return Totals(**{each.name: both(getattr(one, each.name), getattr(other, each.name)) for each in fields(Totals)})  # type: ignore[arg-type]
