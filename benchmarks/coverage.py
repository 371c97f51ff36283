"""How often the report's 95 % interval covers the truth, on synthetic worlds whose truth is known.

    python benchmarks/coverage.py [--worlds 400]

A world is users with lognormal spend (the heavier, the larger sigma) and a saving that depends on the user and, a little,
on the spend. Users are drawn, the interval is computed as the report does it, and the share of worlds in which it covers
the expected saving of the population is printed, for the symmetric bootstrap-t and for the delta method beside it.
"""

from __future__ import annotations

import argparse
import math
import random
from decimal import Decimal

from policyroute.replay.statistics import Uncertainty, uncertainty

WORLDS = ((1.0, 300), (1.0, 1_000), (1.5, 300), (1.5, 1_000), (2.0, 300), (2.0, 1_000))
CORRELATION = 0.3
DOLLAR = 10**12


def users(rng: random.Random, number: int, sigma: float) -> list[tuple[float, float]]:
    """Spend and saving in dollars of `number` users."""
    found = []
    for _ in range(number):
        z = rng.gauss(0, 1)
        spend = math.exp(sigma * z)
        found.append((spend, spend / (1 + math.exp(0.3 - CORRELATION * z - rng.gauss(0, 1)))))
    return found


def truth(sigma: float) -> float:
    """The population's saving relative to its spend, by integration over spend and taste on a fine grid."""
    steps = [(-8 + 16 * (step + 0.5) / 1_200) for step in range(1_200)]
    weight = [math.exp(-z * z / 2) for z in steps]
    spend = saved = 0.0
    for z, wz in zip(steps, weight, strict=True):
        # The tilt of a lognormal spend moves the mass: integrate where it lies.
        shifted = z + sigma
        share = sum(wt / (1 + math.exp(0.3 - CORRELATION * shifted - t)) for t, wt in zip(steps, weight, strict=True)) / sum(weight)
        spend += wz
        saved += wz * share
    return saved / spend


def world(rng: random.Random, number: int, sigma: float) -> Uncertainty:
    """The intervals of one drawn world. Users get random bags, as the MD5 of their names would give them."""
    bags: dict[int, tuple[int, int]] = {}
    for spend, saving in users(rng, number, sigma):
        bag = rng.randrange(1 << 16)
        old, new = bags.get(bag, (0, 0))
        bags[bag] = (old + round(spend * DOLLAR), new + round((spend - saving) * DOLLAR))
    found = uncertainty(bags)
    assert found is not None
    return found


def coverage(number: int, sigma: float, worlds: int, seed: int = 1) -> tuple[float, float]:
    """Shares of worlds covered by the bootstrap-t interval and by the delta method's."""
    rng, wanted = random.Random(seed), Decimal(truth(sigma))
    found = [world(rng, number, sigma) for _ in range(worlds)]
    hits = sum(one.share.low <= wanted <= one.share.high for one in found)
    plain = sum(one.share_delta.low <= wanted <= one.share_delta.high for one in found)
    return hits / worlds, plain / worlds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--worlds", type=int, default=400)
    worlds = parser.parse_args().worlds
    print("| users | sigma of spend | bootstrap-t covers | delta method covers |\n|---:|---:|---:|---:|")
    for sigma, number in WORLDS:
        ours, plain = coverage(number, sigma, worlds)
        print(f"| {number:,} | {sigma} | {ours:.1%} | {plain:.1%} |", flush=True)


if __name__ == "__main__":
    main()
