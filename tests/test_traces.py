"""Traces: the canonical schema, every format from a small sample, and the totals of the public traces where they lie beside the checkout."""

# ruff: noqa: F811 - fixtures are imported, and asked for by name

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from policyroute.replay.traces import (
    COLUMNS,
    IMPORTERS,
    NAMES,
    NOTES,
    TraceRow,
    importers_markdown,
    markdown,
    notes_markdown,
    open_trace,
)
from tests.traces_support import SAMPLES, SHARED, Open, connection, lines, noted, opened, write  # noqa: F401 - fixtures

DOCS = Path(__file__).parents[1] / "docs" / "traces.md"


# -- the schema ----------------------------------------------------------------------------------------------------


def test_no_two_columns_share_a_name_or_prefer_the_same_alias() -> None:
    assert len(set(NAMES)) == len(NAMES)
    aliases = [alias.casefold() for column in COLUMNS for alias in column.aliases]
    assert sorted(set(aliases)) == sorted(aliases)
    assert not set(aliases) & set(NAMES)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_every_example_is_a_valid_row_and_reads_back(column: Any, opened: Open, tmp_path: Path) -> None:
    TraceRow.model_validate({column.name: column.example})
    if column.name == "suspect_cost":
        return
    value = json.loads(column.example) if column.type == "JSON" else column.example
    trace, rows = opened(write(tmp_path / "one.jsonl", lines({"input_tokens": 10, "output_tokens": 1, column.name: value})))
    assert column.name in trace.present
    assert rows[0][column.name] is not None


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"input_tokens": 10, "cached_tokens": 8, "cache_write_5m_tokens": 3}, "exceed input_tokens"),
        ({"output_tokens": 1, "reasoning_tokens": 2}, "exceed output_tokens"),
        ({"input_tokens": -1}, "greater than or equal to 0"),
        ({"messages": {"role": "user"}}, "must be a JSON list"),
        ({"cost_usd": "0.0000000000001"}, "decimal places"),
        ({"ts": "yesterday"}, "datetime"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        TraceRow.model_validate(row)


@pytest.mark.parametrize("table", [markdown, notes_markdown, importers_markdown], ids=lambda table: table.__name__)
def test_the_documentation_holds_the_tables(table: Callable[[], str]) -> None:
    assert table() in DOCS.read_text(encoding="utf-8")


def test_relations_are_typed_and_ordered_alike(opened: Open, connection: duckdb.DuckDBPyConnection) -> None:
    wanted = ["row", *NAMES]
    types = ["BIGINT", *(column.sql_type for column in COLUMNS)]
    for sample in sorted(SAMPLES.iterdir()):
        trace, rows = opened(sample)
        described = connection.execute(f"DESCRIBE {trace.parts[0].relation}").fetchall()
        assert [row[0] for row in described] == [*wanted, *trace.extra], sample.name
        assert [row[1] for row in described[: len(wanted)]] == types, sample.name
        assert trace.rows == len(rows) == len({row["row"] for row in rows})
        assert trace.present == {name for name in NAMES if name != "suspect_cost" and any(row[name] is not None for row in rows)}
        assert all(note.code in NOTES for note in trace.notes)
        for row in rows:
            TraceRow.model_validate({**row, "ts": row["ts"] and row["ts"].isoformat()})


def test_every_format_has_a_sample(opened: Open, tmp_path: Path) -> None:
    formats = {opened(sample)[0].format for sample in SAMPLES.iterdir()}
    assert formats >= {"aider-events", "azure", "mooncake", "pi", "tau-bench", "bfcl-v4", "canonical"}
    assert set(IMPORTERS) - formats == {"aider", "servegen", "burstgpt", "tau-bench-steps", "bfcl", "table"}  # made in tests below


# -- formats -------------------------------------------------------------------------------------------------------


def test_canonical_json_keeps_content_as_json(opened: Open) -> None:
    trace, rows = opened(SAMPLES / "canonical.jsonl")
    assert (trace.format, trace.rows, trace.extra) == ("canonical", 2, ("plan", "last_tokens"))
    assert json.loads(rows[0]["messages"]) == [{"role": "user", "content": "hi"}]
    assert json.loads(rows[0]["tools"])[0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert rows[0]["cost_usd"] == Decimal("0.000165")
    assert rows[0]["ts"] == rows[1]["ts"] == datetime(2026, 1, 31, 12)
    assert [row["stream"] for row in rows] == [True, False]
    assert [(row["plan"], row["last_tokens"]) for row in rows] == [("pro", None), ("free", 3)]


def test_aider_events(opened: Open) -> None:
    trace, rows = opened(SAMPLES / "aider_events.jsonl")
    assert noted(trace) == {
        "other-events": 1,
        "duplicates": 1,
        "suspect-cost": 1,
        "zero-output": 1,
        "null-user": 1,
        "null-model": 1,
    }
    assert [row["model"] for row in rows] == ["anthropic/claude-3-7-sonnet-20250219", None, "ollama/REDACTED", "gpt-4o"]
    assert [row["edit_format"] for row in rows] == ["diff", "ask", "whole", "diff"]
    assert sum(row["cost_usd"] for row in rows if not row["suspect_cost"]) == Decimal("0.00585")


def test_pi_sessions_are_rebuilt_call_by_call(opened: Open) -> None:
    trace, rows = opened(SAMPLES / "pi.jsonl")
    assert trace.format == "pi"
    first, second, aborted = rows
    assert [row["input_tokens"] for row in rows] == [1003, 1054, 0]
    assert (second["cached_tokens"], second["cache_write_5m_tokens"], second["output_tokens"]) == (1000, 50, 9)
    assert [message["role"] for message in json.loads(second["messages"])] == ["user", "assistant", "tool"]
    assert json.loads(second["messages"])[1]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "bash", "arguments": '{"command":"pytest"}'}}
    ]
    assert json.loads(second["messages"])[2] == {
        "role": "tool", "tool_call_id": "t1", "name": "bash", "content": "no such command", "is_error": True,
    }  # fmt: skip
    assert {row["conversation_id"] for row in rows} == {"s1"}
    assert (first["latency_ms"], first["finish_reason"], first["api"], first["ts"]) == (
        2000.0,
        "tool_calls",
        "messages",
        datetime(2025, 11, 20, 10, 0, 1),
    )
    assert (aborted["provider"], aborted["model"], aborted["error_type"]) == ("openai", "gpt-5.1-codex", "aborted")
    assert json.loads(aborted["metadata"]) == {"error_message": "Request was aborted"}
    assert sum(row["cost_usd"] for row in rows) == Decimal("0.0046935")


def test_tau_runs_give_a_row_per_assistant_message(opened: Open) -> None:
    trace, rows = opened(SAMPLES / "gpt-4o-airline.json")
    assert trace.format == "tau-bench"
    assert [row["request_id"] for row in rows] == ["7-1-0", "7-1-1", "8-0-0"]
    assert [len(json.loads(row["messages"])) for row in rows] == [2, 4, 2]
    assert [(row["reward"], row["user_id"], row["finish_reason"]) for row in rows] == [
        (1.0, "ann_lee_1", "tool_calls"), (1.0, "ann_lee_1", "stop"), (0.0, "bob_ray_2", "stop"),
    ]  # fmt: skip
    assert json.loads(rows[0]["metadata"])["reward"] == 1.0
    assert {row["model"] for row in rows} == {"gpt-4o"}
    assert {"run-label", "model-from-name"} <= set(noted(trace))
    assert {row["model"] for row in opened(SAMPLES / "gpt-4o-airline.json", incumbent="other")[1]} == {"other"}


def test_bfcl_v4_turns_and_tools(opened: Open) -> None:
    trace, rows = opened(SAMPLES / "bfcl_v4.jsonl", incumbent="gpt-4o")
    assert [row["request_id"] for row in rows] == ["live_simple_0", "multi_turn_0:0", "multi_turn_0:1"]
    assert [len(json.loads(row["messages"])) for row in rows] == [2, 1, 2]
    tool = json.loads(rows[0]["tools"])[0]
    assert tool["type"] == "function"
    assert tool["function"]["name"] == "weather_get"
    assert tool["function"]["parameters"] == {
        "type": "object",
        "required": ["city"],
        "properties": {
            "city": {"type": "string"},
            "type": {"type": "number"},
            "opts": {"type": "array", "items": {"type": "string"}},
        },
    }
    assert rows[1]["tools"] is None
    assert noted(trace)["answers-missing"] == 1


def bfcl_tables(folder: Path) -> None:
    one = {"name": "area", "description": "", "parameters": {"type": "dict", "properties": {}}}
    requests: list[tuple[Any, ...]] = [
        ("s_0", "simple", "how large?", json.dumps(one)),
        ("r_0", "relevance", "who?", json.dumps([one, one])),
    ]
    answers: list[tuple[Any, ...]] = [
        ("s_0", "simple", "gpt-4o-2024-08-06-FC", json.dumps([{"area": '{"side": 2}'}]), 74, 12, 0.5, True, None),
        ("r_0", "relevance", "gpt-4o-2024-08-06-FC", '"I can\'t tell."', 80, 5, 0.25, True, None),
        ("s_0", "simple", "mistral-large-2407-FC-Auto", '["area(2)"]', 90, 9, 1.0, False, "type_error:simple"),
        ("r_0", "relevance", "gemini-1.5-pro-preview-0514", '"Internal error occurred."', 0, 0, 2.0, False, None),
    ]
    named: dict[str, tuple[list[tuple[Any, ...]], list[str]]] = {
        "requests": (requests, ["id", "test_category", "question", "function"]),
        "model_results": (
            answers,
            [
                "id",
                "test_category",
                "model_name",
                "result",
                "input_token_count",
                "output_token_count",
                "latency",
                "valid",
                "error_type",
            ],
        ),
    }
    for name, (rows, columns) in named.items():
        pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), folder / f"{name}.parquet")


@pytest.mark.parametrize(
    "named", [("requests.parquet",), ("model_results.parquet",), ("requests.parquet", "model_results.parquet"), ("",)]
)
def test_bfcl_answers_are_joined_with_their_requests(opened: Open, tmp_path: Path, named: tuple[str, ...]) -> None:
    folder = tmp_path / "bfcl"
    folder.mkdir()
    bfcl_tables(folder)
    trace, rows = opened(*(folder / name for name in named))
    assert (trace.format, trace.rows, len(trace.parts)) == ("bfcl", 4, 1)
    assert [row["model"] for row in rows] == [
        "gpt-4o-2024-08-06",
        "gpt-4o-2024-08-06",
        "mistral-large-2407",
        "gemini-1.5-pro-preview-0514",
    ]
    assert rows[2]["model_name"] == "mistral-large-2407-FC-Auto"
    assert [row["valid"] for row in rows] == [True, True, False, False]
    assert [row["error_type"] for row in rows] == [None, None, None, "internal_error"]
    assert rows[2]["check_error"] == "type_error:simple"
    assert json.loads(rows[0]["output"])["tool_calls"][0]["function"] == {"name": "area", "arguments": '{"side": 2}'}
    assert json.loads(rows[1]["output"]) == {"role": "assistant", "content": "I can't tell."}
    assert [len(json.loads(row["tools"])) for row in rows] == [1, 2, 1, 2]
    assert json.loads(rows[0]["messages"]) == [{"role": "user", "content": "how large?"}]
    assert rows[0]["latency_ms"] == 500.0


def test_bfcl_requests_alone_and_answers_alone(opened: Open, tmp_path: Path) -> None:
    bfcl_tables(tmp_path)
    (tmp_path / "model_results.parquet").rename(tmp_path / "answers.parquet")
    trace, rows = opened(tmp_path / "requests.parquet", incumbent="gpt-4o")
    assert (trace.rows, {row["model"] for row in rows}) == (2, {"gpt-4o"})
    (tmp_path / "requests.parquet").unlink()
    trace, rows = opened(tmp_path / "answers.parquet")
    assert (noted(trace)["no-requests"], rows[0]["messages"]) == (4, None)


TAU_STEP = {
    "task_id": 1,
    "trial": 0,
    "step": 2,
    "user_id": "u",
    "messages": "[]",
    "response": "{}",
    "n_tool_calls": 1,
    "tool_names": ["f"],
    "reward": 0.0,
}
TABLES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "aider.parquet": (
        "aider",
        {"event": "message_send", "main_model": "gpt-4o", "edit_format": "diff", "prompt_tokens": 7, "completion_tokens": 2, "cost": 0.001, "total_cost": 5.0,
         "user_id": "u", "time": 1730000000},
        {"model": "gpt-4o", "input_tokens": 7, "output_tokens": 2, "cost_usd": Decimal("0.001"), "edit_format": "diff", "total_cost": 5.0},
    ),
    "servegen.parquet": (
        "servegen",
        {"request_id": 0, "client_id": 35, "timestamp": 0.003, "input_tokens": 769, "output_tokens": 38},
        {"request_id": "0", "user_id": "35", "ts": datetime(1970, 1, 1, 0, 0, 0, 3000), "input_tokens": 769},
    ),
    "burst.csv": (
        "burstgpt",
        {"Timestamp": 5, "Session ID": "s", "Model": "ChatGPT", "Request tokens": 472, "Response tokens": 18, "Total tokens": 490, "Log Type": "API"},
        {"ts": datetime(1970, 1, 1, 0, 0, 5), "model": "ChatGPT", "input_tokens": 472, "output_tokens": 18, "conversation_id": "s", "Log Type": "API"},
    ),
    "gpt-4o-airline_steps.parquet": (
        "tau-bench-steps", TAU_STEP,
        {"request_id": "1-0-2", "conversation_id": "1-0", "model": "gpt-4o", "output": "{}", "tool_names": '["f"]', "finish_reason": "tool_calls"},
    ),
    "spend.csv": (
        "table",
        {"request_id": "r", "call_type": "acompletion", "spend": "0.0125", "prompt_tokens": 7, "completion_tokens": 2, "startTime": "2025-01-02 03:04:05.678",
         "model": "gpt-4o", "model_group": "auto", "custom_llm_provider": "openai", "user": "u", "team_id": "t", "session_id": "s", "messages": "{}"},
        {"cost_usd": Decimal("0.0125"), "ts": datetime(2025, 1, 2, 3, 4, 5, 678000), "provider": "openai", "requested_model": "auto", "user_id": "u", "team": "t",
         "conversation_id": "s", "messages": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_sources(opened: Open, tmp_path: Path, name: str) -> None:
    wanted, row, values = TABLES[name]
    path = tmp_path / name
    if path.suffix == ".csv":
        write(path, ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    trace, rows = opened(path)
    assert trace.format == wanted
    assert {key: rows[0][key] for key in values} == values


# -- the public traces ---------------------------------------------------------------------------------------------

SUMS = "count(*), sum(input_tokens), sum(output_tokens), round(sum(cost_usd), 4)"
PUBLIC: list[tuple[str, str, str, tuple[Any, ...]]] = [
    ("aider/aider_message_send_2024-08_2025-02.parquet", "aider", SUMS, (2_669, 27_389_995, 897_004, Decimal("75.6196"))),
    ("aider/aider_events_2024-08_2025-02.jsonl.gz", "aider-events", SUMS, (2_668, 27_389_305, 896_078, Decimal("75.6192"))),
    ("azure_2023/AzureLLMInferenceTrace_code.csv.gz", "azure", SUMS, (8_819, 18_059_974, 245_896, None)),
    ("azure_2023/AzureLLMInferenceTrace_code.parquet", "azure", SUMS, (8_819, 18_059_974, 245_896, None)),
    ("servegen_sampled", "servegen", SUMS, (331_407, 53_066_567, 8_978_359, None)),
    ("pi_agent", "pi", SUMS, (453, 1_049 + 43_229_469 + 4_296_232, 83_156, Decimal("30.3302"))),
    ("pi_agent", "pi", "sum(cached_tokens), sum(cache_write_5m_tokens), count_if(model = 'claude-sonnet-4-5'), count_if(error_type IS NOT NULL)",
     (43_229_469, 4_296_232, 452, 22)),
    ("tau_bench/gpt-4o-airline.json.gz", "tau-bench", "count(*), count(DISTINCT conversation_id), count(DISTINCT CASE WHEN reward = 1 THEN conversation_id END)",
     (2_454, 200, 84)),
    ("tau_bench/gpt-4o-airline_steps.parquet", "tau-bench-steps", "count(*), count(DISTINCT conversation_id), any_value(model)", (2_454, 200, "gpt-4o")),
    ("bfcl_2024-08", "bfcl", "count(*), count(DISTINCT model), count(messages), count(valid)", (12_540, 11, 12_540, 12_540)),
    ("bfcl_v4_requests", "bfcl-v4", "count(*), count(DISTINCT conversation_id), count(tools)", (1_048, 514, 314)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "wanted", "asked", "values"), PUBLIC, ids=[f"{row[0].split('/')[-1]}-{at}" for at, row in enumerate(PUBLIC)]
)
def test_totals_of_public_traces(
    tmp_path: Path, connection: duckdb.DuckDBPyConnection, path: str, wanted: str, asked: str, values: tuple[Any, ...]
) -> None:
    if not (SHARED / path).exists():
        pytest.skip("the public traces are not beside this checkout")
    trace = open_trace([SHARED / path], connection=connection, scratch=tmp_path)
    assert trace.format == wanted
    assert connection.execute(f"SELECT {asked} FROM ({trace.relation})").fetchone() == values


def test_the_anchor_of_the_aider_trace(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    path = SHARED / "aider" / "aider_message_send_2024-08_2025-02.parquet"
    if not path.exists():
        pytest.skip("the public traces are not beside this checkout")
    trace = open_trace([path], connection=connection, scratch=tmp_path)
    found = connection.execute(
        f"SELECT count(*), round(sum(cost_usd), 3) FROM ({trace.relation}) WHERE model = 'claude-3-5-sonnet-20241022'"
    )
    assert found.fetchone() == (1_577, Decimal("64.507"))
    assert noted(trace) == {"zero-output": 107, "null-user": 4, "null-model": 14}


def test_both_forms_of_the_tau_runs_agree(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    if not (SHARED / "tau_bench").exists():
        pytest.skip("the public traces are not beside this checkout")
    runs, steps = (
        open_trace([SHARED / "tau_bench" / name], connection=connection, scratch=tmp_path)
        for name in ("gpt-4o-airline.json.gz", "gpt-4o-airline_steps.parquet")
    )
    same = "request_id, conversation_id, user_id, model, finish_reason, reward, json_array_length(messages) AS length"
    differ = f"SELECT count(*) FROM (SELECT {same} FROM ({runs.relation}) EXCEPT SELECT {same} FROM ({steps.relation}))"
    assert connection.execute(differ).fetchone() == (0,)
