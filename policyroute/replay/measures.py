"""Measures: whole numbers that are computed over a part of a trace and merged without order.

A `Table` maps a key (the values of its dimensions) to one number per measure. Two tables of different parts merge key by
key, so a split of the trace changes no digit, and a new file costs only itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from policyroute.backends.sql import ARM, MODEL, RULE, quoted
from policyroute.replay.ledger import USAGE, Ledger
from policyroute.replay.traces.sql import one

Number = int
Table = dict[tuple[Any, ...], tuple[Number, ...]]


def _plus(a: int, b: int) -> int:
    return a + b


@dataclass(frozen=True, slots=True)
class Measure:
    """One number per group: its SQL over the ledger, and how two parts' numbers become one."""

    name: str
    sql: str
    merge: Callable[[int, int], int] = _plus
    needs: str = ""  # a column that only some ledgers have; without it the number is 0


# Of one group of ledger rows. Money is picodollars.
MEASURES: tuple[Measure, ...] = (
    Measure("rows", "count(*)"),
    Measure("changed", 'coalesce(count_if("$changed"), 0)'),
    Measure("old_known", 'count("$old_cost")'),
    Measure("old", 'coalesce(sum("$old_cost"), 0)'),
    Measure("new", 'coalesce(sum("$new_cost"), 0)'),
    Measure("cold", 'coalesce(sum(CASE WHEN "$changed" THEN "$cold_cost" ELSE "$new_cost" END), 0)', needs="$cold_cost"),
    Measure("decided", 'coalesce(sum("$decided_cost"), 0)', needs="$decided_cost"),
    Measure("answered", 'coalesce(sum("$answered_cost"), 0)', needs="$decided_cost"),
    Measure("lengthened", 'coalesce(sum("$lengthened_cost"), 0)', needs="$decided_cost"),
    Measure("fell", 'coalesce(count_if("$decided" <> "$new"), 0)', needs="$decided_cost"),
    Measure("assumed", 'coalesce(count_if("$assumed"), 0)', needs="$decided_cost"),
    Measure("old_aside", 'coalesce(sum("$old_aside"), 0)', needs="$old_aside"),
    Measure("new_aside", 'coalesce(sum("$new_aside"), 0)', needs="$old_aside"),
    Measure("escalated", 'coalesce(count_if("$escalated"), 0)'),
    Measure("written", 'coalesce(sum(CASE WHEN "$changed" THEN "$new_output_cost" END), 0)'),
    Measure("read", 'coalesce(sum(CASE WHEN "$changed" THEN "$new_cost" - "$new_output_cost" END), 0)'),
    Measure("dearer", 'coalesce(count_if("$changed" AND "$new_cost" > "$old_cost"), 0)'),
    Measure("dearer_by", 'coalesce(sum(CASE WHEN "$changed" AND "$new_cost" > "$old_cost" THEN "$new_cost" - "$old_cost" END), 0)'),
    Measure("input", 'coalesce(sum("$input_tokens"), 0)'),
    Measure("cached", 'coalesce(sum("$cached_tokens"), 0)'),
    Measure("output", 'coalesce(sum("$output_tokens"), 0)'),
    Measure("old_bits", 'coalesce(bit_or("$old_bits"), 0)', lambda a, b: a | b),
    Measure("new_bits", 'coalesce(bit_or("$new_bits"), 0)', lambda a, b: a | b),
)
NAMES = tuple(measure.name for measure in MEASURES)

# Of the factual self-test, per recorded model.
FACTS: tuple[Measure, ...] = (
    Measure("rows", "count(*)"),
    Measure("recorded", "sum(recorded)"),
    Measure("recomputed", "sum(recomputed)"),
    Measure("off", "sum(abs(recomputed - recorded))"),
    Measure("close", "count(*) FILTER (WHERE abs(recomputed - recorded) * 200 <= recorded)"),
)


def merge(tables: Iterable[Table], measures: Sequence[Measure]) -> Table:
    """One table of several parts' tables."""
    merged: Table = {}
    for table in tables:
        for key, numbers in table.items():
            before = merged.get(key)
            merged[key] = (
                numbers if before is None else tuple(m.merge(a, b) for m, a, b in zip(measures, before, numbers, strict=True))
            )
    return merged


def merge_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counters of several parts, added up."""
    merged: dict[str, int] = {}
    for counter in counts:
        for name, number in counter.items():
            merged[name] = merged.get(name, 0) + number
    return merged


@dataclass(frozen=True)
class Partial:
    """All numbers of one part. `segments` is by segment name; `counts` are scalar counters by name."""

    flows: Table
    segments: dict[str, Table]
    facts: Table
    counts: dict[str, int]
    first: int | None = None
    last: int | None = None


def merge_partials(partials: Sequence[Partial]) -> Partial:
    """The numbers of a whole trace from those of its parts."""
    names = dict.fromkeys(name for partial in partials for name in partial.segments)
    firsts = [p.first for p in partials if p.first is not None]
    lasts = [p.last for p in partials if p.last is not None]
    return Partial(
        merge((p.flows for p in partials), MEASURES),
        {name: merge((p.segments.get(name, {}) for p in partials), MEASURES) for name in names},
        merge((p.facts for p in partials), FACTS),
        merge_counts(p.counts for p in partials),
        min(firsts, default=None),
        max(lasts, default=None),
    )


def compute(connection: duckdb.DuckDBPyConnection, ledger: Ledger, source: str, baseline_source: str = "") -> Partial:
    """The numbers of the rows that the SELECT `source` gives: three streaming queries, none of which holds the rows."""
    flows, segments = _cube(connection, ledger, ledger.rows(source, baseline_source))
    facts = _facts(connection, ledger, source) if ledger.has_costs else {}
    counts, first, last = _counts(connection, ledger, source)
    return Partial(flows, segments, facts, counts, first, last)


def _cube(connection: duckdb.DuckDBPyConnection, ledger: Ledger, rows: str) -> tuple[Table, dict[str, Table]]:
    places = [RULE, ARM, '"$old"', '"$new"', MODEL]
    by = {name: quoted("$by " + name) for name in ledger.segments}
    sets = [['"$class"', *places], *(['"$class"', column] for column in by.values())]
    groups = ", ".join(f"({', '.join(each)})" for each in sets)
    dimensions = ['"$class"', *places, *by.values()]
    # Which set a row belongs to: GROUPING gives 1 for each dimension that is rolled up.
    marks = ", ".join(f"grouping({column})" for column in (RULE, *by.values()))
    lacking = {
        *([] if ledger.cold else ["$cold_cost"]),
        *(["$decided_cost"] if ledger.effects.plain else []),
        *([] if ledger.aside.needed else ["$old_aside"]),
    }
    measures = ", ".join("0" if measure.needs in lacking else measure.sql for measure in MEASURES)
    found = connection.sql(
        f"SELECT {marks}, {', '.join(dimensions)}, {measures} FROM ({rows}) GROUP BY GROUPING SETS ({groups})"
    ).fetchall()
    flows: Table = {}
    segments: dict[str, Table] = {name: {} for name in by}
    for row in found:
        rolled, keys, numbers = (
            row[: 1 + len(by)],
            row[1 + len(by) : 1 + len(by) + len(dimensions)],
            row[1 + len(by) + len(dimensions) :],
        )
        if rolled[0] == 0:
            flows[tuple(keys[:6])] = numbers
            continue
        place = rolled[1:].index(0)
        segments[list(by)[place]][keys[0], keys[6 + place]] = numbers
    return flows, segments


def _facts(connection: duckdb.DuckDBPyConnection, ledger: Ledger, source: str) -> Table:
    """Recorded cost against what we compute for the same request and model, where both are known."""
    usage = ", ".join(f'{sql} AS "${name}"' for name, sql in ledger.usage.items())
    priced = f"""
        SELECT "$served" AS number, CAST(t.cost_usd * 1000000000000 AS HUGEINT) AS recorded, {_factual_cost(ledger)} AS recomputed
        FROM (SELECT s.*, {ledger.prices.slot_sql('"$served"', "ts" if ledger.dated else "CAST(NULL AS TIMESTAMP)", '"$input_tokens"', "service_tier")} AS slot
              FROM (SELECT r.*, {usage}, coalesce(m."$served", -1) AS "$served" FROM ({source}) r
                    LEFT JOIN served m ON m.model = r.model AND m.provider IS NOT DISTINCT FROM r.provider) s) t
        JOIN {ledger.prices.name} p USING (slot)
        WHERE t.cost_usd IS NOT NULL AND NOT coalesce(t.suspect_cost, FALSE)"""
    columns = ", ".join(measure.sql for measure in FACTS)
    rows = connection.sql(f"SELECT number, {columns} FROM ({priced}) WHERE recomputed IS NOT NULL GROUP BY number").fetchall()
    return {(row[0],): tuple(int(number) for number in row[1:]) for row in rows}


def _factual_cost(ledger: Ledger) -> str:
    return ledger.prices.cost_sql("p", *(f't."${name}"' for name in USAGE))


def _counts(connection: duckdb.DuckDBPyConnection, ledger: Ledger, source: str) -> tuple[dict[str, int], int | None, int | None]:
    """Scalar counters: rules that match alone, shadow rules, unknown and odd signal values; and the time window."""
    columns = {f"alone {name}": f"coalesce(count_if({sql}), 0)" for name, sql in ledger.query.alone().items()}
    columns |= {f"shadow {name}": f"coalesce(count_if({sql}), 0)" for name, sql in ledger.query.shadows().items()}
    columns |= {
        f"unknown {name}": f"count(*) FILTER (WHERE {quoted(name)} IS NULL)"
        for name in ledger.names
        if ledger.observed[name].unknown
    }
    over = ledger.decided(source) if ledger.query.shadows() else ledger.signals(source)
    found = one(connection, f"SELECT count(*), {', '.join(columns.values())} FROM ({over})")
    counts = dict(zip(("rows", *columns), (int(number) for number in found), strict=True))
    odd = {"failed": "count(*) FILTER (WHERE status_code >= 400)"}
    odd |= {f"odd {name}": f"count(*) FILTER (WHERE {seen.odd})" for name, seen in ledger.observed.items() if seen.odd}
    listed = ", ".join(["epoch_us(min(ts))", "epoch_us(max(ts))", *odd.values()])
    row = one(connection, f"SELECT {listed} FROM ({source})")
    return counts | dict(zip(odd, (int(number) for number in row[2:]), strict=True)), row[0], row[1]
