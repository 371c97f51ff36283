"""Intervals over bags of clusters: a plain one for each figure, a bootstrapped one for what is compared pair by pair.

Requests are paired: the same request counts on both sides, so a difference is taken per bag before anything is drawn. Values
are exact whole numbers until the interval itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction

from policyroute.replay.statistics import Interval, ratio, uncertainty

_NORMAL = Decimal("1.959963984540054")  # the 97.5 % point of the standard normal
_UNIT = 10**12  # what one request counts: the resampler's sums are whole nano-units


def plain(pairs: Iterable[tuple[int, int]]) -> Interval | None:
    """The 95 % interval of sum(x) / sum(n) over clusters (n, x) by the delta method; None with fewer than two clusters."""
    known = [(n, x) for n, x in pairs if n]
    total = sum(n for n, _ in known)
    if len(known) < 2:
        return None
    value = Fraction(sum(x for _, x in known), total)
    squares = sum(((x - value * n) ** 2 for n, x in known), start=Fraction(0))
    with localcontext() as context:
        context.prec = 40
        variance = squares * len(known) / (len(known) - 1) / total**2
        reach = _NORMAL * _decimal(variance).sqrt()
        middle = _decimal(value)
        return Interval(middle - reach, middle + reach)


def paired(bags: Mapping[str, tuple[int, Fraction]]) -> Interval | None:
    """The 95 % interval of sum(x) / sum(n) by the bootstrap of `statistics`; None with fewer than two bags.

    `x` is a difference in the units of a score (parts of 1), which is rounded to 10^-9 of it per bag.
    """
    drawn = ratio({int(bag, 16): (round(x * _UNIT), n * _UNIT) for bag, (n, x) in bags.items()})
    return drawn.interval if drawn else None


def saved(bags: Mapping[str, tuple[int, int]]) -> Interval | None:
    """The 95 % interval of (old - new) / old for costs (old, new) in picodollars, by the same bootstrap."""
    drawn = uncertainty({int(bag, 16): costs for bag, costs in bags.items()})
    return drawn.share if drawn else None


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / value.denominator
