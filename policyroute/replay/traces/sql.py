"""Words of SQL: literals, names and paths, quoted so that no file or column name can break out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def glob_free(path: str) -> str:
    """A path in which DuckDB sees no wildcard."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in path)


def json_path(keys: Iterable[str]) -> str:
    """A JSON path of object keys, as a literal."""
    return literal("$" + "".join('."' + key.replace("\\", "\\\\").replace('"', '\\"') + '"' for key in keys))


def one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The only row of a query. `execute(...).fetchone()` would leave a result open, which DuckDB 2 refuses to work beside."""
    (row,) = connection.sql(query).fetchall()
    return row
