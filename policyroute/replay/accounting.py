"""Where every request went: one class for each, one rule for each, and why."""

from __future__ import annotations

from policyroute.language.decision import NO_ARM
from policyroute.language.limits import blocked
from policyroute.language.policy import REQUESTED, Policy, Refuse, Route, Split, reads
from policyroute.prices.table import fallbacks_of
from policyroute.replay.figures import Json, dollars, figures, grouped, money, percent, zero
from policyroute.replay.ledger import CLASSES, ESTIMATED, RECORDED_COST
from policyroute.replay.measures import Table
from policyroute.replay.simulate import Simulation


def accounting(simulation: Simulation, flows: Table) -> list[Json]:
    """Every row is in exactly one class; dollars are those of the baseline where it is known."""
    by_class = grouped(flows, lambda key: CLASSES[key[0]])
    rows = simulation.numbers.counts["rows"]
    dollars_known = sum(figures(numbers)["old"] for numbers in by_class.values())
    lines = []
    for name in CLASSES:
        found = figures(by_class.get(name, zero()))
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
                found = figures(numbers)
                bits |= found["old_bits"] | found["new_bits"]
            ours = {
                RECORDED_COST: "price unknown: the recorded cost used",
                ESTIMATED: "no usage recorded: tokens counted from the text",
            }
            own = [text for bit, text in ours.items() if bits & bit]
            return [*fallbacks_of(bits & (RECORDED_COST - 1)), *own]
        case "unpriceable":
            known = {key: (figures(numbers)["old_known"], figures(numbers)["rows"]) for key, numbers in chosen.items()}
            olds = {simulation.served.label(key[3]) for key, (priced, rows) in known.items() if priced < rows}
            news = {simulation.served.label(key[4]) for key, (priced, _) in known.items() if priced}
            return [*_unpriceable("baseline", olds), *_unpriceable("policy", news)]
        case "not replayable":
            return [_stuck(simulation, rule_no) for rule_no in sorted({key[1] for key in chosen})]
        case "refused":
            rules = [simulation.policy.rules[key[1]] for key in chosen]
            return sorted({f"rule `{r.name}` refuses" if not r.routes else f"a used-up limit refuses `{r.name}`" for r in rules})
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


def rules(simulation: Simulation, flows: Table, priced: Table) -> list[Json]:
    """One line per rule: what it takes in order, what it would match alone, and the money of the rows it takes."""
    counts, policy = simulation.numbers.counts, simulation.policy
    taken = grouped(flows, lambda key: key[1])
    prices = grouped(priced, lambda key: key[1])
    lines = []
    for number, rule in enumerate(policy.rules):
        in_order = counts[f"shadow {rule.name}"] if rule.shadow else figures(taken.get(number, zero()))["rows"]
        priced_rows = money(prices.get(number, zero()))
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
    rows = grouped({key: n for key, n in flows.items() if key[1] == number and key[2] != NO_ARM}, lambda key: key[2])
    prices = grouped({key: n for key, n in priced.items() if key[1] == number}, lambda key: key[2])
    target = policy.rules[number].target
    assert isinstance(target, Split)
    return [
        {"arm": arm, "target": made.route.tier or ", ".join(made.route.chain), "takes": figures(rows.get(arm, zero()))["rows"],
         "priced": money(prices.get(arm, zero()))}
        for arm, made in enumerate(target.arms)
    ]  # fmt: skip
