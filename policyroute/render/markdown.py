"""A simulation's result as GitHub-flavoured Markdown: a pull request's comment, a step's summary in CI.

Figures are taken from the result and only formatted. Names come from traces and policies: markup of Markdown and of HTML in
them is escaped, and what would mention a person or an issue is broken by a character of no width, which escaping would not do. A key that a result lacks leaves its section out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from policyroute.render import sentences as say
from policyroute.render.gates import measured
from policyroute.render.quality import quality_markdown
from policyroute.render.sentences import Json, count, share, usd
from policyroute.render.state import cells, named, notes

MOST_RULES, MOST_FLOWS, MOST_MEMBERS, MOST_SEGMENTS = 40, 12, 3, 8
MARKS = {"pass": "pass", "fail": "**fail**"}
SPECIAL = "\\`*_[]|~$"
ALIGNED = {"l": "---", "r": "---:"}
_PIPE = re.compile(r"(?<!\\)\|")


def document(result: Json) -> str:
    """The whole report as Markdown, with a line feed at its end."""
    parts = (
        _head, _gates, _comparison, _rules, _state, _flows, _segments, _risk, _quality, _scores, _accounting, _waterfall, _assumed,
    )  # fmt: skip
    blocks = [block for part in parts for block in part(result)]
    return "\n\n".join(blocks) + "\n"


# -- words ---------------------------------------------------------------------------------------------------------


def plain(text: object) -> str:
    """Text on one line in which neither Markdown nor HTML sees markup."""
    escaped = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    marked = "".join(f"\\{sign}" if sign in SPECIAL else sign for sign in escaped)
    return marked.replace("#", "#&#8203;").replace("@", "@&#8203;")


def told(text: str) -> str:
    """A sentence of ours that may hold names between backticks: the names as code, the rest escaped."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return plain(text)
    made = [code(piece) if number % 2 else _kept(piece) for number, piece in enumerate(pieces)]
    return "".join(made)


def _kept(text: str) -> str:
    """Escaped, with the blanks at its ends."""
    head, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :] if text.strip() else ""
    return f"{head and ' '}{plain(text)}{tail and ' '}"


def code(text: object) -> str:
    """Text as code; a backtick in it becomes an apostrophe."""
    one = " ".join(str(text).split()).replace("`", "'")
    return f"`{one}`" if one else "(empty)"


def _money(amount: str, *, signed: bool = False) -> str:
    """Dollars; the sign is escaped, for two of them on a line begin a formula."""
    return usd(amount, signed=signed).replace("$", "\\$")


def _bill(line: Json | None) -> list[str]:
    return [_money(line[key]) for key in ("baseline_usd", "routed_usd", "saving_usd")] if line else ["–", "–", "–"]


def _table(align: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in one block, its columns aligned left (l) or right (r); nothing where it has no rows."""
    if rows:
        rule = [ALIGNED[side] for side in align[: len(columns)]]
        yield "\n".join(
            f"| {' | '.join(_PIPE.sub(chr(92) * 2 + '|', cell) for cell in cells)} |" for cells in (columns, rule, *rows)
        )


def _folded(title: str, blocks: Sequence[str]) -> Iterator[str]:
    if blocks:
        yield "\n\n".join([f"<details><summary>{plain(title)}</summary>", *blocks, "</details>"])


# -- sections ------------------------------------------------------------------------------------------------------


def _head(result: Json) -> Iterator[str]:
    known = result["headline"]
    name = code(result["policy"])
    if not known["rows"]:
        yield f"### {name}: no saving to speak of"
        yield "No request could be priced on both sides."
        return
    word = say.word(result)
    amounts = f"{say.amount_percent(result)} {word}" if word != "no difference" else word
    yield f"### {name}: {amounts}, {_escaped_money(say.amount(result))}"
    yield (
        f"{_money(known['baseline_usd'])} before ({plain(say.baseline(result))}), {_money(known['routed_usd'])} under the policy; "
        f"{plain(say.coverage(result))}. Over {plain(say.scope(result))}."
    )
    lines = [say.interval(result), (result.get("break_even") or {}).get("sentence"), say.cold(result), say.answer_cache(result)]
    yield "\n".join(f"- {say.sentence(told(line))}" for line in lines if line)
    cautions = [say.sentence(told(line)) for line in say.cautions(result)]
    cautions += [f"{told(names)}: {told(rest)}." for names, rest in say.unknown_signals(result)]
    if cautions:
        yield "\n".join(["> [!WARNING]", *(f"> {line}  " for line in cautions)]).rstrip()


def _escaped_money(text: str) -> str:
    return text.replace("$", "\\$")


def _gates(result: Json) -> Iterator[str]:
    for gate in result.get("gates") or ():
        yield f"#### Gate {code(gate['gate'])}: {MARKS.get(gate['outcome'], plain(gate['outcome']))}"
        rows = [
            (code(line["text"]), MARKS.get(line["outcome"], plain(line["outcome"])), plain(measured(line)), told(line["detail"]))
            for line in gate["requirements"]
        ]
        yield from _table("llll", ("requirement", "outcome", "measured", ""), rows)
        yield from [say.sentence(told(gate["detail"]))] if gate["detail"] else []


def _comparison(result: Json) -> Iterator[str]:
    rows = [
        (code(line["policy"]), _money(line["saving_usd"]), share(line["saving_percent"]), say.ends(line.get("interval"), " %"), share(line["changed_percent"]),
         _money(line["routed_usd"]))
        for line in result.get("comparison") or ()
    ]  # fmt: skip
    yield from _table("lrrrrr", ("policy", "saving", "share", "95 % interval", "changed", "after"), rows)


def _rules(result: Json) -> Iterator[str]:
    known = any("without" in line for line in result["rules"])
    last = ("if removed",) if known else ()
    rows = [
        (code(say.rule_name(line)), code(line["target"]), f"{line['takes']:,}", share(line["takes_percent"]), f"{line['alone']:,}",
         *_bill(line.get("priced")), *([_removed(line)] if known else []))
        for line in result["rules"][:MOST_RULES]
    ]  # fmt: skip
    yield from _table("llrrrrrrr", ("rule", "to", "takes", "share", "alone", "before", "after", "saving", *last), rows)
    idle = say.never_fired(result)
    if idle:
        yield from (f"Never fired on these requests: {', '.join(code(name) for name in idle)}.", "")


def _removed(line: Json) -> str:
    difference = (line.get("without") or {}).get("difference_usd")
    return "–" if difference is None else _money(difference, signed=True)


def _state(result: Json) -> Iterator[str]:
    found = result.get("state")
    if not found:
        return
    rows = [(code(named(line)), *(_escaped_money(cell) for cell in cells(line))) for line in found["acted"]]
    yield from _table(
        "lrrrrrrr", ("by state", "changed", "moved", "refused", "users", "by the rules", "as it is", "difference"), rows
    )
    told_ = [say.sentence(plain(line)) for line in notes(found)]
    yield from [" ".join(told_)] if told_ else []


def _flows(result: Json) -> Iterator[str]:
    rows = [
        (f"{code(line['from'])} → {code(line['to'])}", f"{line['rows']:,}", *_bill(line)) for line in result["flows"][:MOST_FLOWS]
    ]
    blocks = list(_table("lrrrr", ("from model to model", "requests", "before", "after", "saving"), rows))
    rest = len(result["flows"]) - MOST_FLOWS
    yield from _folded("From model to model", [*blocks, *([f"and {count(rest, 'more pair')}"] if rest > 0 else [])])


def _segments(result: Json) -> Iterator[str]:
    rows = []
    for name, segment in list(result["segments"].items())[:MOST_SEGMENTS]:
        if segment["members"]:
            winners, losers = (lines[:MOST_MEMBERS] for lines in say.winners_and_losers(segment))
            cells = ("<br>".join(map(_member, lines)) for lines in (winners, losers))
            rows.append((code(name), f"{segment['members']:,}", *(cell or "nobody" for cell in cells)))
    yield from _table("lrll", ("by", "members", "save most", "lose most"), rows)


def _member(line: Json) -> str:
    return f"{code(line['member'])} {_money(line['saving_usd'])} ({share(line['saving_percent'])})"


def _risk(result: Json) -> Iterator[str]:
    found = [f"{plain(label)}: {_escaped_money(value)}" for label, value in say.risks(result)]
    yield from _folded("Risk", ["\n".join(f"- {line}" for line in found)] if found else [])


def _quality(result: Json) -> Iterator[str]:
    panel = result.get("quality")
    if not panel:
        return
    said, remedy = say.quality(panel)
    yield f"**Quality.** {say.sentence(told(said))}{f' {say.sentence(told(remedy))}' if remedy else ''}"
    for logged in panel.get("logged") or ():
        if logged["sentence"] != said:
            yield f"**Outcome {code(logged['outcome'])}.** {say.sentence(told(logged['sentence']))}"
    if "outcomes" in panel:
        _, _, body = quality_markdown(panel).strip().replace("$", "\\$").partition("\n\n")
        yield from _folded("Cost against quality", [body])
        return
    rows = [
        (code(point["name"]), plain(point["kind"]), "–" if point["cost_usd"] is None else _money(point["cost_usd"]),
         "–" if point["score"] is None else say.score(point["score"]), _range(point))
        for point in sorted(say.points(panel), key=lambda point: Decimal(point["cost_usd"] or 0))
    ]  # fmt: skip
    yield from _folded("Score and cost", list(_table("llrrr", ("choice", "kind", "cost", "score", "95 % interval"), rows)))


def _scores(result: Json) -> Iterator[str]:
    found = result.get("scores")
    if not found:
        return
    yield from [f"**Scores.** {' '.join(say.sentence(told(line['text'])) for line in found['alarms'])}"] if found["alarms"] else []
    rows = [
        (code(line["stratum"]), share(line["row_percent"]), f"{line['scored']:,}", share(line["mean_percent"]),
         f"{line['low_percent']} to {line['high_percent']} %" if line["scored"] else "–", plain(line["verdict"]))
        for line in found["strata"]
    ]  # fmt: skip
    columns = (plain(found["per"]), "requests", "scored", "right", f"{found['confidence_percent']} % interval", "shown?")
    yield from _folded(f"Scores of {count(found['scored'], 'drawn request')}", list(_table("lrrrrl", columns, rows)))


def _range(point: Json) -> str:
    low, high = point.get("score_low"), point.get("score_high")
    return "–" if low is None or high is None else f"{say.score(low)} to {say.score(high)}"


def _accounting(result: Json) -> Iterator[str]:
    rows = [
        (plain(say.SHOWN_CLASSES.get(line["class"], line["class"])), f"{line['rows']:,}", share(line["row_percent"]),
         _money(line["baseline_usd"]) + say.unknown_rows(line), "<br>".join(map(told, line["why"])))
        for line in result["accounting"] if line["rows"]
    ]  # fmt: skip
    yield from _folded(
        "What became of each request", list(_table("lrrrl", ("class", "requests", "share", "baseline", "why"), rows))
    )


def _waterfall(result: Json) -> Iterator[str]:
    rows = [(plain(step["label"]), *_step(step)) for step in result.get("waterfall") or ()]
    yield from _folded("From the baseline to the new bill", list(_table("lrr", ("step", "change", "total"), rows)))


def _step(step: Json) -> tuple[str, str]:
    return ("", _money(step["usd"])) if step["kind"] == "total" else (_money(step["usd"], signed=True), "")


def _assumed(result: Json) -> Iterator[str]:
    lines = [f"- {say.sentence(told(line))}" for line in result["assumptions"]]
    notes = [f"- Of the trace: {told(note['message'])}." for note in result["notes"]]
    test = f"Self-test: {plain(say.self_test(result))}."
    yield from _folded("Assumed, self-test, digests", ["\n".join([*lines, *notes]), test, plain(say.foot(result))])
