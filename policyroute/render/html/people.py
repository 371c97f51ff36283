"""Sections about those whom a policy concerns: segments, winners and losers, risks, single requests."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from policyroute.render import sentences as say
from policyroute.render.html.markup import NOTHING, Child, Html, folded, join, section, tag
from policyroute.render.html.tables import BILL, Column, bill, money, pairs, percent, saving, signed_bar, table, text
from policyroute.render.sentences import count

Json = dict[str, Any]
MOVERS = 5
NOBODY = tag("p", "Nobody loses.", class_="note")


def _finest(result: Json) -> str | None:
    """The segment whose members are listed in part only, with most of them: users, most often."""
    partly = {name: found["members"] for name, found in result["segments"].items() if found["members"] > len(found["top"])}
    return max(partly, key=lambda name: (partly[name], name)) if partly else None


def movers(result: Json) -> Html:
    """Of the finest segment, who saves most and who loses most."""
    name = _finest(result)
    if name is None:
        return NOTHING
    winners, losers = (lines[:MOVERS] for lines in say.winners_and_losers(result["segments"][name]))
    whole = count(result["segments"][name]["members"], "member")
    lead = f"Those that save most and those that lose most, of {whole} of {name}."
    made = _members(name, [*winners, *reversed(losers)])
    return section("Who moves most", made, None if losers else NOBODY, id_="movers", lead=lead)


def segments(result: Json) -> Html:
    """Each segment: who saves, and who loses."""
    finest = _finest(result)
    made = [_segment(name, found, name != finest) for name, found in result["segments"].items() if found["members"]]
    return section("Who saves and who loses", *made, id_="segments")


def _segment(name: str, found: Json, open_: bool) -> Html:
    lines = [*found["top"], *reversed(found["losers"])]
    rest = found["members"] - len(lines)
    more = tag("p", f"{count(rest, 'more member')} between these, in --output.", class_="note") if rest > 0 else None
    nobody = None if say.winners_and_losers(found)[1] else NOBODY
    return folded(f"By {name} ({count(found['members'], 'member')})", _members(name, lines), nobody, more, open_=open_)


def _members(name: str, lines: Sequence[Json]) -> Html | None:
    columns = (text(name), Column("difference", bar=True), Column("requests"), Column("changed"), *BILL, Column("share"))
    largest = max((abs(Decimal(line["saving_usd"])) for line in lines), default=Decimal(0))
    rows = [
        (str(line["member"]), signed_bar(Decimal(line["saving_usd"]), largest), f"{line['rows']:,}", f"{line['changed']:,}", *bill(line),
         percent(line["saving_percent"]))
        for line in lines
    ]  # fmt: skip
    return table(f"Members of {name}, those that save most first, those that lose most last", columns, rows)


def risk(result: Json) -> Html:
    """What could anger someone."""
    lines: list[tuple[Child, Child]] = [(label, value) for label, value in say.risks(result)]
    return section("Risk", pairs(lines), id_="risk") if lines else NOTHING


def examples(result: Json) -> Html:
    """Requests whose model changes, to open."""
    lines = result.get("examples") or []
    by_rule = {line["rule"]: [other for other in lines if other["rule"] == line["rule"]] for line in lines}
    made = [join([tag("h3", rule), *map(_example, found)]) for rule, found in by_rule.items()]
    shown = any(line.get("text") for line in lines)
    lead = "For each rule the largest difference and some drawn ones." + (
        "" if shown else " Prompts are shown with --with-text only."
    )
    return section("Requests whose model changes", *made, id_="examples", lead=lead)


def _example(line: Json) -> Html:
    name = line["request_id"] or f"row {line['row']}"
    head = tag("summary", f"{line['from']} → {line['to']}, ", saving(line["saving_usd"]) if "saving_usd" in line else _both(line))
    told: list[tuple[Child, Child]] = [("request", str(name)), ("row", f"{line['row']:,}"), ("time", line["ts"] or "unknown")]
    told += [(label, _number(line[key])) for label, key in (("input tokens", "input_tokens"), ("output tokens", "output_tokens"))]
    told += [("before", money(line["baseline_usd"])), ("after", money(line["routed_usd"])), ("why shown", line["why"])]
    prompt = tag("pre", line["text"]) if line.get("text") else None
    return tag("details", head, pairs(told), prompt, class_="example")


def _both(line: Json) -> Html:
    return join([money(line["baseline_usd"]), " → ", money(line["routed_usd"])])


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
