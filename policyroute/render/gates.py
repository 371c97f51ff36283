"""Judged gates for a terminal, and as the lines that other formats take over. Every figure is taken from the result.

Names come from policies and traces, and may hold what rich takes for markup: they are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape

from policyroute.render.sentences import usd

Json = dict[str, Any]
COLOURS = {"pass": "green", "fail": "red", "not enough data": "yellow"}
MARKS = {"pass": "✓", "fail": "✗", "not enough data": "?"}


def gates(judged: Sequence[Json], console: Console) -> None:
    """Print each gate with its requirements, the undecided ones with what they would take."""
    for gate in judged:
        console.print(
            f"\n[bold]Gate {escape(gate['gate'])}[/]  [bold {COLOURS[gate['outcome']]}]{gate['outcome']}[/]"
            f"  [dim]on {escape(gate['traces'])} against {escape(gate['against'])}[/]",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        if gate["detail"]:
            console.print(f"  {escape(gate['detail'])}", highlight=False, soft_wrap=True)
        for line in gate["requirements"]:
            colour = COLOURS[line["outcome"]]
            console.print(
                f"  [{colour}]{MARKS[line['outcome']]}[/] {escape(line['text'])}: {escape(measured(line))}",
                highlight=False,
                soft_wrap=True,
            )
            console.print(f"    [dim]{escape(line['detail'])}[/]", highlight=False, soft_wrap=True)


def measured(line: Json) -> str:
    """A requirement's value with its interval, for reading: `23.10 % (18.02 to 28.40 %)`."""
    if line["value"] is None:
        return "unknown"
    value, low, high = (_amount(line[name], line["unit"]) for name in ("value", "low", "high"))
    return value if line["low"] is None else f"{value} ({low} to {high})"


def rows(judged: Sequence[Json]) -> list[tuple[str, str, str, str]]:
    """Gate, requirement, what was measured, outcome: one row for each requirement, for a table of any format."""
    found: list[tuple[str, str, str, str]] = []
    for gate in judged:
        lines = [(gate["gate"], line["text"], measured(line), _told(line)) for line in gate["requirements"]]
        found += lines or [(gate["gate"], gate["detail"], "", gate["outcome"])]
    return found


def _told(line: Json) -> str:
    return line["outcome"] if line["outcome"] == "pass" else f"{line['outcome']}: {line['detail']}"


def _amount(number: str | None, unit: str) -> str:
    if number is None:
        return "-"
    if unit == "$":
        return usd(number)
    return f"{Decimal(number):,} {unit}"
