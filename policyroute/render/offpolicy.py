"""Off-policy estimates of an outcome for a terminal: overlap first, then what can be said. Figures are taken from the result."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Json = dict[str, Any]
_NAMES = {"logged": "as logged", "snips": "SNIPS", "dr": "doubly robust"}


def offpolicy(found: Json, console: Console) -> None:
    """Print the estimates of one outcome, or why there are none and what would change that."""
    console.print(f"\n[bold]Quality[/]  outcome `{escape(found['outcome'])}`, {found['used_rows']:,} of {found['rows']:,} requests")
    for line in found["left_out"]:
        console.print(f"  [dim]left out, {line['rows']:,}: {escape(line['why'])}[/]", soft_wrap=True)
    if found["overlap"]:
        _overlap(found, console)
    if found["estimates"]:
        _estimates(found, console)
    else:
        console.print(f"  [bold yellow]{escape(_sentence(found['sentence']))}[/]", soft_wrap=True)
        console.print(f"  = help: {escape(found['remedy'])}", soft_wrap=True)
    for warning in found["warnings"]:
        console.print(f"  [yellow]{escape(warning)}[/]", soft_wrap=True)
    for assumption in found["assumptions"]:
        console.print(f"  [dim]- {escape(assumption)}[/]", soft_wrap=True)


def _overlap(found: Json, console: Console) -> None:
    overlap, clip = found["overlap"], found["clip"]
    moved = f"; {overlap['moved_effective_sample']} of the {overlap['moved_rows']:,} moved" if overlap["moved_rows"] else ""
    console.print(
        f"  overlap: {overlap['unsupported_percent']} % unsupported; effective sample {overlap['effective_sample']} of {found['used_rows']:,}{moved}; "
        f"largest weight {overlap['largest_weight']}; the top 1 % hold {overlap['top_1_percent_hold_percent'] or '-'} %; "
        f"mean weight {overlap['mean_weight']} ± {overlap['mean_weight_error']}",
        soft_wrap=True,
    )
    if clip:
        console.print(
            f"  clipped at {clip['weight']:,}: {clip['rows_percent']} % of the requests, {clip['cut_percent'] or '-'} % of the weight",
            soft_wrap=True,
        )


def _estimates(found: Json, console: Console) -> None:
    percent = f"{found['confidence_percent']} %"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column, right in (
        ("", False),
        ("mean", True),
        (f"{percent} interval", True),
        ("difference", True),
        (f"{percent} interval", True),
    ):
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for name, line in found["estimates"].items():
        difference = (line["difference"], _range(line["difference_interval"])) if "difference" in line else ("-", "-")
        table.add_row(_NAMES[name], line["value"], _range(line["interval"]), *difference)
    console.print(table)
    console.print(f"  [dim]{found['method']}; {found['clusters']:,} clusters[/]", soft_wrap=True)


def _range(ends: list[str] | None) -> str:
    return "-" if ends is None else f"{ends[0]} to {ends[1]}"


def _sentence(text: str) -> str:
    """As a sentence: with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."
