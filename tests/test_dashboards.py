"""Dashboard and alert rules ask for metrics and labels that there are, in PromQL that can be parsed."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyroute.proxy.metric_rows import METRICS

ROOT = Path(__file__).parents[1]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "dashboards" / "policyroute.json").read_text("utf-8"))
ALERTS = (ROOT / "dashboards" / "alerts.yml").read_text("utf-8")
SERIES = {name: frozenset((*row.labels, *(("le",) if name.endswith("_bucket") else ()))) for row in METRICS for name in row.series}
ADDED = frozenset(("instance", "job"))  # by Prometheus
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$policy": ".*", "$rule": ".*", "$target": ".*"}

SELECTOR = re.compile(r"\b((?:policyroute|gen_ai)_\w+)(\{[^}]*\})?")
GROUPING = re.compile(r"\b(?:by|without|on|group_left)\s*\(([^)]*)\)")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")


def expressions() -> Iterator[tuple[str, str]]:
    """All PromQL: where it stands, and with the dashboard's variables filled in."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], filled(target["expr"])
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], filled(annotation["expr"])
    yield from re.findall(r"- alert: (\w+)\n\s+expr: (.+)\n", ALERTS)


def filled(expression: str) -> str:
    """An expression with values for its variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


ALL = list(expressions())
by_expression = pytest.mark.parametrize(
    ("place", "expression"), ALL, ids=[f"{place}-{number}" for number, (place, _) in enumerate(ALL)]
)


@by_expression
def test_metrics_and_labels_exist(place: str, expression: str) -> None:
    """Each name is a series of the registry, each label one of its metric's."""
    bare = GROUPING.sub(" ", expression)
    named = SELECTOR.findall(bare)
    assert named and [name for name, _ in named if name not in SERIES] == [], place
    for name, selector in named:
        assert set(LABEL.findall(selector)) <= SERIES[name] | ADDED, place
    grouped = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")} - {""}
    assert grouped <= frozenset.intersection(*(SERIES[name] for name, _ in named)) | ADDED, place


@by_expression
def test_brackets(place: str, expression: str) -> None:
    """Brackets close in the order in which they open, and each range has a length."""
    closing, open_ = {")": "(", "]": "[", "}": "{"}, []
    for sign in re.sub(r'"[^"]*"', "", expression):
        if sign in "([{":
            open_.append(sign)
        elif sign in closing:
            assert open_ and open_.pop() == closing[sign], place
    assert not open_ and all(re.fullmatch(r"\d+[smhd]", span) for span in re.findall(r"\[([^\]]*)\]", expression))


@by_expression
def test_promql(place: str, expression: str) -> None:
    """A parser of PromQL accepts it, and counters are never read without `rate`, `increase` or `changes`."""
    parser = pytest.importorskip("promql_parser", reason="the package promql-parser isn't installed")
    parser.parse(expression)
    counters = {name for row in METRICS if row.kind != "gauge" for name in row.series}
    asked = [name for name, _ in SELECTOR.findall(GROUPING.sub(" ", expression)) if name in counters]
    rated = re.findall(r"\b(?:rate|increase)\((\w+)[{\[]", expression)
    assert sorted(asked) == sorted(rated), place


@pytest.mark.parametrize(("text", "wrong"), [("rate(policyroute_nothing_total[5m])", True), ('policyroute_policy_info{rule="x"}', True),
                                             ("sum by (tier) (policyroute_circuit_open)", True), ("policyroute_circuit_open", False)])  # fmt: skip
def test_the_test(text: str, wrong: bool) -> None:
    """What isn't there is found."""
    if wrong:
        with pytest.raises((AssertionError, KeyError)):
            test_metrics_and_labels_exist("", text)
    else:
        test_metrics_and_labels_exist("", text)


def test_every_metric_is_shown() -> None:
    """Nothing is counted for nobody."""
    shown = {name for _, expression in ALL for name, _ in SELECTOR.findall(GROUPING.sub(" ", expression))}
    assert [row.name for row in METRICS if shown.isdisjoint(row.series)] == []


def test_dashboard_can_be_imported() -> None:
    """What Grafana needs: an input for the data source, a stable uid, variables, panels that don't overlap."""
    assert [each["name"] for each in DASHBOARD["__inputs"]] == ["DS_PROMETHEUS"] and DASHBOARD["uid"] == "policyroute"
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "policy", "rule", "target"] and variables["datasource"]["type"] == "datasource"
    for name in ("policy", "rule", "target"):
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables[name]["definition"]).groups()  # type: ignore[union-attr]
        assert label == name and label in SERIES[metric]
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in PANELS for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert taken.isdisjoint(cells) and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_dashboard_is_current() -> None:
    """Run `python scripts/build_dashboard.py` after a change of its table."""
    spec = importlib.util.spec_from_file_location("build_dashboard", ROOT / "scripts" / "build_dashboard.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert (ROOT / "dashboards" / "policyroute.json").read_text("utf-8") == module.text()


WANTED = (
    "PolicyrouteErrorRate", "PolicyrouteFallbackRateRising", "PolicyrouteCircuitOpen", "PolicyrouteStrongTierShare", "PolicyrouteSpendAboveBudget",
    "PolicyroutePricesStale", "PolicyrouteJournalLosesRows", "PolicyrouteReloadFailed",
)  # fmt: skip


def test_alerts() -> None:
    """The alerts that an operator needs are there, each with a severity and a summary."""
    rules = re.split(r"\n(?=\s+- alert: )", ALERTS)[1:]
    names = [re.search(r"alert: (\w+)", rule)[1] for rule in rules]  # type: ignore[index]
    assert set(WANTED) <= set(names) and len(set(names)) == len(names)
    assert all("severity: " in rule and "summary: " in rule and "expr: " in rule for rule in rules)


def test_alerts_are_yaml() -> None:
    """A YAML reader finds the same expressions."""
    yaml = pytest.importorskip("yaml", reason="the package pyyaml isn't installed")
    rules = yaml.safe_load(ALERTS)["groups"][0]["rules"]
    assert [(rule["alert"], rule["expr"]) for rule in rules] == [
        (place, text) for place, text in ALL if place.startswith("Policyroute")
    ]
