"""Coverage of the intervals on worlds with known truth: benchmarks/coverage.py in a reduced form that can fail."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

from policyroute.replay.statistics import uncertainty

SAMPLES, REPLICATES = 100, 48
REQUESTS = 3  # of a user


@pytest.fixture(scope="module")
def coverage() -> Iterator[ModuleType]:
    """The benchmark that measures coverage, as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
    if not path.exists():
        pytest.skip("the benchmark is not part of an installed package")
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.path.insert(0, str(path.parent))
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.fixture(scope="module", params=[1.5, 2.0])
def figures(request: pytest.FixtureRequest, coverage: ModuleType) -> tuple[float, dict[str, float]]:
    """What is covered, in percent, in 100 samples of 300 users with lognormal spend of this sigma."""
    world = coverage.World("lognormal", request.param, 0.3, 300)
    return request.param, coverage.line(world, coverage.outcomes(world, SAMPLES, REPLICATES))


def test_interval_covers_the_truth(coverage: ModuleType, figures: tuple[float, dict[str, float]]) -> None:
    """The part of the spend that is saved, and the saving in all, are covered as often as claimed, but for chance."""
    assert coverage.within_chance(figures[1], SAMPLES)
    assert coverage.within_chance({"share": figures[1]["saving"]}, SAMPLES)


def test_delta_method_covers_less(coverage: ModuleType, figures: tuple[float, dict[str, float]]) -> None:
    """What stands beside it as a check covers less, and with the heaviest users too little by the same measure."""
    sigma, covered = figures
    assert covered["delta"] < covered["share"]
    assert sigma < 2 or not coverage.within_chance({"share": covered["delta"]}, SAMPLES)


def test_drawing_requests_covers_too_little(coverage: ModuleType) -> None:
    """Were requests drawn instead of users, the same machinery would fail the same measure."""
    world, samples = coverage.World("lognormal", 1.5, 0.3, 300), 30
    truth, covered = Decimal(coverage.KINDS["lognormal"].share(world)), 0
    for index in range(samples):
        rng = random.Random(f"requests {index}")
        users = coverage.drawn(world, rng)
        requests = [(spend / REQUESTS, saving / REQUESTS) for spend, saving in users for _ in range(REQUESTS)]
        found = uncertainty(coverage.bagged(requests, rng), 16)
        assert found is not None
        covered += found.share.low <= truth <= found.share.high
    assert not coverage.within_chance({"share": 100 * covered / samples}, samples)


@pytest.mark.parametrize(
    ("kind", "size", "lean"),
    [("lognormal", 1.0, 0.3), ("pareto", 3.0, 0.3), ("exponential", 1.0, 0.3), ("gamma", 0.3, 0.0), ("firms", 30.0, 0.0)],
)
def test_truth_is_the_mean_of_many_users(coverage: ModuleType, kind: str, size: float, lean: float) -> None:
    """Expected spend and saved part are those of 40,000 drawn users, but for chance."""
    world, rng = coverage.World(kind, size, lean, 300), random.Random(7)
    users = [coverage.KINDS[kind].user(world, rng) for _ in range(40_000)]
    spend, saving = sum(user[0] for user in users), sum(user[1] for user in users)
    assert saving / spend == pytest.approx(coverage.KINDS[kind].share(world), abs=0.02)
    assert spend / len(users) == pytest.approx(coverage.KINDS[kind].spend(world), rel=0.05)
