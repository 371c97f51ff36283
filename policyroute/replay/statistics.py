"""How far a saving could be off because other users might have come: intervals by a clustered bootstrap, in DuckDB.

Requests of one user are alike, so users are drawn, not requests. Each cluster (a user, or what stands for one) falls by the
MD5 of its key into one of 65,536 bags; a replay keeps the exact sums of each bag, which merge by addition. A replicate
weighs every bag with a Poisson(1) number that is read off the MD5 of bag and replicate: no random generator, so neither the
order of rows, nor a split, nor the number of threads changes a digit. All sums are whole numbers.

The interval is the symmetric bootstrap-t (Hall 1988; P. Hall, "The Bootstrap and Edgeworth Expansion", ch. 3): with few
heavy users, percentile intervals and the normal approximation cover too seldom (benchmarks/coverage.py prints how often).
The delta method's interval stands beside it as a check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

import duckdb

BAGS = 1 << 16
MOST = 8_192  # bags that are drawn; more are folded together
REPLICATES = 1_000
CONFIDENCE = 95  # percent
FEW = 100  # clusters below which an interval is not to be relied on
HEAVY = 10  # percent of the spend that one cluster may hold
_SCALE = 1_000  # picodollars to nanodollars, so that squares of sums fit 127 bits
_DRAWS = 4  # 32-bit numbers in one MD5
_NORMAL = Decimal("1.959963984540054")  # the 97.5 % point of the standard normal

# Upper bounds of a 32-bit number for the Poisson(1) values 0, 1, 2, ...: floor(2^32 * sum of e^-1/k!).
POISSON = (1580030168, 3160060337, 3950075421, 4213413783, 4279248373, 4292415291, 4294609777, 4294923276, 4294962463, 4294966817)


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval, in picodollars or as parts of one."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Intervals of the saving in picodollars (`saving`) and relative to the baseline (`share`), each with its delta-method check.

    `clusters` counts occupied bags, `largest` is the largest bag's part of the baseline. `warnings` say why not to rely on it.
    """

    clusters: int
    largest: Decimal
    saving: Interval
    share: Interval
    saving_delta: Interval
    share_delta: Interval
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over clusters of baseline o and saving s, in nanodollars: of o, s and their products, each weighed."""

    o: int
    s: int
    oo: int
    os: int
    ss: int


def bag_sql(key: str) -> str:
    """The bag of a cluster's key (a VARCHAR expression) as four hex digits; a number would have to be parsed in every row."""
    return f"left(md5({key}), 4)"


def uncertainty(bags: Mapping[int, tuple[int, int]], replicates: int = REPLICATES) -> Uncertainty | None:
    """Intervals from the sums (baseline, routed) of each bag in picodollars; None with fewer than two bags that cost anything."""
    folded = _folded(bags)
    spend = sum(old for old, _ in folded.values())
    if len(folded) < 2 or spend <= 0:
        return None
    plain, drawn = _sums(folded, replicates)
    largest = Decimal(max(old for old, _ in folded.values())) / spend
    with localcontext() as context:
        context.prec = 40
        share, share_delta = _interval(_share(plain), [_share(one) for one in drawn], len(folded))
        saving, saving_delta = _interval(_total(plain), [_total(one) for one in drawn], len(folded))
    warnings = (
        *((f"{len(folded)} clusters are too few (under {FEW}): don't rely on the interval",) if len(folded) < FEW else ()),
        *(
            (f"one cluster holds {largest * 100:.0f} % of the spend (over {HEAVY} %): don't rely on the interval",)
            if largest * 100 > HEAVY
            else ()
        ),
    )
    return Uncertainty(len(folded), largest, _scaled(saving), share, _scaled(saving_delta), share_delta, warnings)


def _folded(bags: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """At most `MOST` bags, and only those with money."""
    size = BAGS if len(bags) <= MOST else MOST
    folded: dict[int, tuple[int, int]] = {}
    for bag, (old, new) in bags.items():
        before = folded.get(bag % size, (0, 0))
        folded[bag % size] = (before[0] + old, before[1] + new)
    return {bag: money for bag, money in sorted(folded.items()) if any(money)}


# -- the two statistics: value and standard error ------------------------------------------------------------------


def _share(sums: Sums) -> tuple[Decimal, Decimal] | None:
    """Saving relative to the baseline, and its standard error by the delta method for a ratio of sums."""
    if sums.o <= 0:
        return None
    residual = sums.ss * sums.o**2 - 2 * sums.s * sums.o * sums.os + sums.s**2 * sums.oo  # times o squared, exact
    return Decimal(sums.s) / sums.o, Decimal(max(residual, 0)).sqrt() / Decimal(sums.o) ** 2


def _total(sums: Sums) -> tuple[Decimal, Decimal] | None:
    """Saving in all, and its standard error where the number of clusters is chance too."""
    return Decimal(sums.s), Decimal(sums.ss).sqrt()


def _interval(
    plain: tuple[Decimal, Decimal] | None, drawn: list[tuple[Decimal, Decimal] | None], clusters: int
) -> tuple[Interval, Interval]:
    assert plain is not None
    value, error = plain
    ratios = sorted(abs(one[0] - value) / one[1] for one in drawn if one is not None and one[1] > 0)
    place = -(-len(ratios) * CONFIDENCE // 100) - 1  # the smallest that at least 95 % don't exceed
    reach = ratios[place] * error if ratios else Decimal(0)
    normal = _NORMAL * error * (Decimal(clusters) / (clusters - 1)).sqrt()
    return Interval(value - reach, value + reach), Interval(value - normal, value + normal)


def _scaled(interval: Interval) -> Interval:
    return Interval(interval.low * _SCALE, interval.high * _SCALE)


# -- replicates ----------------------------------------------------------------------------------------------------


def _sums(folded: Mapping[int, tuple[int, int]], replicates: int) -> tuple[Sums, list[Sums]]:
    """The sums with every bag once, and those of each replicate."""
    rows = ", ".join(f"({bag}, {_nano(old)}, {_nano(old) - _nano(new)})" for bag, (old, new) in folded.items())
    sums = "sum(w * o), sum(w * s), sum(w * o * o), sum(w * o * s), sum(w * s * s)"
    query = f"""
        WITH bags AS (SELECT bag, CAST(o AS HUGEINT) AS o, CAST(s AS HUGEINT) AS s FROM (VALUES {rows}) AS v(bag, o, s)),
        hashes AS (SELECT bag, o, s, block, md5(bag || ' ' || block) AS hash FROM bags, range({-(-replicates // _DRAWS)}) AS b(block)),
        numbers AS (SELECT o, s, block * {_DRAWS} + part AS replicate, CAST('0x' || substr(hash, CAST(1 + 8 * part AS INTEGER), 8) AS BIGINT) AS u
                    FROM hashes, range({_DRAWS}) AS p(part)),
        weighed AS (SELECT o, s, replicate, {_poisson("u")} AS w FROM numbers WHERE replicate < {replicates})
        SELECT -1 AS replicate, {sums.replace("w * ", "")} FROM bags
        UNION ALL SELECT replicate, {sums} FROM weighed GROUP BY replicate ORDER BY 1"""
    with duckdb.connect() as connection:
        found = [Sums(*(int(number) for number in row[1:])) for row in connection.sql(query).fetchall()]
    return found[0], found[1:]


def _poisson(number: str) -> str:
    whens = " ".join(f"WHEN {number} < {bound} THEN {value}" for value, bound in enumerate(POISSON))
    return f"CAST(CASE {whens} ELSE {len(POISSON)} END AS HUGEINT)"


def _nano(picodollars: int) -> int:
    return (picodollars + _SCALE // 2) // _SCALE
