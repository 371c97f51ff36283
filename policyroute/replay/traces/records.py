"""The rows of any kind of file as JSON objects, one at a time: for formats whose fields need more than a cast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from policyroute.replay.traces.head import Head, json_lines, reading
from policyroute.replay.traces.sql import glob_free, literal, quoted


def records(head: Head, connection: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    """Every row as an object, in the order of the file: structs and maps as objects, times as UTC text."""
    if head.kind == "jsonl":
        yield from (found for _, _, found in json_lines(head.path))
        return
    with reading(head.place):
        found = connection.cursor().execute(_query(head))
        while batch := found.fetchmany(200):
            for (text,) in batch:
                yield json.loads(text)


def _query(head: Head) -> str:
    if head.kind == "json":
        return f"SELECT json FROM read_json_objects({literal(glob_free(str(head.path)))}, format = 'array')"
    columns = []
    for field in head.fields:
        if field.top:
            zoned = field.type == "TIMESTAMP WITH TIME ZONE"
            columns.append(f"{f'make_timestamp(epoch_us({field.sql}))' if zoned else field.sql} AS {quoted(field.path)}")
    return f"SELECT CAST(to_json(t) AS VARCHAR) FROM (SELECT {', '.join(columns)} FROM {head.scan}) t"
