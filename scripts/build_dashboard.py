"""Writes dashboards/policyroute.json, the Grafana dashboard, from the table of panels below.

    python scripts/build_dashboard.py [--check]

With --check nothing is written; the exit code is 1 where the file is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "dashboards" / "policyroute.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
DECIDED = 'policy=~"$policy", rule=~"$rule", target=~"$target"'
ANSWERED = 'policy=~"$policy"'
WIDTH = 24  # of Grafana's grid


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: expressions with their legends, and how they are shown. A panel without expressions is a row's title."""

    title: str
    queries: tuple[tuple[str, str], ...] = ()
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    doc: str = ""
    stacked: bool = False
    steps: tuple[tuple[float, str], ...] = ()
    names: dict[str, str] = field(default_factory=dict)  # what a value is called


def rate(metric: str, labels: str = "") -> str:
    """The rate per second of a counter."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])" if labels else f"rate({metric}[$__rate_interval])"


def total(metric: str, by: str = "", labels: str = "") -> str:
    """The rate per second, summed by labels."""
    return f"sum by ({by}) ({rate(metric, labels)})" if by else f"sum({rate(metric, labels)})"


def quantile(share: float, metric: str, by: str = "", labels: str = "") -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share:g}, sum by ({', '.join(filter(None, ('le', by)))}) ({rate(f'{metric}_bucket', labels)}))"


REQUESTS, ANSWERS, COST = "policyroute_requests_total", "policyroute_answers_total", "policyroute_cost_usd_total"
OVERHEAD, DURATION = "policyroute_overhead_seconds", "gen_ai_server_request_duration_seconds"
FIRST, PER_TOKEN, TOKENS = (
    "gen_ai_server_time_to_first_token_seconds",
    "gen_ai_server_time_per_output_token_seconds",
    "gen_ai_client_token_usage",
)
SPENT = 'target=~"$target"'
STRONGEST = f'{ANSWERED}, strongest="yes"'
FAILED = 'verdict=~"failed|cut"'
SHADOWED, AGREES = "policyroute_shadow_decisions_total", 'agrees="yes"'
STRONG = f"{total(ANSWERS, '', STRONGEST)} / {total(ANSWERS, '', ANSWERED)}"
GOOD = ((0.0, "green"),)

PANELS: tuple[Panel, ...] = (
    Panel("Now"),
    Panel("Requests per second", ((total(REQUESTS), ""),), "reqps", "stat", 4),
    Panel("Failed or cut", ((f"{total(REQUESTS, '', FAILED)} / {total(REQUESTS)}", ""),), "percentunit", "stat", 4,
          steps=(*GOOD, (0.01, "orange"), (0.02, "red"))),
    Panel("Share of the strongest tier", ((STRONG, ""),), "percentunit", "stat", 4, steps=(*GOOD, (0.25, "red"))),
    Panel("Dollars per hour", ((f"{total(COST, '', SPENT)} * 3600", ""),), "currencyUSD", "stat", 4),
    Panel("Overhead, p99", ((quantile(0.99, OVERHEAD), ""),), "s", "stat", 4, steps=(*GOOD, (0.005, "orange"), (0.02, "red"))),
    Panel("Journal", (("min(policyroute_journal_healthy)", ""),), "none", "stat", 4, steps=((0.0, "red"), (1.0, "green")), names={"0": "can't write", "1": "writes"}),
    Panel("Decisions"),
    Panel("Requests by how they ended", ((total(REQUESTS, "verdict"), "{{verdict}}"),), "reqps", stacked=True),
    Panel("Decisions by rule", ((total("policyroute_decisions_total", "rule", DECIDED), "{{rule}}"),), "reqps", stacked=True),
    Panel("Decisions by tier", ((total("policyroute_decisions_total", "tier", DECIDED), "{{tier}}"),), "reqps", stacked=True),
    Panel("Answers by tier", ((f"{total(ANSWERS, 'tier', ANSWERED)} / on () group_left () {total(ANSWERS, '', ANSWERED)}", "{{tier}}"),), "percentunit", stacked=True),
    Panel("Share of the strongest tier over time", ((STRONG, "strongest"),), "percentunit", steps=(*GOOD, (0.25, "red"))),
    Panel("Escalations", ((total("policyroute_escalations_total", "tier, to"), "{{tier}} to {{to}}"),
                          (total("policyroute_escalated_requests_total", "rule", 'rule=~"$rule"'), "asked for more: {{rule}}")), "reqps"),
    Panel("Decisions changed by state", ((total("policyroute_acted_total", "by"), "{{by}}"), (total("policyroute_state_missed_total"), "store out of reach")), "reqps"),
    Panel("Classifiers", ((total("policyroute_classifications_total", "classifier, result"), "{{classifier}} {{result}}"),), "reqps"),
    Panel("Dollars for classifiers per hour", ((f"3600 * {total('policyroute_classifier_cost_usd_total', 'classifier')}", "{{classifier}}"),), "currencyUSD"),
    Panel("Shadow policy: agreement", ((f"{total(SHADOWED, '', AGREES)} / {total(SHADOWED)}", "agrees"),), "percentunit"),
    Panel("Shadow policy: dollars per hour", ((f"{total('policyroute_shadow_cost_usd_total', 'side')} * 3600", "{{side}}"),), "currencyUSD"),
    Panel("Shadow rules that would match", ((total("policyroute_shadow_rule_matches_total", "rule"), "{{rule}}"),), "reqps"),
    Panel("Upstreams"),
    Panel("Fallbacks per request", ((f"{total('policyroute_fallbacks_total')} / {total(REQUESTS)}", "fallbacks"),), "percentunit"),
    Panel("Fallbacks", ((total("policyroute_fallbacks_total", "from, to, reason"), "{{from}} to {{to}}: {{reason}}"),), "reqps"),
    Panel("Attempts by result", ((total("policyroute_attempts_total", "model, result", 'model=~"$target"'), "{{model}}: {{result}}"),), "reqps"),
    Panel("Circuits", (('max by (model) (policyroute_circuit_open{model=~"$target"})', "{{model}}"),), "none", "state-timeline", 12,
          steps=(*GOOD, (1.0, "red")), names={"0": "closed", "1": "open"}),
    Panel("Streams open", (("sum(policyroute_streams_open)", "streams"),), width=6),
    Panel("Retries of client libraries", ((total("policyroute_client_retries_total"), "retries"),), "reqps", width=6),
    Panel("Money"),
    Panel("Dollars per hour by tier", ((f"{total(COST, 'tier', SPENT)} * 3600", "{{tier}}"),), "currencyUSD", stacked=True),
    Panel("Dollars per hour by model", ((f"{total(COST, 'target', SPENT)} * 3600", "{{target}}"),), "currencyUSD", stacked=True),
    Panel("Dollars per hour by API key", ((f"{total('policyroute_caller_cost_usd_total', 'caller')} * 3600", "{{caller}}"),), "currencyUSD", stacked=True),
    Panel("Dollars in the shown time", ((f"sum by (tier) (increase({COST}{{{SPENT}}}[$__range]))", "{{tier}}"),), "currencyUSD", "bargauge"),
    Panel("Answers without a known price", ((total("policyroute_unknown_price_total", "target", SPENT), "{{target}}"),), "reqps"),
    Panel("Answer cache", ((f"{total('policyroute_answer_cache_hits_total')} / {total(REQUESTS)}", "hits per request"),
                           (f"{total('policyroute_answer_cache_saved_usd_total')} * 3600", "dollars saved per hour"))),
    Panel("Time and tokens"),
    Panel("Overhead", ((quantile(0.5, OVERHEAD), "p50"), (quantile(0.99, OVERHEAD), "p99")), "s"),
    Panel("Time to first token", ((quantile(0.5, FIRST, "gen_ai_request_model"), "{{gen_ai_request_model}} p50"),
                                  (quantile(0.95, FIRST, "gen_ai_request_model"), "{{gen_ai_request_model}} p95")), "s"),
    Panel("Request duration", ((quantile(0.5, DURATION, "gen_ai_request_model"), "{{gen_ai_request_model}} p50"),
                               (quantile(0.95, DURATION, "gen_ai_request_model"), "{{gen_ai_request_model}} p95")), "s"),
    Panel("Time per output token, p50", ((quantile(0.5, PER_TOKEN, "gen_ai_request_model"), "{{gen_ai_request_model}}"),), "s"),
    Panel("Tokens per second", ((total(f"{TOKENS}_sum", "gen_ai_token_type"), "{{gen_ai_token_type}}"),
                                (total("policyroute_cached_tokens_total"), "read from the provider's cache"))),
    Panel("Errors of upstreams", ((total(f"{DURATION}_count", "error_type, gen_ai_request_model", 'error_type!=""'), "{{gen_ai_request_model}}: {{error_type}}"),), "reqps"),
    Panel("Gateway"),
    Panel("Policy served", (("policyroute_policy_info == 1", "{{policy}} {{digest}}"),), "none", "table", 12),
    Panel("Reload", (("max(policyroute_reload_failed)", "the newest files are not served"), ("sum(increase(policyroute_reload_failures_total[$__range]))", "failures")), width=6),
    Panel("Policy loaded", (("min(policyroute_policy_loaded_timestamp_seconds) * 1000", ""),), "dateTimeFromNow", "stat", 3),
    Panel("Newest price", (("min(policyroute_prices_timestamp_seconds) * 1000", ""),), "dateTimeFromNow", "stat", 3),
    Panel("Journal rows", ((total("policyroute_journal_rows_total"), "written"), (total("policyroute_journal_lost_total"), "lost"),
                           (total("policyroute_access_log_lost_total"), "access log: lost"))),
    Panel("Signal values outside their type", ((total("policyroute_odd_signal_values_total", "signal"), "{{signal}}"),), "reqps"),
    Panel("Requests by API key", ((total("policyroute_caller_requests_total", "caller"), "{{caller}}"),), "reqps"),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "__inputs": [{
            "name": "DS_PROMETHEUS", "label": "Prometheus", "description": "", "type": "datasource", "pluginId": "prometheus", "pluginName": "Prometheus",
        }],
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": "10.0.0"},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
        ],
        "uid": "policyroute", "title": "policyroute", "tags": ["llm", "policyroute"], "schemaVersion": 38, "version": 1, "editable": True,
        "time": {"from": "now-6h", "to": "now"}, "refresh": "30s", "timezone": "browser", "graphTooltip": 1, "links": [], "annotations": {"list": [
            {"name": "Policy loaded", "enable": True, "datasource": SOURCE, "iconColor": "blue",
             "expr": "changes(policyroute_policy_loaded_timestamp_seconds[1m]) > 0", "titleFormat": "policy loaded"},
        ]},
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
             "current": {"selected": False, "text": "${DS_PROMETHEUS}", "value": "${DS_PROMETHEUS}"}},
            *(_variable(name) for name in ("policy", "rule", "target")),
        ]},
        "panels": list(_placed()),
    }  # fmt: skip


def _variable(name: str) -> dict[str, Any]:
    query = f"label_values(policyroute_decisions_total, {name})"
    return {
        "name": name, "label": name.capitalize(), "type": "query", "datasource": SOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def _placed() -> Iterator[dict[str, Any]]:
    x = y = last = 0
    for number, panel in enumerate(PANELS, 1):
        height = 1 if not panel.queries else 4 if panel.kind == "stat" and panel.width == 4 else 8
        width = panel.width if panel.queries else WIDTH
        if x + width > WIDTH or not panel.queries:
            x, y = 0, y + (last if x else 0)
        yield _panel(panel, number) | {"gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x, last = x + width, height
        if x >= WIDTH:
            x, y = 0, y + height


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    if not panel.queries:
        return {"id": number, "type": "row", "title": panel.title, "collapsed": False, "panels": []}
    steps = [{"color": color, "value": value if place else None} for place, (value, color) in enumerate(panel.steps or GOOD)]
    mappings = [
        {
            "type": "value",
            "options": {value: {"text": text, "index": place} for place, (value, text) in enumerate(panel.names.items())},
        }
    ]
    custom: dict[str, Any] = {}
    if panel.kind == "timeseries":
        custom = {
            "fillOpacity": 15 if panel.stacked else 0, "lineWidth": 1, "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"}, "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }  # fmt: skip
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.doc, "datasource": SOURCE,
        "targets": [
            {"refId": chr(65 + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend or "__auto", "range": panel.kind != "table",
             "instant": panel.kind == "table", "format": "table" if panel.kind == "table" else "time_series"}
            for place, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit, "min": 0, "custom": custom, "mappings": mappings if panel.names else [],
                "thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds" if panel.kind in ("stat", "state-timeline") else "palette-classic"},
            },
            "overrides": [],
        },
        "options": _options(panel.kind),
    }  # fmt: skip


def _options(kind: str) -> dict[str, Any]:
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match kind:
        case "stat":
            return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "area", "textMode": "auto"}
        case "bargauge":
            return {"reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal"}
        case "timeseries":
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        case _:
            return {}


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file, or with --check compare it; the exit code."""
    stale = not PATH.is_file() or PATH.read_text("utf-8") != text()
    if stale:
        sys.stderr.write(f"dashboards/{PATH.name} {'is out of date' if '--check' in sys.argv else 'written'}\n")
        if "--check" not in sys.argv:
            PATH.parent.mkdir(exist_ok=True)
            PATH.write_text(text(), "utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
