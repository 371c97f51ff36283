"""Traces: the traps of published data (costs, models, times, names, repetitions), each with a sample of its own."""

# ruff: noqa: F811 - fixtures are imported, and asked for by name

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policyroute.replay.traces import (
    write_canonical,
)
from tests.traces_support import SAMPLES, Open, connection, lines, noted, opened, write  # noqa: F401 - fixtures

# -- traps of published data ---------------------------------------------------------------------------------------


def test_trap_1_an_absurd_cost_is_kept_but_marked(opened: Open, tmp_path: Path) -> None:
    calls = [(9990.01, 10_000, 33), (0.6, 100, 900), (0.035, 5, 0), (-1, 10, 10), (1.0, 0, 0), (250.0, 20_000, 6_000)]
    path = write(tmp_path / "t.csv", "cost,prompt_tokens,completion_tokens\n" + "".join(f"{a},{b},{c}\n" for a, b, c in calls))
    trace, rows = opened(path)
    assert [row["suspect_cost"] for row in rows] == [True, False, False, True, False, False]
    assert rows[0]["cost_usd"] == Decimal("9990.01")
    assert noted(trace)["suspect-cost"] == 2


def test_trap_2_a_model_called_none_is_no_model(opened: Open, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "model,prompt_tokens\nNone,1\nollama/REDACTED,1\n,1\nft:gpt-4.1-mini:me::x,1\nnull,1\n")
    trace, rows = opened(path)
    assert [row["model"] for row in rows] == [None, "ollama/REDACTED", None, "ft:gpt-4.1-mini:me::x", None]
    assert noted(trace)["null-model"] == 3


def test_trap_7_the_provider_in_a_model_id_stays(opened: Open, tmp_path: Path) -> None:
    _, rows = opened(write(tmp_path / "t.csv", "model,prompt_tokens\nopenrouter/openrouter/quasar-alpha,1\n"))
    assert (rows[0]["model"], rows[0]["provider"]) == ("openrouter/openrouter/quasar-alpha", None)


MOMENT = datetime(2025, 11, 20, 23, 33, 50, 793000)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1763681630, MOMENT.replace(microsecond=0)),
        (1763681630.793, MOMENT),
        (1763681630793, MOMENT),
        (1763681630793000, MOMENT),
        (1763681630793000000, MOMENT),
        ("1763681630793", MOMENT),
        ("2025-11-20T23:33:50.793Z", MOMENT),
        ("2025-11-21T01:33:50.793+02:00", MOMENT),
        ("2025-11-20 18:33:50.793-0500", MOMENT),
        ("2025-11-20 23:33:50.7930000", MOMENT),
        ("2025-11-20 23:33:50.793", MOMENT),
        ("2025-11-20", datetime(2025, 11, 20)),
        ("yesterday", None),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_trap_8_times_of_every_spelling(opened: Open, tmp_path: Path, value: Any, moment: datetime | None, kind: str) -> None:
    row = {"timestamp": value, "input_tokens": 1}
    path = tmp_path / f"t.{kind}"
    if kind == "csv":
        write(path, f"timestamp,input_tokens\n{value!r},1\n".replace("'", '"'))
    elif kind == "jsonl":
        write(path, lines(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    trace, rows = opened(path)
    assert rows[0]["ts"] == moment
    assert noted(trace).get("bad-timestamp", 0) == int(moment is None)
    assert not trace.relative_time


@pytest.mark.parametrize(
    "type_", [pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("us", tz="Asia/Tokyo")], ids=str
)
def test_trap_8_parquet_timestamps_of_every_unit(opened: Open, tmp_path: Path, type_: pa.DataType) -> None:
    micros = 1763681630793000
    array = pa.array([micros], pa.timestamp("us")).cast(pa.int64())
    scale = next(each for unit, each in (("[ns", 1000), ("[us", 1), ("[ms", 0.001)) if unit in str(type_))
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"timestamp": pa.array([int(array[0].as_py() * scale)], type_), "input_tokens": [1]}), path)
    assert opened(path)[1][0]["ts"] == MOMENT


def test_trap_8_times_from_zero_stay_relative_and_are_said(
    opened: Open, tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    trace, rows = opened(SAMPLES / "mooncake.jsonl")
    assert trace.relative_time
    assert [row["ts"].second for row in rows] == [0, 3, 3]
    assert noted(trace)["relative-time"] == 3
    write_canonical(trace, connection, tmp_path / "again.parquet")
    again, _ = opened(tmp_path / "again.parquet")
    assert again.relative_time


def test_trap_8_null_times_are_counted(opened: Open, tmp_path: Path) -> None:
    trace, rows = opened(write(tmp_path / "t.csv", "time,prompt_tokens\n1763681630,1\n,2\nnoon,3\n17,4\n"))
    assert [row["ts"] is None for row in rows] == [False, True, True, True]
    assert (noted(trace)["null-timestamp"], noted(trace)["bad-timestamp"]) == (1, 2)


@pytest.mark.parametrize(
    "field", ["prompt_tokens", "ContextTokens", "input_length", "input_token_count", "token_usage.input_tokens", "input_tokens"]
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_trap_9_input_tokens_under_every_name(opened: Open, tmp_path: Path, field: str, kind: str) -> None:
    outer, _, inner = field.partition(".")
    row = {outer: {inner: 77} if inner else 77, "model": "m"}
    path = tmp_path / f"t.{kind}"
    if kind == "jsonl":
        write(path, lines(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    assert opened(path)[1][0]["input_tokens"] == 77


@pytest.mark.parametrize("field", ["user_id", "client_id", "user", "end_user"])
def test_trap_9_users_under_every_name(opened: Open, tmp_path: Path, field: str) -> None:
    assert opened(write(tmp_path / "t.csv", f"{field},prompt_tokens\n35,1\n"))[1][0]["user_id"] == "35"


@pytest.mark.parametrize(
    ("usage", "total", "cached"),
    [
        ({"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}, 130, 100),  # Anthropic: beside
        ({"prompt_tokens": 130, "prompt_tokens_details": {"cached_tokens": 100}}, 130, 100),  # OpenAI: within
        ({"input_tokens": 130, "input_tokens_details": {"cached_tokens": 100}}, 130, 100),
        ({"input_tokens": 130, "cache_read_input_tokens": None}, 130, None),
    ],
)
def test_cached_tokens_are_part_of_the_input(
    opened: Open, tmp_path: Path, usage: dict[str, Any], total: int, cached: int | None
) -> None:
    _, rows = opened(write(tmp_path / "t.jsonl", lines({"model": "m", "usage": usage})))
    assert (rows[0]["input_tokens"], rows[0]["cached_tokens"]) == (total, cached)


def test_cached_tokens_beyond_the_input_are_said(opened: Open, tmp_path: Path) -> None:
    trace, _ = opened(write(tmp_path / "t.csv", "prompt_tokens,cached_tokens\n3,1000\n30,10\n"))
    assert noted(trace)["cache-exceeds-input"] == 1


CALL = {"request_id": "a", "ts": "2025-01-01T00:00:00Z", "model": "m", "input_tokens": 5, "output_tokens": 0}
NEXT = {**CALL, "request_id": "b"}
NAMELESS = {key: value for key, value in CALL.items() if key != "request_id"}


@pytest.mark.parametrize(
    ("calls", "kept", "notes"),
    [
        ([CALL, CALL, NEXT], [0, 2], {"duplicates": 1, "zero-output": 3}),
        ([CALL, NEXT, {**CALL, "output_tokens": 3}], [0, 1, 2], {"repeated-request-id": 1, "zero-output": 2}),
        ([NAMELESS, NAMELESS, {**NAMELESS, "feature": 1}], [0, 2], {"duplicates": 1, "zero-output": 3}),
        ([{**NAMELESS, "ts": None}, NEXT], [0, 1], {"null-timestamp": 1, "zero-output": 2}),
        ([{"input_tokens": 5}, {"input_tokens": 5}], [0, 1], {}),
        ([CALL, {**CALL, "request_id": None}, {**CALL, "request_id": None}], [0, 1, 2], {"zero-output": 3}),
    ],
)
def test_trap_10_only_exact_repetitions_are_set_aside(
    opened: Open, tmp_path: Path, calls: list[dict[str, Any]], kept: list[int], notes: dict[str, int]
) -> None:
    trace, rows = opened(write(tmp_path / "t.jsonl", lines(*calls)))
    assert [row["row"] for row in rows] == kept
    assert trace.rows == trace.parts[0].rows == len(kept)
    assert noted(trace) == notes


def test_trap_10_equal_rows_of_a_csv_are_different_calls(opened: Open) -> None:
    trace, rows = opened(SAMPLES / "azure.csv")
    assert (trace.rows, rows[1]["ts"], rows[0]["ts"].microsecond) == (3, datetime(2024, 5, 1, 10, 0, 1), 979960)


def test_values_that_do_not_fit_are_null_and_counted(opened: Open, tmp_path: Path) -> None:
    trace, rows = opened(
        write(tmp_path / "t.csv", "prompt_tokens,completion_tokens,cost,stream\n12.0,many,$1,yes\n-1,3,nan,true\n")
    )
    assert [row["input_tokens"] for row in rows] == [12, None]
    assert [row["output_tokens"] for row in rows] == [None, 3]
    assert [row["cost_usd"] for row in rows] == [None, None]
    assert {note.message for note in trace.notes if note.code == "bad-value"} == {
        "1 values of `input_tokens` don't fit BIGINT, and are null",
        "1 values of `output_tokens` don't fit BIGINT, and are null",
        "2 values of `cost_usd` don't fit DECIMAL(24,12), and are null",
    }


def test_a_plain_prompt_is_one_user_message(opened: Open, tmp_path: Path) -> None:
    _, rows = opened(write(tmp_path / "t.jsonl", lines({"prompt": 'say "hi"'}, {"prompt": [{"role": "system", "content": "x"}]})))
    assert [json.loads(row["messages"]) for row in rows] == [
        [{"role": "user", "content": 'say "hi"'}],
        [{"role": "system", "content": "x"}],
    ]


@pytest.mark.parametrize("dollars", [68007.3286, 66711.4, 0.0001107, 1e-12, 999.999999999])
def test_a_double_becomes_the_money_that_was_written(opened: Open, tmp_path: Path, dollars: float) -> None:
    pq.write_table(pa.table({"cost": [dollars], "prompt_tokens": [10**9]}), tmp_path / "t.parquet")
    write(tmp_path / "t.csv", f"cost,prompt_tokens\n{dollars!r},1\n")
    write(tmp_path / "t.jsonl", lines({"cost": dollars, "prompt_tokens": 1}))
    for kind in ("parquet", "csv", "jsonl"):
        assert opened(tmp_path / f"t.{kind}")[1][0]["cost_usd"] == Decimal(str(dollars))


@pytest.mark.parametrize(("seconds", "relative"), [(99_999_999, True), (100_000_000, False)])
def test_where_counting_from_zero_ends(opened: Open, tmp_path: Path, seconds: int, relative: bool) -> None:
    trace, rows = opened(write(tmp_path / "t.csv", f"time,prompt_tokens\n{seconds},1\n"))
    assert trace.relative_time == relative
    assert (rows[0]["ts"] - datetime(1970, 1, 1)).total_seconds() == seconds
