"""An examination of a trace for a terminal. Every figure is taken from the value; nothing is computed but bars.

Names come from traces and policies, and may hold what rich takes for markup: they are escaped wherever they are printed.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from policyroute.render.sentences import bar, share, usd

Json = dict[str, Any]
MOST_MODELS, MOST_NAMES = 12, 24
_MARKS = {"missing": ("✗", "red"), "warning": ("!", "yellow"), "good": ("✓", "green")}
_STATES = {
    "column": "a column", "metadata": "metadata", "extracted": "the content", "default": "its default", "unknown": "nothing",
}  # fmt: skip


def doctor(found: Json, console: Console) -> None:
    """Print the whole examination."""
    _head(found, console)
    _findings(found, console)
    _columns(found, console)
    _signals(found, console)
    _prices(found, console)
    _clusters(found, console)
    _outcomes(found, console)
    for note in found["notes"]:
        console.print(f"[dim]trace: {escape(note['message'])}[/]", soft_wrap=True)


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(
        title=f"\n{escape(title)}", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number < left else "right", overflow="fold")
    return table


def _head(found: Json, console: Console) -> None:
    trace = found["trace"]
    files = ", ".join(trace["files"][:3]) + (f" and {len(trace['files']) - 3} more" if len(trace["files"]) > 3 else "")
    window = (
        f"{trace['window'][0][:10]} to {trace['window'][1][:10]}, {trace['days']:,} {'day' if trace['days'] == 1 else 'days'}"
        if trace["window"]
        else "no dates"
    )
    against = f", examined for the policy {found['policy']}" if found["policy"] else ""
    console.print(Text.assemble((files, "bold"), f": {trace['rows']:,} requests read as `{trace['format']}`, {window}{against}"))


def _findings(found: Json, console: Console) -> None:
    console.print()
    for each in found["findings"]:
        mark, colour = _MARKS[each["level"]]
        console.print(f"  [{colour}]{mark}[/] {escape(each['message'])}", soft_wrap=True)
        if each["help"]:
            console.print(f"      [dim]= help: {escape(each['help'])}[/]", soft_wrap=True)


def _columns(found: Json, console: Console) -> None:
    table = _table("Columns", "column", "", "rows", "share", left=2)
    for each in found["columns"]:
        if each["rows"]:
            table.add_row(each["column"], bar(each["percent"]), f"{each['rows']:,}", share(each["percent"]))
    console.print(table)
    empty = [each["column"] for each in found["columns"] if not each["rows"]]
    _named("without any value", empty, console)
    _named("columns of its own", [each["column"] for each in found["extra_columns"]], console)
    _named("keys of `metadata`", [each["key"] for each in found["metadata_keys"]], console)


def _named(what: str, names: list[str], console: Console) -> None:
    if names:
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        console.print(f"  [dim]{what}:[/] {escape(', '.join(names[:MOST_NAMES]))}{more}", soft_wrap=True)


def _signals(found: Json, console: Console) -> None:
    of_policy = found["policy"] is not None
    table = _table(
        "Signals", *(("",) if of_policy else ()), "signal", "known from", "where", "rows", "share", left=4 if of_policy else 3
    )
    for each in found["signals"]:
        state = f"[red]{_STATES['unknown']}[/]" if each["state"] == "unknown" else _STATES[each["state"]]
        rows = (f"{each['rows']:,}", share(each["percent"])) if each["rows"] else ("-", "-")
        table.add_row(
            *(("read" if each["read"] else "",) if of_policy else ()), escape(each["signal"]), state, escape(each["source"]), *rows
        )
    console.print(table)


def _prices(found: Json, console: Console) -> None:
    prices = found["prices"]
    told = ", ".join(f"{share(each['percent'])} {each['class']}" for each in prices["classes"])
    spend = f"; they come to {usd(prices['spend_usd'])}" if prices["spend_usd"] is not None else ""
    recorded = (
        f"; {usd(prices['recorded_usd'])} recorded in {prices['recorded_rows']:,} rows"
        if prices["recorded_usd"] is not None
        else ""
    )
    table = _table("Prices", "model", "provider", "priced as", "rows", "exact", "fallback", "unpriceable", left=3)
    for each in prices["models"][:MOST_MODELS]:
        counts = (f"{each[name]:,}" for name in ("rows", "exact_rows", "fallback_rows", "unpriceable_rows"))
        table.add_row(escape(each["model"] or "-"), escape(each["provider"] or "-"), escape(each["priced_as"] or "-"), *counts)
    console.print(table)
    if len(prices["models"]) > MOST_MODELS:
        console.print(f"  [dim]and {len(prices['models']) - MOST_MODELS:,} more models, in --json[/]")
    console.print(f"  {told}{spend}{recorded}; tokens: {prices['usage']}", soft_wrap=True)
    for each in prices["fallbacks"]:
        console.print(f"  [dim]fallback in {each['rows']:,} rows: {escape(each['why'])}[/]", soft_wrap=True)


def _clusters(found: Json, console: Console) -> None:
    clusters = found["clusters"]
    table = _table(
        "Clusters",
        "",
        "number",
        "with several requests",
        "most requests of one",
        f"largest share of {clusters['by']}",
        "requests without",
    )
    for name in ("users", "conversations"):
        each = clusters[name]
        if each is None:
            table.add_row(name, "-", "-", "-", "-", "all")
            continue
        counts = (f"{each[key]:,}" for key in ("number", "with_several_rows", "most_rows"))
        table.add_row(name, *counts, share(each["largest_percent"]), f"{each['rows_without']:,}")
    console.print(table)


def _outcomes(found: Json, console: Console) -> None:
    table = _table("Outcomes, labels, propensities", "", "where", "rows", "share", "values", left=2)
    for each in found["outcomes"]:
        table.add_row("outcome", f"column `{each['column']}`", f"{each['rows']:,}", share(each["percent"]), "")
    for kind, listed in (("label", found["labels"]), ("propensity", found["propensities"])):
        for each in listed:
            ranged = "" if each["low"] is None else f" from {each['low']:g} to {each['high']:g}"
            table.add_row(kind, escape(each["place"]), f"{each['rows']:,}", share(each["percent"]), f"{each['distinct']:,}{ranged}")
    if table.row_count:
        console.print(table)
    if found["paired_requests"]:
        console.print(f"  {found['paired_requests']:,} prompts were answered by more than one model")
