"""The difference of two policies for a terminal and for a pull request. Every figure is taken from the result.

Names come from traces and policies, and may hold what rich or Markdown take for markup: they are escaped wherever they are
printed. Names of policies may be equal; the first digits of their digests tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from policyroute.render.proofs import asides, headline, lines
from policyroute.render.sentences import bar, share, usd

Json = dict[str, Any]
MOST_CHANGES, MOST_TIERS, MOST_PAIRS, MOST_MEMBERS = 8, 5, 4, 2
NO_TRACE = "`--traces TRACE...` says how many of your requests move, and what that costs."
ONLY_THESE = "Figures hold for these requests; the proof holds for all."
ARROWS = {"up": "↑", "down": "↓", None: ""}
SIDES = {"both": "under both policies", "old": "under the old policy only", "new": "under the new policy only"}


def comparison(found: Json, console: Console) -> None:
    """Print the whole result."""
    old, new = _names(found)
    if found["identical"]:
        console.print(f"[bold green]identical[/]: {escape(old)} and {escape(new)} mean the same (tests, comments and layout aside)")
        return
    if found["trace"] is None:
        console.print(Text.assemble((f"{old} -> {new}", "bold")))
        _changes(found, console, len(found["changes"]))
        _proof(found, console)
        console.print(f"\n[yellow]{NO_TRACE}[/]", soft_wrap=True)
        return
    _headline(found, console)
    _changes(found, console, MOST_CHANGES)
    _proof(found, console)
    _tiers(found, console)
    _pairs(found, console)
    _who(found, console)
    _foot(found, console)


def _names(found: Json) -> tuple[str, str]:
    digests = found["digests"]
    return f"{found['old']} {digests['old'][:8]}", f"{found['new']} {digests['new'][:8]}"


def _change(line: Json) -> str:
    return f"{line['kind']} {line['name']}".rstrip() + f" {line['change']}" + (f": {line['text']}" if line["text"] else "")


def _difference(line: Json | None) -> str:
    return usd(line["difference_usd"], signed=True) if line else "-"


def _what_moved(found: Json) -> str:
    """How many decisions moved, in one sentence."""
    counts = found["decisions"]
    if not counts["moved"]:
        return f"no decision moves on {counts['rows']:,} requests"
    return f"{counts['moved']:,} of {counts['rows']:,} requests ({share(counts['moved_percent'])}) get another model"


def _asides(found: Json) -> Iterator[str]:
    """What holds beside the headline, in words."""
    counts, money = found["decisions"], found["money"]
    if counts["same_by_another_rule"]:
        yield f"{counts['same_by_another_rule']:,} keep their model under another rule"
    if counts["same_with_other_fallbacks"]:
        yield f"{counts['same_with_other_fallbacks']:,} keep their model and get other fallbacks"
    if counts["not_comparable"]:
        yield f"{counts['not_comparable']:,} can't be decided under both"
    if Decimal(money["stayed"]["difference_usd"]):
        yield f"{usd(money['stayed']['difference_usd'], signed=True)} come from other prices of unchanged decisions"


def _verdict(found: Json) -> tuple[str, str]:
    amount = Decimal(found["money"]["difference_usd"])
    return ("cheaper", "green") if amount < 0 else ("dearer", "red") if amount > 0 else ("no difference", "yellow")


def _interval(found: Json) -> str:
    interval = found["interval"]
    if interval is None:
        return "no interval: the trace has no users, conversations or days to draw, or only one"
    low, high = interval["difference_percent"]
    ends = " to ".join(usd(end, signed=True) for end in interval["difference_usd"])
    return f"{interval['confidence_percent']} % interval: {low} to {high} %, {ends}, over {interval['clusters']:,} clusters ({interval['cluster']})"


def _title(found: Json) -> tuple[str, str]:
    trace = found["trace"]
    window = f", {trace['window'][0][:10]} to {trace['window'][1][:10]}" if trace["window"] else ", times without a date"
    files = ", ".join(trace["files"][:3]) + (f" and {len(trace['files']) - 3} more" if len(trace["files"]) > 3 else "")
    return " -> ".join(_names(found)), f" over {files}: {trace['rows']:,} requests{window}"


# -- terminal ------------------------------------------------------------------------------------------------------


def _headline(found: Json, console: Console) -> None:
    policies, over = _title(found)
    console.print(Text.assemble((policies, "bold"), over))
    console.print()
    money = found["money"]
    if money["rows"]:
        word, colour = _verdict(found)
        console.print(f"  {'under the old policy':<28} {usd(money['old_usd']):>14}")
        console.print(f"  {'under the new policy':<28} {usd(money['new_usd']):>14}")
        amount, part = money["difference_usd"].lstrip("-"), (money["difference_percent"] or "").lstrip("-") or None
        console.print(f"  [bold {colour}]{word:<28} {usd(amount):>14}   {share(part)}[/]")
        console.print(f"  of {money['rows']:,} requests that are priced under both")
        if Decimal(money["difference_usd"]):
            console.print(f"  {_interval(found)}")
            for warning in found["interval"]["warnings"] if found["interval"] else ():
                console.print(f"  [yellow]{warning}[/]")
    else:
        console.print("  [bold yellow]No request could be priced under both policies: there is no difference to speak of.[/]")
    console.print(f"  [bold]{_what_moved(found)}[/]" + "".join(f"; {aside}" for aside in _asides(found)), soft_wrap=True)
    for line in _unpriced(found):
        console.print(f"  [yellow]{escape(line)}[/]", soft_wrap=True)


def _unpriced(found: Json) -> Iterator[str]:
    """Lines of the accounting that carry no difference, with what is known of their money."""
    for line in found["accounting"]:
        if line["class"] == "priced":
            continue
        known = [f"{usd(line[f'{side}_usd'])} under the {side} one" for side in ("old", "new") if line[f"{side}_usd"]]
        paid = f"; they cost {' and '.join(known)}" if known else ""
        yield f"{line['rows']:,} {line['class']} {SIDES[line['side']]}: not in the difference{paid}"


def _table(*columns: str, left: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if number < left else "right", no_wrap=number >= left, overflow="fold")
    return table


def _changes(found: Json, console: Console, most: int) -> None:
    console.print("\n[bold]As written[/]")
    for line in found["changes"][:most]:
        console.print(f"  {escape(_change(line))}", soft_wrap=True)
    _more(len(found["changes"]) - most, "changes, in --json", console)


def _proof(found: Json, console: Console) -> None:
    proof = found.get("proof")
    if proof is None:
        return
    colour = "green" if proof["status"] == "identical" else "yellow" if proof["status"] != "differs" else "default"
    console.print(f"\n[bold {colour}]{escape(headline(proof))}[/]", soft_wrap=True)
    for moved, shown in lines(proof):
        console.print(f"  {escape(moved)}\n    [dim]{escape(shown)}[/]", soft_wrap=True)
    for text in asides(proof):
        console.print(f"  [dim]{escape(text)}[/]", soft_wrap=True)


def _moves(found: Json) -> list[Json]:
    """Pairs of tiers between which something moved; a tier stands beside itself where its models changed."""
    return [line for line in found["tiers"] if line["moved_rows"]]


def _tiers(found: Json, console: Console) -> None:
    lines, moved = _moves(found), found["decisions"]["moved"]
    if not lines:
        return
    table = _table("from", "to", "", "moved", "", "before", "after", "difference", left=3)
    for line in lines[:MOST_TIERS]:
        table.add_row(
            escape(line["from"]), escape(line["to"]), ARROWS[line["direction"]], f"{line['moved_rows']:,}", _bar(line["moved_rows"], moved),
            *_amounts(line["priced"]),
        )  # fmt: skip
    console.print("\n[bold]Between tiers[/]")
    console.print(table)
    _more(len(lines) - MOST_TIERS, "pairs of tiers, in --json", console)


def _amounts(priced: Json | None) -> tuple[str, str, str]:
    return (usd(priced["old_usd"]), usd(priced["new_usd"]), _difference(priced)) if priced else ("-", "-", "-")


def _bar(part: int, whole: int) -> str:
    return bar(str(Decimal(part) * 100 / whole)) if whole else ""


def _pairs(found: Json, console: Console) -> None:
    if not found["pairs"]:
        return
    console.print("\n[bold]By pair of rules[/] [dim](examples: the dearest, then drawn by hash)[/]")
    for pair in found["pairs"][:MOST_PAIRS]:
        console.print(f"  {escape(_rules(pair))}  {pair['all_rows']:,} requests  {_difference(pair['priced'])}", soft_wrap=True)
        for example in pair["examples"]:
            console.print(f"    [dim]{escape(_example(example))}[/]", soft_wrap=True)
            if example.get("text"):
                console.print(f"      [dim italic]{escape(_short(example['text']))}[/]", soft_wrap=True)
    _more(len(found["pairs"]) - MOST_PAIRS, "pairs, in --json", console)


def _rules(pair: Json) -> str:
    return f"{pair['old_rule']} -> {pair['new_rule']}"


def _example(line: Json) -> str:
    named = [line.get("request_id") or f"row {line['row']}", *([line["ts"].replace("T", " ")[:16]] if "ts" in line else [])]
    named += [f"user {line['user_id']}"] if line.get("user_id") else []
    sizes = [f"{line[f'{side}put_tokens']:,} {side}" for side in ("in", "out") if line[f"{side}put_tokens"] is not None]
    models = " -> ".join(_priced(line[f"{side}_model"], line[f"{side}_usd"]) for side in ("old", "new"))
    return ", ".join([*named, " ".join(sizes), models] if sizes else [*named, models])


def _priced(model: str, amount: str | None) -> str:
    return model if amount is None else f"{model} {usd(amount)}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:160] + " …"


def _who(found: Json, console: Console) -> None:
    table = _table("by", "", "member", "moved", "requests", "before", "after", "difference", "", left=3)
    for name, segment in found["segments"].items():
        for place, line in enumerate(_members(segment)):
            head = (escape(name), _counts(segment)) if place == 0 else ("", "")
            table.add_row(
                *head, escape(line["member"]), f"{line['moved_rows']:,}", f"{line['all_rows']:,}", usd(line["old_usd"]), usd(line["new_usd"]),
                usd(line["difference_usd"], signed=True), share(line["difference_percent"]),
            )  # fmt: skip
    if table.row_count:
        console.print("\n[bold]Who[/]")
        console.print(table)


def _members(segment: Json) -> list[Json]:
    return [*segment["dearer"][:MOST_MEMBERS], *segment["cheaper"][:MOST_MEMBERS]]


def _counts(segment: Json) -> str:
    return f"{segment['dearer_members']:,} dearer, {segment['cheaper_members']:,} cheaper of {segment['members']:,}"


def _foot(found: Json, console: Console) -> None:
    console.print()
    for line in found["unknown_signals"]:
        console.print(
            f"[yellow]warning\\[signal-not-in-trace][/]: `{escape(line['signal'])}` is unknown in {line['rows']:,} rows: {escape(line['source'])}"
            "; `--assume SIGNAL=VALUE` states what holds", soft_wrap=True,
        )  # fmt: skip
    for text in (*found["assumptions"], *(f"price: {text}" for text in found["fallbacks"])):
        console.print(f"[dim]assumed: {escape(text)}[/]", soft_wrap=True)
    for note in found["notes"]:
        console.print(f"[dim]trace: {escape(note['message'])}[/]", soft_wrap=True)
    console.print(
        f"[dim]{ONLY_THESE} {found['engine']} · {found['prices']} · trace {found['digests']['trace'][:12]}[/]", soft_wrap=True
    )


def _more(number: int, what: str, console: Console) -> None:
    if number > 0:
        console.print(f"  [dim]and {number:,} more {what}[/]")


# -- Markdown ------------------------------------------------------------------------------------------------------


def markdown(found: Json) -> str:
    """The result as a comment on a pull request: the headline open, the tables foldable."""
    return "\n".join(_markdown(found)).rstrip() + "\n"


def _markdown(found: Json) -> Iterator[str]:
    yield f"### policyroute diff: {_code(' -> '.join(_names(found)))}"
    yield ""
    if found["identical"]:
        yield "Identical: both mean the same (tests, comments and layout aside)."
        return
    if found["trace"] is not None:
        yield from _markdown_headline(found)
        yield from _markdown_table("tier before", "tier after", _moves(found), "from", "to")
    yield from _folded(f"{len(found['changes'])} changes as written", [f"- {_plain(_change(line))}" for line in found["changes"]])
    yield from _markdown_proof(found)
    if found["trace"] is None:
        yield NO_TRACE
        return
    for pair in found["pairs"][:MOST_PAIRS]:
        title = f"{_rules(pair)}: {pair['all_rows']:,} requests, {_difference(pair['priced'])}"
        yield from _folded(title, list(_markdown_examples(pair)))
    yield from _folded("Who", list(_markdown_who(found)))
    yield from _folded("Assumed", [f"- {_plain(text)}" for text in (*found["assumptions"], *found["fallbacks"])])
    yield f"<sub>{ONLY_THESE} {found['engine']} · {found['prices']} · trace {found['digests']['trace'][:12]}</sub>"


def _markdown_proof(found: Json) -> Iterator[str]:
    proof = found.get("proof")
    if proof is None:
        return
    yield f"**{_plain(headline(proof))}**"
    yield ""
    yield from (f"- {_code(moved)}<br>{_code(shown)}" for moved, shown in lines(proof))
    yield from (f"- {_plain(text)}" for text in asides(proof))
    yield ""


def _markdown_headline(found: Json) -> Iterator[str]:
    money = found["money"]
    if money["rows"]:
        amount, part = money["difference_usd"].lstrip("-"), (money["difference_percent"] or "").lstrip("-") or None
        yield (
            f"**{_verdict(found)[0]}: {usd(amount)} ({share(part)})**, from {usd(money['old_usd'])} to {usd(money['new_usd'])}"
            f" {_plain(_title(found)[1])}."
        )
        yield ""
        if Decimal(money["difference_usd"]):
            yield f"- {_interval(found)}" + "".join(f"; **{warning}**" for warning in (found["interval"] or {}).get("warnings", ()))
    yield f"- {_what_moved(found)}"
    yield from (f"- {text}" for text in (*_asides(found), *_unpriced(found)))
    yield ""


def _markdown_table(first: str, second: str, lines: Sequence[Json], old: str, new: str) -> Iterator[str]:
    if not lines:
        return
    yield f"| {first} | {second} | moved | before | after | difference |"
    yield "|---|---|--:|--:|--:|--:|"
    for line in lines[: MOST_TIERS * 2]:
        cells = [
            _cell(line[old]),
            f"{_cell(line[new])} {ARROWS[line['direction']]}".strip(),
            f"{line['moved_rows']:,}",
            *_amounts(line["priced"]),
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _markdown_examples(pair: Json) -> Iterator[str]:
    for example in pair["examples"]:
        yield f"- {_code(_example(example))}" + (f"<br>{_plain(_short(example['text']))}" if example.get("text") else "")


def _markdown_who(found: Json) -> Iterator[str]:
    for name, segment in found["segments"].items():
        told = ", ".join(f"{_code(line['member'])} {usd(line['difference_usd'], signed=True)}" for line in _members(segment))
        if told:
            yield f"- {_plain(name)} ({_counts(segment)}): {told}"


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from (f"<details><summary>{_plain(title)}</summary>", "", *lines, "", "</details>", "")


def _plain(text: str) -> str:
    """Text in which Markdown and HTML see no markup, on one line."""
    escaped = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{sign}" if sign in "\\`*_[]|#~@" else sign for sign in escaped)


def _code(text: str) -> str:
    """Text as code; backticks in it become apostrophes."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _cell(text: str) -> str:
    """Code in a cell of a table."""
    return _code(text).replace("|", "\\|")
