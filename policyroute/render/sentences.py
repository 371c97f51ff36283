"""What all renderers of a simulation say alike: amounts, counts, and the sentences around them, as plain text.

Rules: a figure is taken from the result and only formatted; nothing is added, subtracted or divided here. Nothing is
escaped either: names come from traces and policies, and each renderer escapes for its own format.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

Json = dict[str, Any]
BAR = 12
SHOWN_CLASSES = {
    "exact": "priced exactly", "fallback": "priced by fallback", "unpriceable": "unpriceable", "unroutable": "unroutable",
    "refused": "refused by a rule", "not replayable": "not replayable", "unanswered": "unanswered: all models of the chain were down",
}  # fmt: skip
BASELINES = {"recorded": "recorded models, at our prices", "requested": "requested models, at our prices"}
RISKS = {
    "unroutable_rows": "no model can take the request", "refused_rows": "refused by a rule", "overflow_rows": "longer than the routed model's context",
    "unanswered_rows": "unanswered: all models of the chain were down", "first_choice_unusable_rows": "the chain's first model can't take the request",
    "dearer_rows": "dearer than before", "dearer_usd": "what these cost more", "upgraded_rows": "moved to a dearer tier", "upgraded_usd": "what these cost more",
    "outage_minutes": "minutes of recorded outages", "fallback_rows": "answered by a fallback in an outage",
    "conversations": "conversations with more than one call", "users": "users with more than one call",
    "conversations_switching": "conversations whose model changes midway", "users_switching": "users whose model changes in mid-conversation",
    "conversations_of_several_models_before": "conversations with several models, before",
    "conversations_of_several_models_after": "conversations with several models, after",
    "users_of_several_models_before": "users with several models, before", "users_of_several_models_after": "users with several models, after",
}  # fmt: skip


# -- words ---------------------------------------------------------------------------------------------------------


def usd(amount: str, *, signed: bool = False) -> str:
    """Dollars for reading: cents, or three significant digits below a dollar."""
    value = Decimal(amount)
    places = Decimal("0.01")
    if value and abs(value) < 1:
        places = Decimal(1).scaleb(max(value.adjusted() - 2, -12))
    rounded = value.quantize(places, ROUND_HALF_EVEN)
    sign = "-" if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}${abs(rounded):,f}"


def share(percent: str | None) -> str:
    """A share in percent, or a dash where there is nothing to take it of."""
    return "-" if percent is None else f"{percent} %"


def bar(percent: str | None) -> str:
    """A share as a bar."""
    filled = 0 if percent is None else max(0, min(BAR, round(Decimal(percent) * BAR / 100)))
    return "█" * filled + "░" * (BAR - filled)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2,400 rows`; `many` where the plural is not made with an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def listed(names: Sequence[str], most: int) -> str:
    """Names by comma, no more than `most` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")


def ends(interval: Sequence[str] | None, unit: str = "") -> str:
    """An interval: `72.84 to 76.50 %`, or a dash."""
    return "-" if not interval else f"{interval[0]} to {interval[1]}{unit}"


def usd_ends(interval: Sequence[str] | None) -> str:
    """An interval of dollars."""
    return "-" if not interval else f"{usd(interval[0])} to {usd(interval[1])}"


# -- the headline --------------------------------------------------------------------------------------------------


def window(result: Json) -> str:
    """The days that the trace covers."""
    known = result["trace"]["window"]
    return f"{known[0][:10]} to {known[1][:10]}" if known else "times without a date"


def scope(result: Json) -> str:
    """What was replayed: files, requests, days."""
    trace = result["trace"]
    return f"{listed(trace['files'], 3)}: {count(trace['rows'], 'request')}, {window(result)}"


def baseline(result: Json) -> str:
    """What the policy is compared with; costs are ours on both sides, whatever the trace recorded."""
    name = result["baseline"]
    return BASELINES.get(name, name if name.startswith("policy ") else f"{name} for all requests")


def word(result: Json) -> str:
    """`saved`, `dearer`, `no difference`, or `not a saving` where it is no larger than the error of our prices."""
    saving = Decimal(result["headline"]["saving_usd"])
    if saving > 0 and within_error(result):
        return "not a saving"
    return "saved" if saving > 0 else "dearer" if saving < 0 else "no difference"


def within_error(result: Json) -> bool:
    """Whether the difference is no larger than the self-test's error."""
    test, head = result.get("self_test"), result["headline"]
    if not test or not head["rows"]:
        return False
    return abs(Decimal(head["saving_usd"])) <= abs(Decimal(test["error_usd"]))


def amount(result: Json) -> str:
    """The difference without its sign, which `word` tells."""
    return usd(result["headline"]["saving_usd"].lstrip("-"))


def amount_percent(result: Json) -> str:
    """The difference in percent of the baseline, without its sign."""
    return share((result["headline"]["saving_percent"] or "").lstrip("-") or None)


def coverage(result: Json) -> str:
    """Of how many requests the headline speaks, and how many change."""
    head = result["headline"]
    verb = "changes its model" if head["changed"] == 1 else "change their model"
    return (
        f"of {count(head['rows'], 'request')} priced on both sides; {head['changed']:,} ({share(head['changed_percent'])}) {verb}"
    )


def interval(result: Json) -> str:
    """The headline's interval, or why there is none."""
    found = result.get("interval")
    if found is None:
        return "no interval: the trace has no users, conversations or days to draw, or only one"
    return (
        f"{found['confidence_percent']} % interval: {ends(found['saving_percent'], ' %')}, {usd_ends(found['saving_usd'])}, "
        f"over {count(found['clusters'], 'cluster')} ({found['cluster']})"
    )


def cold(result: Json) -> str | None:
    """The difference if a changed model found nothing cached, where the result gives it."""
    head = result["headline"]
    if "saving_without_cache_usd" not in head:
        return None
    saving = Decimal(head["saving_without_cache_usd"])
    told = "saved" if saving >= 0 else "dearer by"
    return f"if a changed model finds nothing cached: {told} {usd(str(abs(saving)))} ({share((head['saving_without_cache_percent'] or '').lstrip('-') or None)})"


def answer_cache(result: Json) -> str | None:
    """What the gateway's answer cache answered, where it did."""
    found = result.get("answer_cache")
    return f"answer cache: {count(found['rows'], 'request')}, {usd(found['not_spent_usd'])} not spent" if found else None


def unproven(result: Json) -> bool:
    """Whether the headline's interval, of dollars or of the share, includes 0, or its difference is within our prices' error."""
    return _includes_zero(result) or word(result) == "not a saving"


def _includes_zero(result: Json) -> bool:
    found = result.get("interval") or {}
    ranges = [found[key] for key in ("saving_usd", "saving_percent") if found.get(key)]
    return any(Decimal(low) <= 0 <= Decimal(high) for low, high in ranges)


def cautions(result: Json) -> list[str]:
    """What stands between the headline and a bet on it: the interval's warnings, and an error as large as the saving."""
    found = list((result.get("interval") or {}).get("warnings", ()))
    found += classified(result)
    if _includes_zero(result):
        found.append("the interval includes 0: these requests don't show that anything is saved or lost")
    if within_error(result) and Decimal(result["headline"]["saving_usd"]):
        error = usd(result["self_test"]["error_usd"], signed=True)
        found.append(f"the difference is not larger than the self-test's error ({error}): it is not a saving")
    return found


def classified(result: Json) -> list[str]:
    """What drawn answers of classifiers could do to the saving, beyond the interval."""
    found: dict[str, list[Json]] = {}
    for line in result.get("classified") or ():
        found.setdefault(line["classifier"], []).append(line)
    told = []
    for name, lines in found.items():
        low, *_, high = sorted(lines, key=lambda line: Decimal(line["saving_usd"]))
        ends = [f"{usd(line['saving_usd'], signed=True)} (all {line['member']})" for line in (low, high)]
        told.append(
            f"the answers of the classifier {name} are drawn, not known: by what it says, the saving lies between {ends[0]} and {ends[1]}"
        )
    return told


# -- lines of one section each -------------------------------------------------------------------------------------


def unknown_rows(line: Json) -> str:
    """A suffix for rows whose baseline isn't known."""
    return f" + {count(line['baseline_unknown_rows'], 'row')} unknown" if line["baseline_unknown_rows"] else ""


def rule_name(line: Json) -> str:
    """A rule's name, marked where it only watches."""
    return f"{line['rule']} (shadow)" if line["kind"] == "shadow" else str(line["rule"])


def never_fired(result: Json) -> list[str]:
    """Rules that took none of the requests; a shadow rule that would have taken none."""
    return [rule_name(line) for line in result["rules"] if not line["takes"]]


def winners_and_losers(segment: Json) -> tuple[list[Json], list[Json]]:
    """Listed members whose bill falls, those that save most first, and those whose bill rises, those that lose most first."""
    lines = [*segment["top"], *reversed(segment["losers"])]
    savings = [(Decimal(line["saving_usd"]), line) for line in lines]
    return [line for saving, line in savings if saving > 0], [line for saving, line in reversed(savings) if saving < 0]


def risks(result: Json) -> list[tuple[str, str]]:
    """Each key of the risk panel with its label and value, zeros too: that nothing is unroutable is worth a line."""
    found = result.get("risk") or {}
    return [(RISKS.get(key, key.replace("_", " ")), _value(key, value)) for key, value in found.items()]


def _value(key: str, value: object) -> str:
    if value is None:
        return "unknown"
    if key.endswith("_usd"):
        return usd(str(value))
    if key.endswith("_percent"):
        return share(str(value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def self_test(result: Json) -> str:
    """How far our prices are off on what the trace recorded."""
    test = result.get("self_test")
    if test is None:
        return "the trace records no costs, so our prices can't be checked against it"
    return (
        f"{count(test['rows'], 'call')} recorded at {usd(test['recorded_usd'])}; our prices give {usd(test['recomputed_usd'])}: "
        f"off by {usd(test['error_usd'], signed=True)} ({share(test['error_percent'])}); row by row {share(test['row_error_percent'])}; "
        f"{count(test['rows_within_half_percent'], 'row agrees', 'rows agree')} within 0.5 %"
    )


def unknown_signals(result: Json) -> list[tuple[str, str]]:
    """Signals that the trace doesn't tell, grouped by where they are looked for: the names, and the rest of the sentence."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in result.get("signals", ()):
        if line["unknown_rows"]:
            rows = f"{count(line['unknown_rows'], 'row')} ({share(line['unknown_percent'])})"
            found.setdefault((line["source"], rows), []).append(line["signal"])
    return [(", ".join(f"`{name}`" for name in names), f"unknown in {rows}: {source}") for (source, rows), names in found.items()]


def odd_signals(result: Json) -> list[str]:
    """Signals that lie outside their type somewhere."""
    return [
        f"`{line['signal']}` lies outside its type in {count(line['outside_type_rows'], 'row')}: clamped, or the default taken"
        for line in result.get("signals", ())
        if line["outside_type_rows"]
    ]


def foot(result: Json) -> str:
    """What computed the result, from what."""
    digests = result["digests"]
    return f"{result['engine']} · {result['prices']} · policy {digests['policy'][:12]} · trace {digests['trace'][:12]}"


def short(assumption: str) -> str:
    """An assumption without what explains it."""
    return assumption.split(":")[0].split(";")[0]


# -- quality -------------------------------------------------------------------------------------------------------


def quality(panel: Json) -> tuple[str, str]:
    """The panel's sentence and its remedy, which may be empty."""
    said = panel.get("verdict") or panel
    return str(said.get("sentence", "")), str(panel.get("remedy") or "")


def score(text: str) -> str:
    """A score for reading: four decimals."""
    return format(Decimal(text).quantize(Decimal("0.0001"), ROUND_HALF_EVEN), "f")


def points(panel: Json) -> list[Json]:
    """Cost and score of the policy, each single model, the oracle and the random mix: `name kind cost_usd score score_low score_high`."""
    if "points" in panel:
        return list(panel["points"])
    if not panel.get("policy"):
        return []
    found = [
        _point(panel["policy"], "policy"),
        *(_point(line, "single") for line in panel["singles"]),
        _point(panel["oracle"], "oracle"),
    ]
    mix = panel.get("random_mix") or {}
    known = mix.get("cost_usd") is not None and mix.get("score") is not None
    return [*found, _point({"name": "random mix"} | mix, "random")] if known else found


def _point(line: Json, kind: str) -> Json:
    low, high = line.get("score_interval") or (None, None)
    return {
        "name": line["name"], "kind": kind, "cost_usd": line["cost_usd"], "score": line["score"], "score_low": low, "score_high": high,
    }  # fmt: skip
