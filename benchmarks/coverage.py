"""How often the report's 95 % interval covers the truth, on synthetic worlds whose truth is known.

    python benchmarks/coverage.py [--smoke] [--worlds 400] [--processes 2]

A world is users that come at random (a Poisson number of them), each with a spend and a saving. Most worlds have a heavy tail of
spend: lognormal (the heavier, the larger sigma) or Pareto (the heavier, the smaller alpha; at 2 and below the variance is infinite). The part
of its spend that a user saves differs between users, and by `lean` with the logarithm of the spend. Intervals are computed as
the report does it, and counted where they cover the population's saving relative to its spend, and the expected saving in all.

Worlds marked "not claimed" cannot be held by any interval drawn from their sample: most of the spend is that of users so heavy and so rare
that most samples hold none of them, and those save another part. A warning is of little help there: it takes a heavy user to raise it.
"Held out" are worlds that had no part in the choice of the method.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from decimal import Decimal

from harness import Report

from policyroute.replay.statistics import REPLICATES, Uncertainty, uncertainty

LEAST, MOST = 92, 97  # percent that are claimed to be covered
DOLLAR = 10**12
SMOKE_WORLDS, SMOKE_REPLICATES = 100, 200
TASTES = [-8 + 0.1 * step for step in range(161)]  # of users, in standard deviations
TASTE_WEIGHTS = [math.exp(-taste * taste / 2) for taste in TASTES]


@dataclass(frozen=True)
class World:
    """A population: how spend is spread (`kind` and its `size`), how saving leans on it, and how many users come."""

    kind: str
    size: float
    lean: float
    users: int
    claimed: bool = True

    @property
    def name(self) -> str:
        """For tables."""
        return KINDS[self.kind].title.format(self.size)


@dataclass(frozen=True)
class Kind:
    """A family of populations: one user's spend and saving, and the expected spend and the saved part of all spend."""

    title: str
    user: Callable[[World, random.Random], tuple[float, float]]
    spend: Callable[[World], float]
    share: Callable[[World], float]


@dataclass(frozen=True)
class Outcome:
    """One world: whether share and saving were covered, whether the delta method's share was, and whether the report warned."""

    share: bool
    saving: bool
    delta: bool
    warned: bool


# -- populations ---------------------------------------------------------------------------------------------------


def part(level: float) -> float:
    """The part of its spend that a user saves."""
    return 1 / (1 + math.exp(0.3 - level))


@functools.cache
def average(level: float) -> float:
    """`part` over all tastes."""
    return sum(weight * part(level + taste) for taste, weight in zip(TASTES, TASTE_WEIGHTS, strict=True)) / sum(TASTE_WEIGHTS)


def lognormal(world: World, rng: random.Random) -> tuple[float, float]:
    z = rng.gauss(0, 1)
    spend = math.exp(world.size * z)
    return spend, spend * part(world.lean * z + rng.gauss(0, 1))


def lognormal_share(world: World) -> float:
    """The mean over dollars: weighing by spend moves the normal by sigma."""
    parts = [average(round(world.lean * (z + world.size), 9)) for z in TASTES]
    return sum(weight * one for weight, one in zip(TASTE_WEIGHTS, parts, strict=True)) / sum(TASTE_WEIGHTS)


def pareto(world: World, rng: random.Random) -> tuple[float, float]:
    height = rng.expovariate(1)
    spend = math.exp(height / world.size)
    return spend, spend * part(world.lean * (height - 1) + rng.gauss(0, 1))


def pareto_share(world: World) -> float:
    """The mean over dollars: weighing by spend stretches the exponential height by alpha / (alpha - 1)."""
    heights = [0.02 * (step + 0.5) for step in range(1_500)]
    stretch = world.size / (world.size - 1)
    weights = [math.exp(-height) for height in heights]
    parts = [average(round(world.lean * (height * stretch - 1), 9)) for height in heights]
    return sum(weight * one for weight, one in zip(weights, parts, strict=True)) / sum(weights)


def exponential(world: World, rng: random.Random) -> tuple[float, float]:
    spend = rng.expovariate(1)
    return spend, spend * part(world.lean * (spend - 1) + rng.gauss(0, 1))


def exponential_share(world: World) -> float:
    spends = [0.02 * (step + 0.5) for step in range(2_000)]
    weights = [spend * math.exp(-spend) for spend in spends]
    parts = [average(round(world.lean * (spend - 1), 9)) for spend in spends]
    return sum(weight * one for weight, one in zip(weights, parts, strict=True)) / sum(weights)


def gamma(world: World, rng: random.Random) -> tuple[float, float]:
    """All or nothing is saved."""
    spend = rng.gammavariate(world.size, 1)
    return spend, spend if rng.random() < 0.4 else 0.0


def firms(world: World, rng: random.Random) -> tuple[float, float]:
    """One user in twenty is a firm, with `size` times the spend; all or nothing is saved, more often by firms."""
    firm = rng.random() < 0.05
    spend = rng.expovariate(1) * (world.size if firm else 1)
    return spend, spend if rng.random() < (0.7 if firm else 0.4) else 0.0


def firms_share(world: World) -> float:
    return (0.05 * world.size * 0.7 + 0.95 * 0.4) / (0.05 * world.size + 0.95)


KINDS = {
    "lognormal": Kind("lognormal, sigma {}", lognormal, lambda world: math.exp(world.size**2 / 2), lognormal_share),
    "pareto": Kind("Pareto, alpha {}", pareto, lambda world: world.size / (world.size - 1), pareto_share),
    "exponential": Kind("exponential", exponential, lambda _: 1.0, exponential_share),
    "gamma": Kind("gamma, shape {} (held out)", gamma, lambda world: world.size, lambda _: 0.4),
    "firms": Kind("5 % firms of {} times the spend (held out)", firms, lambda world: 0.05 * world.size + 0.95, firms_share),
}
BLOCKER = tuple(World("lognormal", sigma, 0.3, users) for sigma in (1.0, 1.5, 2.0) for users in (300, 1_000, 3_000))
WORLDS = (
    *BLOCKER,
    *(World("lognormal", 2.0, lean, users) for lean in (0.0, 0.8, -0.3) for users in (300, 1_000)),
    World("lognormal", 1.5, 0.8, 300),
    World("lognormal", 0.3, 0.3, 300),
    World("exponential", 1.0, 0.3, 300),
    *(World("pareto", 2.0, lean, users) for lean in (0.0, 0.3) for users in (300, 1_000)),
    *(World("pareto", 1.5, 0.0, users) for users in (300, 1_000)),
    *(World("gamma", 0.3, 0.0, users) for users in (300, 1_000)),
    *(World("firms", 30.0, 0.0, users) for users in (300, 1_000)),
    *(World("pareto", 1.5, 0.3, users, claimed=False) for users in (300, 1_000, 3_000)),
    World("pareto", 1.2, 0.3, 300, claimed=False),
)
HEAVIEST_MEAN = 2.0  # Pareto's alpha at and below which a sum has no variance: its interval is not claimed


# -- runs ----------------------------------------------------------------------------------------------------------


def drawn(world: World, rng: random.Random) -> list[tuple[float, float]]:
    """The users that come: as many as events of a Poisson process."""
    found, time = [], rng.expovariate(1)
    while time < world.users:
        found.append(KINDS[world.kind].user(world, rng))
        time += rng.expovariate(1)
    return found


def bagged(users: list[tuple[float, float]], rng: random.Random) -> dict[int, tuple[int, int]]:
    """Baseline and routed money of each bag. Users get random bags, as the MD5 of their names would give them."""
    bags: dict[int, tuple[int, int]] = {}
    for spend, saving in users:
        bag = rng.randrange(1 << 16)
        old, new = bags.get(bag, (0, 0))
        bags[bag] = (old + round(spend * DOLLAR), new + round((spend - saving) * DOLLAR))
    return bags


def measured(world: World, index: int, replicates: int) -> Uncertainty:
    """The intervals of the `index`th sample of a world."""
    rng = random.Random(f"{world.kind} {world.size} {world.lean} {world.users} {index}")
    found = uncertainty(bagged(drawn(world, rng), rng), replicates)
    assert found is not None
    return found


def outcome(world: World, index: int, replicates: int) -> Outcome:
    """Whether one sample's intervals cover the truth."""
    kind, found = KINDS[world.kind], measured(world, index, replicates)
    share = Decimal(kind.share(world))
    saving = share * Decimal(kind.spend(world)) * world.users * DOLLAR
    return Outcome(
        share=found.share.low <= share <= found.share.high,
        saving=found.saving.low <= saving <= found.saving.high,
        delta=found.share_delta.low <= share <= found.share_delta.high,
        warned=bool(found.warnings),
    )


def outcomes(world: World, worlds: int, replicates: int = REPLICATES) -> list[Outcome]:
    """The first `worlds` samples of a world."""
    return [outcome(world, index, replicates) for index in range(worlds)]


def percent(hits: list[bool]) -> float | None:
    """The part of hits; None of nothing."""
    return 100 * sum(hits) / len(hits) if hits else None


def line(world: World, found: list[Outcome]) -> dict[str, float | None]:
    """The figures of one world, in percent."""
    return {
        "share": percent([one.share for one in found]),
        "saving": percent([one.saving for one in found]),
        "delta": percent([one.delta for one in found]),
        "warned": percent([one.warned for one in found]),
        "share without warning": percent([one.share for one in found if not one.warned]),
        "share with warning": percent([one.share for one in found if one.warned]),
    }


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def table(lines: list[tuple[World, dict[str, float | None]]]) -> str:
    """All worlds as Markdown."""
    names = ("share", "saving", "delta", "warned", "share without warning", "share with warning")
    rows = [f"| spend | lean | users | {' | '.join(names)} |", f"|---|---:|---:|{'---:|' * len(names)}"]
    for world, figures in lines:
        mark = "" if world.claimed else " (not claimed)"
        cells = " | ".join(shown(figures[name]) for name in names)
        rows.append(f"| {world.name}{mark} | {world.lean} | {world.users:,} | {cells} |")
    return "\n".join(rows)


def run(worlds: int, replicates: int, processes: int, of: tuple[World, ...]) -> list[tuple[World, dict[str, float | None]]]:
    """All figures, one world after another in each process."""
    lines = []
    with ProcessPoolExecutor(processes) as pool:
        results = pool.map(functools.partial(outcomes, worlds=worlds, replicates=replicates), of)
        for world, found in zip(of, results, strict=True):
            lines.append((world, line(world, found)))
            sys.stderr.write(f"  {world.name}, lean {world.lean}, {world.users:,} users: {shown(lines[-1][1]['share'])} %\n")
    return lines


def report(lines: list[tuple[World, dict[str, float | None]]], worlds: int, replicates: int) -> Report:
    """The table's ends with their claims; the table itself is among the facts."""
    found = Report("coverage", f"Coverage of the 95 % interval, {worlds} samples of each world", ["policyroute", "duckdb"])
    blocker = [(world, figures) for world, figures in lines if world in BLOCKER]
    claimed = [(world, figures) for world, figures in lines if world.claimed]
    finite = [(world, figures) for world, figures in lines if world.kind != "pareto" or world.size > HEAVIEST_MEAN]
    for what, figure, of in (
        ("part saved, lognormal worlds of 300 to 3,000 users", "share", blocker),
        ("part saved, all worlds that are claimed", "share", claimed),
        ("saving in all, worlds whose spend has a variance", "saving", finite),
    ):
        values = [figures[figure] or 0.0 for _, figures in of]
        found.add(f"{what}: least covered of {len(of)}", min(values), "%", claim=LEAST)
        found.add(f"{what}: most covered of {len(of)}", max(values), "%", claim=MOST, at_most=True)
    found.facts = {
        "samples of each world": worlds, "replicates": replicates,
        "worlds": [{**asdict(world), "name": world.name, "percent covered": json.loads(json.dumps(figures))} for world, figures in lines],
    }  # fmt: skip
    return found


def within_chance(figures: dict[str, float | None], worlds: int) -> bool:
    """Whether the covered part could be one from 92 to 97 %: three standard errors."""
    covered = figures["share"] or 0.0
    error = [300 * math.sqrt(bound / 100 * (1 - bound / 100) / worlds) for bound in (LEAST, MOST)]
    return LEAST - error[0] <= covered <= MOST + error[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--smoke", action="store_true", help="the claimed worlds of 300 users, few samples")
    parser.add_argument("--worlds", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    of = tuple(world for world in WORLDS if world.users == 300 and world.claimed) if given.smoke else WORLDS
    worlds, replicates = (SMOKE_WORLDS, SMOKE_REPLICATES) if given.smoke else (given.worlds, REPLICATES)
    lines = run(worlds, replicates, given.processes, of)
    found = report(lines, worlds, replicates)
    found.write(given.smoke)
    error = 100 * math.sqrt(0.95 * 0.05 / worlds)
    print(
        found.markdown(),
        table(lines),
        f"\nPercent covered; chance moves one figure by {error:.1f} points (standard error at 95 %).",
        sep="\n",
    )
    return 0 if all(within_chance(figures, worlds) for world, figures in lines if world.claimed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
