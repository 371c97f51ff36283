"""A tuning for a terminal, on about 40 lines: the answer, the values, the front as bars, the hold-out, what to know.

Every figure is taken from the result. Names come from traces and policies, and are escaped wherever they are printed.
"""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from policyroute.language.manual import number_text
from policyroute.render.sentences import Json, bar, count, listed, sentence, share, usd, usd_ends

MOST_POINTS = 10
COLOURS = {"change": "green", "leave it": "yellow", "do not route": "red"}


def tuning(result: Json, console: Console) -> None:
    """Print the result."""
    answer = result["answer"]
    console.print(
        Text.assemble(
            (str(result["policy"]), "bold"),
            f" over {listed(result['trace']['files'], 3)}: {count(result['trace']['rows'], 'request')}",
        )
    )
    colour = COLOURS[answer["word"]]
    console.print(f"\n  [bold {colour}]{answer['word']}[/]: {escape(answer['sentence'])}", soft_wrap=True)
    _tunables(result, console)
    _front(result, console)
    _holdout(result, console)
    _alone(result, console)
    _known(result, console)


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        heading = f"[not dim bold]{escape(column)}[/]" if number == 0 else escape(column)
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=number > 0, overflow="fold")
    return table


def _tunables(result: Json, console: Console) -> None:
    table = _table("Tunable", "compared with", "range", "now", "best found", "", left=2)
    for line in result["tunables"]:
        chosen = line["chosen"]
        table.add_row(
            escape(line["name"]), escape(listed(line["compared_with"], 2) or "several"), f"{number_text(line['low'])}..{number_text(line['high'])}",
            number_text(line["present"]), "-" if chosen is None else number_text(chosen), escape(line["at_end"] or ""),
        )  # fmt: skip
    console.print()
    console.print(table)


# -- the front -----------------------------------------------------------------------------------------------------


def _front(result: Json, console: Console) -> None:
    """Cost against the figure, before the hold-out: what can be had, the present values among it."""
    figure, search = result["figure"]["name"], result["search"]
    earlier = count(result["holdout"]["earlier_rows"], "request")
    console.print(
        f"\n[bold]Cost against {escape(figure)}[/] before the hold-out: {earlier}, {count(search['candidates'], 'candidate')} ({search['kind']})"
    )
    table = _table("Values", "saving", "", "", figure, "", "")
    present, chosen = (
        result["present"]["earlier"]["values"],
        (result["chosen"] or {"earlier": {"values": None}})["earlier"]["values"],
    )
    for line in _shown(result, present, chosen):
        marks = [word for word, values in (("now", present), ("best found", chosen)) if line["values"] == values]
        table.add_row(
            escape(values_text(line["values"])), usd(line["saving_usd"]), share(line["saving_percent"]), bar(line["saving_percent"]),
            share(line["figure_percent"]), bar(line["figure_percent"]), ", ".join(marks),
        )  # fmt: skip
    console.print(table)
    if len(result["front"]) == 1:
        console.print("  [dim]one candidate is best in both: nothing has to be traded[/]")


def values_text(values: dict[str, int]) -> str:
    """`short 60, long 1k`."""
    return ", ".join(f"{name} {number_text(value)}" for name, value in values.items())


def _shown(result: Json, present: Json, chosen: Json | None) -> list[Json]:
    """Points of the front, thinned evenly, with the present values and the best found, by saving."""
    points = result["front"]
    step = max(1, -(-len(points) // MOST_POINTS))
    kept = [line for number, line in enumerate(points) if number % step == 0 or number == len(points) - 1]
    named = [side["earlier"] for side in (result["present"], result["chosen"]) if side is not None]
    lines = {values_text(line["values"]): line for line in [*kept, *named]}
    return sorted(lines.values(), key=lambda line: (Decimal(line["saving_usd"]), values_text(line["values"])))


# -- the hold-out --------------------------------------------------------------------------------------------------


def _holdout(result: Json, console: Console) -> None:
    holdout, difference, saving = result["holdout"], result["difference"], result["saving"]
    console.print(f"\n[bold]Hold-out[/] ({escape(holdout['sentence'])}): {count(holdout['rows'], 'request')}", soft_wrap=True)
    table = _table("", "before", "after", "saving", "", "95 % interval")
    for name, line in ((f"{result['baseline']} → best found", saving), ("now → best found", difference)):
        interval = line["interval"]
        drawn = usd_ends(interval["saving_usd"]) if interval else "none: no clusters to draw"
        table.add_row(
            escape(name),
            usd(line["before_usd"]),
            usd(line["after_usd"]),
            usd(line["saving_usd"]),
            share(line["saving_percent"]),
            drawn,
        )
    console.print(table)
    for line in result["constraints"]:
        sides = [("now", "present_holdout"), ("best found", "chosen_holdout")]
        told = ", ".join(
            f"{name} {share(line[key]['percent'])} {'(kept)' if line[key]['met'] else '(broken)'}"
            for name, key in sides
            if key in line
        )
        console.print(f"  {escape(line['text'])}: {told}")


def _alone(result: Json, console: Console) -> None:
    if not result["models_alone"]:
        return
    table = _table("On requests with outcomes of all models", "requests", "cost", "score")
    for line in result["models_alone"]:
        name = f"{line['model']} alone" if line["model"] else "best found"
        table.add_row(escape(name), f"{line['requests']:,}", usd(line["cost_usd"]), share(line["score_percent"]))
    console.print()
    console.print(table)


def _known(result: Json, console: Console) -> None:
    console.print()
    for line in result["cautions"]:
        console.print(f"[yellow]note[/]: {escape(line)}", soft_wrap=True, highlight=False)
    console.print(f"[dim]{escape(sentence('; '.join(result['assumptions'])))}[/]", soft_wrap=True, highlight=False)
    digests = ", ".join(f"{name} {digest[:12]}" for name, digest in result["digests"].items())
    console.print(
        f"[dim]{escape(result['engine'])}, prices {escape(result['prices'])}; {digests}[/]", soft_wrap=True, highlight=False
    )
