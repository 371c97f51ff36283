"""Route, or don't: one sentence that the panel's figures carry.

`route` needs two things: the policy scores more than the best single model that costs no more, and more than a random mix of
single models at its cost; each by more than the interval of the paired difference. Fewer than 100 clusters decide nothing.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any

from policyroute.replay.statistics import FEW

Json = dict[str, Any]

ROUTE, DO_NOT, UNKNOWN = "route", "do not route", "not enough data"


def verdict(panel: Json, requests: int, clusters: int) -> Json:
    """The verdict on a panel: `word`, `sentence`, and `requests_needed`.

    The last is about how many requests like these would show a gain as large as the one seen to be no chance; None where
    that is shown already, or where there is no gain.
    """
    word, reason, needed = _found(panel, requests)
    if clusters < FEW:
        return _said(UNKNOWN, f"{UNKNOWN} ({clusters} clusters, under {FEW}); so far: {reason}", needed)
    return _said(word, f"{word}: {reason}", needed)


def _said(word: str, sentence: str, needed: int | None) -> Json:
    return {"word": word, "sentence": sentence, "requests_needed": needed}


def _found(panel: Json, requests: int) -> tuple[str, str, int | None]:
    equal, cheaper, mix = panel["best_single_at_quality"], panel["best_single_at_cost"], panel["random_mix"]
    if equal is not None and Decimal(_named(panel, equal)["cost_usd"]) <= Decimal(panel["policy"]["cost_usd"]):
        return DO_NOT, _dominated(panel, equal), None
    if mix["gain_interval"] is None:
        return UNKNOWN, "one cluster is not enough for an interval", None
    if cheaper is not None and Decimal(cheaper["score_difference_interval"][0]) <= 0:
        gain, ends = cheaper["score_difference"], cheaper["score_difference_interval"]
        prices = f"at {_usd(_named(panel, cheaper))} per 1,000 requests against {_usd(panel['policy'])}"
        told, needed = _needed(gain, ends, requests)
        return (
            DO_NOT,
            f"{cheaper['name']} alone gives the same quality for less, {prices}, as far as the data tell: the policy scores {_over(gain, ends)}{told}",
            needed,
        )
    gain, ends = mix["gain"], mix["gain_interval"]
    if Decimal(ends[0]) > 0:
        return ROUTE, f"at its cost the policy scores more than {_mix(mix)}: {_over(gain, ends)}", None
    if Decimal(ends[1]) < 0:
        return DO_NOT, f"at its cost {_mix(mix)} scores more: the policy {_over(gain, ends)}", None
    told, needed = _needed(gain, ends, requests)
    return DO_NOT, f"at its cost {_mix(mix)} scores as much, as far as the data tell: the policy {_over(gain, ends)}{told}", needed


def _dominated(panel: Json, single: Json) -> str:
    ends = single["score_difference_interval"]
    better = ends is not None and Decimal(ends[1]) < 0
    line = _named(panel, single)
    price = "at the same price" if line["cost_usd"] == panel["policy"]["cost_usd"] else "for less"
    return (
        f"{single['name']} alone gives {'better' if better else 'the same'} quality {price}: {line['score_in_scale']} at {_usd(line)} "
        f"per 1,000 requests, the policy {panel['policy']['score_in_scale']} at {_usd(panel['policy'])}"
    )


def _named(panel: Json, single: Json) -> Json:
    """The line of a single model."""
    found: Json = next(line for line in panel["singles"] if line["name"] == single["name"])
    return found


def _usd(line: Json) -> str:
    value = Decimal(line["cost_per_1k_usd"])
    places = 2 if value >= 1 or not value else 1 - value.adjusted()
    return f"${value:,.{places}f}"


def _mix(mix: Json) -> str:
    if mix["cheap"] == mix["dear"]:
        return f"{mix['dear']} alone"
    return f"a random mix of {mix['cheap']} and {mix['dear']}"


def _over(gain: str, ends: list[str]) -> str:
    """A difference in points of 100 with its interval."""
    value, low, high = (Decimal(each) * 100 for each in (gain, *ends))
    return f"{value:+.2f} points of 100 ({low:+.2f} to {high:+.2f})"


def _needed(gain: str, ends: list[str], requests: int) -> tuple[str, int | None]:
    """An interval shrinks with the root of the number of requests."""
    value, reach = Decimal(gain), Decimal(ends[1]) - Decimal(gain)
    if value <= 0:
        return "", None
    needed = int((requests * (reach / value) ** 2).to_integral_value(ROUND_CEILING))
    return f"; about {needed:,} requests would tell", needed
