"""What every benchmark shares: CPU time in interleaved rounds, Markdown tables, result files.

Rules
- Everything compared is run in one process, turn by turn (a round); a ratio is taken inside each round and its median reported.
- Time is CPU time of the process (`time.process_time`), with one thread, since machines that run benchmarks are shared.
- A claim is a goal with a figure. `--smoke` runs small and fails only below half of what the README claims (`FLOOR`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
FLOOR = 0.5  # share of a claimed ratio below which a smoke run fails
sys.path.insert(0, str(ROOT))

import policyroute  # noqa: E402 - found in the checkout


@dataclass(frozen=True)
class Row:
    """One line of a table. `ratio` is how many times ours is faster; `claim` the figure that is claimed for `ratio` or `value`.

    `at_most` says that the claim bounds the value from above. `note` says what is compared, or why nothing was measured.
    """

    what: str
    value: float | None = None
    unit: str = ""
    ratio: float | None = None
    claim: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def measured(self) -> float | None:
        """The figure that the claim is about."""
        return self.value if self.ratio is None else self.ratio

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds; None where there is none, or nothing was measured."""
        if self.claim is None or self.measured is None:
            return None
        return self.measured <= self.claim if self.at_most else self.measured >= self.claim

    @property
    def fails_smoke(self) -> bool:
        """Only a ratio can fail a smoke run: absolute figures depend on the machine."""
        return self.ratio is not None and self.claim is not None and self.ratio < self.claim * FLOOR


@dataclass
class Report:
    """The result of one benchmark: its tables, and the packages it ran with."""

    name: str
    title: str
    packages: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, what: str, value: float | None = None, unit: str = "", **more: Any) -> None:
        """Add a line, and say it on stderr at once: a full run takes minutes."""
        row = Row(what, value, unit, **more)
        self.rows.append(row)
        sys.stderr.write(f"  {what}: {_figure(value, unit)} {_ratio(row.ratio)} {row.note if value is None else ''}\n")

    def markdown(self) -> str:
        """The table that README quotes."""
        lines = [f"### {self.title}", "", "| what | measured | ours is faster by | goal | holds |", "|---|---:|---:|---:|---|"]
        for row in self.rows:
            goal = "" if row.claim is None else _goal(row)
            holds = {None: "", True: "yes", False: "**no**"}[row.holds]
            measured = _figure(row.value, row.unit) if row.value is not None else f"not measured: {row.note}"
            lines.append(f"| {row.what} | {measured} | {_ratio(row.ratio)} | {goal} | {holds} |")
        return "\n".join([*lines, ""])

    def write(self, smoke: bool) -> None:
        """Keep the result as JSON; a smoke run's figures are not kept."""
        if smoke:
            return
        RESULTS.mkdir(exist_ok=True)
        found = {
            "name": self.name,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "versions": {name: _version(name) for name in self.packages},
            "facts": self.facts,
            "rows": [{**asdict(row), "holds": row.holds} for row in self.rows],
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _version(name: str) -> str:
    if name == "policyroute":
        return policyroute.__version__
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f} {unit}".strip()


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:,.{1 if ratio < 100 else 0}f}×"


def _goal(row: Row) -> str:
    sign = "≤" if row.at_most else "≥"
    return f"{sign} {row.claim:,g}×" if row.ratio is not None or row.value is None else f"{sign} {row.claim:,g} {row.unit}"


# -- time ----------------------------------------------------------------------------------------------------------


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU that one call of `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def rounds(works: Mapping[str, Callable[[], object]], count: int, *, warm: bool = True) -> dict[str, list[float]]:
    """CPU seconds of each work in each of `count` interleaved rounds, after one round that isn't counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(count + warm):
        for name, work in works.items():
            gc.collect()
            seconds = cpu(work)
            if number or not warm:
                taken[name].append(seconds)
    return taken


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio(theirs: Sequence[float], ours: Sequence[float], scale: float = 1.0) -> float:
    """Median over the rounds of theirs / ours; `scale` is how many times more work ours did."""
    return median([scale * a / b for a, b in zip(theirs, ours, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# -- command lines -------------------------------------------------------------------------------------------------


def run(make: Callable[[bool], Report]) -> None:
    """The `main` of one benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="small and quick; fails below half of a claimed ratio")
    smoke = parser.parse_args().smoke
    report = make(smoke)
    report.write(smoke)
    sys.stdout.write(report.markdown() + "\n")
    if smoke and any(row.fails_smoke for row in report.rows):
        raise SystemExit(1)
