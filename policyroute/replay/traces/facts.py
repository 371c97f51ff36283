"""What a bound table holds: how many rows, which columns have values, what was lost in casting, which rows repeat.

One query over the scalar columns, a look for the first value of each content column, and, where rows can repeat, a count of
distinct keys. No content is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb

from policyroute.replay.traces.head import ROW_NUMBER, reading
from policyroute.replay.traces.notes import NOTES, Note, counted
from policyroute.replay.traces.schema import BY_NAME, CACHE_PARTS, SUSPECT_DOLLARS_PER_TOKEN, SUSPECT_FREE_TOKENS
from policyroute.replay.traces.sql import literal, one, quoted
from policyroute.replay.traces.tables import Bound, has_value

AT_ONCE = 2_000_000  # keys that are compared at once: more are looked through in shares, so that memory stays flat
_NULLED = {"ts": "bad-timestamp", "model": "null-model", "user_id": "null-user"}


@dataclass(frozen=True, slots=True)
class Facts:
    """`rows` are what the table gives after repetitions were set aside, `span` one more than its last row number,
    `present` the canonical columns with at least one value, `dropped` the Parquet file of row numbers set aside, or None,
    `spared` the dollars that a gateway's answer cache saved, None where it isn't told."""

    rows: int
    span: int
    present: frozenset[str]
    dropped: Path | None
    notes: tuple[Note, ...]
    spared: Decimal | None = None


def suspect(columns: Iterable[str]) -> str:
    """SQL: whether the recorded cost is beyond any price, over columns that are named as the canonical ones."""
    held = set(columns)
    if "cost_usd" not in held:
        return "NULL::BOOLEAN"
    tokens = " + ".join(f"coalesce({name}, 0)" for name in ("input_tokens", "output_tokens") if name in held) or "NULL"
    limit = f"CAST({SUSPECT_DOLLARS_PER_TOKEN} AS DECIMAL(4,2)) * ({tokens} + {SUSPECT_FREE_TOKENS})"
    return f"(cost_usd < 0 OR coalesce(cost_usd > {limit}, false))"


def gather(bound: Bound, connection: duckdb.DuckDBPyConnection, scratch: Path) -> Facts:
    """Reads the facts. Raises `TraceError` where the source turns out to be unreadable."""
    with reading(bound.table.head.place):
        counts = _counts(bound, connection)
        contents = {
            name
            for name in bound.columns
            if BY_NAME[name].type == "JSON" and has_value(bound.columns[name], bound.table, connection)
        }
        dropped, notes = _repetitions(bound, counts["rows"], connection, scratch)
        aside = _aside(bound, connection)
        spared = _spared(bound, connection) if any(note.code == "gateway-cache" for note in aside) else None
    rows = counts["rows"]
    lost = sum(note.rows for note in notes if note.code == "duplicates")
    scalars = {name for name in bound.columns if counts.get(f"held {name}", 0)}
    present = frozenset(scalars | contents)
    return Facts(
        rows - lost, counts["span"], present, dropped, (*bound.table.notes, *aside, *bound.notes, *_observed(bound, counts), *notes), spared,
    )  # fmt: skip


def _counts(bound: Bound, connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    columns = bound.columns
    scalars = [name for name in columns if BY_NAME[name].type != "JSON"]
    raws = [f"{bound.raw[name]} AS {quoted(f'raw {name}')}" for name in scalars]
    asked = {"rows": "count(*)", "span": "coalesce(max(row) + 1, 0)"}
    asked |= {f"held {name}": f"count({quoted(name)})" for name in scalars}
    asked |= {f"raw {name}": f"count({quoted(f'raw {name}')})" for name in scalars}
    if "output_tokens" in columns:
        asked["zero-output"] = "count_if(output_tokens = 0)"
    if "cost_usd" in columns:
        asked["suspect-cost"] = f"count_if({suspect(columns)})"
    parts = [f"coalesce({name}, 0)" for name in CACHE_PARTS if name in columns]
    if parts and "input_tokens" in columns:
        asked["cache-exceeds-input"] = f"count_if({' + '.join(parts)} > input_tokens)"
    selected = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in asked.items())
    where = f" WHERE {bound.table.shape.where}" if bound.table.shape.where else ""
    slim = [f"{ROW_NUMBER} AS row", *(f"{columns[name]} AS {quoted(name)}" for name in scalars), *raws]
    row = one(connection, f"SELECT {selected} FROM (SELECT {', '.join(slim)} FROM {bound.table.head.scan}{where})")
    return dict(zip(asked, (int(value or 0) for value in row or ()), strict=False))


def _aside(bound: Bound, connection: duckdb.DuckDBPyConnection) -> list[Note]:
    """How many rows the format leaves out, and why; a row with several reasons counts under the first."""
    conditions = bound.table.shape.aside
    if not conditions:
        return []
    cases = " ".join(f"WHEN {sql} THEN {literal(code)}" for code, sql in conditions.items())
    found = connection.sql(f"SELECT CASE {cases} END AS code, count(*) FROM {bound.table.head.scan} GROUP BY 1").fetchall()
    counts = {code: rows for code, rows in found if code is not None}
    return [counted(code, counts[code]) for code in conditions if code in counts]


def _spared(bound: Bound, connection: duckdb.DuckDBPyConnection) -> Decimal | None:
    shape = bound.table.shape
    if not shape.spared:
        return None
    (found,) = one(connection, f"SELECT sum({shape.spared}) FROM {bound.table.head.scan} WHERE {shape.aside['gateway-cache']}")
    return Decimal(found) if found is not None else None


def _observed(bound: Bound, counts: Mapping[str, int]) -> list[Note]:
    """What the counts say, the gravest first."""
    rows = counts["rows"]
    notes = [Note("relative-time", NOTES["relative-time"], rows)] if bound.relative else []
    for code in ("suspect-cost", "cache-exceeds-input", "zero-output"):
        notes += [counted(code, counts[code])] if counts.get(code) else []
    for name in bound.columns:
        held, raw = counts.get(f"held {name}"), counts.get(f"raw {name}")
        if held is None or raw is None:
            continue
        if not held and not raw:
            continue
        missing, lost = rows - raw, raw - held
        if name in ("model", "user_id"):
            notes += [counted(_NULLED[name], rows - held)] if rows > held else []
        elif name == "ts":
            notes += [counted("null-timestamp", missing)] if missing else []
            notes += [counted("bad-timestamp", lost)] if lost else []
        elif lost and name not in ("provider", "team", "requested_model", "response_model"):
            notes.append(Note("bad-value", f"{lost:,} values of `{name}` don't fit {BY_NAME[name].type}, and are null", lost))
    return notes + [Note(code, NOTES[code], rows) for code in bound.table.shape.notes]


def _repetitions(bound: Bound, rows: int, connection: duckdb.DuckDBPyConnection, scratch: Path) -> tuple[Path | None, list[Note]]:
    """Rows that repeat another one in every column: their numbers go to a file. A first look counts hashes, exact comparison follows."""
    if not bound.repeats:
        return None, []
    where = f" WHERE {bound.table.shape.where}" if bound.table.shape.where else ""
    keys = f"SELECT hash({bound.repeats}) AS key FROM {bound.table.head.scan}{where}{' AND' if where else ' WHERE'} {bound.repeats} IS NOT NULL"
    shares = 1 + rows // AT_ONCE
    looks = [
        one(connection, f"SELECT count(*), count(DISTINCT key) FROM ({keys}) WHERE key % {shares} = {share}")
        for share in range(shares)
    ]
    keyed, distinct = (sum(column) for column in zip(*looks, strict=True))
    if keyed == distinct:
        return None, []
    target = scratch / f"repeated-{bound.table.digest[:16]}.parquet"
    every = ", ".join(quoted(name) for name in (*bound.columns, *bound.extras))
    inner = bound.inner().replace("SELECT ", f"SELECT {bound.repeats} AS policyroute_key, ", 1)
    several = (
        f"WITH source AS ({inner}), several AS (SELECT policyroute_key FROM source GROUP BY policyroute_key HAVING count(*) > 1)"
    )
    copies = f"SELECT row, row_number() OVER (PARTITION BY policyroute_key, {every} ORDER BY row) AS copy FROM source SEMI JOIN several USING (policyroute_key)"
    scratch.mkdir(parents=True, exist_ok=True)
    connection.execute(
        f"COPY ({several} SELECT row FROM ({copies}) WHERE copy > 1 ORDER BY row) TO {literal(str(target))} (FORMAT parquet)"
    )
    (lost,) = one(connection, f"SELECT count(*) FROM read_parquet({literal(str(target))})")
    if not lost:
        target.unlink()
    notes = [counted("duplicates", lost)] if lost else []
    if "request_id" in bound.columns and keyed - distinct > lost:
        notes.append(counted("repeated-request-id", keyed - distinct - lost))
    return (target if lost else None), notes
