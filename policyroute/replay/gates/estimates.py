"""Quality and latency for gates, taken from the panels of a report: outcomes of all models, or an estimate from propensities."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from policyroute.replay.gates.judge import Estimate

LATENCY = "latency_ms"  # the outcome column that `latency` is


def of_outcomes(panel: Mapping[str, Any]) -> dict[str, Estimate]:
    """`quality` from an outcomes panel: the policy's mean score in percent of the scale; nothing where none was compared."""
    policy = panel.get("policy")
    if not policy or not policy["score_interval"]:
        return {}
    value, low, high = (Decimal(number) * 100 for number in (policy["score"], *policy["score_interval"]))
    requests = panel["requests"]
    source = f"from outcomes of all models for {requests['compared']:,} requests ({requests['compared_percent']} %)"
    return {"quality": Estimate(value, low, high, panel["confidence_percent"], panel["clusters"], source, panel["cluster"])}


def of_propensities(found: Mapping[str, Any], cluster: str) -> dict[str, Estimate]:
    """`latency`, or `quality` where the outcome is a share of one, as estimated off-policy (doubly robust).

    Nothing where the estimate was refused, has no interval, or is of an outcome with another scale.
    """
    if not found["estimates"] or not found["estimates"]["dr"]["interval"]:
        return {}
    line = found["estimates"]["dr"]
    value, low, high = (Decimal(number) for number in (line["value"], *line["interval"]))
    source = f"mean `{found['outcome']}`, doubly robust from the propensities of {found['used_rows']:,} requests"
    if found["outcome"] == LATENCY:
        return {"latency": Estimate(value, low, high, found["confidence_percent"], found["clusters"], source, cluster)}
    if not 0 <= value <= 1:
        return {}
    ends = max(low, Decimal(0)) * 100, min(high, Decimal(1)) * 100
    return {"quality": Estimate(value * 100, *ends, found["confidence_percent"], found["clusters"], source, cluster)}
