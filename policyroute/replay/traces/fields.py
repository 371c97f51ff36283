"""The fields of a table or of JSON lines: every column, and what lies inside objects, under dotted paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policyroute.replay.traces.sql import json_path, quoted

_DEPTH = 5
_TEXTUAL = ("VARCHAR", "JSON")


@dataclass(frozen=True, slots=True)
class Field:
    """A field: `sql` gives its value over the scan, `text` the same as a scalar or as text, of the DuckDB type `type`
    (VARCHAR for the values of JSON files). `kept` is the type that it has where it is kept under its own name."""

    path: str
    sql: str
    text: str
    type: str
    kept: str
    top: bool


def table_fields(columns: Sequence[str], types: Sequence[Any]) -> tuple[Field, ...]:
    """The columns of a DuckDB relation, and the members of its STRUCTs."""
    return tuple(found for name, type_ in zip(columns, types, strict=True) for found in _column(name, quoted(name), type_, True))


def _column(path: str, sql: str, type_: Any, top: bool) -> list[Field]:
    name = str(type_)
    if type_.id in ("struct", "list", "map", "array", "union"):
        text = f"CASE WHEN {sql} IS NOT NULL THEN CAST(to_json({sql}) AS VARCHAR) END"
        own = Field(path, sql, text, "VARCHAR", "VARCHAR", top)
    elif name == "JSON":
        own = Field(path, sql, f"({sql} ->> '$')", "VARCHAR", "VARCHAR", top)
    else:
        own = Field(path, sql, sql, name, name, top)
    if type_.id != "struct":
        return [own]
    members = [_column(f"{path}.{key}", f"{sql}.{quoted(key)}", member, False) for key, member in type_.children]
    return [own, *(field for group in members for field in group)]


def json_fields(sample: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> tuple[Field, ...]:
    """The fields of JSON objects: all `keys` of the top, and what the sample's objects hold inside."""
    seen: dict[tuple[str, ...], set[str]] = {}
    for row in sample:
        _walk(row, (), seen)
    order = [path for path in seen if len(path) == 1]
    tops = [*order, *((key,) for key in keys if (key,) not in seen)]
    nested = [path for path in seen if len(path) > 1]
    return tuple(json_field(path, seen.get(path, set())) for path in (*tops, *nested))


def json_field(path: tuple[str, ...], types: set[str] | frozenset[str] = frozenset()) -> Field:
    """The field at a path of keys."""
    top, inner = quoted(path[0]), path[1:]
    sql = f"({top} -> {json_path(inner)})" if inner else top
    kept = next(iter(types)) if len(types) == 1 else "DOUBLE" if types == {"BIGINT", "DOUBLE"} else "VARCHAR"
    return Field(".".join(path), sql, f"({top} ->> {json_path(inner)})", "VARCHAR", kept, not inner)


def _walk(value: Mapping[str, Any], path: tuple[str, ...], seen: dict[tuple[str, ...], set[str]]) -> None:
    for key, inner in value.items():
        here = (*path, key)
        types = seen.setdefault(here, set())
        if inner is not None:
            types.add(kind_of(inner))
        if isinstance(inner, dict) and len(here) < _DEPTH:
            _walk(inner, here, seen)


def kind_of(value: object) -> str:
    """The DuckDB type that a JSON value has as a column of its own."""
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT" if abs(value) < 2**63 else "VARCHAR"
    return "DOUBLE" if isinstance(value, float) else "VARCHAR"


def find(fields: Iterable[Field], path: str) -> Field | None:
    """The field of that path, letter case ignored where no field has it exactly."""
    near = [field for field in fields if field.path.casefold() == path.casefold()]
    return next((field for field in near if field.path == path), near[0] if near else None)


def inside(fields: Iterable[Field], path: str) -> Field | None:
    """The field at a dotted path into a column that holds JSON text, which no sample can show."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        outer = find(fields, ".".join(parts[:cut]))
        if outer is not None and outer.type in _TEXTUAL:
            text = f"CASE WHEN json_valid({outer.text}) THEN {outer.text} ->> {json_path(parts[cut:])} END"
            return Field(path, text, text, "VARCHAR", "VARCHAR", False)
    return None


def dumps(value: object) -> str:
    """JSON as these readers write it: characters as they are, but for halves of surrogate pairs, which no file can hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), default=str)
    return text
