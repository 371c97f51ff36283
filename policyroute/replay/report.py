"""A simulation's numbers as the result that people and machines read: JSON-ready, exact, the same bytes each time.

Money is dollars as decimal text, exact to the picodollar; shares are percent with two decimals, rounded half to even.
Nothing here depends on the clock, on paths, or on the order in which rows were read.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from policyroute.replay import story
from policyroute.replay.accounting import accounting, rules
from policyroute.replay.effects import caching
from policyroute.replay.figures import Json, dollars, figures, grouped, money, percent, total
from policyroute.replay.gates.judge import judge
from policyroute.replay.ledger import CLASSES, PRICED, REFUSED, UNKNOWN
from policyroute.replay.measures import FACTS, Table
from policyroute.replay.options import CLUSTER
from policyroute.replay.quality import estimates_for_gates
from policyroute.replay.simulate import Simulation
from policyroute.replay.statistics import CONFIDENCE, Interval, uncertainty

SCHEMA = "policyroute.simulation/1"
TOP = 10  # members of a segment that are listed: those that save most and those that lose


def result(simulation: Simulation) -> Json:
    """The whole result. Its schema is documented in docs/simulate.md."""
    flows = simulation.numbers.flows
    priced = {key: numbers for key, numbers in flows.items() if CLASSES[key[0]] in PRICED}
    return {
        "schema": SCHEMA,
        "engine": simulation.engine,
        "prices": simulation.prices,
        "digests": {
            "policy": simulation.policy.digest, "trace": simulation.trace.digest, "prices": simulation.prices_digest,
            "engine": simulation.engine_digest,
        },
        "policy": simulation.policy.name,
        "baseline": _baseline(simulation),
        "trace": _trace(simulation),
        "headline": _headline(simulation, priced),
        "interval": _interval(simulation),
        "break_even": story.break_even(priced),
        "waterfall": story.waterfall(simulation, priced),
        "lengths": story.lengths_of(simulation, priced),
        "cache": story.cache_of(simulation, priced),
        "costs": story.costs(simulation, priced),
        "answer_cache": story.answer_cache(simulation),
        "accounting": accounting(simulation, flows),
        "rules": [line | story.marginal(simulation, number, priced) for number, line in enumerate(rules(simulation, flows, priced))],
        "state": _state(simulation),
        "classified": _bounds(simulation),
        "flows": _flows(simulation, priced),
        "segments": {name: _segment(simulation.numbers.segments.get(name, {})) for name in simulation.segments},
        "days": story.days(simulation),
        "risk": story.risk(simulation, priced),
        "examples": story.examples(simulation),
        "quality": simulation.quality,
        "gates": _gates(simulation),
        "self_test": _self_test(simulation),
        "signals": _signals(simulation),
        "assumptions": assumptions(simulation),
        "notes": [{"code": note.code, "message": note.message, "rows": note.rows} for note in simulation.trace.notes],
    }  # fmt: skip


# -- parts of the result -------------------------------------------------------------------------------------------


def _baseline(simulation: Simulation) -> str:
    other = simulation.options.baseline_policy
    return f"policy {other.name} ({other.digest[:12]})" if other else simulation.options.baseline


def _trace(simulation: Simulation) -> Json:
    numbers, trace = simulation.numbers, simulation.trace
    window = None if trace.relative_time or numbers.first is None else [_moment(numbers.first), _moment(numbers.last)]
    seconds = None if numbers.first is None or numbers.last is None else (numbers.last - numbers.first) // 1_000_000
    return {
        "format": trace.format,
        "files": [part.name for part in trace.parts],
        "rows": trace.rows,
        "window": window,
        "seconds": seconds,
    }


def _moment(microseconds: int | None) -> str:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds or 0))
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z")
    )


def _headline(simulation: Simulation, priced: Table) -> Json:
    numbers = total(priced.values())
    found = figures(numbers)
    line = money(numbers) | {
        "rows_in_trace": simulation.numbers.counts["rows"],
        "changed_percent": percent(found["changed"], found["rows"]),
    }
    if simulation.numbers.counts["rows"] and found["cached"] and simulation.effects.cache == caching.HELD:
        cold = found["old"] - found["cold"]
        line |= {"saving_without_cache_usd": dollars(cold), "saving_without_cache_percent": percent(cold, found["old"])}
    return line


def _interval(simulation: Simulation) -> Json | None:
    """95 % intervals of the headline's saving, had other clusters come; None where the trace has nothing to cluster by."""
    bags: dict[int, tuple[int, int]] = {}
    for (class_, bag), numbers in simulation.numbers.segments.get(CLUSTER, {}).items():
        if CLASSES[class_] in PRICED:
            found, before = figures(numbers), bags.get(int(bag, 16), (0, 0))
            bags[int(bag, 16)] = (before[0] + found["old"], before[1] + found["new"])
    drawn = uncertainty(bags)
    if drawn is None:
        return None
    return {
        "confidence_percent": CONFIDENCE, "method": "bootstrap over clusters, Poisson weights: jackknife error, skewness taken out, the wider of bootstrap-t and t", "cluster": simulation.cluster,
        "clusters": drawn.clusters, "effective_clusters": _rounded(drawn.effective), "largest_cluster_percent": _rounded(drawn.largest * 100),
        "saving_usd": _ends(drawn.saving, 10**12), "saving_percent": _ends(drawn.share, Decimal("0.01")),
        "delta_saving_usd": _ends(drawn.saving_delta, 10**12), "delta_saving_percent": _ends(drawn.share_delta, Decimal("0.01")),
        "warnings": list(drawn.warnings),
    }  # fmt: skip


def _ends(interval: Interval, unit: Decimal | int) -> list[str]:
    return [_rounded(end / unit) for end in (interval.low, interval.high)]


def _rounded(value: Decimal) -> str:
    return format(value.quantize(Decimal("0.01"), ROUND_HALF_EVEN), "f")


def _flows(simulation: Simulation, priced: Table) -> list[Json]:
    """Baseline model to routed model, the dearest first."""
    label = simulation.served.label
    pairs = grouped(priced, lambda key: (label(key[3]), label(key[4])))
    ordered = sorted(pairs.items(), key=lambda item: (-figures(item[1])["old"], item[0]))
    return [{"from": old, "to": new} | money(numbers) for (old, new), numbers in ordered]


def _segment(table: Table) -> Json:
    """Members of a segment: those that save most, and those that save least or lose; only priced rows have money."""
    priced = {key: numbers for key, numbers in table.items() if CLASSES[key[0]] in PRICED}
    members = grouped(priced, lambda key: key[1])
    ordered = sorted(
        members.items(), key=lambda item: (figures(item[1])["new"] - figures(item[1])["old"], item[0] is None, str(item[0]))
    )
    lines = [{"member": "(none)" if name is None else name} | money(numbers) for name, numbers in ordered]
    worst = [line for line in reversed(lines) if Decimal(line["saving_usd"]) < 0][:TOP]
    return {"members": len(lines), "top": lines[:TOP], "losers": [line for line in worst if line not in lines[:TOP]]}


def _self_test(simulation: Simulation) -> Json | None:
    """What the trace says that its calls cost against what we compute for the same calls: the error of our prices."""
    facts = simulation.numbers.facts
    if not facts:
        return None
    everything = total(facts.values(), FACTS)
    ordered = sorted(facts.items(), key=lambda item: (-item[1][1], item[0]))
    return _fact("all", everything) | {"models": [_fact(simulation.served.label(key[0]), numbers) for key, numbers in ordered]}


def _gates(simulation: Simulation) -> list[Json]:
    """Each gate that was asked for, judged."""
    facts = figures(total(simulation.numbers.facts.values(), FACTS), FACTS) if simulation.numbers.facts else {}
    error = facts.get("recomputed", 0) - facts.get("recorded", 0)
    known = estimates_for_gates(simulation.quality, simulation.cluster)
    return [judge(gate, sums, price_error=error, estimates=known) for gate, sums in simulation.gates]


def _bounds(simulation: Simulation) -> list[Json]:
    """What would be saved if a classifier whose answers were drawn gave one answer to all."""
    return [
        {"classifier": each.classifier, "member": each.member, "saving_usd": dollars(each.old - each.new), "saving_percent": percent(each.old - each.new, each.old)}
        for each in simulation.bounds
    ]  # fmt: skip


def _state(simulation: Simulation) -> Json | None:
    """What sticky, quotas and budgets did; None for a policy without state."""
    state = simulation.state
    if state is None:
        return None
    lines = [
        {"by": list(one.by), "rows": one.rows, "moved": one.moved, "refused": one.refused, "users": one.users or None,
         "rules_usd": dollars(one.plain), "routed_usd": dollars(one.cost), "difference_usd": dollars(one.cost - one.plain)}
        for one in state.acted
    ]  # fmt: skip
    return {
        "acted": lines,
        "idle": list(state.idle),
        "rows": state.rows,
        "followed": state.followed,
        "not_replayable": state.unknown,
        "outside": simulation.numbers.counts["rows"] - state.rows,
    }


def _fact(name: str, numbers: tuple[int, ...]) -> Json:
    found = dict(zip((measure.name for measure in FACTS), numbers, strict=True))
    error = found["recomputed"] - found["recorded"]
    return {
        "model": name, "rows": found["rows"], "recorded_usd": dollars(found["recorded"]), "recomputed_usd": dollars(found["recomputed"]),
        "error_usd": dollars(error), "error_percent": percent(error, found["recorded"]),
        "row_error_percent": percent(found["off"], found["recorded"]), "rows_within_half_percent": found["close"],
    }  # fmt: skip


def _signals(simulation: Simulation) -> list[Json]:
    counts = simulation.numbers.counts
    rows = counts["rows"]
    return [
        {"signal": name, "source": seen.source, "unknown_rows": counts.get(f"unknown {name}", 0),
         "unknown_percent": percent(counts.get(f"unknown {name}", 0), rows), "outside_type_rows": counts.get(f"odd {name}", 0)}
        for name, seen in simulation.observed.items()
    ]  # fmt: skip


def assumptions(simulation: Simulation) -> list[str]:
    """What the figures rest on and the trace doesn't show, in words."""
    numbers = figures(total(simulation.numbers.flows.values()))
    effects = simulation.effects
    found = [story.lengths_of(simulation, {})["sentence"]]
    found.append("input tokens are the recorded ones; another model's tokenizer would count them differently")
    if numbers["cached"] and effects.cache == caching.HELD:
        found.append("cached input stays cached when the model changes; the saving without that is given beside it")
    elif numbers["cached"] and effects.cache == caching.OFF:
        found.append("a request whose model changes finds nothing cached")
    elif numbers["cached"]:
        found.append(
            "a conversation that moves to another model loses its cached prefix and builds a new one; prefixes shared between conversations aren't carried over"
        )
    if simulation.numbers.counts.get("failed", 0):
        found.append("calls that failed at the provider cost nothing, before and after")
    if effects.failures:
        found.append(
            "in minutes in which half of a provider's recorded calls failed, it fails for the requests that move to it too, and the next model of the chain answers; failed attempts cost nothing"
        )
    else:
        found.append("every call of the routed model succeeds at the first attempt")
    found += [
        f"the classifier `{name}` is asked for up to {rows:,} requests; a call whose cost isn't recorded is priced at its most: what it is shown, and a word"
        for name, rows in story.classifier_calls(simulation)
    ]
    found += story.weak_answers(simulation)
    found += dict.fromkeys(seen.assumption for seen in simulation.observed.values() if seen.assumption)
    for what, titles in zip(("policy", "baseline's policy"), simulation.left_out, strict=False):
        if titles:
            found.append(f"the {what} is replayed without {', '.join(titles)}")
    if simulation.state is not None:
        found += story.state_assumptions(simulation)
    unread = [construct.title for construct in simulation.policy.constructs if construct.kind == "on stream failure"]
    if unread:
        found.append(f"not evaluated: {', '.join(unread)}")
    refused = sum(figures(n)["rows"] for key, n in simulation.numbers.flows.items() if CLASSES[key[0]] == REFUSED)
    if refused:
        found.append("a request that a rule refuses saves nothing: its money is left out on both sides")
    if any(CLASSES[key[0]] == UNKNOWN for key in simulation.numbers.flows):
        found.append("requests that can't be replayed are left out on both sides")
    return found
