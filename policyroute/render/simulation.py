"""A simulation's result for a terminal, on about 40 lines; `details` prints all of it.

Every figure is taken from the result; nothing is computed but bars. Names come from traces and policies, and may hold what
rich takes for markup: they are escaped wherever they are printed. A key that a result lacks leaves its lines out.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from policyroute.render import sentences as say
from policyroute.render.gates import COLOURS, MARKS, measured
from policyroute.render.sentences import Json, count
from policyroute.render.sentences import bar as bar
from policyroute.render.sentences import share as share
from policyroute.render.sentences import usd as usd
from policyroute.render.simulation_details import everything
from policyroute.render.state import state

MOST_RULES, MOST_FLOWS, MOST_MEMBERS, MOST_SEGMENTS = 12, 4, 2, 5
ROOM = 110  # columns of a terminal below which a rule's bill is left to --details
TARGET, SHORT_TARGET = 44, 14  # characters of a rule's target
SAVING_COLOURS = {"saved": "green", "dearer": "red", "no difference": "yellow", "not a saving": "yellow"}


def simulation(result: Json, console: Console, details: bool = False) -> None:
    """Print the result: the story in about 40 lines, or everything."""
    head(result, console)
    if details:
        everything(result, console)
    else:
        _accounting(result, console)
        _rules(result, console)
        state(result, console)
        _flows(result, console)
        _segments(result, console)
        _comparison(result, console)
        _risk(result, console)
        _quality(result, console)
        _gates(result, console)
        warnings(result, console)
        _checked(result, console)
    console.print(f"[dim]{escape(say.foot(result))}[/]", highlight=False, soft_wrap=True)


# -- the headline --------------------------------------------------------------------------------------------------


def head(result: Json, console: Console) -> None:
    """What was replayed and what came out, with its interval and its break-even."""
    console.print(Text.assemble((str(result["policy"]), "bold"), f" over {say.scope(result)}"))
    console.print()
    known = result["headline"]
    if not known["rows"]:
        console.print("  [bold yellow]No request could be priced on both sides: there is no saving to speak of.[/]")
        return
    colour = "yellow" if say.unproven(result) else SAVING_COLOURS[say.word(result)]
    name = escape(say.baseline(result))
    width = max(30, len(name))
    console.print(f"  {name:<{width}} {usd(known['baseline_usd']):>12}")
    console.print(f"  {'under the policy':<{width}} {usd(known['routed_usd']):>12}")
    percent, drawn = say.amount_percent(result), bar(known["saving_percent"])
    console.print(f"  [bold {colour}]{say.word(result):<{width}} {say.amount(result):>12}   {percent}[/] [{colour}]{drawn}[/]")
    _under(result, console)


def _under(result: Json, console: Console) -> None:
    lines = [say.coverage(result), say.interval(result), say.cold(result), say.answer_cache(result)]
    lines += [(result.get("break_even") or {}).get("sentence")]
    for line in lines:
        if line:
            console.print(f"  {escape(line)}", soft_wrap=True)
    for caution in say.cautions(result):
        console.print(f"  [yellow]{escape(caution)}[/]", soft_wrap=True)


# -- the story -----------------------------------------------------------------------------------------------------


def _accounting(result: Json, console: Console) -> None:
    for line in result["accounting"]:
        if line["rows"]:
            why = f": {'; '.join(line['why'])}" if line["why"] else ""
            money = usd(line["baseline_usd"]) + say.unknown_rows(line)
            text = f"{say.SHOWN_CLASSES.get(line['class'], line['class'])} ({share(line['row_percent'])}), {money}{why}"
            console.print(f"  {line['rows']:,} {escape(text)}", soft_wrap=True)


def _table(*columns: str, left: int = 1) -> Table:
    """A table whose first column's name is its heading."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(
            f"[not dim bold]{escape(column)}[/]" if number == 0 else escape(column),
            justify="left" if number < left else "right", no_wrap=number >= left, overflow="fold",
        )  # fmt: skip
    return table


def _rules(result: Json, console: Console) -> None:
    wide = console.width >= ROOM
    bill = ("baseline_usd", "routed_usd", "saving_usd") if wide else ("saving_usd",)
    table = _table("By rule", "to", "takes", "", "", "alone", *(("before", "after", "saving") if wide else ("saving",)), left=2)
    for line in result["rules"][:MOST_RULES]:
        money = line.get("priced")
        figures = [usd(money[key]) for key in bill] if money else ["-" for _ in bill]
        cells = (f"{line['takes']:,}", share(line["takes_percent"]), bar(line["takes_percent"]), f"{line['alone']:,}")
        target = _cut(line["target"], TARGET if wide else SHORT_TARGET)
        table.add_row(escape(say.rule_name(line)), escape(target), *cells, *figures)
    console.print()
    console.print(table)
    _more(len(result["rules"]) - MOST_RULES, "rule", console)
    idle = say.never_fired(result)
    if idle:
        console.print(f"[dim]never fired on these requests: {escape(', '.join(idle))}[/]", soft_wrap=True)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _flows(result: Json, console: Console) -> None:
    flows = result["flows"]
    if not flows:
        return
    table = _table("From model to model", "rows", "before", "after", "saving")
    for line in flows[:MOST_FLOWS]:
        money = (usd(line[key]) for key in ("baseline_usd", "routed_usd", "saving_usd"))
        table.add_row(escape(f"{line['from']} → {line['to']}"), f"{line['rows']:,}", *money)
    console.print()
    console.print(table)
    _more(len(flows) - MOST_FLOWS, "pair", console)


def _segments(result: Json, console: Console) -> None:
    shown = [(name, segment) for name, segment in result["segments"].items() if segment["members"]]
    if shown:
        console.print("\n[bold]Who saves and who loses[/]")
    for name, segment in shown[:MOST_SEGMENTS]:
        winners, losers = ([_member(line) for line in lines[:MOST_MEMBERS]] for lines in say.winners_and_losers(segment))
        told = f"[green]{escape(', '.join(winners) or 'nobody saves')}[/]; [{'red' if losers else 'dim'}]{escape(', '.join(losers) or 'nobody loses')}[/]"
        rest = segment["members"] - len(winners) - len(losers)
        more = f"[dim]; {rest:,} more[/]" if rest else ""
        console.print(f"  By {escape(name)}: {told}{more}", soft_wrap=True, highlight=False)
    _more(len(shown) - MOST_SEGMENTS, "segment", console)


def _member(line: Json) -> str:
    return f"{line['member']} {usd(line['saving_usd'])} ({share(line['saving_percent'])})"


def _more(number: int, what: str, console: Console) -> None:
    if number > 0:
        console.print(f"  [dim]and {count(number, f'more {what}')}, with --details[/]")


def _comparison(result: Json, console: Console) -> None:
    if result.get("comparison"):
        comparison(result["comparison"], console)


def comparison(lines: list[Json], console: Console) -> None:
    """Several policies over the same trace, one line each; with a hold-out the one that was chosen before it is marked."""
    apart = [line["holdout"] for line in lines if "holdout" in line]
    columns = ("saving", "", "", "95 % interval", "changed", "after", *(("in the hold-out", "95 % interval") if apart else ()))
    table = _table("By policy", *columns)
    for line in lines:
        late = line.get("holdout")
        judged = (usd(late["saving_usd"]), say.ends(late.get("interval"), " %")) if late else ()
        name = f"[bold]{escape(line['policy'])} (chosen)[/]" if line.get("chosen") else escape(line["policy"])
        table.add_row(
            name, usd(line["saving_usd"]), share(line["saving_percent"]), bar(line["saving_percent"]), say.ends(line.get("interval"), " %"),
            share(line["changed_percent"]), usd(line["routed_usd"]), *judged,
        )  # fmt: skip
    console.print()
    console.print(table)
    for late in apart[:1]:
        console.print(f"  [dim]chosen by what was saved before the hold-out: {escape(late['sentence'])}[/]", soft_wrap=True)


def _risk(result: Json, console: Console) -> None:
    found = [f"{label}: {value}" for label, value in say.risks(result) if value not in ("0", "$0.00")]
    if result.get("risk"):
        console.print(f"\n[bold]Risk[/]  {escape('; '.join(found) or 'none found')}", highlight=False, soft_wrap=True)


def _quality(result: Json, console: Console) -> None:
    if result.get("quality"):
        said, remedy = say.quality(result["quality"])
        console.print(f"[bold]Quality[/]  {escape(said)}", highlight=False, soft_wrap=True)
        if remedy:
            console.print(f"  = help: {escape(remedy)}", highlight=False, soft_wrap=True)


def _gates(result: Json, console: Console) -> None:
    for gate in result.get("gates") or ():
        told = f": {gate['detail']}" if gate.get("detail") else ""
        console.print(
            f"[bold]Gate {escape(gate['gate'])}[/]  [bold {COLOURS[gate['outcome']]}]{gate['outcome']}[/]{escape(told)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        for line in gate["requirements"]:
            why = f"; {line['detail']}" if line["outcome"] != "pass" and line["detail"] else ""
            text = f"{line['text']}: {measured(line)}{why}"
            mark = f"[{COLOURS[line['outcome']]}]{MARKS[line['outcome']]}[/]"
            console.print(f"  {mark} {escape(text)}", highlight=False, soft_wrap=True)


# -- what it rests on ----------------------------------------------------------------------------------------------


def warnings(result: Json, console: Console) -> None:
    """Signals that the trace doesn't tell, or tells outside their type."""
    unknown, odd = say.unknown_signals(result), say.odd_signals(result)
    for names, rest in unknown:
        console.print(f"[yellow]warning\\[signal-not-in-trace][/]: {names}: {escape(rest)}", soft_wrap=True)
    if unknown:
        told = "requests that depend on these are not replayable; `--assume SIGNAL=VALUE` states what holds, and is reported"
        console.print(f"  = help: {told}", soft_wrap=True)
    for line in odd:
        console.print(f"[yellow]note[/]: {line}", soft_wrap=True)


def _checked(result: Json, console: Console) -> None:
    console.print(f"[bold]Self-test[/]  {escape(say.self_test(result))}", soft_wrap=True)
    told = "; ".join(dict.fromkeys(say.short(each) for each in result["assumptions"]))
    console.print(f"[bold]Assumed[/]  {escape(told)} [dim](in full: --details)[/]", soft_wrap=True, highlight=False)
    for note in result["notes"]:
        console.print(f"[dim]trace: {escape(note['message'])}[/]", soft_wrap=True, highlight=False)
