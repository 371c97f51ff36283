"""A tuning as the result that people and machines read: JSON-ready, exact, the same bytes each time.

Money is dollars as decimal text, shares are percent with two decimals. Figures named `earlier` are those that the choice was made from, and
flatter it; what counts is the hold-out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal

import policyroute
from policyroute.replay.effects import caching
from policyroute.replay.figures import Json, dollars, percent
from policyroute.replay.options import DECISIVE
from policyroute.replay.outcomes.table import MICRO
from policyroute.replay.statistics import Interval, Uncertainty, uncertainty
from policyroute.replay.tuning.candidates import Values
from policyroute.replay.tuning.constraints import Constraint, Pair
from policyroute.replay.tuning.sweep import Arm
from policyroute.replay.tuning.totals import Totals
from policyroute.replay.tuning.tune import Candidate, Tuned, front
from policyroute.signals.columns import VERSION

SCHEMA = "policyroute.tuning/1"
CHANGE, LEAVE, DONT = "change", "leave it", "do not route"
QUALITY_UNKNOWN = "quality is not identifiable from these traces: what is cheaper may answer worse"
_UNPRICED = "`policyroute simulate` says why, and `--assume`, `--prices`, `--incumbent` or `--baseline` may help"


def tuning(tuned: Tuned) -> Json:
    """The whole result."""
    difference = _drawn(tuned, {bag: (was, now) for bag, (_, was, now) in tuned.bags.items()})
    saving = _drawn(tuned, {bag: (old, now) for bag, (old, _, now) in tuned.bags.items()})
    word, sentence = _answer(tuned, difference)
    engine = f"policyroute {policyroute.__version__}, extractor {VERSION}"
    return {
        "schema": SCHEMA,
        "engine": engine,
        "prices": tuned.catalog.version,
        "digests": {
            "policy": tuned.policy.digest, "trace": tuned.trace.digest, "prices": tuned.catalog.digest,
            "engine": hashlib.sha256(engine.encode()).hexdigest(),
        },
        "policy": tuned.policy.name,
        "baseline": f"policy {other.name} ({other.digest[:12]})" if (other := tuned.options.baseline_policy) else tuned.options.baseline,
        "trace": {"format": tuned.trace.format, "files": [part.name for part in tuned.trace.parts], "rows": tuned.trace.rows},
        "answer": {"word": word, "sentence": sentence, "values": chosen_values(tuned) if word == CHANGE else {}},
        "tunables": list(_tunables(tuned)),
        "unread_tunables": list(tuned.idle),
        "constraints": [_bound(tuned, each) for each in tuned.asked.constraints],
        "figure": {"name": tuned.figure.name, "better": "less" if tuned.figure.less else "more"},
        "holdout": {
            "asked": tuned.asked.holdout.text, "sentence": tuned.cut.sentence, "by": tuned.cut.by,
            "earlier_rows": tuned.present.periods.early.rows, "rows": tuned.present.periods.late.rows,
        },
        "search": {"kind": tuned.kind, "candidates": len(tuned.candidates), "starts": [list(point) for point in tuned.starts]},
        "front": [_line(tuned, each, late=False) for each in front(tuned)],
        "present": _both(tuned, tuned.present),
        "chosen": _both(tuned, tuned.chosen) if tuned.chosen else None,
        "difference": difference | {"compares": "the present values with the chosen ones, hold-out"},
        "saving": saving | {"compares": "the baseline with the chosen values, hold-out"},
        "models_alone": [_arm(each) for each in tuned.arms],
        "cautions": list(_cautions(tuned, difference)),
        "assumptions": list(_assumptions(tuned)),
        "candidates": [_line(tuned, each, late=False) for each in tuned.candidates],
        "notes": [{"code": note.code, "message": note.message, "rows": note.rows} for note in tuned.trace.notes],
    }  # fmt: skip


def values_of(tuned: Tuned, candidate: Candidate) -> dict[str, int]:
    """A candidate's values by name."""
    return dict(zip(tuned.names, candidate.point, strict=True))


def chosen_values(tuned: Tuned) -> Values:
    """The values to write: those of the chosen candidate that differ from the present ones."""
    if tuned.chosen is None:
        return {}
    return {name: value for name, value in values_of(tuned, tuned.chosen).items() if value != tuned.policy.tunables[name].value}


# -- the answer ----------------------------------------------------------------------------------------------------


def _answer(tuned: Tuned, difference: Json) -> tuple[str, str]:
    chosen = tuned.chosen
    if not any(each.periods.early.priced for each in tuned.candidates):
        return LEAVE, f"nothing can be told: no request before the hold-out is priced on both sides; {_UNPRICED}"
    if chosen is None:
        nearest = min(tuned.candidates, key=lambda each: (each.short_by(tuned.asked.constraints), each.point))
        told = ", ".join(f"{each.figure.name} {_shown(nearest.figure(each.figure))}" for each in tuned.asked.constraints)
        return LEAVE, f"no candidate meets the constraint before the hold-out; the nearest has {told}"
    if chosen.periods.early.saving <= 0:
        return DONT, "no candidate saves anything against the baseline before the hold-out"
    if (sum(old - now for old, _, now in tuned.bags.values())) <= 0:
        return DONT, "the best candidate saves nothing against the baseline in the hold-out"
    if (alone := _beaten(tuned.arms)) is not None:
        return DONT, f"`{alone.model}` alone is no dearer than the best candidate and scores no worse in the hold-out"
    if chosen.point == tuned.present.point:
        return LEAVE, "the present values are the best of those tried"
    broken = [each.text for each in tuned.asked.constraints if each.short_by(chosen.figure(each.figure, late=True))]
    if broken:
        return LEAVE, f"the best candidate doesn't keep {', '.join(broken)} in the hold-out"
    return _confirmed(tuned, difference)


def _confirmed(tuned: Tuned, difference: Json) -> tuple[str, str]:
    """Whether the hold-out confirms what was chosen before it."""
    if any(each.short_by(tuned.present.figure(each.figure)) for each in tuned.asked.constraints):
        return CHANGE, "the present values don't keep the constraint, and the chosen ones do, in the hold-out too" + _ending(tuned)
    interval = difference["interval"]
    if interval is None:
        return LEAVE, "the hold-out can't confirm the difference: there are no clusters to draw"
    low, high = map(Decimal, interval["saving_usd"])
    if low <= 0 <= high:
        return LEAVE, "the difference in the hold-out could as well be none: its interval includes 0"
    if high < 0:
        return LEAVE, "what was cheaper before is dearer in the hold-out"
    return CHANGE, "the hold-out confirms that the chosen values save more than the present ones" + _ending(tuned)


def _ending(tuned: Tuned) -> str:
    """What the answer itself says of a value at an end: nobody should take it for an optimum."""
    ends = [
        f"`{line['name']}` is {line['at_end']}" for line in _tunables(tuned) if line["at_end"] and line["chosen"] != line["present"]
    ]
    return f"; {' and '.join(ends)}" if ends else ""


def _beaten(arms: tuple[Arm, ...]) -> Arm | None:
    """A single model that is no dearer than the policy and scores no worse; of several the one that scores best."""
    if not arms:
        return None
    policy, *models = arms
    better = [each for each in models if each.cost <= policy.cost and each.score >= policy.score]
    return max(better, key=lambda each: (each.score, -each.cost), default=None)


# -- lines ---------------------------------------------------------------------------------------------------------


def _tunables(tuned: Tuned) -> Iterator[Json]:
    chosen = values_of(tuned, tuned.chosen) if tuned.chosen else {}
    for name in tuned.names:
        tunable, value = tuned.policy.tunables[name], chosen.get(name)
        yield {
            "name": name, "low": tunable.type.low, "high": tunable.type.high, "present": tunable.value, "chosen": value,
            "at_end": _end(tuned, name, value), "seen": list(tuned.seen[name]) if name in tuned.seen else None, "compared_with": [text.replace('"', "") for text in tuned.compared_with[name]],
            "tried": list(tuned.values[name]),
        }  # fmt: skip


def _end(tuned: Tuned, name: str, value: int | None) -> str | None:
    """Whether a value is an end of its range, or lies beyond (or at the end of) all that was seen before the hold-out."""
    if value is None:
        return None
    type_ = tuned.policy.tunables[name].type
    if value in (type_.low, type_.high):
        return "the low end of its range" if value == type_.low else "the high end of its range"
    least, most = tuned.seen.get(name, (value - 1, value + 1))
    return "below all that was seen" if value <= least else "above all that was seen" if value >= most else None


def _bound(tuned: Tuned, constraint: Constraint) -> Json:
    """What the present and the chosen values make of a constraint, in both periods."""
    found: Json = {"text": constraint.text}
    for name, candidate in (("present", tuned.present), ("chosen", tuned.chosen)):
        for period, late in (("earlier", False), ("holdout", True)):
            if candidate is not None:
                pair = candidate.figure(constraint.figure, late=late)
                found[f"{name}_{period}"] = {"percent": percent(*pair), "met": not constraint.short_by(pair)}
    return found


def _both(tuned: Tuned, candidate: Candidate) -> Json:
    return {"earlier": _line(tuned, candidate, late=False), "holdout": _line(tuned, candidate, late=True)}


def _line(tuned: Tuned, candidate: Candidate, *, late: bool) -> Json:
    """One candidate in one period, with usage held as recorded."""
    totals: Totals = candidate.periods.late if late else candidate.periods.early
    figure = candidate.figure(tuned.figure, late=late)
    return {
        "values": values_of(tuned, candidate), "rows": totals.priced, "changed": totals.changed, "changed_percent": percent(totals.changed, totals.priced),
        "baseline_usd": dollars(totals.old), "routed_usd": dollars(totals.new), "saving_usd": dollars(totals.saving),
        "saving_percent": percent(totals.saving, totals.old), "figure_percent": percent(*figure),
        "meets_constraints": not candidate.short_by(tuned.asked.constraints, late=late),
        "refused": totals.refused, "unroutable": totals.unroutable, "not_replayable": totals.unknown,
        "score": percent(totals.score, totals.scored * MICRO), "tiers": {name: percent(rows, totals.known) for name, rows in totals.tiers.items()},
    }  # fmt: skip


def _arm(arm: Arm) -> Json:
    return {
        "model": arm.model or None, "requests": arm.requests, "cost_usd": dollars(arm.cost), "score_percent": percent(arm.score, arm.requests * MICRO),
    }  # fmt: skip


def _drawn(tuned: Tuned, bags: dict[int, tuple[int, int]]) -> Json:
    """Money before and after, and how sure the difference is."""
    old, new = sum(pair[0] for pair in bags.values()), sum(pair[1] for pair in bags.values())
    return {
        "before_usd": dollars(old), "after_usd": dollars(new), "saving_usd": dollars(old - new), "saving_percent": percent(old - new, old),
        "interval": interval_of(bags, tuned.cluster),
    }  # fmt: skip


def interval_of(bags: dict[int, tuple[int, int]], cluster: str | None) -> Json | None:
    """The 95 % interval of a saving from money before and after by bag; None where there is nothing to draw."""
    found: Uncertainty | None = uncertainty(bags) if cluster is not None else None
    if found is None:
        return None
    return {
        "confidence_percent": str(found.confidence), "cluster": cluster, "clusters": found.clusters, "saving_usd": _ends(found.saving, Decimal(10) ** -12, 4),
        "saving_percent": _ends(found.share, Decimal(100), 2), "warnings": list(found.warnings),
    }  # fmt: skip


def _ends(interval: Interval, scale: Decimal, places: int) -> list[str]:
    unit = Decimal(1).scaleb(-places)
    return [format((end * scale).quantize(unit, ROUND_HALF_EVEN), "f") for end in (interval.low, interval.high)]


def _shown(pair: Pair) -> str:
    found = percent(*pair)
    return "unknown" if found is None else f"{found} %"


# -- what to know --------------------------------------------------------------------------------------------------


def _cautions(tuned: Tuned, difference: Json) -> Iterator[str]:
    for line in _tunables(tuned):
        if line["at_end"] and line["chosen"] != line["present"]:
            yield f"`{line['name']}` = {line['chosen']} is {line['at_end']}: the trace doesn't say where to stop"
    if not tuned.asked.constraints:
        yield "no constraint was given: of all candidates the one that saves most was chosen"
    if not tuned.present.periods.early.scored:
        yield QUALITY_UNKNOWN
    if tuned.idle:
        yield f"no rule reads {', '.join(f'`{name}`' for name in tuned.idle)}"
    if difference["interval"]:
        yield from difference["interval"]["warnings"]
    if tuned.chosen and (more := tuned.chosen.periods.late.unroutable + tuned.chosen.periods.late.refused - _unanswered(tuned)) > 0:
        yield f"in the hold-out the chosen values leave {more:,} more requests without an answer"
    missing = tuned.present.periods.early.unknown + tuned.present.periods.late.unknown
    if missing:
        yield f"{missing:,} requests can't be replayed and are left out"


def _unanswered(tuned: Tuned) -> int:
    late = tuned.present.periods.late
    return late.unroutable + late.refused


def _assumptions(tuned: Tuned) -> Iterator[str]:
    effects = tuned.effects
    yield "candidates are compared with answers as long as recorded, and every call succeeding at the first attempt"
    if tuned.cached and tuned.options.prompt_cache == caching.OFF:
        yield "candidates are compared as if a changed model found nothing cached"
    elif tuned.cached:
        yield "candidates are compared as if cached input stayed cached when the model changes"
    if not effects.plain:
        told = [
            *(["the prompt cache"] if effects.cache == caching.MODEL else []),
            *(["recorded outages"] if effects.failures else []),
        ]
        yield (
            f"difference and saving in the hold-out are reckoned with {' and '.join(told)}"
            if told
            else "the hold-out is reckoned as `simulate` does"
        )
    without = [one.title for one in tuned.policy.constructs if one.kind in DECISIVE]
    if without:
        yield f"the policy is replayed without {', '.join(without)}"
