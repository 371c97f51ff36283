"""An audit for a terminal: the sheet that was drawn, and what its scores show. Every figure is taken from the values."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policyroute.render.sentences import bar, share

Json = dict[str, Any]
_COLOURS = {"shown": "green", "alarm": "yellow", "failed": "red", "not scored": "dim"}
_VERDICTS = {"shown": "shown", "alarm": "not shown", "failed": "failed", "not scored": "not scored"}


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number < left else "right", no_wrap=number >= left, overflow="fold")
    return table


def sheet(found: Json, console: Console) -> None:
    """Print what was drawn: `found` is the summary that `policyroute sample --json` prints."""
    console.print(
        f"[bold]{escape(found['sheet'])}[/]: {found['drawn']:,} of {found['population']:,} requests, by `{escape(found['per'])}`"
    )
    table = _table(found["per"], "", "requests", "share", "drawn", left=2)
    for line in found["strata"]:
        table.add_row(
            escape(line["stratum"]), bar(line["row_percent"]), f"{line['rows']:,}", share(line["row_percent"]), f"{line['drawn']:,}"
        )
    console.print(table)
    for note in found["notes"]:
        console.print(f"  [dim]{escape(note)}[/]", soft_wrap=True)


def audit(found: Json, console: Console) -> None:
    """Print what the scores show: the value of `audit_scores.judged`."""
    console.print(
        f"\n[bold]Scores[/]  {found['scored']:,} of {found['drawn']:,} drawn requests are scored ({found['scale']});"
        f" {found['wanted_percent'].removesuffix('.00')} % is wanted"
    )
    table = _table(found["per"], "", "requests", "scored", "correct", f"{found['confidence_percent']} % interval", "", left=2)
    for line in found["strata"]:
        ends = f"{line['low_percent']} to {line['high_percent']} %" if line["scored"] else "-"
        verdict = f"[{_COLOURS[line['verdict']]}]{_VERDICTS[line['verdict']]}[/]"
        table.add_row(
            escape(line["stratum"]), bar(line["mean_percent"]), share(line["row_percent"]), f"{line['scored']:,}", share(line["mean_percent"]), ends, verdict
        )  # fmt: skip
    overall = found["overall"]
    table.add_row(
        "overall", bar(overall["mean_percent"]), share(overall["covered_percent"]), f"{found['scored']:,}", share(overall["mean_percent"]),
        f"{overall['low_percent']} to {overall['high_percent']} %", "[dim]weighted[/]",
    )  # fmt: skip
    console.print(table)
    for line in found["alarms"]:
        console.print(f"  [{_COLOURS[line['verdict']]}]{escape(line['text'])}[/]", soft_wrap=True)
    for warning in found["warnings"]:
        console.print(f"  [dim]{escape(warning)}[/]", soft_wrap=True)
