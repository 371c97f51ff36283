"""Requests, each with its decision, times models, each with its price: what everything else is summed from.

A request counts only where every compared model has an outcome that can be priced: all figures are over the same requests.
The policy's models are all compared; another model of the outcomes only where it has an outcome for each of those requests.
Of rows that name the same request the first counts. Sums are whole numbers per bag of clusters (`statistics.bag_sql`), so
neither the order of rows nor the number of threads changes a digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from policyroute.prices.table import PriceTable
from policyroute.replay.ledger import Ledger
from policyroute.replay.options import CLUSTER
from policyroute.replay.outcomes.formats import PROMPT
from policyroute.replay.outcomes.models import Comparison
from policyroute.replay.outcomes.table import TABLE, Outcomes
from policyroute.replay.statistics import bag_sql
from policyroute.replay.traces.sql import literal, one, quoted

POLICY, ORACLE = -1, -2  # numbers of what isn't a single model
PAIRED, HELD, INPUT_ONLY = "paired", "held", "input only"  # where output tokens come from
_UNITS, _CELLS, _BASE, _ARMS = "quality_units", "quality_cells", "quality_base", "quality_arms"


@dataclass(frozen=True, slots=True)
class Sum:
    """Picodollars and millionths of a score, over some requests."""

    cost: int
    score: int


@dataclass(frozen=True, slots=True)
class Bag:
    """The requests of one bag of clusters, and the sums of each arm over them (models by number, `POLICY`, `ORACLE`)."""

    requests: int
    sums: Mapping[int, Sum]


@dataclass(frozen=True, slots=True)
class Cells:
    """The compared requests as sums by bag, and what was left out.

    `arms` are the compared models by number, `left_out` requests by reason, `partial` models that were not compared with the
    number of compared requests that they have; `latencies` microseconds (median, 95th percentile) of each arm that has any;
    `chosen` how many requests the policy sends to each model. `outputs` says where output tokens come from.
    """

    requests: int
    decided: int
    repeats: int
    arms: tuple[int, ...]
    bags: Mapping[str, Bag]
    left_out: Mapping[str, int]
    partial: Mapping[int, int]
    latencies: Mapping[int, tuple[int, int]]
    chosen: Mapping[int, int]
    outputs: str

    def total(self, arm: int) -> Sum:
        """The sums of an arm over all compared requests."""
        sums = [bag.sums[arm] for bag in self.bags.values()]
        return Sum(sum(each.cost for each in sums), sum(each.score for each in sums))


def decided_sql(ledger: Ledger, source: str) -> str:
    """A SELECT of what `cells` reads of one part of a trace: `row, request_id, number, rule, bag, ts, tier, input_tokens, output_tokens`.

    The parts of a trace are joined by UNION ALL. `number` is negative where no model was decided.
    """
    bag = quoted(f"$by {CLUSTER}") if CLUSTER in ledger.segments else "CAST(NULL AS VARCHAR)"
    ts = 'd."$ts"' if ledger.dated else "CAST(NULL AS TIMESTAMP)"
    return (
        f'SELECT d."$row" AS row, k.request_id, CAST(d."$model" AS INTEGER) AS number, CAST(d."$rule" AS INTEGER) AS rule, {bag} AS bag, '
        f'{ts} AS ts, d."$service_tier" AS tier, d."$input_tokens" AS input_tokens, d."$output_tokens" AS output_tokens '
        f'FROM ({ledger.decided(source)}) d JOIN ({named(source)}) k ON k.row = d."$row"'
    )


def named(source: str) -> str:
    """A SELECT of `row, request_id`: the names by which the open table `outcomes` knows the requests of a part of a trace.

    A request's id; else the `id` in its metadata, where the trace's own ids tell answers apart, as BFCL's do; else the digest of
    its prompt, where that is one message (and a system message).
    """
    messages, metadata = "CAST(messages AS VARCHAR)", "CAST(metadata AS VARCHAR)"
    single = f"(json_array_length({messages}) = 1 OR (json_array_length({messages}) = 2 AND {messages} ->> '$[0].role' = 'system'))"
    content = f"CASE WHEN json_valid({messages}) THEN CASE WHEN {single} THEN {messages} ->> '$[#-1].content' END END"
    inner = f"CASE WHEN json_valid({metadata}) THEN {metadata} ->> '$.id' END"
    names = f"SELECT row, request_id AS own, {inner} AS inner_id, {literal(PROMPT)} || md5({content}) AS digest FROM ({source})"
    known = f"(SELECT DISTINCT request_id FROM {TABLE})"
    key = " ".join(f"WHEN {name} IN {known} THEN {name}" for name in ("own", "inner_id", "digest"))
    return f"SELECT row, CASE {key} ELSE coalesce(own, digest) END AS request_id FROM ({names})"


def cells(connection: duckdb.DuckDBPyConnection, decided: str, outcomes: Outcomes, compared: Comparison) -> Cells:
    """Join decisions with outcomes, price them, and sum up the requests that every compared model answered."""
    numbered = outcomes.numbered(compared.numbers, "quality_outcomes")
    decided_rows, repeats = _units(connection, decided)
    outputs = _outputs(connection, numbered)
    _price(connection, numbered, compared, outputs)
    required = sorted(number for number in set(compared.numbers.values()) if number < compared.declared)
    left_out = _base(connection, required)
    (requests,) = one(connection, f"SELECT count(*) FROM {_BASE}")
    covered = dict(connection.sql(f"SELECT number, count(*) FROM {_CELLS} JOIN {_BASE} USING (unit) GROUP BY number").fetchall())
    others = [number for number in sorted(set(compared.numbers.values())) if number not in required]
    arms = (*required, *(number for number in others if covered.get(number, 0) == requests))
    partial = {number: covered.get(number, 0) for number in others if number not in arms}
    _arms(connection, arms)
    return Cells(
        requests,
        decided_rows,
        repeats,
        arms,
        _bags(connection),
        left_out,
        partial,
        _latencies(connection),
        _chosen(connection),
        outputs,
    )


def _units(connection: duckdb.DuckDBPyConnection, decided: str) -> tuple[int, int]:
    """One unit per request: the first row of those with the same id. Rows without one are each their own, and pair with nothing."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE quality_decided AS {decided}")
    name = "coalesce(request_id, 'row ' || row)"
    first = f"row_number() OVER (PARTITION BY {name} ORDER BY row) = 1"
    query = f"SELECT * REPLACE (coalesce(bag, {bag_sql(name)}) AS bag), row AS unit FROM quality_decided QUALIFY {first}"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_UNITS} AS {query}")
    (rows,) = one(connection, "SELECT count(*) FROM quality_decided")
    (units,) = one(connection, f"SELECT count(*) FROM {_UNITS}")
    return units, rows - units


def _outputs(connection: duckdb.DuckDBPyConnection, numbered: str) -> str:
    """Output tokens are the outcomes' own; where they have none at all the trace's; where that has none, none are priced."""
    (own,) = one(connection, f"SELECT count(o.output_tokens) FROM {numbered} o JOIN {_UNITS} USING (request_id)")
    (held,) = one(connection, f"SELECT count(output_tokens) FROM {_UNITS}")
    return PAIRED if own else HELD if held else INPUT_ONLY


def _price(connection: duckdb.DuckDBPyConnection, numbered: str, compared: Comparison, outputs: str) -> None:
    """All pairs of a request and a model with an outcome that can be priced."""
    table = PriceTable(compared.lists, "quality_prices")
    connection.execute(table.create_sql())
    output = {PAIRED: "o.output_tokens", HELD: "u.output_tokens", INPUT_ONLY: "0"}[outputs]
    joined = (
        f"SELECT u.unit, u.bag, u.number = o.number AS taken, o.number, o.score, o.latency_ms, u.ts, u.tier, "
        f"coalesce(o.input_tokens, nullif(u.input_tokens, 0)) AS input_tokens, CAST({output} AS BIGINT) AS output_tokens "
        f"FROM {_UNITS} u JOIN {numbered} o USING (request_id)"
    )
    slot = table.slot_sql("number", "ts", "input_tokens", "tier")
    cost = table.cost_sql("p", "j.input_tokens", "0", "0", "0", "j.output_tokens")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_CELLS} AS SELECT unit, bag, taken, number, score, CAST(round(latency_ms * 1000) AS BIGINT) AS latency, cost "
        f"FROM (SELECT j.*, {cost} AS cost FROM (SELECT *, {slot} AS slot FROM ({joined})) j JOIN {table.name} p USING (slot)) WHERE cost IS NOT NULL"
    )


def _base(connection: duckdb.DuckDBPyConnection, required: list[int]) -> dict[str, int]:
    """The compared requests as a table of units; how many others there are, by reason."""
    needed = f"number IN ({', '.join(map(str, required))})" if required else "FALSE"
    seen = f"SELECT unit, count(*) FILTER (WHERE {needed}) AS found, coalesce(bool_or(taken), FALSE) AS taken FROM {_CELLS} GROUP BY unit"
    reason = f"""CASE WHEN u.number < 0 THEN 'decided' WHEN s.found IS NULL THEN 'nothing' WHEN s.found < {len(required)} THEN 'some'
                      WHEN NOT s.taken THEN 'chosen' END"""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE quality_reasons AS SELECT u.unit, {reason} AS reason FROM {_UNITS} u LEFT JOIN ({seen}) s USING (unit)"
    )
    used = "reason IS NULL" if required else "FALSE"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {_BASE} AS SELECT unit FROM quality_reasons WHERE {used}")
    found = connection.sql("SELECT reason, count(*) FROM quality_reasons WHERE reason IS NOT NULL GROUP BY reason").fetchall()
    return dict(sorted(found))


def _arms(connection: duckdb.DuckDBPyConnection, arms: tuple[int, ...]) -> None:
    """A row per compared request and arm. The oracle takes the best score, of those the cheapest, of those the first declared."""
    listed = f"number IN ({', '.join(map(str, arms))})" if arms else "FALSE"
    base = f"SELECT c.* FROM {_CELLS} c JOIN {_BASE} USING (unit) WHERE {listed}"
    best = "row_number() OVER (PARTITION BY unit ORDER BY score DESC, cost, number) = 1"
    columns = "unit, bag, score, cost, latency"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_ARMS} AS SELECT number AS arm, number AS model, {columns} FROM ({base}) "
        f"UNION ALL SELECT {POLICY}, number, {columns} FROM ({base}) WHERE taken "
        f"UNION ALL SELECT {ORACLE}, number, {columns} FROM (SELECT * FROM ({base}) QUALIFY {best})"
    )


def _bags(connection: duckdb.DuckDBPyConnection) -> dict[str, Bag]:
    query = f"SELECT bag, arm, count(*), sum(cost), sum(score) FROM {_ARMS} GROUP BY bag, arm ORDER BY bag, arm"
    counts: dict[str, int] = {}
    sums: dict[str, dict[int, Sum]] = {}
    for bag, arm, rows, cost, score in connection.sql(query).fetchall():
        counts[bag] = rows
        sums.setdefault(bag, {})[arm] = Sum(int(cost), int(score))
    return {bag: Bag(counts[bag], found) for bag, found in sums.items()}


def _latencies(connection: duckdb.DuckDBPyConnection) -> dict[int, tuple[int, int]]:
    query = f"SELECT arm, quantile_disc(latency, [0.5, 0.95]) FROM {_ARMS} WHERE latency IS NOT NULL GROUP BY arm"
    return {arm: (found[0], found[1]) for arm, found in connection.sql(query).fetchall()}


def _chosen(connection: duckdb.DuckDBPyConnection) -> dict[int, int]:
    query = f"SELECT model, count(*) FROM {_ARMS} WHERE arm = {POLICY} GROUP BY model ORDER BY model"
    return dict(connection.sql(query).fetchall())
