"""What the tests of traces share: where samples lie, a connection, and `opened`, which opens a trace and reads all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from policyroute.replay.traces import Trace, open_trace

SAMPLES = Path(__file__).parent / "traces_samples"
SHARED = Path(__file__).parents[2] / "shared" / "data"

Opened = tuple[Trace, list[dict[str, Any]]]
Open = Callable[..., Opened]


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    found = duckdb.connect()
    found.execute("SET TimeZone = 'America/New_York'")  # no time may depend on it
    return found


@pytest.fixture
def opened(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> Open:
    """Opens paths, and gives the trace with all its rows as dicts."""

    def run(*paths: str | Path, **options: Any) -> Opened:
        trace = open_trace(paths, connection=connection, scratch=tmp_path / "scratch", **options)
        return trace, rows_of(trace, connection)

    return run


def rows_of(trace: Trace, connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM ({trace.relation}) ORDER BY row")
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def noted(trace: Trace) -> dict[str, int]:
    return {note.code: note.rows for note in trace.notes}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(*objects: Mapping[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def records(sample: str) -> list[dict[str, Any]]:
    """The objects of a sample of JSON lines."""
    return [json.loads(line) for line in (SAMPLES / sample).read_text("utf-8").splitlines()]
