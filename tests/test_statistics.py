"""Intervals: the SQL's sums against a slow reckoning, independence of order and threads, errors against their definitions."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from math import sqrt

import duckdb
import pytest

from policyroute.replay import statistics
from policyroute.replay.power import clusters_needed
from policyroute.replay.statistics import POISSON, Interval, bag_sql, ratio, uncertainty
from policyroute.replay.student import normal, student

BAGS = {bag * 97 % 65_536: (10**9 * (bag * bag % 211 + 1), 10**9 * (bag * bag % 211) // 3) for bag in range(1, 151)}
LEAN = {bag: (bag**3 // 2, bag**3 + bag**4 // 40) for bag in range(1, 181)}  # numerator, denominator
NINES = {bag: (bag % 2, 1) for bag in range(400)}


def drawn_slowly(bags: dict[int, tuple[int, int]], replicate: int) -> tuple[int, ...]:
    """Weighed sums of one replicate, by the definition in the module's docstring."""
    sums = [0, 0, 0, 0, 0]
    for bag, (x, y) in bags.items():
        byte = hashlib.md5(f"{bag} {replicate // 16}".encode(), usedforsecurity=False).digest()[replicate % 16]
        weight = sum(byte >= bound for bound in POISSON)
        for place, product in enumerate((x, y, x * x, x * y, y * y)):
            sums[place] += weight * product
    return tuple(sums)


def test_replicates_equal_a_slow_reckoning() -> None:
    """The sums that DuckDB gives are those of the definition, replicate by replicate."""
    plain, *drawn = statistics._sums(BAGS, 40)
    assert [drawn_slowly(BAGS, replicate) for replicate in range(40)] == [(one.x, one.y, one.xx, one.xy, one.yy) for one in drawn]
    assert plain.x == sum(old for old, _ in BAGS.values())


def test_weights_have_mean_and_variance_one() -> None:
    """What a bootstrap's weights must have, exactly, over the 256 bytes."""
    weights = [sum(byte >= bound for bound in POISSON) for byte in range(256)]
    assert sum(weights) == 256 and sum(weight * weight for weight in weights) == 512


def test_sums_beyond_127_bits_are_drawn_in_larger_units() -> None:
    """Money that no HUGEINT could square moves no end by more than rounding does."""
    small, large = uncertainty(BAGS, 64), uncertainty({bag: (old * 10**15, new * 10**15) for bag, (old, new) in BAGS.items()}, 64)
    assert small is not None and large is not None
    assert abs(small.share.low - large.share.low) < Decimal("1e-9") and large.saving.low > 0


def test_order_of_clusters_does_not_matter() -> None:
    """The same bags in another order give the same digits."""
    assert uncertainty(dict(reversed(BAGS.items()))) == uncertainty(BAGS)


def test_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread and four give the same digits."""
    connect, found = duckdb.connect, []
    for threads in (1, 4):
        monkeypatch.setattr(duckdb, "connect", lambda threads=threads: connect(config={"threads": threads}))
        found.append(uncertainty(BAGS, 64))
    assert found[0] == found[1] is not None


def test_interval_holds_its_estimate_and_grows_with_noise() -> None:
    """The estimate lies inside; equal users leave no doubt about the share; uneven ones do."""
    found = uncertainty(BAGS)
    assert found is not None
    old, new = (sum(money[place] for money in BAGS.values()) for place in (0, 1))
    assert abs(found.share_value - (1 - Decimal(new) / old)) < Decimal("1e-25") and found.saving_value == old - new
    assert found.share.low < found.share_value < found.share.high <= 1
    assert abs((found.share_delta.low + found.share_delta.high) / 2 - found.share_value) < Decimal("1e-9")
    equal = uncertainty({bag: (10**12, 10**11) for bag in range(200)})
    assert equal is not None and equal.share.low == equal.share.high == Decimal("0.9") and equal.effective == 200
    assert equal.saving.low < equal.saving.high  # how many users come is chance too


def test_error_is_the_jackknifes() -> None:
    """The standard error is that of the ratios without one bag each."""
    found = ratio(LEAN, replicates=16)
    assert found is not None
    x, y, n = sum(one for one, _ in LEAN.values()), sum(one for _, one in LEAN.values()), len(LEAN)
    moves = [(x - one) / (y - other) - x / y for one, other in LEAN.values()]
    assert float(found.error) == pytest.approx(sqrt((n - 1) / n * sum(move * move for move in moves)), rel=1e-9)
    residuals = [one - x / y * other for one, other in LEAN.values()]
    assert float(found.effective) == pytest.approx(sum(d**2 for d in residuals) ** 2 / sum(d**4 for d in residuals), rel=1e-9)


@pytest.mark.parametrize("skew", ["0", "1e-20", "0.01", "0.3", "1"])
@pytest.mark.parametrize("h", ["-12.7", "-2", "0.7", "4"])
@pytest.mark.parametrize("bend", ["0", "0.5"])
def test_skewness_is_put_back(skew: str, h: str, bend: str) -> None:
    """The T that is found gives `h` when it is put into Hall's cubic, or is where the cubic is followed no further."""
    k = Decimal(skew)
    t = statistics._untransformed(Decimal(h), k, Decimal(bend))
    back = t + k / 3 * t**2 + k**2 / 27 * t**3 + k / 6
    assert abs(back - Decimal(h)) < Decimal("1e-9") or abs(1 + k * t / 3 - Decimal(bend)) < Decimal("1e-9") < back - Decimal(h)


@pytest.mark.parametrize(("skew", "longer"), [("0.4", "above"), ("-0.4", "below"), ("1", "above"), ("-1", "below")])
def test_the_longer_arm_is_on_the_skewness_side(skew: str, longer: str) -> None:
    """Both arms are there, and one of the right side is at least as long as the other, however great the skewness."""
    below, above = statistics._arms(Decimal(5), Decimal(skew), Decimal("0.5"))
    assert below > 0 and above > 0 and (above >= below if longer == "above" else below >= above)


def test_a_long_tail_lengthens_the_interval_on_its_side() -> None:
    """Where heavy users save more, the truth is more likely above the estimate than below."""
    found = ratio({bag: (bag**4 if bag % 9 else bag**5, 10 * bag**4) for bag in range(1, 181)}, replicates=200)
    assert found is not None
    assert found.interval.high - found.value > Decimal("1.2") * (found.value - found.interval.low)


@pytest.mark.parametrize(
    ("confidence", "freedom", "table"),  # two-sided points as in printed tables of Student's t
    [
        ("0.5", 1, "1.000"), ("0.95", 1, "12.706"), ("0.95", 2, "4.303"), ("0.95", 3, "3.182"), ("0.95", 5, "2.571"), ("0.95", 10, "2.228"),
        ("0.95", 30, "2.042"), ("0.95", 120, "1.980"), ("0.95", 1_000_000, "1.960"), ("0.99", 5, "4.032"), ("0.99", 60, "2.660"),
        ("0.9", 4, "2.132"), ("0.8", 7, "1.415"), ("0.999", 1, "636.619"), ("0.999", 40, "3.551"),
    ],
)  # fmt: skip
def test_quantiles_of_student(confidence: str, freedom: int, table: str) -> None:
    """The t of printed tables, to their last digit."""
    assert student(Decimal(confidence), Decimal(freedom)).quantize(Decimal("0.001")) == Decimal(table)


def test_quantiles_between_tabled_ones() -> None:
    """Degrees of freedom need not be whole; many of them give the normal's point."""
    assert student(Decimal("0.95"), Decimal(2)) > student(Decimal("0.95"), Decimal("2.5")) > student(Decimal("0.95"), Decimal(3))
    assert abs(student(Decimal("0.95"), Decimal(8_000)) - normal(Decimal("0.95"))) < Decimal("0.001")
    assert normal(Decimal("0.95")) == Decimal("1.95996398454")


def test_confidence_widens() -> None:
    """A greater confidence gives a wider interval around the same value; fractions of a percent are allowed."""
    found = [ratio(LEAN, Decimal(confidence)) for confidence in ("50", "80", "95", "99", "99.9")]
    widths = [one.interval.high - one.interval.low for one in found if one is not None]
    assert len(widths) == 5 and widths == sorted(set(widths))


@pytest.mark.parametrize("confidence", ["49.9", "99.95", "100", "0"])
def test_confidence_out_of_bounds(confidence: str) -> None:
    """Neither a coin's toss nor certainty is a confidence."""
    with pytest.raises(ValueError, match=r"between 50 and 99\.9 %"):
        ratio(LEAN, Decimal(confidence))


def test_ratio_stays_where_it_can_be() -> None:
    """A share of requests lies between 0 and 1, however wide its interval."""
    rare = {bag: (bag == 7, 1 + bag % 3) for bag in range(120)}
    free, bound = ratio(rare, replicates=64), ratio(rare, replicates=64, within=(0, 1))
    assert free is not None and bound is not None
    assert free.interval.low < 0 == bound.interval.low and free.interval.high == bound.interval.high


def test_ratio_of_a_saving_is_uncertaintys() -> None:
    """Both entries use one machinery."""
    saved = {bag: (old - new, old) for bag, (old, new) in BAGS.items()}
    one, other = ratio(saved), uncertainty(BAGS)
    assert one is not None and other is not None
    assert (one.interval, one.delta, one.effective) == (other.share, other.share_delta, other.effective)


@pytest.mark.parametrize(
    ("value", "low", "high", "bound", "at_least", "needed"),
    [
        ("0.30", "0.20", "0.40", "0.10", True, 200),  # met already
        ("0.30", "0.20", "0.40", "0.20", True, 200),
        ("0.30", "0.20", "0.40", "0.25", True, 800),  # half the reach: four times the clusters
        ("0.30", "0.20", "0.50", "0.40", False, 800),  # the other end counts where a bound is from above
        ("0.30", "0.20", "0.37", "0.299", True, 2_000_000),
        ("0.30", "0.20", "0.40", "0.30", True, None),  # never beyond the value itself
        ("0.30", "0.20", "0.40", "0.35", True, None),
        ("0.30", "0.20", "0.40", "0.25", False, None),
        ("7", "4", "9", "5", True, 450),
        ("7", "3.9", "9", "5", True, 481),  # rounded up
    ],
)  # fmt: skip
def test_clusters_needed(value: str, low: str, high: str, bound: str, at_least: bool, needed: int | None) -> None:
    """A reach shrinks with the square root of the clusters; a value that misses the bound isn't helped by more of them."""
    interval = Interval(Decimal(low), Decimal(high))
    assert clusters_needed(Decimal(value), interval, 200, Decimal(bound), at_least) == needed


def test_clusters_needed_are_enough() -> None:
    """With as many clusters of the same kind the bound is met."""
    found = ratio(NINES)
    assert found is not None
    needed = clusters_needed(found.value, found.interval, found.clusters, Decimal("0.48"))
    assert needed is not None and 2_000 < needed < 3_000
    more = ratio({bag: (bag % 2, 1) for bag in range(needed * 11 // 10)})
    assert more is not None and more.interval.low >= Decimal("0.48")


@pytest.mark.parametrize(
    ("bags", "words"),
    [
        ({bag: (10**12, 10**11) for bag in range(30)}, "too few"),
        ({**{bag: (10**10, 10**9) for bag in range(500)}, 900: (10**13, 10**12)}, "one cluster holds"),
        (
            {bag: (10**9 * 2 ** (bag % 12), 10**9 * 2 ** (bag % 12) // (1 + bag % 12)) for bag in range(600)},
            "heaviest clusters differ",
        ),
    ],
)
def test_warnings(bags: dict[int, tuple[int, int]], words: str) -> None:
    """Few clusters, or a heavy one, are said."""
    found = uncertainty(bags)
    assert found is not None and any(words in warning for warning in found.warnings)


def test_no_warning_without_cause() -> None:
    """Hundreds of even users give none."""
    found = ratio(NINES, replicates=16)
    assert found is not None and found.warnings == ()


def test_one_cluster_with_all_the_spend() -> None:
    """A ratio isn't defined without its only denominator; the interval is there all the same, with its warning."""
    found = uncertainty({1: (10**12, 10**11), 2: (0, 10**9), 3: (0, 10**8)})
    assert found is not None and found.share.low < found.share_value and any("100 %" in warning for warning in found.warnings)


@pytest.mark.parametrize("bags", [{}, {5: (10**12, 10**11)}, {1: (0, 0), 2: (0, 0)}])
def test_no_interval_from_nothing(bags: dict[int, tuple[int, int]]) -> None:
    """Fewer than two clusters that cost anything give no interval, and no error."""
    assert uncertainty(bags) is None


def test_many_bags_are_folded() -> None:
    """More than 8,192 bags are drawn in groups, and no money is lost."""
    found = uncertainty({bag: (10**12, 5 * 10**11) for bag in range(20_000)}, replicates=8)
    assert found is not None and found.clusters == 8_192
    assert found.saving_value == 10**12 * 10_000


def test_bag_in_sql_is_the_md5() -> None:
    """A cluster's bag is the first 16 bits of its key's MD5."""
    with duckdb.connect() as connection:
        ((bag,),) = connection.sql(f"SELECT {bag_sql('k')} FROM (SELECT 'ünï' AS k)").fetchall()
    assert bag == hashlib.md5("ünï".encode(), usedforsecurity=False).hexdigest()[:4]
