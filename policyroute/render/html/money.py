"""Sections about money: the headline, where the saving comes from, by rule, by pair of models, by day."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from policyroute.render import sentences as say
from policyroute.render.gates import measured
from policyroute.render.html import pictures
from policyroute.render.html.markup import NOTHING, Child, Html, folded, items, join, paragraph, prose, section, tag
from policyroute.render.html.tables import (
    BILL,
    Column,
    bill,
    change,
    interval,
    minus,
    money,
    percent,
    saving,
    share_bar,
    table,
    text,
    width,
)
from policyroute.render.sentences import count
from policyroute.render.state import cells, named, notes

Json = dict[str, Any]
LONG = 12  # pairs of models that stand open
MATRIX = 8  # models a side


# -- the headline --------------------------------------------------------------------------------------------------


def headline(result: Json) -> Html:
    """What was replayed, what came out, how sure that is."""
    over = tag("p", f"{say.scope(result)}. Compared with: {say.baseline(result)}.", class_="scope")
    head = tag("header", tag("h1", result["policy"]), over)
    known = result["headline"]
    if not known["rows"]:
        return join([head, tag("p", "No request could be priced on both sides: there is no saving to speak of.", class_="caution")])
    return join([head, tag("section", _figure(result), _under(result), aria_label="Headline", class_="headline")])


def _figure(result: Json) -> Html:
    known, word = result["headline"], say.word(result)
    big = tag(
        "p",
        tag("strong", f"{say.amount_percent(result)}"),
        f" {word}",
        class_=f"big {word if not say.unproven(result) else 'unsure'}",
    )
    bill_ = join([money(known["baseline_usd"]), " before, ", money(known["routed_usd"]), " under the policy: "])
    return join([big, tag("p", bill_, tag("b", minus(say.amount(result))), prose(f" {word}, {say.coverage(result)}."))])


def _under(result: Json) -> Html:
    known = [say.interval(result), (result.get("break_even") or {}).get("sentence"), say.cold(result), say.answer_cache(result)]
    cautions = [paragraph(caution, "caution") for caution in say.cautions(result)]
    return join([*(paragraph(line) for line in known if line), *cautions])


def gates(result: Json) -> Html:
    """What the policy's gates found."""
    made: list[Child] = []
    for gate in result.get("gates") or ():
        columns = (text("requirement"), text("outcome"), text("measured"), text(""))
        rows = [
            (line["text"], _outcome(line["outcome"]), minus(measured(line)), prose(line["detail"]) if line["detail"] else None)
            for line in gate["requirements"]
        ]
        made.append(tag("h3", f"{gate['gate']}: ", _outcome(gate["outcome"])))
        made.append(tag("p", f"on {gate['traces']} against {gate['against']}", class_="note"))
        made.append(paragraph(gate["detail"]) if gate["detail"] else None)
        made.append(table(f"Requirements of the gate {gate['gate']}", columns, rows))
    return section("Gates", *made, id_="gates")


def _outcome(outcome: str) -> Html:
    return tag("b", outcome, class_={"pass": "saved", "fail": "dearer"}.get(outcome, "unsure"))


def comparison(result: Json) -> Html:
    """Several policies side by side."""
    lines = result.get("comparison") or []
    columns = (text("policy"), Column("saving"), Column("share"), interval("95 % interval"), Column("changed"), Column("after"))
    rows = [
        (line["policy"], saving(line["saving_usd"]), percent(line["saving_percent"]), minus(say.ends(line.get("interval"), " %")),
         percent(line["changed_percent"]), money(line["routed_usd"]))
        for line in lines
    ]  # fmt: skip
    return section(
        "Policies side by side", pictures.policies(lines), table("Policies side by side", columns, rows), id_="comparison"
    )


# -- where the saving comes from -----------------------------------------------------------------------------------


def waterfall(result: Json) -> Html:
    """From the baseline to the new bill."""
    steps = result.get("waterfall") or []
    if len(steps) <= len(("baseline", "under the policy")):
        return NOTHING
    rows = [(step["label"], *_step(step)) for step in steps]
    figures = folded(
        "The figures", table("From the baseline to the new bill", (text("step"), Column("change"), Column("total")), rows)
    )
    return section("From the baseline to the new bill", pictures.waterfall(steps), figures, id_="waterfall")


def _step(step: Json) -> tuple[Child, Child]:
    return ("", money(step["usd"])) if step["kind"] == "total" else (change(step["usd"]), "")


def accounting(result: Json) -> Html:
    """Each request stands in exactly one class."""
    columns = (text("class"), Column("requests"), Column("share"), interval("baseline"), Column("share of it"))
    rows = [
        (join([tag("span", say.SHOWN_CLASSES.get(line["class"], line["class"])), *(tag("small", prose(why)) for why in line["why"])]),
         f"{line['rows']:,}", percent(line["row_percent"]), tag("span", money(line["baseline_usd"]), say.unknown_rows(line)), percent(line["baseline_percent"]))
        for line in result["accounting"] if line["rows"]
    ]  # fmt: skip
    lead = "Only requests that are priced on both sides count in the headline."
    return section("What became of each request", table("Classes of requests", columns, rows), id_="accounting", lead=lead)


def rules(result: Json) -> Html:
    """What each rule takes in order and would take alone, and what it is worth."""
    known = any("without" in line for line in result["rules"])
    last = (Column("if removed"),) if known else ()
    columns = (text("rule"), Column("share", bar=True), Column("in order"), Column(""), Column("alone"), *BILL, *last)
    lead = "Green: what a rule takes in its place. Grey: what it would take if it stood alone."
    lead += " If removed: by how much the bill would change if its requests fell to the rules below." if known else ""
    rows = [_rule(line, result["trace"]["rows"], known) for line in result["rules"]]
    return section("By rule", table("Rules in their order", columns, rows, class_="rules"), id_="rules", lead=lead)


def _rule(line: Json, rows: int, known: bool) -> list[Child]:
    name = join([tag("span", say.rule_name(line)), tag("small", f"→ {line['target']}")])
    bar = share_bar(width(line["takes"], rows), width(line["alone"], rows))
    difference = (line.get("without") or {}).get("difference_usd")
    last: list[Child] = [money(difference, signed=True) if difference is not None else "–"] if known else []
    return [name, bar, f"{line['takes']:,}", percent(line["takes_percent"]), f"{line['alone']:,}", *bill(line.get("priced")), *last]


# -- state -----------------------------------------------------------------------------------------------------------


def state(result: Json) -> Html:
    """What sticky, quotas and budgets changed."""
    found = result.get("state")
    if not found:
        return NOTHING
    columns = (
        text("by"),
        *(Column(name) for name in ("changed", "moved", "refused", "users", "by the rules", "as it is", "difference")),
    )
    made = table("What state did", columns, [(named(line), *cells(line)) for line in found["acted"]])
    told = [tag("p", line, class_="note") for line in notes(found)]
    lead = "Decisions that earlier requests changed: a conversation that is held, a quota or budget that is used up. Money is that of the recorded tokens, with the cache as recorded."
    return section("What state did", made, *told, id_="state", lead=lead)


# -- from model to model -------------------------------------------------------------------------------------------


def flows(result: Json) -> Html:
    """Which model's requests go to which: a matrix where it fits, and each pair with its money."""
    lines = result["flows"]
    columns = (text("from and to"), Column("requests"), *BILL)
    rows = [(f"{line['from']} → {line['to']}", f"{line['rows']:,}", *bill(line)) for line in lines]
    pairs = table("Pairs of models", columns, rows)
    told = (
        folded(f"Each of the {count(len(lines), 'pair')} with its money", pairs, open_=len(lines) <= LONG and not _matrix(lines))
        if pairs
        else None
    )
    lead = "Requests by the model that answered (left) and the model that the policy chooses (top), with what they save. A request that keeps its model may find less of its prompt cached."
    return section("From model to model", _matrix(lines), told, id_="flows", lead=lead)


def _matrix(lines: list[Json]) -> Html | None:
    before, after = (list(dict.fromkeys(line[side] for line in lines)) for side in ("from", "to"))
    if not lines or len(before) > MATRIX or len(after) > MATRIX:
        return None
    known = {(line["from"], line["to"]): line for line in lines}
    largest = max(line["rows"] for line in lines)
    head = tag("tr", tag("th", "from \\ to", scope="col"), *(tag("th", name, scope="col") for name in after))
    body = [
        tag("tr", tag("th", old, scope="row"), *(_cell(known.get((old, new)), largest, old == new) for new in after))
        for old in before
    ]
    made = tag(
        "table",
        tag("caption", "Requests from model to model", class_="heard"),
        tag("thead", head),
        tag("tbody", *body),
        class_="matrix",
    )
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label="From model to model")


def _cell(line: Json | None, largest: int, same: bool) -> Html:
    if line is None:
        return tag("td", tag("span", "·", aria_label="none"))
    heat = f"--heat:{width(line['rows'], largest)}"
    difference = saving(line["saving_usd"]) if not same or Decimal(line["saving_usd"]) else None
    return tag("td", f"{line['rows']:,}", tag("small", "kept " if same else None, difference), style=heat)


# -- by day, and what else costs -----------------------------------------------------------------------------------


def days(result: Json) -> Html:
    """The bill of each day."""
    lines = result.get("days") or []
    columns = (text("day"), Column("requests"), Column("changed"), *BILL, Column("share"))
    rows = [
        (line["day"], f"{line['rows']:,}", f"{line['changed']:,}", *bill(line), percent(line["saving_percent"])) for line in lines
    ]
    drawn, figures = pictures.days(lines), table("The bill of each day", columns, rows)
    if drawn == NOTHING:
        return section("By day", figures, id_="days")
    return section(
        "By day",
        drawn,
        folded("The figures", figures),
        id_="days",
        lead="Grey: before. Green: under the policy; red where that is more than before. Days are UTC.",
    )


def costs(result: Json) -> Html:
    """What the policy costs beside its models' prices, and how lengths and the prompt cache were reckoned."""
    columns = (text(""), Column("requests"), Column("change"))
    rows = [
        (line["what"], f"{line['rows']:,}", "unknown" if line["usd"] is None else change(line["usd"]))
        for line in result.get("costs") or ()
    ]
    told: list[Child] = []
    for name, label in (("lengths", "Answers"), ("cache", "Prompt cache")):
        found = result.get(name)
        if found:
            told += [
                tag("h3", f"{label}: {found['mode']}"),
                paragraph(found["sentence"]),
                items(found.get("lines") or ()),
            ]
            told.append(_checked(found.get("check")))
    return section("What else the policy costs", table("Costs of the policy", columns, rows), *told, id_="costs")


def _checked(check: Json | None) -> Html | None:
    if not check or "recorded_tokens" not in check:
        return None
    checked = (
        f"Checked on {count(check['rows'], 'recorded call')}: {check['modelled_tokens']:,} cached tokens modelled, {check['recorded_tokens']:,} recorded "
        f"(off by {percent(check.get('error_percent'))}; call by call {percent(check.get('row_error_percent'))}). "
        f"Their bill: {minus(say.usd(check['modelled_usd']))} modelled, {minus(say.usd(check['recorded_usd']))} recorded "
        f"({percent(check.get('cost_error_percent'))})."
    )
    return paragraph(checked)
