"""The numbers behind the metrics: in memory, and where several workers share a folder also in files that any of them can add up.

Rules of this module
- The files are those of prometheus_client's multiprocess mode, under names of their own: its collector reads them, and nothing
  that its metrics do in the same process touches them. A number is in its file when `add` or `set` returns, `kill -9` or not.
- Counters are whole numbers below 2^53 or sums of seconds; dollars are summed in whole picodollars and shown as the nearest float.
- A worker's counters outlive it, its gauges don't.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from policyroute.prices.money import PICODOLLARS
from policyroute.proxy.metric_rows import METRICS, Labels, Metric

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family
    from prometheus_client.mmap_dict import MmapedDict

OURS = "policyroute"

_stores: dict[tuple[Path, int], Store] = {}
_opening = threading.Lock()


class Cell(Protocol):
    """One series: something is added to it, or it is set."""

    def add(self, amount: float) -> None:
        """Add to a counter or observe in a histogram."""
        ...


class Number:
    """One number, and its place in a file where there is one."""

    __slots__ = ("_file", "_key", "value")

    def __init__(self, file: MmapedDict | None, key: str) -> None:
        self._file, self._key = file, key
        self.value: float = file.read_value(key)[0] if file is not None else 0.0  # type: ignore[no-untyped-call]

    def add(self, amount: float) -> None:
        """Add an amount."""
        self.set(self.value + amount)

    def set(self, value: float) -> None:
        """Replace the number."""
        self.value = value
        if self._file is not None:
            self._file.write_value(self._key, value, 0.0)  # type: ignore[no-untyped-call]

    def detach(self) -> None:
        """Go on without the file."""
        self._file = None


class Dollars:
    """A sum of picodollars that shows as dollars: exact, rounded once."""

    __slots__ = ("_exact", "number")

    def __init__(self, number: Number) -> None:
        self.number = number
        self._exact = round(Decimal(number.value) * PICODOLLARS)  # of an earlier process with the same id

    def add(self, amount: float) -> None:
        """Add a whole number of picodollars."""
        self._exact += int(amount)
        self.number.set(self._exact / PICODOLLARS)


class Histogram:
    """Counts by bucket (not cumulated) and the sum."""

    __slots__ = ("_bounds", "buckets", "sum")

    def __init__(self, bounds: tuple[float, ...], buckets: list[Number], total: Number) -> None:
        self._bounds, self.buckets, self.sum = bounds, buckets, total

    def add(self, amount: float) -> None:
        """Observe an amount."""
        self.sum.add(amount)
        self.buckets[bisect_left(self._bounds, amount)].add(1)


class Store:
    """All series of one process. Whoever adds or sets holds `lock`. `folder` is None where no other worker is to know them."""

    def __init__(self, folder: Path | None) -> None:
        self.lock = threading.Lock()
        self.folder = folder
        self.closed = False
        self.cells: dict[str, dict[Labels, Cell]] = {metric.name: {} for metric in METRICS}
        self._files: dict[str, MmapedDict] = {}
        self._numbers: dict[str, list[tuple[str, dict[str, str], Number]]] = {metric.name: [] for metric in METRICS}
        self._histograms: dict[str, list[tuple[dict[str, str], Histogram]]] = {metric.name: [] for metric in METRICS}
        for metric in METRICS:
            if not metric.labels:
                self.cell(metric, ())

    def cell(self, metric: Metric, labels: Labels) -> Cell:
        """The series of a metric with these labels."""
        bound = self.cells[metric.name]
        found = bound.get(labels)
        if found is None:
            found = bound[labels] = self._made(metric, labels)
        return found

    def collect(self) -> Iterator[Family]:
        """All series as prometheus_client's metrics."""
        from prometheus_client.core import Metric as Family

        for metric in METRICS:
            family = Family(metric.family, metric.doc, metric.kind)
            with self.lock:
                for name, labels, number in self._numbers[metric.name]:
                    family.add_sample(name, labels, number.value)
                for labels, histogram in self._histograms[metric.name]:
                    _cumulate(family, metric, labels, histogram)
            yield family

    def close(self) -> None:
        """Close the files, which keep what they hold. What is added from now on stays in memory."""
        with self.lock:
            for _, _, number in (row for rows in self._numbers.values() for row in rows):
                number.detach()
            for _, histogram in (row for rows in self._histograms.values() for row in rows):
                for number in (histogram.sum, *histogram.buckets):
                    number.detach()
            for file in self._files.values():
                file.close()  # type: ignore[no-untyped-call]
            self._files, self.closed = {}, True

    def _made(self, metric: Metric, values: Labels) -> Cell:
        labels = dict(zip(metric.labels, values, strict=True))
        if metric.kind == "histogram":
            buckets = [self._number(metric, "_bucket", labels | {"le": bound}) for bound in _written(metric.buckets)]
            histogram = Histogram(metric.buckets, buckets, self._number(metric, "_sum", labels))
            self._histograms[metric.name].append((labels, histogram))
            return histogram
        number = self._number(metric, "", labels)
        self._numbers[metric.name].append((metric.name, labels, number))
        return Dollars(number) if metric.money else number

    def _number(self, metric: Metric, end: str, labels: dict[str, str]) -> Number:
        from prometheus_client.mmap_dict import mmap_key

        return Number(
            self._file(metric), mmap_key(metric.family, metric.name + end, list(labels), list(labels.values()), metric.doc)
        )

    def _file(self, metric: Metric) -> MmapedDict | None:
        if self.folder is None or self.closed:
            return None
        kind = f"gauge_{metric.across}" if metric.kind == "gauge" else metric.kind
        found = self._files.get(kind)
        if found is None:
            from prometheus_client.mmap_dict import MmapedDict

            path = self.folder / f"{kind}_{OURS}-{os.getpid()}.db"
            found = self._files[kind] = MmapedDict(str(path))  # type: ignore[no-untyped-call]
        return found


READINGS = 5  # tries to read the workers' files, which come and go


def shared(folder: Path, process: int) -> Store:
    """The store of this process in a shared folder. One per process: two would overwrite each other's numbers."""
    with _opening:
        found = _stores.get((folder, process))
        if found is None or found.closed:
            found = _stores[folder, process] = Store(folder)
        return found


def together(folder: Path) -> Iterable[Family]:
    """The series of all workers that write to `folder`, added up; gauges of those that have ended are left out, and removed."""
    from prometheus_client.multiprocess import MultiProcessCollector

    _forget_dead(folder)
    for left in reversed(range(READINGS)):
        files = sorted(str(path) for path in folder.glob("*.db"))
        try:
            found: Iterable[Family] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            return found
        except (OSError, ValueError, struct.error):  # a worker is making or removing a file at this moment
            if not left:
                raise
            time.sleep(0.01)
    return ()


def _forget_dead(folder: Path) -> None:
    for path in folder.glob(f"gauge_*_{OURS}-*.db"):
        process = path.stem.rpartition("-")[2]
        if process.isdecimal() and not _alive(int(process)):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _written(bounds: tuple[float, ...]) -> list[str]:
    from prometheus_client.utils import floatToGoString

    return [floatToGoString(bound) for bound in (*bounds, float("inf"))]  # type: ignore[no-untyped-call]


def _cumulate(family: Family, metric: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    total = 0.0
    for bound, bucket in zip(_written(metric.buckets), histogram.buckets, strict=True):
        total += bucket.value
        family.add_sample(f"{metric.name}_bucket", labels | {"le": bound}, total)
    family.add_sample(f"{metric.name}_count", labels, total)
    family.add_sample(f"{metric.name}_sum", labels, histogram.sum.value)
