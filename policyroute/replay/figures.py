"""Numbers of measures as the figures of a report: dollars as exact decimal text, shares as percent with two decimals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from policyroute.prices.money import to_decimal
from policyroute.replay.measures import MEASURES, Measure, Table, merge

Json = dict[str, Any]
Key = tuple[Any, ...]


def dollars(picodollars: int) -> str:
    """Exact dollars as text."""
    return format(to_decimal(picodollars), "f")


def percent(part: int, whole: int) -> str | None:
    """`part` of `whole` in percent with two decimals; None where `whole` is 0."""
    if whole == 0:
        return None
    return format((Decimal(part) * 100 / Decimal(whole)).quantize(Decimal("0.01"), ROUND_HALF_EVEN), "f")


def figures(numbers: tuple[int, ...], measures: tuple[Measure, ...] = MEASURES) -> dict[str, int]:
    """Numbers by the names of their measures."""
    return {measure.name: number for measure, number in zip(measures, numbers, strict=True)}


def zero() -> tuple[int, ...]:
    """The numbers of no rows."""
    return (0,) * len(MEASURES)


def total(table: Iterable[tuple[int, ...]], measures: tuple[Measure, ...] = MEASURES) -> tuple[int, ...]:
    """One tuple of numbers for several groups."""
    merged = merge(({(): numbers} for numbers in table), measures)
    return merged.get((), (0,) * len(measures))


def money(numbers: tuple[int, ...]) -> Json:
    """Rows and money of one line: cost before and after, and what is saved."""
    found = figures(numbers)
    saving = found["old"] - found["new"]
    return {
        "rows": found["rows"], "changed": found["changed"], "baseline_usd": dollars(found["old"]), "routed_usd": dollars(found["new"]),
        "saving_usd": dollars(saving), "saving_percent": percent(saving, found["old"]),
    }  # fmt: skip


def grouped(table: Table, key: Callable[[Key], Any]) -> dict[Any, tuple[int, ...]]:
    """A table summed by what `key` says of each of its keys."""
    groups: dict[Any, list[tuple[int, ...]]] = {}
    for at, numbers in table.items():
        groups.setdefault(key(at), []).append(numbers)
    return {name: total(rows) for name, rows in groups.items()}
