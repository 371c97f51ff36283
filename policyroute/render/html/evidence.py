"""Sections about what the figures rest on: quality, signals, the self-test, assumptions, digests."""

from __future__ import annotations

from typing import Any

from policyroute.render import sentences as say
from policyroute.render.html import pictures
from policyroute.render.html.markup import NOTHING, Child, Html, folded, items, join, paragraph, prose, section, tag
from policyroute.render.html.tables import Column, change, interval, minus, money, pairs, percent, table, text

Json = dict[str, Any]
ESTIMATES = {"logged": "as logged", "snips": "self-normalised weights", "dr": "doubly robust"}


# -- quality -------------------------------------------------------------------------------------------------------


def quality(result: Json) -> Html:
    """Score against cost where the traces can tell; else why they can't, and what would change that."""
    panel = result.get("quality")
    if not panel:
        return NOTHING
    said, remedy = say.quality(panel)
    found = say.points(panel)
    cautions = [paragraph(line, "caution") for line in panel.get("warnings") or ()]
    rests = items(panel.get("assumptions") or (), class_="note")
    logged = [_logged(each) for each in panel.get("logged") or ()]
    return section(
        "Quality", tag("p", tag("b", prose(say.sentence(said)))) if said else None, paragraph(remedy) if remedy else None,
        pictures.quality(found), _points(found), *cautions, rests, *logged, id_="quality",
    )  # fmt: skip


def _points(found: list[Json]) -> Html | None:
    columns = (text("choice"), text("what it is"), Column("cost"), Column("score"), interval("95 % interval"))
    rows = [
        (point["name"], pictures.KINDS.get(point["kind"], point["kind"]), _cost(point), _score(point["score"]), _range(point))
        for point in found
    ]
    return table("Cost and score", columns, rows)


def _cost(point: Json) -> Child:
    return "–" if point["cost_usd"] is None else money(point["cost_usd"])


def _score(score: str | None) -> str:
    return "–" if score is None else minus(say.score(score))


def _range(point: Json) -> str:
    low, high = point.get("score_low"), point.get("score_high")
    return "–" if low is None or high is None else minus(f"{say.score(low)} to {say.score(high)}")


def _logged(found: Json) -> Html:
    """What logged propensities say of one outcome: overlap first, then estimates or why there are none."""
    columns = (text("estimate"), Column("mean"), interval("95 % interval"), Column("difference"), interval("interval of it"))
    rows = [
        (ESTIMATES.get(name, name), minus(line["value"]), minus(say.ends(line["interval"])), minus(line.get("difference", "-")),
         minus(say.ends(line.get("difference_interval"))))
        for name, line in (found["estimates"] or {}).items()
    ]  # fmt: skip
    told = join([paragraph(found["sentence"]), paragraph(found["remedy"]) if found["remedy"] else None])
    cautions = [paragraph(line, "caution") for line in found["warnings"]]
    head = tag("h3", f"Outcome {found['outcome']}, {found['used_rows']:,} of {say.count(found['rows'], 'request')}")
    made = table(f"Estimates of {found['outcome']} from logged propensities", columns, rows)
    return join([head, told, _overlap(found.get("overlap")), made, *cautions, items(found["assumptions"], class_="note")])


def _overlap(overlap: Json | None) -> Html | None:
    if not overlap:
        return None
    return pairs(
        [
            ("requests of which the log says nothing", percent(overlap["unsupported_percent"])),
            ("effective sample", minus(str(overlap["effective_sample"] or "unknown"))),
            ("largest weight", str(overlap["largest_weight"])),
        ]
    )


def scores(result: Json) -> Html:
    """How often each stratum of an audit was right, by a person's scores."""
    found = result.get("scores")
    if not found:
        return NOTHING
    columns = (
        text(found["per"]),
        Column("requests"),
        Column("scored"),
        Column("right"),
        interval(f"{found['confidence_percent']} % interval"),
        text("shown?"),
    )
    rows = [
        (line["stratum"], percent(line["row_percent"]), f"{line['scored']:,}", percent(line["mean_percent"]), _scored(line), line["verdict"])
        for line in found["strata"]
    ]  # fmt: skip
    cautions = [paragraph(line["text"], "caution") for line in found["alarms"]]
    notes = items(found["warnings"], class_="note")
    lead = f"{found['scored']:,} of {say.count(found['drawn'], 'drawn request')} scored ({found['scale']}); {percent(found['wanted_percent'])} is wanted."
    return section("Scores", *cautions, table("Scores of a drawn sample", columns, rows), notes, id_="scores", lead=lead)


def _scored(line: Json) -> str:
    return minus(f"{line['low_percent']} to {line['high_percent']} %") if line["scored"] else "–"


# -- what it rests on ----------------------------------------------------------------------------------------------


def signals(result: Json) -> Html:
    """Where each signal came from, and which the trace doesn't tell."""
    lines = result.get("signals") or []
    cautions = [paragraph(f"{names}: {rest}", "caution") for names, rest in say.unknown_signals(result)]
    odd = [paragraph(line, "note") for line in say.odd_signals(result)]
    columns = (text("signal"), text("known from"), Column("unknown in"), Column("outside its type in"))
    rows = [(line["signal"], line["source"], f"{line['unknown_rows']:,}", f"{line['outside_type_rows']:,}") for line in lines]
    made = table("Signals that the policy reads", columns, rows)
    return section("Signals", *cautions, *odd, folded("Where each comes from", made) if made else None, id_="signals")


def self_test(result: Json) -> Html:
    """How far our prices are off on what the trace recorded."""
    models = (result.get("self_test") or {}).get("models", ())
    columns = (text("model"), Column("calls"), Column("recorded"), Column("ours"), Column("off by"), Column("share"))
    rows = [
        (line["model"], f"{line['rows']:,}", money(line["recorded_usd"]), money(line["recomputed_usd"]), change(line["error_usd"]), percent(line["error_percent"]))
        for line in models
    ]  # fmt: skip
    made = table("Recorded costs and ours", columns, rows)
    return section(
        "Self-test",
        paragraph(say.self_test(result)),
        folded("By model", made) if made else None,
        id_="self-test",
    )


def assumptions(result: Json) -> Html:
    """What the figures rest on and the trace doesn't show."""
    held = items(result["assumptions"])
    notes = items(note["message"] for note in result["notes"])
    of_trace = join([tag("h3", "Seen in the trace"), notes]) if notes else None
    return section("Assumed", tag("div", held, of_trace, class_="box"), id_="assumptions")


def digests(result: Json) -> Html:
    """What computed the report, from which policy, trace and prices."""
    told: list[tuple[Child, Child]] = [("computed by", result["engine"]), ("prices", result["prices"])]
    told += [(f"{name} (SHA-256)", tag("code", value)) for name, value in result["digests"].items()]
    return tag("footer", tag("h2", "Digests"), pairs(told), id="digests")
