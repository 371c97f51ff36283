"""The difference of two policies as the result that people and machines read: JSON-ready, exact, the same bytes each time.

Money is dollars as decimal text, exact to the picodollar; a difference is NEW minus OLD, so a positive one is dearer. Only
requests that both policies send to a priced model count for money; where every other request went is in `accounting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from policyroute.backends.sql import NOBODY, STUCK
from policyroute.language.policy import Policy, Route, Rule
from policyroute.prices.catalog import Catalog
from policyroute.prices.table import fallbacks_of
from policyroute.replay.diff.changes import changes
from policyroute.replay.diff.compare import MOVED, REFUSES, SAME, SUMS, UNKNOWN, Comparison, Example, Side
from policyroute.replay.figures import Json, dollars, percent
from policyroute.replay.ledger import ESTIMATED, RECORDED_COST
from policyroute.replay.measures import Table, merge
from policyroute.replay.options import CLUSTER
from policyroute.replay.statistics import CONFIDENCE, uncertainty

SCHEMA = "policyroute.diff/1"
TOP = 10  # members of a segment that are listed: those that get dearer, and those that get cheaper
NOWHERE = {NOBODY: "(no model left)", STUCK: "(not replayable)", REFUSES: "(refused)"}
CLASSES = ("priced", "unpriceable", "unroutable", "refused", "not replayable")
Numbers = tuple[int, ...]


def structure(old: Policy, new: Policy, catalog: Catalog) -> Json:
    """The part of a result that needs no trace: what differs as the policies are written."""
    return {
        "schema": SCHEMA,
        "old": old.name,
        "new": new.name,
        "identical": old.digest == new.digest,
        "prices": catalog.version,
        "digests": {"old": old.digest, "new": new.digest, "prices": catalog.digest},
        "changes": [
            {"kind": each.kind, "name": each.name, "change": each.change, "text": each.text} for each in changes(old, new, catalog)
        ],
        "trace": None,
    }


def difference(found: Comparison, catalog: Catalog) -> Json:
    """The whole result over a trace. Its schema is documented in docs/diff.md."""
    plain = structure(found.old.policy, found.new.policy, catalog)
    flows = found.flows
    digests = plain["digests"] | {"trace": found.trace.digest, "engine": found.engine_digest}
    return plain | {
        "engine": found.engine,
        "digests": digests,
        "trace": _trace(found),
        "decisions": _decisions(found),
        "money": _money_parts(flows),
        "interval": _interval(found),
        "accounting": _accounting(flows),
        "fallbacks": _fallbacks(flows),
        "tiers": _tiers(found),
        "models": _models(found),
        "pairs": _pairs(found),
        "segments": {name: _segment(table) for name, table in found.segments.items() if name != CLUSTER},
        "unknown_signals": [
            {"signal": name, "rows": rows, "source": source} for name, (rows, source) in sorted(found.unknown.items())
        ],
        "assumptions": _assumptions(found),
        "notes": [{"code": note.code, "message": note.message, "rows": note.rows} for note in found.trace.notes],
    }


# -- figures -------------------------------------------------------------------------------------------------------


def _total(tables: Iterable[Numbers]) -> Numbers:
    return merge(({(): numbers} for numbers in tables), SUMS).get((), (0,) * len(SUMS))


def _rows(flows: Table, keep: Callable[[tuple[Any, ...]], bool]) -> int:
    return sum(numbers[0] for key, numbers in flows.items() if keep(key))


def _money(numbers: Numbers) -> Json:
    """Rows and money of priced rows."""
    rows, old, new = numbers[:3]
    return {
        "rows": rows, "old_usd": dollars(old), "new_usd": dollars(new), "difference_usd": dollars(new - old),
        "difference_percent": percent(new - old, old),
    }  # fmt: skip


def _split(groups: dict[Any, list[tuple[tuple[Any, ...], Numbers]]], name: Any) -> Json:
    """One line of a table of moves: all its rows, and the money of those that are priced."""
    members = groups[name]
    priced = _total(numbers for key, numbers in members if key[1])
    return {"all_rows": sum(numbers[0] for _, numbers in members)} | {"priced": _money(priced) if priced[0] else None}


def _grouped(flows: Table, of: Callable[[tuple[Any, ...]], Any]) -> dict[Any, list[tuple[tuple[Any, ...], Numbers]]]:
    groups: dict[Any, list[tuple[tuple[Any, ...], Numbers]]] = {}
    for key, numbers in flows.items():
        groups.setdefault(of(key), []).append((key, numbers))
    return groups


def _weight(line: Json) -> tuple[Decimal, int]:
    """Lines with most money at stake first, then those with most rows."""
    priced = line["priced"]
    return (-abs(Decimal(priced["difference_usd"])) if priced else Decimal(0), -line["all_rows"])


# -- parts of the result -------------------------------------------------------------------------------------------


def _trace(found: Comparison) -> Json:
    trace = found.trace
    return {
        "format": trace.format, "files": [part.name for part in trace.parts], "rows": trace.rows,
        "window": [_moment(end) for end in found.window] if found.window else None,
    }  # fmt: skip


def _moment(microseconds: int) -> str:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds))
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z")
    )


def _decisions(found: Comparison) -> Json:
    flows = found.flows
    rows = _rows(flows, lambda _key: True)
    moved = _rows(flows, lambda key: key[0] == MOVED)
    return {
        "rows": rows,
        "same": _rows(flows, lambda key: key[0] == SAME),
        "moved": moved,
        "moved_percent": percent(moved, rows),
        "not_comparable": _rows(flows, lambda key: key[0] == UNKNOWN),
        "same_by_another_rule": _rows(flows, lambda key: key[0] == SAME and found.old.rule(key[2]) != found.new.rule(key[5])),
        "same_with_other_fallbacks": _rows(flows, lambda key: key[0] == SAME and _chain(found.old, key[2:4]) != _chain(found.new, key[5:7])),
    }  # fmt: skip


def _chain(side: Side, at: Sequence[int]) -> tuple[str, ...]:
    """The declared chain of a rule and arm, as the ids of its models."""
    route = _route(side.policy.rules[at[0]], at[1])
    models = side.policy.models
    return tuple(models[name].id if name in models else name for name in route.chain) if route else ()


def _route(rule: Rule, arm: int) -> Route | None:
    routes = rule.routes
    return routes[max(arm, 0)] if routes else None


def _money_parts(flows: Table) -> Json:
    """All priced rows, those that moved, and those that stayed (whose money differs only where a price does)."""
    priced = {key: numbers for key, numbers in flows.items() if key[1]}
    return _money(_total(priced.values())) | {
        "moved": _money(_total(numbers for key, numbers in priced.items() if key[0] == MOVED)),
        "stayed": _money(_total(numbers for key, numbers in priced.items() if key[0] == SAME)),
    }


def _interval(found: Comparison) -> Json | None:
    """The 95 % interval of the difference, had other clusters come; None where the trace has nothing to cluster by."""
    bags: dict[int, tuple[int, int]] = {}
    for (_, priced, bag), numbers in found.segments.get(CLUSTER, {}).items():
        if priced:
            before = bags.get(int(bag, 16), (0, 0))
            bags[int(bag, 16)] = (before[0] + numbers[1], before[1] + numbers[2])
    drawn = uncertainty(bags)
    if drawn is None:
        return None
    return {
        "confidence_percent": CONFIDENCE, "method": "symmetric bootstrap-t over clusters, Poisson weights", "cluster": found.cluster,
        "clusters": drawn.clusters, "largest_cluster_percent": _rounded(drawn.largest * 100),
        "difference_usd": [_rounded(-end / 10**12) for end in (drawn.saving.high, drawn.saving.low)],
        "difference_percent": [_rounded(-end * 100) for end in (drawn.share.high, drawn.share.low)],
        "warnings": list(drawn.warnings),
    }  # fmt: skip


def _rounded(value: Decimal) -> str:
    return format(value.quantize(Decimal("0.01"), ROUND_HALF_EVEN) + 0, "f")


def _accounting(flows: Table) -> list[Json]:
    """Every row is in one line: its class, and the policies on whose side it is so. Money is what is known of a side."""
    groups = _grouped(flows, _class)
    lines = []
    for name in CLASSES:
        for side in ("both", "old", "new"):
            members = groups.get((name, side))
            if members is None:
                continue
            rows, old, new, old_known, new_known = _total(numbers for _, numbers in members)[:5]
            lines.append({
                "class": name, "side": side, "rows": rows, "moved": sum(numbers[0] for key, numbers in members if key[0] == MOVED),
                "old_usd": dollars(old) if old_known else None, "old_unknown_rows": rows - old_known,
                "new_usd": dollars(new) if new_known else None, "new_unknown_rows": rows - new_known,
            })  # fmt: skip
    return lines


def _class(key: tuple[Any, ...]) -> tuple[str, str]:
    was, now = key[4], key[7]
    for name, outcome in (("not replayable", STUCK), ("refused", REFUSES), ("unroutable", NOBODY)):
        if outcome in (was, now):
            return name, "both" if was == now else "old" if was == outcome else "new"
    return ("priced" if key[1] else "unpriceable"), "both"


def _fallbacks(flows: Table) -> list[str]:
    """Why some prices are not exact, in words."""
    bits = _total(numbers for key, numbers in flows.items() if key[1])[5]
    counted = ["no usage recorded: tokens counted from the text"] if bits & ESTIMATED else []
    return [*fallbacks_of(bits & (RECORDED_COST - 1)), *counted]


def _tiers(found: Comparison) -> list[Json]:
    """From tier to tier; a route that names no tier goes by its chain."""
    groups = _grouped(found.flows, lambda key: (_tier(found.old, key[2], key[3], key[4]), _tier(found.new, key[5], key[6], key[7])))
    ranks = _ranks(found.old.policy), _ranks(found.new.policy)
    lines = []
    for old, new in groups:
        moved = sum(numbers[0] for key, numbers in groups[old, new] if key[0] == MOVED)
        lines.append(
            {"from": old, "to": new, "direction": _direction(ranks, old, new), "moved_rows": moved} | _split(groups, (old, new))
        )
    return sorted(lines, key=lambda line: (*_weight(line), line["from"], line["to"]))


def _tier(side: Side, rule: int, arm: int, outcome: int) -> str:
    if outcome in (STUCK, REFUSES):
        return NOWHERE[outcome]
    route = _route(side.policy.rules[rule], arm)
    name = (route.tier or ", ".join(route.chain)) if route else ""
    return name if outcome != NOBODY else NOWHERE[NOBODY]


def _ranks(policy: Policy) -> dict[str, int]:
    return {name: place for place, name in enumerate(policy.order)}


def _direction(ranks: tuple[dict[str, int], dict[str, int]], old: str, new: str) -> str | None:
    """`up` or `down` in the order of tiers, where both policies order both tiers alike."""
    steps = {rank[new] - rank[old] for rank in ranks if old in rank and new in rank}
    if len(steps) == 0 or any(old not in rank or new not in rank for rank in ranks) or 0 in steps:
        return None
    return "up" if min(steps) > 0 else "down" if max(steps) < 0 else None


def _models(found: Comparison) -> list[Json]:
    """From model to model, for the rows that moved."""
    moved = {key: numbers for key, numbers in found.flows.items() if key[0] == MOVED}
    groups = _grouped(moved, lambda key: (_label(found, key[4]), _label(found, key[7])))
    lines = [{"from": old, "to": new} | _split(groups, (old, new)) for old, new in groups]
    return sorted(lines, key=lambda line: (*_weight(line), line["from"], line["to"]))


def _label(found: Comparison, outcome: int) -> str:
    return NOWHERE[outcome] if outcome < 0 else found.labels[outcome]


def _pairs(found: Comparison) -> list[Json]:
    """Pairs of deciding rules under which rows moved, with examples."""
    moved = {key: numbers for key, numbers in found.flows.items() if key[0] == MOVED}
    groups = _grouped(moved, lambda key: (key[2], key[5]))
    lines = [
        {"old_rule": found.old.rule(pair[0]), "new_rule": found.new.rule(pair[1])} | _split(groups, pair)
        | {"examples": [_example(found, one) for one in found.examples.get(pair, ())]}
        for pair in groups
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (*_weight(line), line["old_rule"], line["new_rule"]))


def _example(found: Comparison, one: Example) -> Json:
    known = one.old_cost is not None and one.new_cost is not None
    facts = {name: _plain(value) for name, value in one.facts.items() if value is not None}
    return {"row": one.row, "why": one.why, **facts} | {
        "input_tokens": one.input_tokens, "output_tokens": one.output_tokens,
        "old_model": _label(found, one.was), "new_model": _label(found, one.now),
        "old_usd": None if one.old_cost is None else dollars(one.old_cost), "new_usd": None if one.new_cost is None else dollars(one.new_cost),
        "difference_usd": dollars((one.new_cost or 0) - (one.old_cost or 0)) if known else None,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="seconds") + "Z" if isinstance(value, datetime) else value


def _segment(table: Table) -> Json:
    """Who is affected: members whose requests get dearer and cheaper, and how many of each there are."""
    members: dict[Any, list[tuple[tuple[Any, ...], Numbers]]] = {}
    for key, numbers in table.items():
        members.setdefault(key[2], []).append((key, numbers))
    lines = [_member(name, rows) for name, rows in members.items()]
    lines.sort(key=lambda line: (Decimal(line["difference_usd"]), -line["moved_rows"], line["member"]))
    dearer = [line for line in reversed(lines) if Decimal(line["difference_usd"]) > 0]
    cheaper = [line for line in lines if Decimal(line["difference_usd"]) < 0]
    return {
        "members": len(lines), "moved_members": sum(line["moved_rows"] > 0 for line in lines),
        "dearer_members": len(dearer), "cheaper_members": len(cheaper), "dearer": dearer[:TOP], "cheaper": cheaper[:TOP],
    }  # fmt: skip


def _member(name: Any, rows: list[tuple[tuple[Any, ...], Numbers]]) -> Json:
    priced = _total(numbers for key, numbers in rows if key[1])
    counts = {
        "all_rows": sum(numbers[0] for _, numbers in rows),
        "moved_rows": sum(numbers[0] for key, numbers in rows if key[0] == MOVED),
    }
    return {"member": "(none)" if name in (None, "") else str(name)} | counts | _money(priced)


def _assumptions(found: Comparison) -> list[str]:
    """What the figures rest on and the trace doesn't show, in words."""
    told = [
        "both policies are priced with the recorded tokens: answers keep their length and cached input stays cached, whatever the model",
        "every call succeeds at the first attempt: no retries and no fallbacks are priced",
        *found.assumed,
    ]
    for what, side in (("old", found.old), ("new", found.new)):
        if side.without:
            told.append(f"the {what} policy is replayed without {', '.join(side.without)}")
    return told
