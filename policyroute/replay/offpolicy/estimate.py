"""What a policy would have done to an outcome that was recorded for other decisions, from the propensities of a log.

Each request carries the probability b with which its model was chosen, and the policy gives the probability p with which
it would choose that model: the weight is w = p / b. Two estimates of the mean outcome y under the policy (Dudík, Erhan,
Langford, Li, "Doubly Robust Policy Evaluation and Optimization", 2014):

- SNIPS, the self-normalised inverse propensity score: sum(w y) / sum(w).
- DR, doubly robust: mean(q(x, policy)) + sum(w (y - q(x, a))) / sum(w). Its weights are self-normalised too, so that a
  constant error of the propensities cancels and the correction stays within the range of the residuals. The outcome
  model q is saturated, one mean per rule of the policy and model, and is fitted on the other half of the clusters.

Both are compared with the mean that was logged, on the same requests. Weights are clipped at the square root of the number
of requests (Ionides, "Truncated Importance Sampling", 2008). Overlap is looked at first: where it fails, there is no estimate.

Outcomes and weights become whole numbers row by row and are only ever added, so neither the order of rows nor the number of
threads changes a digit. Intervals are the delta method's, over clusters. Which direction is better is not assumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from math import ceil, isqrt
from statistics import NormalDist

import duckdb

from policyroute.replay.figures import Json, percent
from policyroute.replay.offpolicy.log import (
    DIGITS,
    REASONS,
    UNIT,
    WITHOUT_PROPENSITY,
    Answer,
    Bag,
    Log,
    Requests,
    Weights,
    collected,
    dropped,
    weights,
)  # fmt: skip
from policyroute.replay.statistics import CONFIDENCE, FEW, HEAVY

MOST_UNSUPPORTED = 5  # percent of the policy's probability that may lie where the log has none
LEAST_EFFECTIVE = 100  # effective requests
MISFIT = Decimal("0.05")  # how far the mean weight may lie from 1, beyond four standard errors
MOVED = Fraction(1, 2)  # of a group's probability: from there on the policy is said to move the group
EXPLORED = Fraction(1, 100)  # of the remedy's `explore 1%`
NOTICED = 1  # percent of the weight that the clip may cut before it is warned of
SHOWN = 7  # digits of the largest outcome
DAY = 86_400
REMEDY = "put `explore 1% by user` into the policy that serves, with the models wanted here in its chains, and log `propensity`"
PAIRED = "or let the other models answer a sample of these requests, and give their answers as `--outcomes FILE`"

# An estimate is a signed sum of ratios of sums over clusters: sign, numerator and denominator (fields of `Bag`).
Term = tuple[int, str, str]
LOGGED: tuple[Term, ...] = ((1, "outcome", "rows"),)
SNIPS: tuple[Term, ...] = ((1, "weighed", "clipped"),)
DR: tuple[Term, ...] = ((1, "modelled", "rows"), (1, "residual", "clipped"))
MEAN_WEIGHT: tuple[Term, ...] = ((1, "weight", "rows"),)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How well the log covers what the policy does. `moved` is the part of requests whose models the policy mostly changes."""

    unsupported: Fraction
    certain: bool
    effective: Fraction
    moved: Fraction
    moved_effective: Fraction
    mean_weight: Decimal
    mean_weight_error: Decimal

    @property
    def unlikely(self) -> bool:
        """Too much of the policy's probability lies where the log has none."""
        return self.unsupported * 100 > MOST_UNSUPPORTED

    @property
    def scarce(self) -> bool:
        """Too few effective requests, in all or among those that the policy moves."""
        return self.effective < LEAST_EFFECTIVE or (self.moved > 0 and self.moved_effective < LEAST_EFFECTIVE)


def estimate(connection: duckdb.DuckDBPyConnection, log: Requests, seconds: int | None = None) -> Json:
    """The outcome under the policy against the outcome that was logged, JSON-ready; numbers are decimal text.

    `identifiable` is false where the log can't tell at all. Otherwise `overlap` holds the diagnostics, and either `refusals`
    says why there is no estimate or `estimates` holds `logged`, `snips` and `dr`, in the outcome's own unit. `sentence` sums
    up, `remedy` says what would change it. `seconds` is the time that the trace covers, for how long the remedy takes.
    """
    try:
        read = collected(connection, log)
        if not read.rows:
            return _unusable(log, read)
        clip = max(1, isqrt(read.rows))
        answers = tuple(_answers(log, read))
        weighed = weights(connection, log, read.places, answers, clip)
    finally:
        dropped(connection)
    with localcontext() as context:
        context.prec = 80
        return _judged(log, read, weighed, _overlap(log, read, weighed), clip, seconds)


# -- the outcome model -----------------------------------------------------------------------------------------------


class _Means:
    """The saturated outcome model: mean outcome by rule and model, of the half that a request is not in.

    A rule and model without requests there takes the model's mean, and a model without any the mean of all.
    """

    def __init__(self, log: Log) -> None:
        self.rows: Counter[tuple[bool, int | None, int | None]] = Counter()
        self.sums: Counter[tuple[bool, int | None, int | None]] = Counter()
        for cell in log.cells:
            for key in (
                (not cell.half, cell.stratum, cell.logged),
                (not cell.half, None, cell.logged),
                (not cell.half, None, None),
            ):
                self.rows[key] += cell.rows
                self.sums[key] += cell.outcome

    def of(self, half: bool, stratum: int, model: int) -> int:
        """The mean for a request of this half, in units of the outcome."""
        for key in ((half, stratum, model), (half, None, model), (half, None, None)):
            if self.rows[key]:
                return round(Fraction(self.sums[key], self.rows[key]))
        return 0


def _answers(requests: Requests, log: Log) -> Iterator[Answer]:
    means, moved = _Means(log), _moved(requests, log)
    seen = {(cell.group, cell.half, cell.logged): cell for cell in log.cells}
    for (group, half, logged), cell in sorted(seen.items()):
        parts = sum(chance * means.of(half, cell.stratum, model) for model, chance in enumerate(cell.target) if chance)
        under_policy = round(Fraction(parts, sum(cell.target)))
        yield Answer(
            group, half, logged, _chance(cell.target, logged), under_policy, means.of(half, cell.stratum, logged), moved[group]
        )


def _chance(target: Sequence[int], model: int) -> int:
    return target[model] if model < len(target) else 0


def _moved(requests: Requests, log: Log) -> dict[int, bool]:
    """Groups in which at least half of the probability lies elsewhere than the log's (total variation distance)."""
    logged: dict[int, Counter[int]] = {}
    targets = {cell.group: cell.target for cell in log.cells}
    for cell in log.cells:
        logged.setdefault(cell.group, Counter())[cell.logged] += cell.rows
    found = {}
    for group, counts in logged.items():
        shared = sum(
            min(Fraction(count, counts.total()), Fraction(_chance(targets[group], model), requests.denominator))
            for model, count in counts.items()
        )
        found[group] = 1 - shared >= MOVED
    return found


# -- overlap ---------------------------------------------------------------------------------------------------------


def _overlap(requests: Requests, log: Log, found: Weights) -> Overlap:
    mean, error = _estimate(found.bags, MEAN_WEIGHT)
    return Overlap(
        _unsupported(requests, log), all(cell.certain for cell in log.cells), _effective(found.sum, found.squares), Fraction(found.moved_rows, log.rows),
        _effective(found.moved_sum, found.moved_squares), mean / UNIT, error / UNIT,
    )  # fmt: skip


def _unsupported(requests: Requests, log: Log) -> Fraction:
    """The part of the policy's probability that is known to lie where the log has none.

    A model that was certain (propensity 1) leaves nothing for any other. One that was not leaves something for others; which
    ones is known from the requests of the same rule that chance sent elsewhere.
    """
    random = {(cell.stratum, cell.logged) for cell in log.cells if not cell.certain}
    missing = 0
    for cell in log.cells:
        for model, chance in enumerate(cell.target):
            if model != cell.logged and (cell.certain or (cell.stratum, model) not in random):
                missing += cell.rows * chance
    return Fraction(missing, log.rows * requests.denominator)


def _effective(whole: int, squares: int) -> Fraction:
    """Kish's effective sample size, (sum w)^2 / sum w^2."""
    return Fraction(whole * whole, squares) if squares else Fraction(0)


def _refusals(overlap: Overlap) -> list[str]:
    found = []
    if overlap.unlikely:
        found.append(
            f"{_percent(overlap.unsupported)} % of the policy's choices are models that the log never gave a chance (over {MOST_UNSUPPORTED} %)"
        )
    if overlap.effective < LEAST_EFFECTIVE:
        found.append(f"the effective sample is {_digits(overlap.effective, 1)} requests (under {LEAST_EFFECTIVE})")
    elif overlap.scarce:
        reached = _digits(overlap.moved_effective, 1)
        found.append(f"among the requests that the policy moves, the effective sample is {reached} (under {LEAST_EFFECTIVE})")
    if not found and abs(overlap.mean_weight - 1) - 4 * overlap.mean_weight_error > MISFIT:
        found.append(
            f"the weights average {_digits(overlap.mean_weight, 3)} where propensities that fit would give 1: "
            "`propensity` is not the probability of the model that answered"
        )
    return found


def _remedy(overlap: Overlap, log: Log, seconds: int | None) -> str:
    """What to do, and about how many requests like these it takes."""
    if not (overlap.unlikely or overlap.scarce or overlap.certain):
        return "log for each request the probability with which the model that answered was chosen, over all arms that lead to it"
    reached = overlap.moved_effective if overlap.moved else overlap.effective
    if reached and not (overlap.unlikely or overlap.certain):
        needed = ceil(log.rows * LEAST_EFFECTIVE / reached)
        how = f"log about {needed:,} requests as these were logged, or explore more"
    else:
        needed = ceil(LEAST_EFFECTIVE / (EXPLORED * (max(overlap.moved, overlap.unsupported) or 1)))
        how = f"{REMEDY}: about {needed:,} requests like these for each other model of a chain"
    if seconds:
        how += f", {ceil(Fraction(needed * seconds, log.total * DAY)):,} days at this trace's pace"
    return f"{how}; {PAIRED}"


# -- the result ------------------------------------------------------------------------------------------------------


def _judged(requests: Requests, log: Log, found: Weights, overlap: Overlap, clip: int, seconds: int | None) -> Json:
    head = _head(requests, log)
    if overlap.certain and overlap.unsupported:
        why = f"every choice was certain (propensity 1), and the policy makes another one in {_percent(overlap.unsupported)} % of the requests"
        return head | _silent(why, _remedy(overlap, log, seconds)) | {"overlap": _diagnostics(log, found, overlap)}
    refusals = _refusals(overlap)
    told = head | {
        "identifiable": True,
        "overlap": _diagnostics(log, found, overlap),
        "clip": _clip(log, found, clip),
        "refusals": refusals,
    }
    if refusals:
        return told | {
            "sentence": f"no estimate of `{requests.name}`: {'; '.join(refusals)}", "remedy": _remedy(overlap, log, seconds), "estimates": None,
            "warnings": [], "assumptions": [],
        }  # fmt: skip
    estimates = {name: _line(found.bags, terms, log.places) for name, terms in (("logged", LOGGED), ("snips", SNIPS), ("dr", DR))}
    dr = estimates["dr"]
    low, high = dr["difference_interval"] or ("unknown", "unknown")
    return told | {
        "sentence": f"mean `{requests.name}` would go from {estimates['logged']['value']} to {dr['value']} (doubly robust), "
        f"by {dr['difference']}; {CONFIDENCE} % interval of the difference: {low} to {high}",
        "remedy": "", "confidence_percent": CONFIDENCE, "clusters": len(found.bags), "estimates": estimates,
        "method": "delta method over clusters; self-normalised weights; outcome model by rule and model, fitted on the other half of the clusters",
        "warnings": _warnings(log, found, clip), "assumptions": _assumptions(log),
    }  # fmt: skip


def _unusable(requests: Requests, log: Log) -> Json:
    none = log.left_out[WITHOUT_PROPENSITY] == log.total - sum(log.left_out[:WITHOUT_PROPENSITY]) > 0
    left = [f"{rows:,}: {reason}" for reason, rows in zip(REASONS, log.left_out, strict=True) if rows]
    why = (
        "no request carries the propensity of its model"
        if none
        else f"no request can be used ({'; '.join(left) or 'there are none'})"
    )
    return _head(requests, log) | _silent(why, f"{REMEDY}; {PAIRED}") | {"overlap": None}


def _silent(why: str, remedy: str) -> Json:
    return {
        "identifiable": False, "sentence": f"quality is not identifiable from these traces: {why}", "remedy": remedy, "clip": None, "refusals": [],
        "estimates": None, "warnings": [], "assumptions": [],
    }  # fmt: skip


def _head(requests: Requests, log: Log) -> Json:
    left = [{"why": reason, "rows": rows} for reason, rows in zip(REASONS, log.left_out, strict=True) if rows]
    return {"outcome": requests.name, "rows": log.total, "used_rows": log.rows, "left_out": left}


def _diagnostics(log: Log, found: Weights, overlap: Overlap) -> Json:
    return {
        "unsupported_percent": _percent(overlap.unsupported), "effective_sample": _digits(overlap.effective, 1),
        "largest_weight": _digits(Fraction(found.largest, UNIT), 2), "top_1_percent_hold_percent": percent(found.top, found.sum),
        "mean_weight": _digits(overlap.mean_weight, 3), "mean_weight_error": _digits(overlap.mean_weight_error, 3),
        "moved_rows": found.moved_rows, "moved_percent": percent(found.moved_rows, log.rows), "moved_effective_sample": _digits(overlap.moved_effective, 1),
    }  # fmt: skip


def _clip(log: Log, found: Weights, clip: int) -> Json:
    return {
        "weight": clip, "rows": found.clipped_rows, "rows_percent": percent(found.clipped_rows, log.rows),
        "cut_percent": percent(found.sum - found.clipped_sum, found.sum),
    }  # fmt: skip


def _warnings(log: Log, found: Weights, clip: int) -> list[str]:
    heaviest = percent(max(bag.clipped for bag in found.bags), found.clipped_sum)
    warnings = []
    if len(found.bags) < FEW:
        warnings.append(f"{len(found.bags)} clusters are too few (under {FEW}): don't rely on the interval")
    if heaviest is not None and Decimal(heaviest) > HEAVY:
        warnings.append(f"one cluster holds {heaviest} % of the weight (over {HEAVY} %): don't rely on the interval")
    cut = percent(found.sum - found.clipped_sum, found.sum)
    if cut is not None and Decimal(cut) > NOTICED:
        warnings.append(f"clipping at {clip} cuts {cut} % of the weight: the estimates lean towards what was logged")
    if log.rows < log.total / 2:
        warnings.append(
            f"{percent(log.total - log.rows, log.total)} % of the requests are left out: the estimates are for the others"
        )
    return warnings


def _assumptions(log: Log) -> list[str]:
    found = [
        "`propensity` is the probability, given the request, of the model that answered",
        "a request's outcome depends on its own model only",
    ]
    if log.rows < log.total:
        found.append("requests that are left out are left out on both sides")
    return found


# -- statistics ------------------------------------------------------------------------------------------------------


def _line(bags: Sequence[Bag], terms: Sequence[Term], places: int) -> Json:
    """An estimate, its difference to the logged mean on the same requests, and an interval of each."""
    value, error = _estimate(bags, terms)
    line: Json = {"value": _shown(value, places), "interval": _interval(value, error, len(bags), places)}
    if terms is LOGGED:
        return line
    change, spread = _estimate(bags, (*terms, *((-sign, above, below) for sign, above, below in LOGGED)))
    return line | {
        "difference": _shown(change, places), "difference_error": _shown(spread, places),
        "difference_interval": _interval(change, spread, len(bags), places),
    }  # fmt: skip


def _estimate(bags: Sequence[Bag], terms: Sequence[Term]) -> tuple[Decimal, Decimal]:
    """A sum of ratios of sums, and its standard error by the delta method: the root of the sum of squared influences of the
    clusters (Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", 2018)."""
    influences = [Decimal(0)] * len(bags)
    value = Decimal(0)
    for sign, above, below in terms:
        over, under = [getattr(bag, above) for bag in bags], [getattr(bag, below) for bag in bags]
        whole = sum(under)
        if whole == 0:
            continue
        ratio = Decimal(sum(over)) / whole
        value += sign * ratio
        influences = [one + sign * (a - ratio * b) / whole for one, a, b in zip(influences, over, under, strict=True)]
    many = max(len(bags) - 1, 1)
    return value, (sum((one * one for one in influences), Decimal(0)) * len(bags) / many).sqrt()


def _interval(value: Decimal, error: Decimal, clusters: int, places: int) -> list[str] | None:
    if clusters < 2:
        return None
    reach = error * Decimal(repr(round(NormalDist().inv_cdf(0.5 + CONFIDENCE / 200), 12)))
    return [_shown(value - reach, places), _shown(value + reach, places)]


def _shown(value: Decimal, places: int) -> str:
    """A number of outcome units in the outcome's own unit, with as many decimals as seven digits of the largest outcome have."""
    kept = max(0, places - (DIGITS - SHOWN))
    return format(value.scaleb(-places).quantize(Decimal(1).scaleb(-kept), ROUND_HALF_EVEN) + 0, "f")


def _percent(part: Fraction) -> str:
    return _digits(part * 100, 2)


def _digits(value: Fraction | Decimal, places: int) -> str:
    exact = Decimal(value.numerator) / value.denominator if isinstance(value, Fraction) else value
    return format(exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN), "f")
