"""Gates judged: each requirement is met, missed, or can't be told from this trace, and then what more it would take.

With `at 95%` a requirement is met when the whole interval meets it and missed when none of it does: for `>=` the lower end
is compared, for `<=` the upper one. Anything between is *not enough data*; so are under 100 clusters, one cluster that holds over
10 %, a tenth of the trace that the figure doesn't cover, and what a replay can't know. Without `at`, the trace's own value
is compared, and nothing is said of other users.

An interval is that of `statistics`; of a share, it is widened where cases are few (`gate_interval`), so that nothing seen is
not taken for nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, localcontext

from policyroute.language.statements import Gate, Requirement
from policyroute.replay.figures import Json
from policyroute.replay.gates.interval import Drawn, drawn, drawn_share
from policyroute.replay.gates.sums import GateSums
from policyroute.replay.power import clusters_needed
from policyroute.replay.statistics import FEW, HEAVY, Interval

PASS, FAIL, UNSURE = "pass", "fail", "not enough data"
EXIT_CODES = {PASS: 0, FAIL: 1, UNSURE: 3}
COVERED = 90  # percent of the trace that a figure has to be about
DAY = 86_400
_PARTS = 100  # of one percent, in a confidence
_CLUSTERS = {"user_id": "users", "conversation_id": "conversations", "day": "days"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure that comes from elsewhere than prices and decisions: quality or latency from an outcomes table, or off-policy.

    Percent or milliseconds; `confidence` of the interval in percent; `source` says in words where it comes from. A latency is
    the mean over requests.
    """

    value: Decimal
    low: Decimal
    high: Decimal
    confidence: int
    clusters: int
    source: str
    cluster: str = "request"


@dataclass(frozen=True, slots=True)
class Cover:
    """How much of a trace a figure is about: `part` of `whole`; `{share}` and the remedy make the sentence."""

    part: str
    whole: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One row for each metric of `language.claims.METRICS`: what is divided by what, and how much of the trace has to be covered.

    A sum's name with `{}` has one sum for each argument. `cases` marks shares of requests, which may be rare.
    """

    over: str = ""
    under: str = ""
    covers: tuple[Cover, ...] = ()
    cases: bool = False
    unknown: str = ""


_PRICES = "`--prices FILE` or prices in the policy, and what the accounting names"
_ASSUME = "`--assume SIGNAL=VALUE` states what the trace doesn't tell"
_MONEY = (
    Cover("old", "old of all", "{share} of the baseline's dollars are of requests that are priced on both sides", _PRICES),
    Cover("money known", "rows", "the baseline's cost is known of {share} of the requests", _PRICES),
)
_SAMPLE = "let the other models answer a sample of these requests and give that as `--outcomes FILE`"
_LOGGED = "put a `split` or `explore` into the policy that serves, and log propensities"
MEASURED: dict[str, Metric] = {
    "savings": Metric("saved", "old", _MONEY),
    "cost": Metric("new", "spend", _MONEY),
    "changed": Metric("changed", "compared", (Cover("named", "rows", "both models are known of {share} of the requests", _ASSUME),), True),
    "refused": Metric("refused", "known", (Cover("known", "rows", "the decision is known of {share} of the requests", _ASSUME),), True),
    "share": Metric("in {}", "of {}", (Cover("of {}", "rows", "the decision is known of {share} of the requests", _ASSUME),), True),
    "quality": Metric(
        unknown=f"quality is not identifiable from these traces: {_SAMPLE}, or {_LOGGED}"
    ),
    "latency": Metric(
        "latency", "timed",
        (Cover("timed", "answered", "latency is not identifiable: it was recorded of the model that would answer in {share} of the requests", _LOGGED),),
        unknown="latency is not identifiable: the trace records none; log `latency_ms`",
    ),
}  # fmt: skip

# For each relation: whether a whole interval meets the bound, and whether none of it does.
_MEETS: dict[str, tuple[Callable[[Decimal, Decimal, Decimal], bool], Callable[[Decimal, Decimal, Decimal], bool]]] = {
    ">=": (lambda low, _high, bound: low >= bound, lambda _low, high, bound: high < bound),
    ">": (lambda low, _high, bound: low > bound, lambda _low, high, bound: high <= bound),
    "<=": (lambda _low, high, bound: high <= bound, lambda low, _high, bound: low > bound),
    "<": (lambda _low, high, bound: high < bound, lambda low, _high, bound: low >= bound),
    "==": (lambda low, high, bound: low == high == bound, lambda low, high, bound: bound < low or bound > high),
    "!=": (lambda low, high, bound: bound < low or bound > high, lambda low, high, bound: low == high == bound),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One requirement judged. `needed` is how many clusters would settle it, in how many `days`; None where it isn't known."""

    outcome: str
    detail: str
    value: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    needed: int | None = None
    days: int | None = None


def judge(gate: Gate, sums: GateSums, *, price_error: int = 0, estimates: Mapping[str, Estimate] | None = None) -> Json:
    """The gate over a replayed trace, JSON-ready: its outcome, and each requirement's with value, interval and detail.

    `sums` are those of `gate_bags`; `price_error` is the self-test's error in picodollars, below which no saving is believed;
    `estimates` holds what is known of `quality` and `latency` from elsewhere. Numbers are decimal text in the bound's unit.
    A gate fails where one requirement does, and passes only where all do.
    """
    with localcontext(Context(prec=40)):
        found = [_judged(requirement, sums, abs(price_error), estimates or {}) for requirement in gate.requirements]
        lines = [_line(requirement, finding) for requirement, finding in zip(gate.requirements, found, strict=True)]
    outcomes = {finding.outcome for finding in found} or {UNSURE}
    return {
        "gate": gate.name, "outcome": next(outcome for outcome in (FAIL, UNSURE, PASS) if outcome in outcomes), "traces": gate.traces,
        "against": gate.baseline, "cluster": sums.cluster, "detail": "" if found else "the gate requires nothing", "requirements": lines,
    }  # fmt: skip


def exit_code(judged: Sequence[Json]) -> int:
    """0 where all gates pass, 1 where one fails, else 3: not enough data."""
    outcomes = {gate["outcome"] for gate in judged}
    return next((EXIT_CODES[outcome] for outcome in (FAIL, UNSURE) if outcome in outcomes), 0)


def _line(requirement: Requirement, finding: Finding) -> Json:
    confidence = requirement.confidence
    shown = [_shown(number, requirement) for number in (finding.value, finding.low, finding.high)]
    return {
        "text": requirement.text, "metric": requirement.metric, "argument": requirement.argument or None, "relation": requirement.relation,
        "value": shown[0], "low": shown[1], "high": shown[2], "bound": _plain(requirement.bound), "unit": requirement.unit,
        "confidence_percent": None if confidence is None else _plain(Decimal(confidence) / _PARTS), "outcome": finding.outcome,
        "detail": finding.detail, "needed": finding.needed, "needed_days": finding.days,
    }  # fmt: skip


# -- one requirement -----------------------------------------------------------------------------------------------


def _judged(requirement: Requirement, sums: GateSums, price_error: int, estimates: Mapping[str, Estimate]) -> Finding:
    estimate = estimates.get(requirement.metric)
    if estimate is not None:
        return _estimated(requirement, estimate)
    metric = MEASURED[requirement.metric]
    place = str(sums.shares.index(requirement.argument)) if requirement.metric == "share" else ""
    if not metric.over or (requirement.metric == "latency" and not sums.timed):
        return Finding(UNSURE, metric.unknown)
    pairs = {bag: (each[metric.over.format(place)], each[metric.under.format(place)]) for bag, each in sums.bags.items()}
    value = _value(requirement, pairs)
    missing = [_uncovered(sums, cover, place) for cover in metric.covers]
    if value is None or any(missing):
        return Finding(UNSURE, "; ".join(filter(None, missing)) or "the trace has no request of which it could be said")
    if requirement.metric == "savings" and abs(sums.total("saved")) <= price_error:
        return Finding(
            UNSURE, "the difference is not larger than the error of our prices in the self-test: it is not a saving", value
        )
    partly = _partly(sums, metric, place)
    if requirement.confidence is None:
        judged = _compared(requirement, value)
        return replace(judged, detail=judged.detail + partly)
    found = _interval(requirement, metric, pairs)
    if sums.cluster is None or found is None:
        return Finding(
            UNSURE, "no interval: the trace has no users, conversations or days to draw, or only one; log `user_id`", value
        )
    scale = _scale(requirement.unit)
    judged = _confident(requirement, sums, found, value, found.low * scale, found.high * scale)
    return replace(judged, detail=judged.detail + partly)


def _interval(requirement: Requirement, metric: Metric, pairs: Mapping[int, tuple[int, int]]) -> Drawn | None:
    confidence = requirement.confidence or 0
    if metric.cases:
        return drawn_share(pairs, confidence)
    return drawn(pairs, confidence, money=metric.covers is _MONEY, total=requirement.unit == "$")


def _value(requirement: Requirement, pairs: Mapping[int, tuple[int, int]]) -> Decimal | None:
    """The trace's own figure in the bound's unit; None where there is nothing that it could be of."""
    over, under = (sum(pair[side] for pair in pairs.values()) for side in (0, 1))
    if under <= 0:
        return None
    return Decimal(over) * _scale("$") if requirement.unit == "$" else Decimal(over) / under * _scale(requirement.unit)


def _scale(unit: str) -> Decimal:
    """From parts of one, picodollars or microseconds to the bound's unit."""
    return {"%": Decimal(100), "$": Decimal(1).scaleb(-12), "ms": Decimal(1).scaleb(-3)}[unit]


def _share_of(sums: GateSums, cover: Cover, place: str) -> Decimal:
    """Percent of the trace that a figure is about."""
    part, whole = sums.total(cover.part.format(place)), sums.total(cover.whole.format(place))
    return Decimal(part) * 100 / whole if whole else Decimal(100)


def _uncovered(sums: GateSums, cover: Cover, place: str) -> str:
    """Why the figure is about too little of the trace; empty where it is about enough."""
    share = _share_of(sums, cover, place)
    if share >= COVERED:
        return ""
    told = cover.sentence.format(share=f"{_rounded(share, 2)} %")
    return f"{told} (under {COVERED} %): more of the same data will not help; {cover.remedy}"


def _partly(sums: GateSums, metric: Metric, place: str) -> str:
    """What the figure leaves out, for a detail's end."""
    shares = [(cover, _share_of(sums, cover, place)) for cover in metric.covers]
    return "".join(f"; {cover.sentence.format(share=f'{_rounded(share, 2)} %')}" for cover, share in shares if share < 100)


def _compared(requirement: Requirement, value: Decimal) -> Finding:
    met, _ = _MEETS[requirement.relation]
    if met(value, value, requirement.bound):
        return Finding(PASS, "the value of this trace; no confidence is asked", value)
    return Finding(FAIL, "the value of this trace misses the bound", value)


def _estimated(requirement: Requirement, estimate: Estimate) -> Finding:
    if requirement.confidence is None:
        judged = _compared(requirement, estimate.value)
    elif requirement.confidence > estimate.confidence * _PARTS:
        asked = f"{requirement.metric} {requirement.relation} ... at {estimate.confidence}%"
        judged = Finding(UNSURE, f"the interval is one at {estimate.confidence} %: write `{asked}`", estimate.value)
    else:
        interval = Drawn(estimate.low, estimate.high, estimate.clusters, Decimal(0))
        judged = _confident(requirement, GateSums({}, estimate.cluster), interval, estimate.value, estimate.low, estimate.high)
    return replace(judged, detail=f"{judged.detail}; {estimate.source}")


# -- an interval against a bound -----------------------------------------------------------------------------------


def _confident(requirement: Requirement, sums: GateSums, found: Drawn, value: Decimal, low: Decimal, high: Decimal) -> Finding:
    met, missed = _MEETS[requirement.relation]
    clusters = _clusters(sums)
    few = found.clusters < FEW
    heavy = found.largest * 100 > HEAVY
    settled = PASS if met(low, high, requirement.bound) else FAIL if missed(low, high, requirement.bound) else UNSURE
    if settled != UNSURE and not few and not heavy:
        word = "meets" if settled == PASS else "misses"
        return Finding(settled, f"the whole interval, over {found.clusters:,} {clusters}, {word} the bound", value, low, high)
    why = [f"{found.clusters:,} {clusters} are too few (under {FEW})"] if few else []
    if heavy:
        what = "dollars" if MEASURED[requirement.metric].covers is _MONEY else "requests"
        why.append(
            f"one of the {found.clusters:,} {clusters} holds {_rounded(found.largest * 100, 0)} % of the {what} (over {HEAVY} %)"
        )
    needed = [FEW if few else 0]
    if settled == UNSURE:
        inside, more = _straddles(requirement, found, value, low, high)
        why.append(inside)
        if more is None:
            return Finding(UNSURE, f"{'; '.join(why)}; more data will not help{_dollars_grow(requirement)}", value, low, high)
        needed.append(more)
    diluted = _ceiling(found.clusters * found.largest * 100 / HEAVY) if heavy else 0
    most = max(*needed, diluted, found.clusters + 1)
    days = None if most == diluted else _days(sums, most)  # one that is too heavy grows with time as the others do
    return Finding(UNSURE, f"{'; '.join(why)}; {_takes(sums, found, most, days)}", value, low, high, most, days)


def _straddles(requirement: Requirement, found: Drawn, value: Decimal, low: Decimal, high: Decimal) -> tuple[str, int | None]:
    """Why an interval decides nothing, and how many clusters would bring its end to the bound: its length goes with 1 / root n."""
    met, _ = _MEETS[requirement.relation]
    likely = "the value meets the bound" if met(value, value, requirement.bound) else "the value misses the bound"
    gap = abs(value - requirement.bound)
    if gap == 0 or requirement.unit == "$" or requirement.relation in ("==", "!="):
        return f"the bound lies inside the interval; {likely}", None
    below = value < requirement.bound
    if found.empty:
        needed = _ceiling(found.clusters * (high - value if below else value - low) / gap)
    else:
        needed = (
            clusters_needed(value, Interval(low, high), found.clusters, requirement.bound, at_least=not below) or found.clusters
        )
    return f"the bound lies inside the interval; {likely}", needed + 1


def _takes(sums: GateSums, found: Drawn, needed: int, days: int | None) -> str:
    """What more it would take, in words."""
    text = f"about {needed:,} {_clusters(sums)} in all ({needed - found.clusters:,} more) would settle it"
    return text if days is None or sums.cluster == "day" else f"{text}, {days:,} days at this trace's rate"


def _dollars_grow(requirement: Requirement) -> str:
    return ": a longer trace has other totals; ask for a share in percent" if requirement.unit == "$" else ""


def _days(sums: GateSums, needed: int) -> int | None:
    """Days of a trace like this one in which so many clusters come; None where that isn't known."""
    if not sums.seconds or not sums.bags:
        return None
    return -(-needed * sums.seconds // (DAY * len(sums.bags)))


def _clusters(sums: GateSums) -> str:
    return _CLUSTERS.get(sums.cluster or "", f"values of `{sums.cluster}`")


# -- numbers -------------------------------------------------------------------------------------------------------


def _shown(number: Decimal | None, requirement: Requirement) -> str | None:
    """A number for reading: with more digits where two would hide on which side of the bound it lies."""
    if number is None:
        return None
    places = 6 if requirement.unit == "$" or _rounded(number, 2) == requirement.bound != number else 2
    return format(_rounded(number, places), "f")


def _rounded(number: Decimal, places: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN) + 0


def _ceiling(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")
