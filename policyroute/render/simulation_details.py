"""All of a simulation's result for a terminal, section by section: what `--details` prints below the headline.

The rules of `simulation` hold here too: figures are taken from the result, names are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policyroute.render import quality as panels
from policyroute.render import sentences as say
from policyroute.render.gates import gates
from policyroute.render.offpolicy import offpolicy
from policyroute.render.sentences import Json, bar, count, share, usd
from policyroute.render.state import state

MONEY = ("baseline_usd", "routed_usd", "saving_usd")


def everything(result: Json, console: Console) -> None:
    """Print what the short form leaves out or shortens."""
    _accounting(result, console)
    _waterfall(result, console)
    _rules(result, console)
    state(result, console)
    _flows(result, console)
    _days(result, console)
    _segments(result, console)
    _costs(result, console)
    _risk(result, console)
    _quality(result, console)
    gates(result.get("gates") or (), console)
    _examples(result, console)
    _self_test(result, console)
    _assumed(result, console)


def _table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    table = Table(
        title=f"\n{escape(title)}" if title else None,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number < left else "right", no_wrap=number >= left, overflow="fold")
    return table


def _money(line: Json | None) -> list[str]:
    return [usd(line[key]) for key in MONEY] if line else ["-", "-", "-"]


def _accounting(result: Json, console: Console) -> None:
    table = _table("Accounting", ("class", "rows", "share", "baseline", "share"))
    for line in result["accounting"]:
        if line["rows"]:
            name = say.SHOWN_CLASSES.get(line["class"], line["class"])
            money = usd(line["baseline_usd"]) + say.unknown_rows(line)
            table.add_row(name, f"{line['rows']:,}", share(line["row_percent"]), money, share(line["baseline_percent"]))
    console.print(table)
    for line in result["accounting"]:
        for reason in line["why"] if line["rows"] else ():
            console.print(f"  [dim]{say.SHOWN_CLASSES.get(line['class'], line['class'])}: {escape(reason)}[/]", soft_wrap=True)


def _waterfall(result: Json, console: Console) -> None:
    steps = result.get("waterfall")
    if not steps:
        return
    table = _table("From the baseline to the new bill", ("step", "change", "total"))
    for step in steps:
        total = step["kind"] == "total"
        table.add_row(escape(step["label"]), "" if total else usd(step["usd"], signed=True), usd(step["usd"]) if total else "")
    console.print(table)


def _rules(result: Json, console: Console) -> None:
    known = any("without" in line for line in result["rules"])
    last = ("if removed",) if known else ()
    table = _table("By rule", ("rule", "to", "takes", "", "", "alone", "before", "after", "saving", *last), left=2)
    for line in result["rules"]:
        cells = (f"{line['takes']:,}", share(line["takes_percent"]), bar(line["takes_percent"]), f"{line['alone']:,}")
        without = [removed(line)] if known else []
        table.add_row(escape(say.rule_name(line)), escape(line["target"]), *cells, *_money(line.get("priced")), *without)
    console.print(table)


def removed(line: Json) -> str:
    """By how much the bill would change without the rule; a dash where that isn't known."""
    difference = (line.get("without") or {}).get("difference_usd")
    return "-" if difference is None else usd(difference, signed=True)


def _flows(result: Json, console: Console) -> None:
    table = _table("From model to model", ("from", "to", "rows", "before", "after", "saving"), left=2)
    for line in result["flows"]:
        table.add_row(escape(line["from"]), escape(line["to"]), f"{line['rows']:,}", *_money(line))
    if result["flows"]:
        console.print(table)


def _days(result: Json, console: Console) -> None:
    table = _table("By day", ("day", "rows", "changed", "before", "after", "saving", "", ""))
    for line in result.get("days") or ():
        table.add_row(
            escape(line["day"]),
            f"{line['rows']:,}",
            f"{line['changed']:,}",
            *_money(line),
            share(line["saving_percent"]),
            bar(line["saving_percent"]),
        )
    if table.row_count:
        console.print(table)


def _segments(result: Json, console: Console) -> None:
    for name, segment in result["segments"].items():
        if not segment["members"]:
            continue
        table = _table(f"By {name}", (name, "rows", "changed", "before", "after", "saving", ""))
        lines = [*segment["top"], *segment["losers"]]
        for line in lines:
            cells = (f"{line['rows']:,}", f"{line['changed']:,}", *_money(line), share(line["saving_percent"]))
            table.add_row(escape(str(line["member"])), *cells)
        console.print(table)
        rest = segment["members"] - len(lines)
        if rest > 0:
            console.print(f"  [dim]and {count(rest, 'more member')} between these, in --output[/]")


def _costs(result: Json, console: Console) -> None:
    table = _table("What else the policy costs", ("", "rows", "change"))
    for line in result.get("costs") or ():
        table.add_row(
            escape(line["what"]), f"{line['rows']:,}", "unknown" if line["usd"] is None else usd(line["usd"], signed=True)
        )
    if table.row_count:
        console.print(table)
    check = (result.get("cache") or {}).get("check")
    if check and "recorded_tokens" in check:
        console.print(
            f"  [dim]cache model on {count(check['rows'], 'recorded call')}: {check['modelled_tokens']:,} cached tokens modelled, "
            f"{check['recorded_tokens']:,} recorded ({share(check.get('error_percent'))})[/]", soft_wrap=True,
        )  # fmt: skip
    prefix = (result.get("cache") or {}).get("prefix_check")
    if prefix:
        console.print(
            f"  [dim]cache model on the prefix hashes of {count(prefix['rows'], 'call')}: {prefix['modelled_tokens']:,} shared tokens modelled, "
            f"{prefix['shared_tokens']:,} by the hashes ({share(prefix['error_percent'])})[/]", soft_wrap=True,
        )  # fmt: skip


def _risk(result: Json, console: Console) -> None:
    table = _table("Risk", ("", "number"))
    for label, value in say.risks(result):
        table.add_row(escape(label), escape(value))
    if table.row_count:
        console.print(table)


def _quality(result: Json, console: Console) -> None:
    panel = result.get("quality")
    if not panel:
        return
    if "verdict" in panel:
        panels.quality(panel, console)
    for logged in panel.get("logged") or ():
        offpolicy(logged, console)
    if "verdict" not in panel and not panel.get("logged"):
        said, remedy = say.quality(panel)
        console.print(f"\n[bold]Quality[/]  {escape(said)}", highlight=False, soft_wrap=True)
        if remedy:
            console.print(f"  = help: {escape(remedy)}", highlight=False, soft_wrap=True)


def _examples(result: Json, console: Console) -> None:
    table = _table("Requests whose model changes", ("rule", "from", "to", "request", "why", "before", "after"), left=5)
    for line in result.get("examples") or ():
        name = line["request_id"] or f"row {line['row']}"
        money = (usd(line["baseline_usd"]), usd(line["routed_usd"]))
        table.add_row(*map(escape, (line["rule"], line["from"], line["to"], str(name), line["why"])), *money)
    if table.row_count:
        console.print(table)


def _self_test(result: Json, console: Console) -> None:
    console.print(f"\n[bold]Self-test[/]  {escape(say.self_test(result))}", soft_wrap=True)
    table = _table("", ("model", "calls", "recorded", "ours", "off by", ""))
    for line in (result.get("self_test") or {}).get("models", ()):
        off = (usd(line["error_usd"], signed=True), share(line["error_percent"]))
        table.add_row(escape(line["model"]), f"{line['rows']:,}", usd(line["recorded_usd"]), usd(line["recomputed_usd"]), *off)
    if table.row_count:
        console.print(table)


def _assumed(result: Json, console: Console) -> None:
    console.print("\n[bold]Assumed[/]")
    for assumption in result["assumptions"]:
        console.print(f"  - {escape(assumption)}", soft_wrap=True, highlight=False)
    for note in result["notes"]:
        console.print(f"[dim]trace: {escape(note['message'])}[/]", soft_wrap=True, highlight=False)
    console.print()
