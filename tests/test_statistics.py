"""Intervals: the SQL's sums against a slow reckoning, independence of order, and coverage on worlds with known truth."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from policyroute.replay import statistics
from policyroute.replay.statistics import POISSON, bag_sql, uncertainty

BAGS = {bag * 97 % 65_536: (10**9 * (bag * bag % 211 + 1), 10**9 * (bag * bag % 211) // 3) for bag in range(1, 151)}


def drawn_slowly(bags: dict[int, tuple[int, int]], replicate: int) -> tuple[int, int]:
    """Weighed sums of baseline and saving of one replicate, in nanodollars, by the definition in the module's docstring."""
    baseline = saving = 0
    for bag, (old, new) in bags.items():
        digest = hashlib.md5(f"{bag} {replicate // 4}".encode(), usedforsecurity=False).hexdigest()
        number = int(digest[8 * (replicate % 4) : 8 * (replicate % 4) + 8], 16)
        weight = sum(number >= bound for bound in POISSON)
        baseline += weight * (old // 1_000)
        saving += weight * (old // 1_000 - new // 1_000)
    return baseline, saving


def test_replicates_equal_a_slow_reckoning() -> None:
    """The sums that DuckDB gives are those of the definition, replicate by replicate."""
    whole = {bag: (old // 1_000 * 1_000, new // 1_000 * 1_000) for bag, (old, new) in BAGS.items()}
    _, drawn = statistics._sums(whole, 40)
    assert [drawn_slowly(whole, replicate) for replicate in range(40)] == [(one.o, one.s) for one in drawn]


def test_order_of_clusters_does_not_matter() -> None:
    """The same bags in another order give the same digits."""
    assert uncertainty(dict(reversed(BAGS.items()))) == uncertainty(BAGS)


def test_interval_holds_its_estimate_and_grows_with_noise() -> None:
    """The estimate lies in the middle; equal users leave no doubt about the share; uneven ones do."""
    found = uncertainty(BAGS)
    assert found is not None
    old, new = (sum(money[place] for money in BAGS.values()) for place in (0, 1))
    assert abs((found.share.low + found.share.high) / 2 - (1 - Decimal(new) / old)) < Decimal("1e-9")
    equal = uncertainty({bag: (10**12, 10**11) for bag in range(200)})
    assert equal is not None and equal.share.low == equal.share.high == Decimal("0.9")
    assert equal.saving.low < equal.saving.high  # how many users come is chance too


@pytest.mark.parametrize(
    ("bags", "words"),
    [
        ({bag: (10**12, 10**11) for bag in range(30)}, "too few"),
        ({**{bag: (10**10, 10**9) for bag in range(500)}, 900: (10**13, 10**12)}, "one cluster holds"),
    ],
)
def test_warnings(bags: dict[int, tuple[int, int]], words: str) -> None:
    """Few clusters, or a heavy one, are said."""
    found = uncertainty(bags)
    assert found is not None and any(words in warning for warning in found.warnings)


@pytest.mark.parametrize("bags", [{}, {5: (10**12, 10**11)}, {1: (0, 0), 2: (0, 0)}])
def test_no_interval_from_nothing(bags: dict[int, tuple[int, int]]) -> None:
    """Fewer than two clusters that cost anything give no interval, and no error."""
    assert uncertainty(bags) is None


def test_many_bags_are_folded() -> None:
    """More than 8,192 bags are drawn in groups, and no money is lost."""
    found = uncertainty({bag: (10**12, 5 * 10**11) for bag in range(20_000)}, replicates=8)
    assert found is not None and found.clusters == 8_192
    assert (found.saving.low + found.saving.high) / 2 == 10**12 * 10_000


def test_bag_in_sql_is_the_md5() -> None:
    """A cluster's bag is the first 16 bits of its key's MD5."""
    import duckdb

    with duckdb.connect() as connection:
        ((bag,),) = connection.sql(f"SELECT {bag_sql('k')} FROM (SELECT 'ünï' AS k)").fetchall()
    assert bag == hashlib.md5("ünï".encode(), usedforsecurity=False).hexdigest()[:4]


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """The benchmark that measures coverage, as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
    if not path.exists():
        pytest.skip("the benchmark is not part of an installed package")
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_interval_covers_the_truth(coverage: ModuleType) -> None:
    """Reduced form of benchmarks/coverage.py: 60 worlds of 300 users. At a true coverage of 94 %, 50 hits or fewer have odds of 1 in 500."""
    covered, _ = coverage.coverage(300, 1.0, 60)
    assert covered > 50 / 60
