"""A simulation's numbers as the result that people and machines read: JSON-ready, exact, the same bytes each time.

Money is dollars as decimal text, exact to the picodollar; shares are percent with two decimals, rounded half to even.
Nothing here depends on the clock, on paths, or on the order in which rows were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from policyroute.language.decision import NO_ARM
from policyroute.language.limits import blocked
from policyroute.language.policy import REQUESTED, Policy, Refuse, Route, Split, reads
from policyroute.prices.money import to_decimal
from policyroute.prices.table import fallbacks_of
from policyroute.replay.ledger import CLASSES, ESTIMATED, PRICED, RECORDED_COST, REFUSED, UNKNOWN
from policyroute.replay.measures import FACTS, MEASURES, NAMES, Measure, Table, merge
from policyroute.replay.simulate import CLUSTER, DECISIVE, Simulation
from policyroute.replay.statistics import CONFIDENCE, Interval, uncertainty

SCHEMA = "policyroute.simulation/1"
TOP = 10  # members of a segment that are listed: those that save most and those that lose
Json = dict[str, Any]
Key = tuple[Any, ...]


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
        "accounting": _accounting(simulation, flows),
        "rules": _rules(simulation, flows, priced),
        "flows": _flows(simulation, priced),
        "segments": {name: _segment(simulation.numbers.segments.get(name, {})) for name in simulation.segments},
        "self_test": _self_test(simulation),
        "signals": _signals(simulation),
        "assumptions": assumptions(simulation),
        "notes": [{"code": note.code, "message": note.message, "rows": note.rows} for note in simulation.trace.notes],
    }  # fmt: skip


# -- figures -------------------------------------------------------------------------------------------------------


def dollars(picodollars: int) -> str:
    """Exact dollars as text."""
    return format(to_decimal(picodollars), "f")


def percent(part: int, whole: int) -> str | None:
    """`part` of `whole` in percent with two decimals; None where `whole` is 0."""
    if whole == 0:
        return None
    return format((Decimal(part) * 100 / Decimal(whole)).quantize(Decimal("0.01"), ROUND_HALF_EVEN), "f")


def _figures(numbers: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(NAMES, numbers, strict=True))


def _zero() -> tuple[int, ...]:
    return (0,) * len(MEASURES)


def _total(table: Iterable[tuple[int, ...]], measures: tuple[Measure, ...] = MEASURES) -> tuple[int, ...]:
    merged = merge(({(): numbers} for numbers in table), measures)
    return merged.get((), (0,) * len(measures))


def _money(numbers: tuple[int, ...]) -> Json:
    """Rows and money of one line: cost before and after, and what is saved."""
    found = _figures(numbers)
    saving = found["old"] - found["new"]
    return {
        "rows": found["rows"], "changed": found["changed"], "baseline_usd": dollars(found["old"]), "routed_usd": dollars(found["new"]),
        "saving_usd": dollars(saving), "saving_percent": percent(saving, found["old"]),
    }  # fmt: skip


def _grouped(table: Table, key: Callable[[Key], Any]) -> dict[Any, tuple[int, ...]]:
    groups: dict[Any, list[tuple[int, ...]]] = {}
    for at, numbers in table.items():
        groups.setdefault(key(at), []).append(numbers)
    return {name: _total(rows) for name, rows in groups.items()}


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
    numbers = _total(priced.values())
    found = _figures(numbers)
    line = _money(numbers) | {
        "rows_in_trace": simulation.numbers.counts["rows"],
        "changed_percent": percent(found["changed"], found["rows"]),
    }
    if simulation.numbers.counts["rows"] and found["cached"]:
        cold = found["old"] - found["cold"]
        line |= {"saving_without_cache_usd": dollars(cold), "saving_without_cache_percent": percent(cold, found["old"])}
    return line


def _interval(simulation: Simulation) -> Json | None:
    """95 % intervals of the headline's saving, had other clusters come; None where the trace has nothing to cluster by."""
    bags: dict[int, tuple[int, int]] = {}
    for (class_, bag), numbers in simulation.numbers.segments.get(CLUSTER, {}).items():
        if CLASSES[class_] in PRICED:
            found, before = _figures(numbers), bags.get(int(bag, 16), (0, 0))
            bags[int(bag, 16)] = (before[0] + found["old"], before[1] + found["new"])
    drawn = uncertainty(bags)
    if drawn is None:
        return None
    return {
        "confidence_percent": CONFIDENCE, "method": "symmetric bootstrap-t over clusters, Poisson weights", "cluster": simulation.cluster,
        "clusters": drawn.clusters, "largest_cluster_percent": _rounded(drawn.largest * 100),
        "saving_usd": _ends(drawn.saving, 10**12), "saving_percent": _ends(drawn.share, Decimal("0.01")),
        "delta_saving_usd": _ends(drawn.saving_delta, 10**12), "delta_saving_percent": _ends(drawn.share_delta, Decimal("0.01")),
        "warnings": list(drawn.warnings),
    }  # fmt: skip


def _ends(interval: Interval, unit: Decimal | int) -> list[str]:
    return [_rounded(end / unit) for end in (interval.low, interval.high)]


def _rounded(value: Decimal) -> str:
    return format(value.quantize(Decimal("0.01"), ROUND_HALF_EVEN), "f")


def _accounting(simulation: Simulation, flows: Table) -> list[Json]:
    """Every row is in exactly one class; dollars are those of the baseline where it is known."""
    by_class = _grouped(flows, lambda key: CLASSES[key[0]])
    rows = simulation.numbers.counts["rows"]
    dollars_known = sum(_figures(numbers)["old"] for numbers in by_class.values())
    lines = []
    for name in CLASSES:
        found = _figures(by_class.get(name, _zero()))
        lines.append({
            "class": name, "rows": found["rows"], "row_percent": percent(found["rows"], rows), "baseline_usd": dollars(found["old"]),
            "baseline_percent": percent(found["old"], dollars_known), "baseline_unknown_rows": found["rows"] - found["old_known"],
            "why": _why(simulation, flows, name),
        })  # fmt: skip
    return lines


def _why(simulation: Simulation, flows: Table, name: str) -> list[str]:
    """What put rows into this class, in words."""
    chosen = {key: numbers for key, numbers in flows.items() if CLASSES[key[0]] == name}
    match name:
        case "fallback":
            bits = 0
            for numbers in chosen.values():
                found = _figures(numbers)
                bits |= found["old_bits"] | found["new_bits"]
            ours = {
                RECORDED_COST: "price unknown: the recorded cost used",
                ESTIMATED: "no usage recorded: tokens counted from the text",
            }
            own = [text for bit, text in ours.items() if bits & bit]
            return [*fallbacks_of(bits & (RECORDED_COST - 1)), *own]
        case "unpriceable":
            known = {key: (_figures(numbers)["old_known"], _figures(numbers)["rows"]) for key, numbers in chosen.items()}
            olds = {simulation.served.label(key[3]) for key, (priced, rows) in known.items() if priced < rows}
            news = {simulation.served.label(key[4]) for key, (priced, _) in known.items() if priced}
            return [*_unpriceable("baseline", olds), *_unpriceable("policy", news)]
        case "not replayable":
            return [_stuck(simulation, rule_no) for rule_no in sorted({key[1] for key in chosen})]
        case "refused":
            return sorted({f"rule `{simulation.policy.rules[key[1]].name}` refuses" for key in chosen})
        case "unroutable":
            return sorted({f"rule `{simulation.policy.rules[key[1]].name}` is left without a model" for key in chosen})
    return []


def _unpriceable(side: str, labels: set[str]) -> list[str]:
    if not labels:
        return []
    names = sorted(labels)
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    remedy = "`--prices FILE`, or a model with this id and its prices in the policy"
    return [f"no price or no token counts for what the {side} calls: {listed} ({remedy})"]


def _stuck(simulation: Simulation, rule_no: int) -> str:
    """At which rule or limits rows got stuck, and which unknown signals are read there."""
    policy, unknown = simulation.policy, _unknown(simulation)
    rule = policy.rules[-1 - rule_no if rule_no < 0 else rule_no]
    if rule_no < 0:
        read, place = set(reads(rule.condition)), f"rule `{rule.name}`"
    else:
        models = (
            policy.models
            if any(REQUESTED in route.chain for route in rule.routes)
            else {m for route in rule.routes for m in route.chain}
        )
        read, place = (
            {name for model in models for name in reads(blocked(policy, model))},
            f"a limit of the models of `{rule.name}`",
        )
        read |= {REQUESTED} if len(models) == len(policy.models) else set()
    names = [f"`{name}`" for name, count in unknown.items() if count and name in read]
    return f"{place} reads {', '.join(names)}"


def _unknown(simulation: Simulation) -> dict[str, int]:
    counts = simulation.numbers.counts
    return {name: counts.get(f"unknown {name}", 0) for name in simulation.observed}


def _rules(simulation: Simulation, flows: Table, priced: Table) -> list[Json]:
    """One line per rule: what it takes in order, what it would match alone, and the money of the rows it takes."""
    counts, policy = simulation.numbers.counts, simulation.policy
    taken = _grouped(flows, lambda key: key[1])
    money = _grouped(priced, lambda key: key[1])
    lines = []
    for number, rule in enumerate(policy.rules):
        in_order = counts[f"shadow {rule.name}"] if rule.shadow else _figures(taken.get(number, _zero()))["rows"]
        priced_rows = _money(money.get(number, _zero()))
        lines.append(
            {"rule": rule.name, "kind": _kind(policy, number), "target": _target(policy, number), "takes": in_order,
             "takes_percent": percent(in_order, counts["rows"]), "alone": counts[f"alone {rule.name}"]}
            | ({} if rule.shadow else {"priced": priced_rows})
            | ({"arms": _arms(policy, number, flows, priced)} if isinstance(rule.target, Split) and not rule.shadow else {})
        )  # fmt: skip
    return lines


def _kind(policy: Policy, number: int) -> str:
    rule = policy.rules[number]
    return (
        "shadow"
        if rule.shadow
        else "refuse"
        if isinstance(rule.target, Refuse)
        else "split"
        if isinstance(rule.target, Split)
        else "route"
    )


def _target(policy: Policy, number: int) -> str:
    match policy.rules[number].target:
        case Refuse():
            return "refuse"
        case Route(chain, tier):
            return tier or " fallback ".join([chain[0], ", ".join(chain[1:])] if len(chain) > 1 else chain)
        case Split(key, arms):
            return f"split by {key}: " + ", ".join(
                f"{percent(arm.share, 10_000)}% {arm.route.tier or arm.route.chain[0]}" for arm in arms
            )


def _arms(policy: Policy, number: int, flows: Table, priced: Table) -> list[Json]:
    rows = _grouped({key: n for key, n in flows.items() if key[1] == number and key[2] != NO_ARM}, lambda key: key[2])
    money = _grouped({key: n for key, n in priced.items() if key[1] == number}, lambda key: key[2])
    target = policy.rules[number].target
    assert isinstance(target, Split)
    return [
        {"arm": arm, "target": made.route.tier or ", ".join(made.route.chain), "takes": _figures(rows.get(arm, _zero()))["rows"],
         "priced": _money(money.get(arm, _zero()))}
        for arm, made in enumerate(target.arms)
    ]  # fmt: skip


def _flows(simulation: Simulation, priced: Table) -> list[Json]:
    """Baseline model to routed model, the dearest first."""
    label = simulation.served.label
    pairs = _grouped(priced, lambda key: (label(key[3]), label(key[4])))
    ordered = sorted(pairs.items(), key=lambda item: (-_figures(item[1])["old"], item[0]))
    return [{"from": old, "to": new} | _money(numbers) for (old, new), numbers in ordered]


def _segment(table: Table) -> Json:
    """Members of a segment: those that save most, and those that save least or lose; only priced rows have money."""
    priced = {key: numbers for key, numbers in table.items() if CLASSES[key[0]] in PRICED}
    members = _grouped(priced, lambda key: key[1])
    ordered = sorted(
        members.items(), key=lambda item: (_figures(item[1])["new"] - _figures(item[1])["old"], item[0] is None, str(item[0]))
    )
    lines = [{"member": "(none)" if name is None else name} | _money(numbers) for name, numbers in ordered]
    worst = [line for line in reversed(lines) if Decimal(line["saving_usd"]) < 0][:TOP]
    return {"members": len(lines), "top": lines[:TOP], "losers": [line for line in worst if line not in lines[:TOP]]}


def _self_test(simulation: Simulation) -> Json | None:
    """What the trace says that its calls cost against what we compute for the same calls: the error of our prices."""
    facts = simulation.numbers.facts
    if not facts:
        return None
    total = _total(facts.values(), FACTS)
    ordered = sorted(facts.items(), key=lambda item: (-item[1][1], item[0]))
    return _fact("all", total) | {"models": [_fact(simulation.served.label(key[0]), numbers) for key, numbers in ordered]}


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
    numbers = _figures(_total(simulation.numbers.flows.values()))
    found = ["answers keep their length: the routed model is taken to write as many tokens as the recorded one did"]
    found.append("input tokens are the recorded ones; another model's tokenizer would count them differently")
    if numbers["cached"]:
        found.append("cached input stays cached when the model changes; the saving without that is given beside it")
    if simulation.numbers.counts.get("failed", 0):
        found.append("calls that failed at the provider cost nothing, before and after")
    found.append("every call of the routed model succeeds at the first attempt")
    found += dict.fromkeys(seen.assumption for seen in simulation.observed.values() if seen.assumption)
    for what, policy in (("policy", simulation.policy), ("baseline's policy", simulation.options.baseline_policy)):
        without = [construct.title for construct in policy.constructs if construct.kind in DECISIVE] if policy else []
        if without:
            found.append(f"the {what} is replayed without {', '.join(without)}")
    unread = [
        construct.title
        for construct in simulation.policy.constructs
        if construct.kind in ("on failure", "on stream failure", "guarantee", "gate")
    ]
    if unread:
        found.append(f"not evaluated: {', '.join(unread)}")
    refused = sum(_figures(n)["rows"] for key, n in simulation.numbers.flows.items() if CLASSES[key[0]] == REFUSED)
    if refused:
        found.append("a request that a rule refuses saves nothing: its money is left out on both sides")
    if any(CLASSES[key[0]] == UNKNOWN for key in simulation.numbers.flows):
        found.append("requests that can't be replayed are left out on both sides")
    return found
