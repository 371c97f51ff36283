"""How much more data a gate would need: the number of clusters at which a bound would be met if the figure stayed as it is.

An interval's reach falls with the square root of the number of clusters (the usual reckoning of a sample's size from the
half-width wanted; Cochran, "Sampling Techniques", 1977, ch. 4). It is an estimate: where few clusters carry the error the
next ones can move the figure itself, and a heavy tail shrinks more slowly than that.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext

from policyroute.replay.statistics import Interval


def clusters_needed(value: Decimal, interval: Interval, clusters: int, bound: Decimal, at_least: bool = True) -> int | None:
    """Clusters in all, rounded up, for the interval's end to reach `bound`; None where `value` itself doesn't go beyond it.

    With `at_least` the low end has to be `bound` or more, else the high end `bound` or less; all four in the same unit.
    Where that holds already, it is `clusters`.
    """
    end = interval.low if at_least else interval.high
    room = value - bound if at_least else bound - value
    if (end >= bound) if at_least else (end <= bound):
        return clusters
    if room <= 0:
        return None
    with localcontext() as context:
        context.prec = 40
        return int((clusters * (abs(value - end) / room) ** 2).to_integral_value(ROUND_CEILING))
