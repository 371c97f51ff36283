"""Every figure of a report can be found again: plain SQL over the rows that `--output` writes gives the JSON's totals."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from policyroute.replay.figures import percent
from tests.simulate_support import ROOT, Json, picodollars, policy_of, replay

EXAMPLES = ("support", "coding", "saas")
PRICED = "class IN ('exact', 'fallback')"
MONEY = "count(*), count(*) FILTER (WHERE changed), coalesce(sum(old_cost_usd), 0), coalesce(sum(new_cost_usd), 0)"
by_example = pytest.mark.parametrize("name", EXAMPLES)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decisions")


@cache
def replayed(name: str, place: Path) -> tuple[Json, str]:
    """The full report with everything reckoned, and the relation of its decisions."""
    target = place / f"{name}.parquet"
    found = replay(
        policy_of(f"policies/{name}.route"), ROOT / "traces" / target.name, output=target, details=True, lengths="modelled"
    )
    assert found["cache"] is None or found["cache"]["mode"] == "model"
    return found, f"read_parquet('{target}')"


def asked(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.sql(query).fetchall()


def line(money: Json) -> tuple[int, int, int, int]:
    return (money["rows"], money["changed"], picodollars(money["baseline_usd"]), picodollars(money["routed_usd"]))


def exactly(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *keys, rows, changed, old, new = row
    return (*keys, rows, changed, picodollars(old), picodollars(new))


@by_example
def test_headline_and_what_undoes_it(name: str, place: Path) -> None:
    found, decisions = replayed(name, place)
    head = found["headline"]
    ((rows, changed, old, new),) = [exactly(row) for row in asked(f"SELECT {MONEY} FROM {decisions} WHERE {PRICED}")]
    assert line(head) == (rows, changed, old, new)
    assert picodollars(head["saving_usd"]) == old - new
    assert (head["saving_percent"], head["changed_percent"]) == (percent(old - new, old), percent(changed, rows))
    assert head["rows_in_trace"] == asked(f"SELECT count(*) FROM {decisions}")[0][0]
    assert picodollars(found["waterfall"][0]["usd"]) == old
    assert picodollars(found["waterfall"][-1]["usd"]) == new == sum(picodollars(step["usd"]) for step in found["waterfall"][:-1])


@by_example
def test_accounting_rules_and_flows(name: str, place: Path) -> None:
    found, decisions = replayed(name, place)
    classes = dict(asked(f"SELECT class, count(*) FROM {decisions} GROUP BY 1"))
    assert {each["class"]: each["rows"] for each in found["accounting"] if each["rows"]} == classes
    takes = dict(asked(f"SELECT rule, count(*) FROM {decisions} WHERE class <> 'not replayable' GROUP BY 1"))
    assert {each["rule"]: each["takes"] for each in found["rules"] if each["kind"] != "shadow" and each["takes"]} == takes
    by_rule = {row[0]: row[1:] for row in map(exactly, asked(f"SELECT rule, {MONEY} FROM {decisions} WHERE {PRICED} GROUP BY 1"))}
    assert {each["rule"]: line(each["priced"]) for each in found["rules"] if each.get("priced", {}).get("rows")} == by_rule
    query = f"SELECT old_model, answered_by, {MONEY} FROM {decisions} WHERE {PRICED} GROUP BY 1, 2"
    assert {(each["from"], each["to"]): line(each) for each in found["flows"]} == {
        row[:2]: row[2:] for row in map(exactly, asked(query))
    }


@by_example
def test_days_and_segments(name: str, place: Path) -> None:
    found, decisions = replayed(name, place)
    query = f"SELECT CAST(CAST(ts AS DATE) AS VARCHAR), {MONEY} FROM {decisions} WHERE {PRICED} GROUP BY 1 ORDER BY 1"
    assert [(each["day"], *line(each)) for each in found["days"]] == [exactly(row) for row in asked(query)]
    for segment, shown in found["segments"].items():
        column = f'"{segment}"'
        members = {
            row[0]: row[1:] for row in map(exactly, asked(f"SELECT {column}, {MONEY} FROM {decisions} WHERE {PRICED} GROUP BY 1"))
        }
        assert shown["members"] == len(members)
        for each in [*shown["top"], *shown["losers"]]:
            assert line(each) == members[None if each["member"] == "(none)" else each["member"]]


@by_example
def test_risk_and_examples(name: str, place: Path) -> None:
    found, decisions = replayed(name, place)
    risk = found["risk"]
    dearer = f"{PRICED} AND changed AND new_cost_usd > old_cost_usd"
    ((rows, dollars),) = asked(f"SELECT count(*), coalesce(sum(new_cost_usd - old_cost_usd), 0) FROM {decisions} WHERE {dearer}")
    assert (risk["dearer_rows"], picodollars(risk["dearer_usd"])) == (rows, picodollars(dollars))
    ((fell,),) = asked(f"SELECT count(*) FROM {decisions} WHERE {PRICED} AND answered_by <> new_model")
    assert risk.get("fallback_rows", 0) == fell
    for kind in ("unroutable", "refused", "unanswered"):
        assert risk[f"{kind}_rows"] == asked(f"SELECT count(*) FROM {decisions} WHERE class = '{kind}'")[0][0]
    for each in found["examples"]:
        wanted = f"SELECT rule, old_model, answered_by, old_cost_usd, new_cost_usd FROM {decisions} WHERE row = {each['row']}"
        ((rule, old, new, before, after),) = asked(wanted)
        assert (each["rule"], each["from"], each["to"]) == (rule, old, new)
        assert (picodollars(each["baseline_usd"]), picodollars(each["routed_usd"])) == (picodollars(before), picodollars(after))


@by_example
def test_the_dearest_change_of_each_rule_is_among_its_examples(name: str, place: Path) -> None:
    found, decisions = replayed(name, place)
    query = f"SELECT rule, max(abs(new_cost_usd - old_cost_usd)) FROM {decisions} WHERE {PRICED} AND changed GROUP BY 1"
    largest = {rule: picodollars(dollars) for rule, dollars in asked(query)}
    shown = {each["rule"]: each for each in found["examples"] if each["why"] == "largest difference"}
    assert {
        rule: abs(picodollars(each["routed_usd"]) - picodollars(each["baseline_usd"])) for rule, each in shown.items()
    } == largest
