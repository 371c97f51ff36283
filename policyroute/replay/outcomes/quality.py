"""The quality panel: what the policy costs and scores on requests that every model answered, against what is simpler.

The policy is held against each single model, the best single model at equal or lower cost and at equal quality, a random mix of
single models at the same cost, and the oracle (the cheapest of the models that score best, for each request). Best model and
mix are picked from the same requests that they are then judged on, which is in their favour and never in the policy's.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import duckdb

from policyroute.prices.money import PICODOLLARS
from policyroute.replay.figures import Json, dollars, percent
from policyroute.replay.outcomes.cells import HELD, INPUT_ONLY, ORACLE, POLICY, Cells, cells
from policyroute.replay.outcomes.hull import NOBODY, Mix, Point, frontier, mix_at
from policyroute.replay.outcomes.intervals import paired, plain, saved
from policyroute.replay.outcomes.models import Comparison
from policyroute.replay.outcomes.scores import aiq, router_arena
from policyroute.replay.outcomes.table import CLASSES, MICRO, TABLE, Outcomes
from policyroute.replay.outcomes.verdict import verdict
from policyroute.replay.statistics import CONFIDENCE, FEW, Interval
from policyroute.replay.traces.sql import one

REASONS = {
    "decided": "no model was decided: refused, no model left, or not replayable",
    "nothing": "no outcome for this request",
    "some": "a compared model has no outcome, or none that can be priced",
    "chosen": "the policy chooses a model that has no outcome",
}


def quality(
    connection: duckdb.DuckDBPyConnection, decided: str, outcomes: Outcomes, compared: Comparison, cluster: str | None = None
) -> Json:
    """The panel as JSON-ready values; `decided` is `decided_sql` of all parts, `cluster` the name of what its bags hold.

    Money is dollars as decimal text; scores are parts of 1 with six decimals, whatever the scale of the file.
    """
    found = cells(connection, decided, outcomes, compared)
    panel: Json = {
        "outcomes": _source(outcomes),
        "requests": {
            "decided": found.decided, "compared": found.requests, "compared_percent": percent(found.requests, found.decided), "repeated_rows": found.repeats,
            "left_out": [{"why": REASONS[name], "requests": count} for name, count in found.left_out.items()],
        },
        "models": {
            "without_outcomes": list(compared.absent), "unpriced": list(compared.unpriced),
            "not_everywhere": [{"model": compared.labels[number], "requests": count} for number, count in found.partial.items()],
        },
        "confidence_percent": CONFIDENCE,
        "cluster": cluster or "request",
        "clusters": len(found.bags),
        "output_tokens": found.outputs,
        "assumptions": _assumptions(found),
        "warnings": _warnings(found),
    }  # fmt: skip
    return panel | (
        _figures(found, compared, outcomes) if found.requests and found.arms else {"policy": None, "verdict": _nothing(outcomes)}
    )


def _source(outcomes: Outcomes) -> Json:
    return {
        "format": outcomes.format, "files": list(outcomes.files), "digest": outcomes.digest, "rows": outcomes.rows, "scale": outcomes.scale.words,
        "scale_ends": [outcomes.scale.low, outcomes.scale.high],
        "left_out": [{"class": name, "rows": count, "why": CLASSES[name]} for name, count in outcomes.left_out.items()],
    }  # fmt: skip


def _nothing(outcomes: Outcomes) -> Json:
    (example,) = one(outcomes.connection, f"SELECT min(request_id) FROM {TABLE}")
    return {
        "word": "not enough data",
        "sentence": f"not enough data: no request of the trace has outcomes of all the policy's models; ids have to be equal on both sides (the outcomes have `{example}`)",
        "requests_needed": None,
    }


def _assumptions(found: Cells) -> list[str]:
    outputs = {
        HELD: "the outcomes have no output tokens: every model is taken to write as many as the trace recorded",
        INPUT_ONLY: "neither the outcomes nor the trace have output tokens: costs are of the input alone",
    }
    known = [outputs[found.outputs]] if found.outputs in outputs else []
    return [*known, "nothing is cached, and every call succeeds at the first attempt"]


def _warnings(found: Cells) -> list[str]:
    few = f"{len(found.bags)} clusters are too few (under {FEW}): don't rely on the intervals"
    half = (
        f"only {percent(found.requests, found.decided)} % of the requests are compared: what the others cost and score is unknown"
    )
    return [*([few] if 0 < len(found.bags) < FEW else []), *([half] if 0 < found.requests * 2 < found.decided else [])]


# -- figures -------------------------------------------------------------------------------------------------------


def _figures(found: Cells, compared: Comparison, outcomes: Outcomes) -> Json:
    points = {arm: Point(found.total(arm).cost, found.total(arm).score, arm) for arm in (*found.arms, POLICY, ORACLE)}
    singles = [points[arm] for arm in found.arms]
    policy = points[POLICY]
    at_cost = max((one for one in singles if one.cost <= policy.cost), key=lambda one: (one.score, -one.cost), default=None)
    at_quality = min((one for one in singles if one.score >= policy.score), key=lambda one: (one.cost, -one.score), default=None)
    mix = mix_at(frontier(singles), policy.cost)
    gain = _gain(found, mix)
    line = {arm: _line(found, compared, arm, outcomes) for arm in points}
    chosen = [{"model": compared.labels[number], "requests": count} for number, count in found.chosen.items()]
    against = {
        "best_single_at_cost": _against(found, compared, at_cost), "best_single_at_quality": _against(found, compared, at_quality),
        "random_mix": {
            "cheap": _name(compared, mix.cheap), "dear": _name(compared, mix.dear), "dear_percent": _text(mix.share * 100, 2),
            "cost_usd": _dollars(mix.cost), "score": _score(mix.score, found), "gain": _score(Fraction(policy.score) - mix.score, found),
            "gain_interval": _ends(gain, 6),
        },
    }  # fmt: skip
    panel = {
        "policy": line[POLICY] | {"models": chosen},
        "singles": [line[point.who] for point in sorted(singles, key=lambda one: (one.cost, one.who))],
        "oracle": line[ORACLE],
        **against,
        "aiq": _aiq(singles, policy, points[ORACLE], found),
    }
    return panel | {"verdict": verdict(panel, found.requests, len(found.bags))}


def _line(found: Cells, compared: Comparison, arm: int, outcomes: Outcomes) -> Json:
    """Cost, score and latency of one arm."""
    total, requests = found.total(arm), found.requests
    costs = plain((bag.requests, bag.sums[arm].cost * 1000) for bag in found.bags.values())
    scores = plain((bag.requests, bag.sums[arm].score) for bag in found.bags.values())
    per_1k = Fraction(total.cost * 1000, requests * PICODOLLARS)
    mean = Fraction(total.score, requests * MICRO)
    arena = router_arena(float(mean), float(per_1k))
    median, p95 = found.latencies.get(arm, (None, None))
    scale = outcomes.scale
    return {
        "name": {POLICY: compared.policy, ORACLE: "oracle"}.get(arm) or compared.labels[arm],
        "declared": arm < compared.declared,
        "cost_usd": dollars(total.cost), "cost_per_1k_usd": _text(per_1k, 9), "cost_per_1k_interval_usd": _ends(costs, 9, PICODOLLARS),
        "score": _text(mean, 6), "score_interval": _ends(scores and _within(scores), 6, MICRO), "score_in_scale": _text(scale.low + mean * (scale.high - scale.low), 4),
        "latency_ms_median": None if median is None else _text(Fraction(median, 1000), 3),
        "latency_ms_p95": None if p95 is None else _text(Fraction(p95, 1000), 3),
        "router_arena": None if arena is None else f"{arena:.4f}",
    }  # fmt: skip


def _within(interval: Interval) -> Interval:
    """No mean score lies outside the scale, though a symmetric interval may."""
    return Interval(max(interval.low, Decimal(0)), min(interval.high, Decimal(MICRO)))


def _gain(found: Cells, mix: Mix) -> Interval | None:
    """The interval of the policy's score over the mix's, at the same cost.

    The mix's share and slope are estimated from the same requests. To first order that adds to each request, beside its
    score less the mix's, the slope times what the mix would have cost it more (the delta method's influence values).
    """
    bags = {}
    for name, bag in found.bags.items():
        ours, cheap, dear = bag.sums[POLICY], _sums(found, name, mix.cheap), _sums(found, name, mix.dear)
        score = ours.score - cheap[1] - mix.share * (dear[1] - cheap[1])
        cost = ours.cost - cheap[0] - mix.share * (dear[0] - cheap[0])
        bags[name] = (bag.requests, (score - mix.slope * cost) / MICRO)
    return paired(bags)


def _sums(found: Cells, bag: str, point: Point) -> tuple[int, int]:
    if point is NOBODY:
        return 0, 0
    sums = found.bags[bag].sums[point.who]
    return sums.cost, sums.score


def _against(found: Cells, compared: Comparison, single: Point | None) -> Json | None:
    """The policy less a single model, request by request."""
    if single is None:
        return None
    scores, costs = {}, {}
    for name, bag in found.bags.items():
        ours, theirs = bag.sums[POLICY], bag.sums[single.who]
        scores[name] = (bag.requests, Fraction(ours.score - theirs.score, MICRO))
        costs[name] = (theirs.cost, ours.cost)
    policy = found.total(POLICY)
    return {
        "name": compared.labels[single.who],
        "score_difference": _score(Fraction(policy.score - single.score), found), "score_difference_interval": _ends(paired(scores), 6),
        "saving_percent": percent(single.cost - policy.cost, single.cost), "saving_percent_interval": _ends(saved(costs), 2, Fraction(1, 100)),
    }  # fmt: skip


def _aiq(singles: list[Point], policy: Point, oracle: Point, found: Cells) -> Json | None:
    """RouterBench's AIQ over the costs from the cheapest to the dearest single model. A policy has no dial that would give
    it a curve of its own: it is one more point beside the single models."""
    low, high = min(point.cost for point in singles), max(point.cost for point in singles)
    areas = {
        "singles": aiq(singles, low, high),
        "with_policy": aiq([*singles, policy], low, high),
        "with_oracle": aiq([*singles, oracle], low, high),
    }
    known = {name: _score(area, found) for name, area in areas.items() if area is not None}
    return known | {"from_usd": dollars(low), "to_usd": dollars(high)} if known else None


# -- text ----------------------------------------------------------------------------------------------------------


def _name(compared: Comparison, point: Point) -> str:
    return "no answer" if point is NOBODY else compared.labels[point.who]


def _score(total: Fraction, found: Cells) -> str:
    return _text(Fraction(total) / (found.requests * MICRO), 6)


def _dollars(picodollars: Fraction) -> str:
    return dollars(round(picodollars))


def _text(value: Fraction, places: int) -> str:
    """Decimal text, rounded half to even."""
    return format(Decimal(round(value * 10**places)).scaleb(-places), "f")


def _ends(interval: Interval | None, places: int, unit: int | Fraction = 1) -> list[str] | None:
    if interval is None:
        return None
    step = Decimal(1).scaleb(-places)
    scale = Decimal(Fraction(unit).numerator) / Fraction(unit).denominator
    return [format((end / scale).quantize(step, ROUND_HALF_EVEN) + 0, "f") for end in (interval.low, interval.high)]
