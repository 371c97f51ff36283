"""The interval of a gate's figure: that of `statistics`, and for shares of requests wide enough where cases are few.

A share's interval also holds the interval of the same length on the scale of log odds. Where under 20 clusters have a case, or are
without, a bootstrap has nothing to draw: Garwood's exact interval of a Poisson count stands instead (F. Garwood, "Fiducial
Limits for the Poisson Distribution", 1936).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from policyroute.replay.statistics import ratio, uncertainty

RARE = 20  # clusters with a case, below which their number is taken as a Poisson count
_WHOLE = 10_000  # parts of one, in a confidence
_HALVINGS = 80  # of an interval: finer than any digit that is shown


@dataclass(frozen=True, slots=True)
class Drawn:
    """An interval in parts of one (or picodollars), the number of clusters, and the largest one's part of what is divided by.

    `empty` says that no cluster has a case, or none is without: then the interval's length goes with one over their number.
    """

    low: Decimal
    high: Decimal
    clusters: int
    largest: Decimal
    empty: bool = False


def drawn(pairs: Mapping[int, tuple[int, int]], confidence: int, *, money: bool = False, total: bool = False) -> Drawn | None:
    """The two-sided interval of a ratio of sums, from (over, under) of each bag; of the sum of `over` with `total`.

    `confidence` is in parts of ten thousand; `money` says that the sums are picodollars. None with fewer than two clusters.
    """
    percent = Decimal(confidence) / 100
    if money and total:
        spent = uncertainty({bag: (under, under - over) for bag, (over, under) in pairs.items()}, confidence=percent)
        return Drawn(spent.saving.low, spent.saving.high, spent.clusters, spent.largest) if spent else None
    found = ratio(pairs, percent, within=(None, 1) if money else (None, None))
    return Drawn(found.interval.low, found.interval.high, found.clusters, found.largest) if found else None


def drawn_share(pairs: Mapping[int, tuple[int, int]], confidence: int) -> Drawn | None:
    """`drawn` where `over` counts some of the things that `under` counts: between 0 and 1, and wide enough for rare cases."""
    found = drawn(pairs, confidence)
    if found is None:
        return None
    counted = [(over, under) for over, under in pairs.values() if under > 0]
    share = Decimal(sum(over for over, _ in counted)) / sum(under for _, under in counted)
    few = _rare([over for over, _ in counted], share, confidence)
    others = _rare([under - over for over, under in counted], 1 - share, confidence)
    if few is not None:
        low, high = few
    elif others is not None:
        low, high = 1 - others[1], 1 - others[0]
    else:
        ends = _logit(share, (found.high - found.low) / 2)
        low, high = min(found.low, ends[0]), max(found.high, ends[1])
    return Drawn(max(Decimal(0), low), min(Decimal(1), high), found.clusters, found.largest, share in (0, 1))


def _logit(share: Decimal, reach: Decimal) -> tuple[Decimal, Decimal]:
    """The interval of the same relative length on the scale of log odds, where small shares are less skewed."""
    if share in (0, 1):
        return share, share
    factor, odds = (reach / (share * (1 - share))).exp(), share / (1 - share)
    return odds / (odds + factor), odds * factor / (1 + odds * factor)


# -- rare cases ----------------------------------------------------------------------------------------------------


def _rare(counts: Sequence[int], share: Decimal, confidence: int) -> tuple[Decimal, Decimal] | None:
    """Garwood's interval of a Poisson count of clusters with a case, in the unit of `share`; None where they are many.

    Where some have many cases and some few, they count as fewer clusters that are alike: (sum x)^2 / sum x^2, Kish's number.
    """
    whole = sum(counts)
    cases = whole * whole // sum(count * count for count in counts) if whole else 0
    if cases >= RARE:
        return None
    tail = (1 - Decimal(confidence) / _WHOLE) / 2
    most = _mean(cases, tail)
    if cases == 0:
        return Decimal(0), most / len(counts)
    return share * _mean(cases - 1, 1 - tail) / cases, share * most / cases


def _mean(most: int, chance: Decimal) -> Decimal:
    """The mean of the Poisson distribution of which at most `most` come with this chance, by halving."""
    low, high = Decimal(0), Decimal(10 * RARE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_most(most, middle) > chance:
            low = middle
        else:
            high = middle
    return high


def _at_most(most: int, mean: Decimal) -> Decimal:
    term = total = Decimal(1)
    for number in range(1, most + 1):
        term = term * mean / number
        total += term
    return total * (-mean).exp()
