"""The quality panel for a terminal and for Markdown. Every figure is taken from the panel; nothing is computed but bars."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from policyroute.render.sentences import bar, share

Json = dict[str, Any]
COLOURS = {"route": "green", "do not route": "yellow", "not enough data": "yellow"}
HEADER = ("model", "per 1,000", "95 % interval", "score", "95 % interval", "median", "p95", "RouterArena")


def quality(panel: Json, console: Console) -> None:
    """Print the panel."""
    requests = panel["requests"]
    console.print(f"\n[bold]Quality[/]  {escape(_source(panel))}", highlight=False)
    for line in _left_out(panel):
        console.print(f"  [dim]{escape(line)}[/]", highlight=False, soft_wrap=True)
    if panel["policy"] is not None:
        _table(panel, console)
        for line in _comparisons(panel):
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for warning in panel["warnings"]:
        console.print(f"  [yellow]{escape(warning)}[/]", highlight=False, soft_wrap=True)
    for assumption in panel["assumptions"] if requests["compared"] else ():
        console.print(f"  [dim]assumed: {escape(assumption)}[/]", highlight=False, soft_wrap=True)
    said = panel["verdict"]
    console.print(f"  [bold {COLOURS[said['word']]}]{escape(said['sentence'])}[/]", highlight=False, soft_wrap=True)


def quality_markdown(panel: Json) -> str:
    """The panel as Markdown: the verdict, the table, what it rests on."""
    lines = [f"**{_escaped(panel['verdict']['sentence'])}**", "", _escaped(_source(panel)), ""]
    if panel["policy"] is not None:
        lines += ["| " + " | ".join(HEADER) + " |", "| --- |" + " ---: |" * (len(HEADER) - 1)]
        lines += [f"| {' | '.join(map(_escaped, _cells(line, panel)))} |" for line in _lines(panel)]
        lines += ["", *(f"- {_escaped(line)}" for line in _comparisons(panel))]
    lines += [f"- {_escaped(line)}" for line in (*_left_out(panel), *panel["warnings"], *panel["assumptions"])]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _source(panel: Json) -> str:
    outcomes, requests = panel["outcomes"], panel["requests"]
    return (
        f"{requests['compared']:,} of {requests['decided']:,} requests ({share(requests['compared_percent'])}) have outcomes of all compared models "
        f"({', '.join(outcomes['files'])}; score: {outcomes['scale']})"
    )


def _left_out(panel: Json) -> list[str]:
    """What doesn't count, and why."""
    found = [f"{line['requests']:,} requests left out: {line['why']}" for line in panel["requests"]["left_out"]]
    found += [f"{line['rows']:,} of {panel['outcomes']['rows']:,} outcomes {line['why']}" for line in panel["outcomes"]["left_out"]]
    if panel["requests"]["repeated_rows"]:
        found.append(f"{panel['requests']['repeated_rows']:,} rows of the trace repeat a request: the first of each counts")
    models = panel["models"]
    names = (("without_outcomes", "models of the policy without outcomes"), ("unpriced", "models of the outcomes without a price"))
    found += [f"{what}: {', '.join(models[key])}" for key, what in names if models[key]]
    found += [
        f"not compared: {line['model']}, which answered only {line['requests']:,} of them" for line in models["not_everywhere"]
    ]
    return found


def _lines(panel: Json) -> list[Json]:
    """All lines, the cheapest first, the oracle last."""
    return [*sorted([panel["policy"], *panel["singles"]], key=lambda line: Decimal(line["cost_usd"])), panel["oracle"]]


def _table(panel: Json, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate((*HEADER, "")):
        table.add_column(column, justify="left" if number in (0, len(HEADER)) else "right", no_wrap=number > 0, overflow="fold")
    for line in _lines(panel):
        style = "bold" if line is panel["policy"] else "dim" if line is panel["oracle"] else ""
        table.add_row(*map(escape, _cells(line, panel)), bar(str(Decimal(line["score"]) * 100)), style=style)
    console.print(table)


def _cells(line: Json, panel: Json) -> tuple[str, ...]:
    cost, score = line["cost_per_1k_interval_usd"], line["score_interval"]
    own = "" if panel["outcomes"]["scale_ends"] == [0, 1] else f" ({_rounded(line['score_in_scale'], 2)})"
    return (
        line["name"], _usd(line["cost_per_1k_usd"]), f"{_usd(cost[0])} to {_usd(cost[1])}" if cost else "-",
        _rounded(line["score"], 4) + own, f"{_rounded(score[0], 4)} to {_rounded(score[1], 4)}" if score else "-",
        _milliseconds(line["latency_ms_median"]), _milliseconds(line["latency_ms_p95"]), _rounded(line["router_arena"], 4),
    )  # fmt: skip


def _comparisons(panel: Json) -> list[str]:
    """The policy against what is simpler, a sentence each."""
    sent = ", ".join(f"{line['requests']:,} to {line['model']}" for line in panel["policy"]["models"])
    found = [f"the policy sends: {sent}"]
    for key, what in (("best_single_at_cost", "at equal or lower cost"), ("best_single_at_quality", "at equal quality")):
        single = panel[key]
        found.append(f"best single model {what}: {_against(single) if single else 'none'}")
    mix = panel["random_mix"]
    if mix["cheap"] != mix["dear"]:
        found.append(
            f"random mix at the same cost: {share(mix['dear_percent'])} {mix['dear']}, the rest {mix['cheap']}: score {_rounded(mix['score'], 4)}; "
            f"the policy's is {_signed(mix['gain'])}{_between(mix['gain_interval'])}"
        )
    area = panel["aiq"]
    if area:
        found.append(
            f"AIQ (RouterBench) of the single models {_rounded(area['singles'], 4)}, with the policy {_rounded(area['with_policy'], 4)}, with the oracle {_rounded(area['with_oracle'], 4)}"
        )
    return found


def _against(single: Json) -> str:
    saving = Decimal(single["saving_percent"] or 0)
    ends = single["saving_percent_interval"]
    money = f"saves {saving} %" if saving > 0 else f"costs {-saving} % more" if saving < 0 else "costs the same"
    flipped = [str(-Decimal(end)) for end in reversed(ends)] if ends and saving < 0 else ends
    interval = f" ({flipped[0]} to {flipped[1]} %)" if flipped and saving else ""
    return f"{single['name']}; against it the policy scores {_signed(single['score_difference'])}{_between(single['score_difference_interval'])} and {money}{interval}"


def _between(ends: list[str] | None) -> str:
    return f" ({_signed(ends[0])} to {_signed(ends[1])})" if ends else ""


def _signed(score: str) -> str:
    return f"{Decimal(score).quantize(Decimal('0.0001'), ROUND_HALF_EVEN):+}"


def _rounded(value: str | None, places: int) -> str:
    return "-" if value is None else format(Decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN), "f")


def _milliseconds(value: str | None) -> str:
    return "-" if value is None else f"{Decimal(value).quantize(Decimal(1), ROUND_HALF_EVEN):,} ms"


def _usd(value: str) -> str:
    """Dollars: cents from a dollar on, four decimals below."""
    amount = Decimal(value)
    return f"${amount.quantize(Decimal('0.01' if amount >= 1 else '0.0001'), ROUND_HALF_EVEN):,}"
