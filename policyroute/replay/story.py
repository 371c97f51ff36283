"""What a result says beside the sums: from the baseline to the new bill step by step, what would undo the saving, what is risky."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from policyroute.language.policy import REQUESTED, reads
from policyroute.replay.details import Example
from policyroute.replay.effects import caching, lengths
from policyroute.replay.figures import Json, dollars, figures, grouped, money, percent, total
from policyroute.replay.ledger import CLASSES, PRICED, REFUSED, UNANSWERED, UNROUTABLE
from policyroute.replay.measures import Table
from policyroute.replay.options import DAY
from policyroute.replay.simulate import Simulation

MANY = 1000  # times: beyond it a break-even is not worth a figure
# Corrections in the order in which they are reckoned: from one cost of a row to the next.
STEPS = (
    ("failures", "fallbacks in recorded outages", "decided", "answered"),
    ("lengths", "other models' answer lengths", "answered", "lengthened"),
    ("cache", "prompt cache of other models", "lengthened", "new"),
)
ASIDE = "calls beside the answers: classifiers, weak first answers"


def waterfall(simulation: Simulation, priced: Table) -> list[Json]:
    """From the baseline to the new bill: each rule's change with the recorded usage, then the corrections."""
    everything = figures(total(priced.values()))
    steps = [_step("baseline", everything["old"], "total")]
    by_rule = {number: figures(numbers) for number, numbers in grouped(priced, lambda key: key[1]).items()}
    for number, found in sorted(by_rule.items()):
        plain = found["new"] - found["new_aside"] if simulation.effects.plain else found["decided"]
        if change := plain - (found["old"] - found["old_aside"]):
            steps.append(_step(simulation.policy.rules[number].name, change, "change"))
    steps += [_step(line["what"], line["picodollars"], "change") for line in _corrections(simulation, everything)]
    return [*steps, _step("under the policy", everything["new"], "total")]


def _step(label: str, picodollars: int, kind: str) -> Json:
    return {"label": label, "usd": dollars(picodollars), "kind": kind}


def _corrections(simulation: Simulation, found: dict[str, int]) -> list[Json]:
    found = found | {"new": found["new"] - found["new_aside"]}
    steps = () if simulation.effects.plain else STEPS
    lines = [{"kind": kind, "what": what, "picodollars": found[after] - found[before]} for kind, what, before, after in steps]
    lines.append({"kind": "aside", "what": ASIDE, "picodollars": found["new_aside"] - found["old_aside"]})
    return [line for line in lines if line["picodollars"]]


def costs(simulation: Simulation, priced: Table) -> list[Json]:
    """What the policy costs beside its models' plain prices: fallbacks, prompts that are not cached any more, classifiers.

    `usd` is None where it isn't reckoned: how many calls there would be is known, what they cost isn't, and is in no total.
    """
    found = figures(total(priced.values()))
    lines = []
    for line in _corrections(simulation, found):
        rows = {"failures": found["fell"], "aside": found["rows"]}.get(line["kind"], found["changed"])
        lines.append({"what": line["what"], "rows": rows, "usd": dollars(line["picodollars"])})
    unanswered = _rows_of(simulation, UNANSWERED)
    if simulation.outages and found["fell"] + unanswered:
        lines.append(
            {"what": "failed attempts and their retries, billed no tokens", "rows": found["fell"] + unanswered, "usd": dollars(0)}
        )
    return lines


def state_assumptions(simulation: Simulation) -> list[str]:
    """What a replay of state rests on."""
    policy, columns = simulation.policy, simulation.trace.present
    served = "state_number" in simulation.trace.extra
    order = "in which the gateway made its decisions" if served else "of their times, and of their rows where times are equal"
    found = [f"conversations, quotas and budgets follow the requests in the order {order}; they begin empty"]
    if any(one.kind == "budget" for one in policy.allowances):
        when = "when the answer had come" if "latency_ms" in columns else "at once, for the trace has no latencies"
        found.append(
            f"a budget reserves what a request costs at most, and is charged the decided model's price of the recorded tokens {when}"
        )
    for key, column in (("user", "user_id"), ("team", "team"), ("conversation", "conversation_id")):
        asked = [one.title for one in policy.allowances if one.key == key]
        asked += [policy.sticky.title] if policy.sticky and policy.sticky.key == key else []
        if asked and column not in columns and key not in simulation.trace.extra:
            effect = "it never acts" if key == "conversation" else "all requests share one"
            found.append(f"the trace has no `{column}` for {', '.join(f'`{title}`' for title in asked)}: {effect}")
    return found


def answer_cache(simulation: Simulation) -> Json | None:
    """Requests that a gateway's answer cache answered, and what they would have cost; None where there are none. They are in no
    other figure: the cache stands before the policy, and answers them under any."""
    if simulation.trace.cached is None:
        return None
    rows, spared = simulation.trace.cached
    return {"rows": rows, "not_spent_usd": format(spared, "f")}


def weak_answers(simulation: Simulation) -> list[str]:
    """What the replay takes of answers that would be asked again one tier up."""
    policy, found = simulation.policy, figures(total(simulation.numbers.flows.values()))
    if not policy.escalations:
        return []
    open_ = _rows_in(simulation, policy.escalates) - found["escalated"]
    known = (
        f"{found['escalated']:,} answers are known to be weak and are asked again, both costs counted; "
        if found["escalated"]
        else ""
    )
    return [f"{known}{open_:,} answers of `{', '.join(policy.escalates)}` are taken to be strong enough: nobody has tested them"]


def _rows_in(simulation: Simulation, tiers: Sequence[str]) -> int:
    rows = 0
    for (_, rule, arm, *_), numbers in simulation.numbers.flows.items():
        routes = simulation.policy.rules[rule].routes if rule >= 0 else ()
        rows += figures(numbers)["rows"] if routes and routes[max(arm, 0)].tier in tiers else 0
    return rows


def classifier_calls(simulation: Simulation) -> list[tuple[str, int]]:
    """Each classifier with the number of requests whose evaluation reaches a rule that reads it: so often it would be asked."""
    rules = simulation.policy.rules
    found = []
    for name in (signal.name for signal in simulation.policy.signals.values() if signal.kind == "classifier"):
        first = next((number for number, rule in enumerate(rules) if not rule.shadow and name in reads(rule.condition)), len(rules))
        reached = (
            figures(n)["rows"] for key, n in simulation.numbers.flows.items() if (key[1] if key[1] >= 0 else -1 - key[1]) >= first
        )
        if rows := sum(reached):
            found.append((name, rows))
    return found


def break_even(priced: Table) -> Json:
    """How many times as many tokens the changed requests would have to cost for the saving to vanish.

    With S the saving and W what the changed requests' answers cost at the new models: 1 + S / W. The same for the input.
    """
    found = figures(total(priced.values()))
    saving = found["old"] - found["new"]
    written, read = (_times(saving, found[name]) for name in ("written", "read"))
    return {"output_ratio": written, "input_ratio": read, "sentence": _even_sentence(saving, found["changed"], written)}


def _times(saving: int, part: int) -> str | None:
    if saving <= 0 or part <= 0 or saving > part * MANY:
        return None
    return format((1 + Decimal(saving) / part).quantize(Decimal("0.01"), ROUND_HALF_EVEN), "f")


def _even_sentence(saving: int, changed: int, ratio: str | None) -> str:
    if saving <= 0 or not changed:
        return "there is no saving that longer answers could undo"
    if ratio is None:
        return f"longer answers can't undo the saving: the new models would have to write over {MANY:,} times as much"
    return f"the saving vanishes only if the new models write {ratio} times as many output tokens on the changed requests"


def days(simulation: Simulation) -> list[Json]:
    """The priced requests of each day, UTC."""
    table = simulation.numbers.segments.get(DAY, {})
    by_day = grouped({key: n for key, n in table.items() if CLASSES[key[0]] in PRICED and key[1] is not None}, lambda key: key[1])
    return [{"day": day} | money(numbers) for day, numbers in sorted(by_day.items())]


def lengths_of(simulation: Simulation, priced: Table) -> Json:
    """Which way the answers' lengths were reckoned, and for how many changed requests nothing but the assumption was left."""
    mode = simulation.effects.lengths
    found = figures(total(priced.values()))
    label = simulation.served.label
    sentence = {
        lengths.HELD: "answers keep their length: the routed model is taken to write as many tokens as the recorded one did",
        lengths.MODELLED: "answers' lengths are modelled: the recorded length times the ratio of both models' mean answers to requests of the same rule",
        lengths.PAIRED: "answers' lengths are those that the routed model did write to the same prompts",
    }.get(mode, f"answers' lengths follow the ratios in {mode.replace(chr(92), '/').rsplit('/', 1)[-1]}")
    line: Json = {"mode": mode if mode in lengths.MODES else "table", "sentence": sentence}
    if mode == lengths.HELD:
        return line
    rules = simulation.policy.rules
    listed = [
        {"rule": rules[each.rule].name if each.rule >= 0 else None, "from": label(each.old), "to": label(each.new),
         "output_ratio": _ratio(each.output), "input_ratio": _ratio(each.input)}
        for each in simulation.ratios
    ]  # fmt: skip
    return line | {"held_rows": found["assumed"], "held_percent": percent(found["assumed"], found["changed"]), "ratios": listed}


def _ratio(millionths: int) -> str:
    return format((Decimal(millionths) / lengths.UNIT).quantize(Decimal("0.001")), "f")


def cache_of(simulation: Simulation, priced: Table) -> Json | None:
    """How the prompt cache was reckoned, and how far its model is off on the recorded calls; None where nothing was cached."""
    found = figures(total(priced.values()))
    mode, check = simulation.effects.cache, simulation.cache_check
    prefix = _prefix_check(simulation)
    if not found["cached"] and not check and not prefix:
        return None
    sentence = {
        caching.HELD: "cached input stays cached when the model changes",
        caching.MODEL: "a conversation that moves to another model loses its cached prefix and builds a new one",
        caching.OFF: "a request whose model changes finds nothing cached",
    }[mode]
    line: Json = {"mode": mode, "sentence": sentence} | prefix
    if check is None:
        return line
    off, recorded = check["modelled_tokens"] - check["recorded_tokens"], check["recorded_tokens"]
    error = check["modelled"] - check["recorded"]
    return line | {
        "check": {
            "rows": check["rows"], "recorded_tokens": recorded, "modelled_tokens": check["modelled_tokens"], "error_percent": percent(off, recorded),
            "row_error_percent": percent(check["off_tokens"], recorded), "recorded_usd": dollars(check["recorded"]),
            "modelled_usd": dollars(check["modelled"]), "error_usd": dollars(error), "cost_error_percent": percent(error, check["recorded"]),
        }
    }  # fmt: skip


def _prefix_check(simulation: Simulation) -> Json:
    """How far "the smaller of both prompts" is off from what the prompts' hashes say that they share."""
    found = simulation.prefix_check
    if found is None:
        return {}
    return {
        "prefix_check": {
            "rows": found["rows"], "continuing_rows": found["continuing"], "shared_tokens": found["shared"], "modelled_tokens": found["modelled"],
            "error_percent": percent(found["modelled"] - found["shared"], found["shared"]), "row_error_percent": percent(found["off"], found["shared"]),
        }
    }  # fmt: skip


def risk(simulation: Simulation, priced: Table) -> Json:
    """What could anger someone: requests without an answer, first choices that fell out, dearer ones, models that change in mid-conversation."""
    found = figures(total(priced.values()))
    line = {
        "unroutable_rows": _rows_of(simulation, UNROUTABLE), "refused_rows": _rows_of(simulation, REFUSED), "unanswered_rows": _rows_of(simulation, UNANSWERED),
        "first_choice_unusable_rows": _sidestepped(simulation), "dearer_rows": found["dearer"], "dearer_usd": dollars(found["dearer_by"]),
    }  # fmt: skip
    if simulation.outages:
        line |= {"outage_minutes": simulation.outages, "fallback_rows": found["fell"]}
    for switch in simulation.details.switches if simulation.details else ():
        line |= {
            f"{switch.of}s": switch.members,
            f"{switch.of}s_of_several_models_before": switch.before,
            f"{switch.of}s_of_several_models_after": switch.after,
        }
    return line


def _rows_of(simulation: Simulation, class_: str) -> int:
    return sum(figures(numbers)["rows"] for key, numbers in simulation.numbers.flows.items() if CLASSES[key[0]] == class_)


def _sidestepped(simulation: Simulation) -> int:
    """Requests whose chain begins with a model that a limit, its context or an ability took out."""
    policy, rows = simulation.policy, 0
    for key, numbers in simulation.numbers.flows.items():
        _, rule, arm, _, _, model = key
        routes = policy.rules[rule].routes if rule >= 0 else ()
        route = routes[max(arm, 0)] if routes else None
        if (
            route
            and model >= 0
            and route.chain[0] != REQUESTED
            and not policy.explore
            and list(policy.models)[model] != route.chain[0]
        ):
            rows += figures(numbers)["rows"]
    return rows


def examples(simulation: Simulation) -> list[Json]:
    """Requests whose model changes: for each rule the dearest difference and some others."""
    return [_example(simulation, each) for each in simulation.details.examples] if simulation.details else []


def _example(simulation: Simulation, each: Example) -> Json:
    label = simulation.served.label
    return {
        "rule": simulation.policy.rules[each.rule].name, "from": label(each.old), "to": label(each.new), "row": each.row, "request_id": each.request_id,
        "ts": each.ts.isoformat(timespec="seconds") + "Z" if each.ts is not None and not simulation.trace.relative_time else None,
        "input_tokens": each.input_tokens, "output_tokens": each.output_tokens, "baseline_usd": dollars(each.old_cost), "routed_usd": dollars(each.new_cost),
        "why": "largest difference" if each.dearest else "drawn", **({} if each.text is None else {"text": each.text}),
    }  # fmt: skip


def marginal(simulation: Simulation, rule: int, priced: Table) -> Json:
    """What the rule is worth: the bill's change if it were removed and its requests fell to the rules below; with the recorded usage."""
    if simulation.details is None or rule not in simulation.details.without:
        return {}
    without = simulation.details.without[rule]
    found = figures(total(numbers for key, numbers in priced.items() if key[1] == rule))
    plain = found["new"] if simulation.effects.plain else found["decided"]
    if without is None:
        return {"without": {"routed_usd": None, "difference_usd": None}}
    return {"without": {"routed_usd": dollars(without), "difference_usd": dollars(without - plain)}}
