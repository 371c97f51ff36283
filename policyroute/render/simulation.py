"""A simulation's result for a terminal. Every figure is taken from the result; nothing is computed but bars.

Names come from traces and policies, and may hold what rich takes for markup: they are escaped wherever they are printed.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]
BAR = 12
MOST_RULES, MOST_FLOWS, MOST_MEMBERS = 40, 8, 4
SHOWN_CLASSES = {
    "exact": "priced exactly", "fallback": "priced by fallback", "unpriceable": "unpriceable", "unroutable": "unroutable",
    "refused": "refused by a rule", "not replayable": "not replayable",
}  # fmt: skip


def simulation(result: Json, console: Console) -> None:
    """Print the whole result."""
    _headline(result, console)
    console.print()
    _accounting(result, console)
    _rules(result, console)
    _flows(result, console)
    _segments(result, console)
    _signals(result, console)
    _self_test(result, console)
    _foot(result, console)


def usd(amount: str, *, signed: bool = False) -> str:
    """Dollars for reading: cents, or three significant digits below a dollar."""
    value = Decimal(amount)
    places = Decimal("0.01")
    if value and abs(value) < 1:
        places = Decimal(1).scaleb(max(value.adjusted() - 2, -12))
    rounded = value.quantize(places, ROUND_HALF_EVEN)
    sign = "-" if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}${abs(rounded):,}"


def share(percent: str | None) -> str:
    """A share in percent, or a dash where there is nothing to take it of."""
    return "-" if percent is None else f"{percent} %"


def bar(percent: str | None) -> str:
    """A share as a bar."""
    filled = 0 if percent is None else max(0, min(BAR, round(Decimal(percent) * BAR / 100)))
    return "█" * filled + "░" * (BAR - filled)


def _table(*columns: str, title: str, left: int = 1) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number < left else "right", no_wrap=number >= left, overflow="fold")
    return table


def _headline(result: Json, console: Console) -> None:
    trace, head = result["trace"], result["headline"]
    window = f", {trace['window'][0][:10]} to {trace['window'][1][:10]}" if trace["window"] else ", times without a date"
    files = ", ".join(trace["files"][:3]) + (f" and {len(trace['files']) - 3} more" if len(trace["files"]) > 3 else "")
    console.print(Text.assemble((f"{result['policy']}", "bold"), f" over {files}: {trace['rows']:,} requests{window}"))
    console.print()
    if not head["rows"]:
        console.print("  [bold yellow]No request could be priced on both sides: there is no saving to speak of.[/]")
        return
    saving = Decimal(head["saving_usd"])
    word, colour = ("saved", "green") if saving > 0 else ("dearer", "red") if saving < 0 else ("no difference", "yellow")
    console.print(f"  {escape(result['baseline']):<28} {usd(head['baseline_usd']):>14}")
    console.print(f"  {'under the policy':<28} {usd(head['routed_usd']):>14}")
    console.print(
        f"  [bold {colour}]{word:<28} {usd(head['saving_usd'].lstrip('-')):>14}   {share((head['saving_percent'] or '').lstrip('-') or None)}[/]"
    )
    console.print(
        f"  of {head['rows']:,} requests that are priced on both sides; {head['changed']:,} ({share(head['changed_percent'])}) change their model"
    )
    _interval(result, console)
    if "saving_without_cache_usd" in head:
        console.print(
            f"  saved where a changed model finds nothing cached: {usd(head['saving_without_cache_usd'])} ({share(head['saving_without_cache_percent'])})"
        )


def _interval(result: Json, console: Console) -> None:
    found = result["interval"]
    if found is None:
        console.print("  no interval: the trace has no users, conversations or days to draw, or only one")
        return
    low, high = found["saving_percent"]
    dollars_low, dollars_high = (usd(end) for end in found["saving_usd"])
    console.print(
        f"  {found['confidence_percent']} % interval: {low} to {high} %, {dollars_low} to {dollars_high}, over {found['clusters']:,} clusters ({found['cluster']})"
    )
    for warning in found["warnings"]:
        console.print(f"  [yellow]{warning}[/]")


def _accounting(result: Json, console: Console) -> None:
    table = _table("accounting", "rows", "share", "baseline", "share", title="")
    why: list[str] = []
    for line in result["accounting"]:
        if not line["rows"]:
            continue
        unknown = f" + {line['baseline_unknown_rows']:,} rows unknown" if line["baseline_unknown_rows"] else ""
        table.add_row(
            SHOWN_CLASSES[line["class"]],
            f"{line['rows']:,}",
            share(line["row_percent"]),
            usd(line["baseline_usd"]) + unknown,
            share(line["baseline_percent"]),
        )
        why += [f"{SHOWN_CLASSES[line['class']]}: {reason}" for reason in line["why"]]
    console.print(table)
    for reason in why:
        console.print(f"  [dim]{escape(reason)}[/]", soft_wrap=True)


def _rules(result: Json, console: Console) -> None:
    table = _table("rule", "to", "takes", "", "alone", "before", "after", "saving", title="\nBy rule", left=2)
    for line in result["rules"][:MOST_RULES]:
        name = line["rule"] + (" (shadow)" if line["kind"] == "shadow" else "")
        money = line.get("priced")
        figures = [usd(money["baseline_usd"]), usd(money["routed_usd"]), usd(money["saving_usd"])] if money else ["-", "-", "-"]
        table.add_row(
            name,
            escape(line["target"]),
            f"{line['takes']:,} {share(line['takes_percent']):>8}",
            bar(line["takes_percent"]),
            f"{line['alone']:,}",
            *figures,
        )
    console.print(table)


def _flows(result: Json, console: Console) -> None:
    table = _table("from", "to", "rows", "before", "after", "saving", title="\nFrom model to model", left=2)
    for line in result["flows"][:MOST_FLOWS]:
        table.add_row(
            escape(line["from"]),
            escape(line["to"]),
            f"{line['rows']:,}",
            usd(line["baseline_usd"]),
            usd(line["routed_usd"]),
            usd(line["saving_usd"]),
        )
    if result["flows"]:
        console.print(table)
    _more(len(result["flows"]) - MOST_FLOWS, "pairs", console)


def _segments(result: Json, console: Console) -> None:
    for name, segment in result["segments"].items():
        if not segment["members"]:
            continue
        table = _table(name, "rows", "changed", "before", "after", "saving", "", title=f"\nBy {name}")
        lines = [*segment["top"][:MOST_MEMBERS], *segment["losers"][:MOST_MEMBERS]]
        for line in lines:
            table.add_row(
                escape(str(line["member"])), f"{line['rows']:,}", f"{line['changed']:,}", usd(line["baseline_usd"]), usd(line["routed_usd"]),
                usd(line["saving_usd"]), share(line["saving_percent"]),
            )  # fmt: skip
        console.print(table)
        _more(segment["members"] - len(lines), "members, in --json and --output", console)


def _more(number: int, what: str, console: Console) -> None:
    if number > 0:
        console.print(f"  [dim]and {number:,} more {what}[/]")


def _signals(result: Json, console: Console) -> None:
    unknown: dict[tuple[str, str], list[str]] = {}
    for line in result["signals"]:
        if line["unknown_rows"]:
            unknown.setdefault((line["source"], f"{line['unknown_rows']:,} rows ({share(line['unknown_percent'])})"), []).append(
                line["signal"]
            )
    if unknown:
        console.print()
    for (source, rows), names in unknown.items():
        listed = ", ".join(f"`{name}`" for name in names)
        console.print(f"[yellow]warning\\[signal-not-in-trace][/]: {listed}: unknown in {rows}: {escape(source)}", soft_wrap=True)
    if unknown:
        console.print(
            "  = help: requests that depend on these are not replayable; `--assume SIGNAL=VALUE` states what holds, and is reported",
            soft_wrap=True,
        )
    for line in result["signals"]:
        if line["outside_type_rows"]:
            console.print(
                f"[yellow]note[/]: `{line['signal']}` lies outside its type in {line['outside_type_rows']:,} rows: clamped, or the default taken",
                soft_wrap=True,
            )


def _self_test(result: Json, console: Console) -> None:
    test = result["self_test"]
    if test is None:
        console.print("\n[bold]Self-test[/]  the trace records no costs, so our prices can't be checked against it")
        return
    console.print(
        f"\n[bold]Self-test[/]  {test['rows']:,} calls recorded at {usd(test['recorded_usd'])}; our prices give {usd(test['recomputed_usd'])}: "
        f"off by {usd(test['error_usd'], signed=True)} ({share(test['error_percent'])}); row by row {share(test['row_error_percent'])}; "
        f"{test['rows_within_half_percent']:,} rows agree within 0.5 %", soft_wrap=True,
    )  # fmt: skip
    head = result["headline"]
    if head["rows"] and abs(Decimal(head["saving_usd"])) <= abs(Decimal(test["error_usd"])):
        console.print("  [yellow]The difference is smaller than this error: it is not a saving.[/]")


def _foot(result: Json, console: Console) -> None:
    console.print("\n[bold]Assumed[/]")
    for assumption in result["assumptions"]:
        console.print(f"  - {escape(assumption)}", soft_wrap=True, highlight=False)
    for note in result["notes"]:
        console.print(f"[dim]trace: {escape(note['message'])}[/]", soft_wrap=True, highlight=False)
    digests = result["digests"]
    console.print(
        f"\n[dim]{result['engine']} · {result['prices']} · policy {digests['policy'][:12]} · trace {digests['trace'][:12]}[/]",
        highlight=False,
        soft_wrap=True,
    )
