"""How far a figure could be off because other users might have come: intervals by a clustered bootstrap, in DuckDB.

Requests of one user are alike, so users are drawn, not requests. Each cluster (a user, or what stands for one) falls by the
MD5 of its key into one of 65,536 bags; a replay keeps the exact sums of each bag, which merge by addition. A replicate
weighs every bag with a Poisson(1) number that is read off the MD5 of bag and replicate: no random generator, so neither the
order of rows, nor a split, nor the number of threads changes a digit. All sums are whole numbers.

The interval of a ratio R of sums. d is a bag's residual (numerator - R denominator), n the number of bags:
- Error: the jackknife's, sqrt((n - 1) / n * sum of (R without the bag - R)²), "CV3" of MacKinnon, Nielsen and Webb ("Fast and
  reliable jackknife and bootstrap methods for cluster-robust inference", J. Applied Econometrics 38, 2023): it allows for heavy bags
  pulling R towards themselves, which the delta method doesn't.
- Skewness: T = (R - true R) / error goes through Hall's cubic H(T) = T + k/3 T² + k²/27 T³ + k/6 with k = sum d³ / (sum d²)^1.5, which takes
  out most of T's skewness and can be inverted (P. Hall, "On the removal of skewness by transformation", J. Royal Statistical Society B 54, 1992).
  The cubic is flat at T = -3/k, and says little there: it is followed half the way for a ratio, the whole way for a sum, and the arm on
  its side is never the shorter one. In simulation the rest of the way doubles the length of intervals and adds nothing to what they cover.
- Reach: |H| stays below the larger of two numbers. One is the symmetric bootstrap-t's (P. Hall, "On symmetric bootstrap confidence
  intervals", same journal 50, 1988). The other is Student's t with as many degrees of freedom as clusters carry the error: G = (sum d²)² / sum d⁴,
  the effective number of clusters of Carter, Schnepel and Steigerwald ("Asymptotic behavior of a t-test robust to cluster
  heterogeneity", Review of Economics and Statistics 99, 2017) with squared residuals for the unknown variances.
A sum's interval is the same with d = the bag's sum, as how many clusters come is chance too. The combination was chosen among some twenty by
simulation; benchmarks/coverage.py prints how often it covers a known truth, and where it doesn't. The delta method's interval stands beside it as a check.

A confidence C is two-sided: C % of such intervals hold the truth. A gate's `at 95%` compares an end of this interval; it errs on the
side of caution, since the low end alone is passed by the truth in about 97.5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext

import duckdb

from policyroute.replay.student import normal, student

BAGS = 1 << 16
MOST = 8_192  # bags that are drawn; more are folded together
REPLICATES = 1_000
CONFIDENCE = 95  # percent
LEAST_CONFIDENCE, MOST_CONFIDENCE = 50, Decimal("99.9")
FEW = 100  # clusters below which an interval is not to be relied on
HEAVY = 10  # percent of the spend that one cluster may hold
LEANING = Decimal("0.5")  # correlation of residual and weight above which heavier clusters than those seen could move the ratio
UNEVEN = 3  # times fewer clusters by weight than by number, from which that matters
RATIO_BEND, SUM_BEND = Decimal("0.5"), Decimal(0)  # how far Hall's cubic is followed: 1 is not at all, 0 up to where it is flat
_LIMIT = 10**18  # of the sums of a draw, so that sums of weighed products fit 127 bits
_DRAWS = 16  # bytes in one MD5
_PRECISION = 40

# The Poisson(1) numbers 0 to 5 in 256ths: 94, 95, 46, 16, 4 and 1, as upper bounds of a byte. Mean and variance are exactly 1, the third
# moment is 4.98 for 5; mean and variance are what weights of a bootstrap must have (Praestgaard and Wellner, Annals of Probability 21, 1993).
POISSON = (94, 189, 235, 251, 255)


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval, in picodollars or as parts of one."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio of two sums (`value`), its standard error by the jackknife, its interval, and the delta method's as a check.

    `clusters` counts occupied bags, `effective` how many of them carry the error, `largest` is the largest bag's part of the
    denominator. `warnings` say why not to rely on it.
    """

    value: Decimal
    error: Decimal
    interval: Interval
    delta: Interval
    confidence: Decimal
    clusters: int
    effective: Decimal
    largest: Decimal
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Intervals of the saving in picodollars (`saving`) and relative to the baseline (`share`), each with its delta-method check.

    `clusters` counts occupied bags, `effective` how many of them carry the share's error, `largest` is the largest bag's part of the
    baseline. `confidence` is in percent. `warnings` say why not to rely on it.
    """

    clusters: int
    largest: Decimal
    saving: Interval
    share: Interval
    saving_delta: Interval
    share_delta: Interval
    warnings: tuple[str, ...]
    effective: Decimal
    confidence: Decimal
    saving_value: Decimal
    share_value: Decimal


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over bags of numerator x, denominator y and their products, each weighed."""

    x: int
    y: int
    xx: int
    xy: int
    yy: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """A figure, its standard errors by the jackknife and by the delta method, and what shapes the interval."""

    value: Decimal
    error: Decimal
    plain: Decimal
    skew: Decimal
    effective: Decimal
    bend: Decimal


Within = tuple[Decimal | int | None, Decimal | int | None]
Pairs = list[tuple[int, int]]  # numerator and denominator of each bag
Bags = Mapping[int, tuple[int, int]]


def bag_sql(key: str) -> str:
    """The bag of a cluster's key (a VARCHAR expression) as four hex digits; a number would have to be parsed in every row."""
    return f"left(md5({key}), 4)"


def uncertainty(bags: Bags, replicates: int = REPLICATES, confidence: Decimal | int = CONFIDENCE) -> Uncertainty | None:
    """Intervals from the sums (baseline, routed) of each bag in picodollars; None with fewer than two bags that cost anything.

    `confidence` is a percentage from 50 to 99.9; another is a ValueError.
    """
    folded = _folded({bag: (old - new, old) for bag, (old, new) in bags.items() if old or new})
    share = _estimate(folded, replicates, confidence, "the spend", (None, 1))  # no request costs less than nothing
    if share is None:
        return None
    estimate, draws = share
    pairs = list(folded.values())
    with localcontext() as context:
        context.prec = _PRECISION
        shape = _total(pairs)
        saving, saving_delta = _intervals(shape, _distances(draws, _total_distance), len(pairs), estimate.confidence)
    return Uncertainty(
        estimate.clusters, estimate.largest, saving, estimate.interval, saving_delta, estimate.delta, estimate.warnings,
        estimate.effective, estimate.confidence, shape.value, estimate.value,
    )  # fmt: skip


def ratio(
    bags: Bags,
    confidence: Decimal | int = CONFIDENCE,
    replicates: int = REPLICATES,
    of: str = "the whole",
    within: Within = (None, None),
) -> Estimate | None:
    """Interval of a ratio of sums from (numerator, denominator) of each bag, whole numbers of any unit, denominators 0 or more.

    None with fewer than two bags or without a denominator. `of` is what the denominator measures, for warnings; `within` says what
    the ratio cannot leave, such as (0, 1) for a share of requests. `confidence` as above.
    """
    found = _estimate(_folded(bags), replicates, confidence, of, within)
    return None if found is None else found[0]


def _folded(bags: Bags) -> dict[int, tuple[int, int]]:
    """At most `MOST` bags, in order, and only those that hold anything."""
    size = BAGS if len(bags) <= MOST else MOST
    folded: dict[int, tuple[int, int]] = {}
    for bag, (x, y) in bags.items():
        before = folded.get(bag % size, (0, 0))
        folded[bag % size] = (before[0] + x, before[1] + y)
    return {bag: sums for bag, sums in sorted(folded.items()) if any(sums)}


def _estimate(
    folded: Bags, replicates: int, confidence: Decimal | int, of: str, within: Within
) -> tuple[Estimate, list[Sums]] | None:
    """The estimate of a ratio, and the sums that it rests on: with every bag once, then of each replicate."""
    level = Decimal(confidence)
    if not LEAST_CONFIDENCE <= level <= MOST_CONFIDENCE:
        raise ValueError(f"a confidence lies between {LEAST_CONFIDENCE} and {MOST_CONFIDENCE} %, not at {confidence} %")
    pairs = list(folded.values())
    whole = sum(y for _, y in pairs)
    if len(pairs) < 2 or whole <= 0:
        return None
    draws = _sums(folded, replicates)
    with localcontext() as context:
        context.prec = _PRECISION
        shape, largest = _ratio(pairs), Decimal(max(y for _, y in pairs)) / whole
        interval, delta = _intervals(shape, _distances(draws, _ratio_distance), len(pairs), level)
        warnings = _warnings(pairs, largest, of)
    interval = Interval(_clipped(interval.low, within), _clipped(interval.high, within))
    return Estimate(shape.value, shape.error, interval, delta, level, len(pairs), shape.effective, largest, warnings), draws


def _clipped(end: Decimal, within: Within) -> Decimal:
    least, most = within
    end = end if least is None else max(end, Decimal(least))
    return end if most is None else min(end, Decimal(most))


# -- the two statistics: value, errors and shape, from whole numbers ------------------------------------------------


def _ratio(pairs: Pairs) -> _Shape:
    x, y = (sum(pair[place] for pair in pairs) for place in (0, 1))
    residuals = _residuals(pairs)
    skew, effective = _shape(residuals)
    # A ratio without its only denominator isn't defined: such a bag stays as the delta method has it.
    moves = (Decimal(one) / (y - bag if bag < y else y) for one, (_, bag) in zip(residuals, pairs, strict=True))
    error = (sum((move * move for move in moves), Decimal(0)) * (len(pairs) - 1) / len(pairs)).sqrt() / y
    plain = Decimal(sum(one * one for one in residuals)).sqrt() / Decimal(y) ** 2
    return _Shape(Decimal(x) / y, error, plain, skew, effective, RATIO_BEND)


def _total(pairs: Pairs) -> _Shape:
    """Of the numerators' sum, where the number of clusters is chance too."""
    sums = [x for x, _ in pairs]
    skew, effective = _shape(sums)
    error = Decimal(sum(one * one for one in sums)).sqrt()
    return _Shape(Decimal(sum(sums)), error, error, skew, effective, SUM_BEND)


def _residuals(pairs: Pairs) -> list[int]:
    """Numerator - ratio * denominator of each bag, times the sum of denominators: whole numbers."""
    x, y = (sum(pair[place] for pair in pairs) for place in (0, 1))
    return [one * y - x * other for one, other in pairs]


def _shape(residuals: list[int]) -> tuple[Decimal, Decimal]:
    """Skewness of their sum, and how many of them carry it."""
    second, third, fourth = (sum(one**power for one in residuals) for power in (2, 3, 4))
    if second == 0:
        return Decimal(0), Decimal(len(residuals))
    return Decimal(third) / (second * Decimal(second).sqrt()), Decimal(second**2) / fourth


def _warnings(pairs: Pairs, largest: Decimal, of: str) -> tuple[str, ...]:
    found = []
    if len(pairs) < FEW:
        found.append(f"{len(pairs)} clusters are too few (under {FEW}): don't rely on the interval")
    if largest * 100 > HEAVY:
        found.append(f"one cluster holds {largest * 100:.0f} % of {of} (over {HEAVY} %): don't rely on the interval")
    leaning = _leaning(pairs)
    if abs(leaning) > LEANING:
        found.append(
            f"the heaviest clusters differ from the others (correlation {leaning:.2f}) and hold much of {of}: "
            "heavier ones than those seen could move the figure beyond the interval"
        )
    return tuple(found)


def _leaning(pairs: Pairs) -> Decimal:
    """Correlation of residual and denominator; 0 where denominators are even enough for it not to matter."""
    residuals, weights = _residuals(pairs), [y for _, y in pairs]
    square, squares = sum(one * one for one in residuals), sum(y * y for y in weights)
    if square == 0 or sum(weights) ** 2 * UNEVEN > squares * len(pairs):
        return Decimal(0)
    return Decimal(sum(one * y for one, y in zip(residuals, weights, strict=True))) / Decimal(square * squares).sqrt()


# -- intervals -----------------------------------------------------------------------------------------------------


def _intervals(shape: _Shape, distances: list[Decimal], clusters: int, confidence: Decimal) -> tuple[Interval, Interval]:
    """The interval, and the delta method's, from a figure's shape and the replicates' sorted |T|."""
    place = int((len(distances) * confidence / 100).to_integral_value(ROUND_CEILING)) - 1  # the smallest that so many don't exceed
    level = confidence / 100
    reach = max(student(level, shape.effective), *distances[place : place + 1], Decimal(0))
    below, above = _arms(reach, shape.skew, shape.bend)
    low, high = shape.value - below * shape.error, shape.value + above * shape.error
    check = normal(level) * shape.plain * (Decimal(clusters) / (clusters - 1)).sqrt()
    return Interval(low, high), Interval(shape.value - check, shape.value + check)


def _arms(reach: Decimal, skew: Decimal, bend: Decimal) -> tuple[Decimal, Decimal]:
    """How many standard errors the interval reaches below and above its figure: the longer arm is on the skewness's side."""
    near, far = _untransformed(reach, abs(skew), bend), -_untransformed(-reach, abs(skew), bend)
    far = max(near, far)
    return (near, far) if skew > 0 else (far, near)


def _untransformed(h: Decimal, skew: Decimal, bend: Decimal) -> Decimal:
    """The T at which Hall's cubic is `h`: 3/k ((1 + k (h - k/6))^(1/3) - 1), with the root not below `bend`."""
    if skew < Decimal("1e-15"):
        return h
    inside = max(1 + skew * (h - skew / 6), bend**3)
    return 3 * (inside ** (Decimal(1) / 3) - 1) / skew


def _distances(draws: list[Sums], distance: Callable[[Sums, Sums], Decimal | None]) -> list[Decimal]:
    """Sorted |T| of the replicates that have one."""
    return sorted(found for one in draws[1:] if (found := distance(one, draws[0])) is not None)


def _ratio_distance(drawn: Sums, plain: Sums) -> Decimal | None:
    square = drawn.xx * drawn.y**2 - 2 * drawn.x * drawn.y * drawn.xy + drawn.x**2 * drawn.yy  # of residuals, times y squared
    if drawn.y <= 0 or square <= 0:
        return None
    return Decimal(abs(drawn.x * plain.y - plain.x * drawn.y) * drawn.y) / (plain.y * Decimal(square).sqrt())


def _total_distance(drawn: Sums, plain: Sums) -> Decimal | None:
    return Decimal(abs(drawn.x - plain.x)) / Decimal(drawn.xx).sqrt() if drawn.xx > 0 else None


# -- replicates ----------------------------------------------------------------------------------------------------


def _sums(folded: Bags, replicates: int) -> list[Sums]:
    """The sums with every bag once, then those of each replicate, in whole units of `_unit`."""
    unit = _unit(folded)
    rounded = [(bag, _rounded(x, unit), _rounded(y, unit)) for bag, (x, y) in folded.items()]
    plain = Sums(*(sum(column) for column in zip(*((x, y, x * x, x * y, y * y) for _, x, y in rounded), strict=True)))
    parts = range(_DRAWS)
    cuts = ", ".join(f"substr(hash, {1 + 2 * part}, 2) AS byte{part}" for part in parts)
    weights = ", ".join(f"{_poisson(f'byte{part}')} AS w{part}" for part in parts)
    sums = ", ".join(f"sum(w{part} * {column})" for part in parts for column in ("x", "y", "xx", "xy", "yy"))
    query = f"""
        WITH bags AS (SELECT bag, CAST(x AS HUGEINT) AS x, CAST(y AS HUGEINT) AS y FROM (VALUES {", ".join(map(str, rounded))}) AS v(bag, x, y)),
        products AS (SELECT bag, x, y, x * x AS xx, x * y AS xy, y * y AS yy FROM bags),
        hashes AS (SELECT *, md5(bag || ' ' || block) AS hash FROM products, range({-(-replicates // _DRAWS)}) AS b(block)),
        bytes AS (SELECT *, {cuts} FROM hashes),
        weighed AS (SELECT *, {weights} FROM bytes)
        SELECT {sums} FROM weighed GROUP BY block ORDER BY block"""
    with duckdb.connect() as connection:
        blocks = connection.sql(query).fetchall()
    drawn = [Sums(*map(int, block[5 * part : 5 * part + 5])) for block in blocks for part in parts]
    return [plain, *drawn[:replicates]]


def _unit(folded: Bags) -> int:
    """The least power of ten in which all numerators and denominators together stay below `_LIMIT`."""
    whole, unit = sum(abs(x) + abs(y) for x, y in folded.values()), 1
    while whole >= unit * _LIMIT:
        unit *= 10
    return unit


def _rounded(number: int, unit: int) -> int:
    return (number + unit // 2) // unit


def _poisson(byte: str) -> str:
    """The weight that two hex digits stand for; as text they are in the order of their numbers."""
    whens = " ".join(f"WHEN {byte} < '{bound:02x}' THEN {value}" for value, bound in enumerate(POISSON))
    return f"CASE {whens} ELSE {len(POISSON)} END"
