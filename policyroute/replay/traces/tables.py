"""A table of any source, bound to the canonical columns: which field feeds which column, and the SQL that reads it.

Nothing is loaded here: a `Bound` is text. Which field a column takes is decided in this order: what the user mapped, what the
format's `Shape` says, the column's own name, its aliases. A field feeds one column; what feeds none is kept under its own name
(as `source_NAME` where that is the name of a canonical column).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import duckdb

from policyroute.replay.traces.casts import RELATIVE_BELOW, cast, seconds
from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.fields import Field, find, inside
from policyroute.replay.traces.head import ROW_NUMBER, Head, reading
from policyroute.replay.traces.notes import Note
from policyroute.replay.traces.schema import BY_NAME, CACHE_PARTS, COLUMNS, EXCLUSIVE_CACHE, NAMES, ROW, SUSPECT, Column, sources
from policyroute.replay.traces.sql import literal, one, quoted

_SIZED = ("input_tokens", "output_tokens", "messages", "cost_usd")
_FREE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.$ /-]*\Z")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a format differs from what the aliases say.

    `columns` maps canonical columns to fields (an empty field: none), `expressions` gives SQL over the source's columns instead
    (`uses` are fields that these hold whole, which are not kept beside them), `where` keeps only some rows (`aside` counts the
    others: SQL by note; `spared` is SQL of the dollars that one of `gateway-cache` didn't cost), `unit` is the length in microseconds of a time that counts from 0, `model_in_name` finds the model in the
    file's name (group 1), `keep_repeats` trusts repeated lines, `notes` are said of every row.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    expressions: Mapping[str, str] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    where: str = ""
    aside: Mapping[str, str] = field(default_factory=dict)
    spared: str = ""
    unit: int = 1_000_000
    model_in_name: str = ""
    keep_repeats: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A scan to be bound: a file's own, or the Parquet file that a special shape was converted into (then `name` and
    `digest` are the original's). `notes` are what the conversion saw."""

    head: Head
    shape: Shape
    name: str
    digest: str
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Bound:
    """A table whose columns are known. `columns` holds the typed SQL of the canonical columns that the source has, `raw` the
    value that each was cast from; `extras` the SQL and type of the others; `repeats` the key by which repetitions are found."""

    table: Table
    columns: Mapping[str, str]
    raw: Mapping[str, str]
    extras: Mapping[str, tuple[str, str]]
    relative: bool
    repeats: str
    notes: tuple[Note, ...]

    def inner(self) -> str:
        """A SELECT of the typed columns that are there, and the row's number in the file as `row`."""
        listed = [f"{ROW_NUMBER} AS row", *(f"{sql} AS {quoted(name)}" for name, sql in self.columns.items())]
        listed += [f"{sql} AS {quoted(name)}" for name, (sql, _) in self.extras.items()]
        where = f" WHERE {self.table.shape.where}" if self.table.shape.where else ""
        return f"SELECT {', '.join(listed)} FROM {self.table.head.scan}{where}"


def bind(table: Table, mapping: Mapping[str, str], incumbent: str | None, connection: duckdb.DuckDBPyConnection) -> Bound:
    """Finds the field of every column. Raises `TraceError` where a mapped field is missing or nothing is known of the calls' size."""
    head, shape = table.head, table.shape
    chosen = _choose(head, shape, mapping)
    missing = not any(name in chosen or name in shape.expressions for name in _SIZED)
    if missing:
        found = ", ".join(f"`{found.path}`" for found in head.fields if found.top)
        raise TraceError(
            "no column tells tokens, messages or cost",
            head.place,
            f"columns found: {found}; map them with --map input_tokens=FIELD --map output_tokens=FIELD",
        )
    with reading(head.place):
        relative = "ts" in chosen and _counts_from_zero(chosen["ts"], head, shape, connection)
    columns = {
        name: cast(found, BY_NAME[name], shape.unit if relative else None) for name, found in chosen.items() if name in BY_NAME
    }
    raw = {name: found.text for name, found in chosen.items() if name in columns}
    expressions = {name: sql for name, sql in shape.expressions.items() if name not in columns}
    columns |= expressions
    raw |= expressions
    columns, notes = _add_cache(columns, chosen)
    with reading(head.place):
        columns, named = _add_model(columns, table, incumbent, connection)
    raw |= {name: sql for name, sql in columns.items() if name not in raw}
    ordered = {name: columns[name] for name in NAMES if name in columns}
    repeats = _repeats(head, shape, columns)
    return Bound(table, ordered, raw, _extras(head, shape, chosen, mapping), relative, repeats, (*notes, *named))


def _choose(head: Head, shape: Shape, mapping: Mapping[str, str]) -> dict[str, Field]:
    """The field of each canonical column that has one, and of each name that the user mapped."""
    chosen = {name: _mapped(head, name, path) for name, path in mapping.items()}
    taken = {found.path for found in chosen.values()}
    for column in COLUMNS:
        if column.name in chosen or column.name == SUSPECT:
            continue
        found = _field_of(column, head, shape, taken)
        if found is not None:
            chosen[column.name] = found
            taken.add(found.path)
    return chosen


def _field_of(column: Column, head: Head, shape: Shape, taken: set[str]) -> Field | None:
    if column.name in shape.columns:
        return find(head.fields, shape.columns[column.name])
    if column.name in shape.expressions:
        return None
    reserved = {path.casefold() for path in shape.columns.values()} | {name for name in NAMES if name != column.name}
    candidates = (find(head.fields, path) for path in sources(column) if path.casefold() not in reserved)
    return next((found for found in candidates if found is not None and found.path not in taken), None)


def _mapped(head: Head, name: str, path: str) -> Field:
    if not _FREE_NAME.match(name) or name in (ROW.name, SUSPECT):
        raise TraceError(
            f"`{name}` can't be the name of a column",
            head.place,
            f"canonical columns: {', '.join(NAMES)}; or a free name of letters, digits and _",
        )
    found = find(head.fields, path) or inside(head.fields, path)
    if found is None:
        paths = [known.path for known in head.fields]
        near = get_close_matches(path, paths, n=1, cutoff=0.6)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise TraceError(
            f"there is no field `{path}` to map to `{name}`", head.place, f"{hint}fields found: {', '.join(paths[:40])}"
        )
    return found


def _counts_from_zero(found: Field, head: Head, shape: Shape, connection: duckdb.DuckDBPyConnection) -> bool:
    where = f" WHERE {shape.where}" if shape.where else ""
    row = one(connection, f"SELECT max(abs({seconds(found)})) FROM {head.scan}{where}")
    return row is not None and row[0] is not None and row[0] < RELATIVE_BELOW


def _add_cache(columns: dict[str, str], chosen: Mapping[str, Field]) -> tuple[dict[str, str], list[Note]]:
    """Anthropic's `input_tokens` leaves out what was cached: beside its names for those parts, they are added."""
    total = chosen.get("input_tokens")
    parts = [name for name in CACHE_PARTS if name in chosen and chosen[name].path.rsplit(".", 1)[-1].casefold() in EXCLUSIVE_CACHE]
    if total is None or not parts or total.path.startswith("gen_ai.") or total.path.rsplit(".", 1)[-1].casefold() != "input_tokens":
        return columns, []
    added = " + ".join(f"coalesce({columns[name]}, 0)" for name in parts)
    names = ", ".join(f"`{chosen[name].path}`" for name in parts)
    return {**columns, "input_tokens": f"({columns['input_tokens']}) + {added}"}, [
        Note("cache-added", f"{names} added to `{total.path}`, which leaves them out", 0)
    ]


def _add_model(
    columns: dict[str, str], table: Table, incumbent: str | None, connection: duckdb.DuckDBPyConnection
) -> tuple[dict[str, str], list[Note]]:
    """A model for a source that names none: the incumbent, or the one that the file's name tells."""
    told = re.match(table.shape.model_in_name, table.name) if table.shape.model_in_name else None
    model = incumbent or (told[1] if told else None)
    if model is None or ("model" in columns and has_value(columns["model"], table, connection)):
        return columns, []
    if incumbent:
        note = Note("incumbent", f"the trace names no model: every call is taken as served by `{model}`", 0)
    else:
        note = Note("model-from-name", f"the trace names no model: `{model}` was read off the name of `{table.name}`", 0)
    return {**columns, "model": literal(model)}, [note]


def has_value(sql: str, table: Table, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the expression has a value in any row: reads up to the first one."""
    where = f"({table.shape.where}) AND " if table.shape.where else ""
    return bool(connection.sql(f"SELECT 1 FROM {table.head.scan} WHERE {where}({sql}) IS NOT NULL LIMIT 1").fetchall())


def _repeats(head: Head, shape: Shape, columns: Mapping[str, str]) -> str:
    """What must be equal for two rows to be worth comparing; empty where equal rows may well be different calls."""
    if "request_id" in columns:
        return columns["request_id"]
    if head.kind != "jsonl" or "ts" not in columns or shape.keep_repeats:
        return ""
    return f"hash({', '.join(found.sql for found in head.fields if found.top)})"


def _extras(head: Head, shape: Shape, chosen: Mapping[str, Field], mapping: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    used = {found.path for name, found in chosen.items() if name in BY_NAME} | set(shape.uses)
    extras = {
        name: (f"TRY_CAST({found.text} AS {found.kept})", found.kept) for name, found in chosen.items() if name not in BY_NAME
    }
    reserved = {ROW.name, ROW_NUMBER, *NAMES}
    for found in head.fields:
        if not found.top or found.path in used or found.path.casefold() in (ROW.name, ROW_NUMBER, SUSPECT):
            continue
        name = f"source_{found.path}" if found.path.casefold() in reserved else found.path
        if name.casefold() not in {known.casefold() for known in extras} and name not in mapping:
            value = found.text if found.kept == found.type else f"TRY_CAST({found.text} AS {found.kept})"
            extras[name] = (value, found.kept)
    return extras
