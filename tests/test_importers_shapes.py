"""Importers: other spellings of the same formats, files that belong together, and files that repeat each other."""

# ruff: noqa: F811 - fixtures are imported, and asked for by name

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policyroute.replay.traces import TraceError, bodies, chat
from policyroute.replay.traces.langfuse import usage
from tests.traces_support import SAMPLES, Open, connection, lines, noted, opened, records, write  # noqa: F401 - fixtures

# -- usage ---------------------------------------------------------------------------------------------------------

CACHED = ("input_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens")
USAGES: list[tuple[dict[str, Any], tuple[int | None, ...]]] = [
    ({"prompt_tokens": 10, "completion_tokens": 2}, (10, None, None, None, 2, None)),
    ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 1}},
     (10, 8, 1, None, 2, 1)),
    ({"input_tokens": 10, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 8}, "output_tokens_details": {"reasoning_tokens": 1}}, (10, 8, None, None, 2, 1)),
    ({"input_tokens": 1, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 1, "output_tokens": 2}, (10, 8, 1, None, 2, None)),
    ({"input_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 4, "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3},
      "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 1}}, (10, 5, 1, 3, 2, 1)),
    ({"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 8, "cacheWriteInputTokens": 1}, (10, 8, 1, None, 2, None)),
    ({}, (None,) * 6),
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), USAGES)
def test_input_is_the_total_whoever_writes_usage(given: dict[str, Any], wanted: tuple[int | None, ...]) -> None:
    found = bodies.tokens(given)
    assert tuple(found.get(name) for name in CACHED) == wanted


@pytest.mark.parametrize(
    ("details", "wanted"),
    [
        ({"input": 2, "input_cached_tokens": 8, "output": 2, "output_reasoning_tokens": 3, "total": 15}, (10, 8, None, None, 5, 3)),
        ({"input": 10, "input_cached_tokens": 8, "output": 5, "reasoning_tokens": 3, "total": 15}, (10, 8, None, None, 5, 3)),
        ({"input": 2, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 1, "output": 5}, (10, 7, 1, None, 5, None)),
        ({"input": 10, "output": 5, "total": 15}, (10, None, None, None, 5, None)),
        ({"total": 15}, (None,) * 6),
    ],
)
def test_langfuse_kinds_of_usage(details: dict[str, int], wanted: tuple[int | None, ...]) -> None:
    assert tuple(usage(details).get(name) for name in CACHED) == wanted


# -- content -------------------------------------------------------------------------------------------------------


def test_responses_items_become_messages() -> None:
    items = [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "data:x"}]},
        {"type": "reasoning", "encrypted_content": "x" * 1000},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look"}]},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
        {"type": "custom_tool_call", "name": "patch", "input": "*** Begin", "call_id": "2"},
        {"type": "function_call_output", "call_id": "1", "output": "fine"},
        {"type": "function_call_output", "call_id": "2", "output": {"content": "no such file", "success": False}},
        {"type": "web_search_call", "id": "w"},
    ]
    assert chat.of_items(items) == [
        {"role": "developer", "content": "a\nb"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:x"}}]},
        {"role": "assistant", "content": "I look", "tool_calls": [chat.call("f", "{}", "1"), chat.call("patch", "*** Begin", "2")]},
        {"role": "tool", "tool_call_id": "1", "content": "fine"},
        {"role": "tool", "tool_call_id": "2", "content": "no such file", "is_error": True},
        {"role": "assistant", "content": [{"type": "web_search_call", "id": "w"}]},
    ]
    assert chat.of_items("hi") == [{"role": "user", "content": "hi"}]


def test_a_providers_own_tool_stays_as_it_is() -> None:
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    given = [
        own,
        function,
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"name": "f", "input_schema": {"type": "object"}},
    ]
    assert json.loads(chat.tools(given) or "") == [own, function, function, function]
    assert chat.tools("none") is None


def test_half_a_surrogate_pair_does_not_stop_a_reader(opened: Open, tmp_path: Path) -> None:
    """DuckDB refuses such JSON: what is converted is read by Python, a table is refused with the reason."""
    record = records("helicone.jsonl")[1]
    record["request_body"]["messages"][0]["content"] = "\ud83d cut"
    texts = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in record.items()}
    pq.write_table(pa.Table.from_pylist([texts]), tmp_path / "t.parquet")
    _, rows = opened(tmp_path / "t.parquet")
    assert json.loads(rows[0]["messages"])[0]["content"] == "\ud83d cut"
    entries = records("claude_code/-home-someone-project/ses-1.jsonl")[1:3]
    entries[0]["message"]["content"] = "\ud83d cut"
    _, rows = opened(write(tmp_path / "t.jsonl", lines(*entries)))
    assert json.loads(rows[0]["messages"])[0]["content"] == "\ud83d cut"
    with pytest.raises(TraceError, match="half of a character"):
        opened(write(tmp_path / "table.jsonl", lines({"prompt_tokens": 3, "prompt": "\ud83d"})))


# -- spans ---------------------------------------------------------------------------------------------------------

SPAN = {
    "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": "500", "gen_ai.usage.output_tokens": "20", "plan": "pro",
}  # fmt: skip
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _clickhouse(path: Path) -> None:
    attributes = pa.array([list(SPAN.items())], pa.map_(pa.string(), pa.string()))
    times = pa.array([START], pa.timestamp("ns", tz="UTC"))
    columns = {"Timestamp": times, "TraceId": ["t"], "SpanId": ["s"], "ParentSpanId": [""], "SpanName": ["chat"], "SpanAttributes": attributes,
               "ResourceAttributes": pa.array([[("service.name", "app")]], pa.map_(pa.string(), pa.string())), "Duration": [1_500_000_000], "StatusCode": ["Error"]}  # fmt: skip
    pq.write_table(pa.table(columns), path)


def _console(path: Path) -> None:
    span = {
        "name": "chat", "context": {"trace_id": "t", "span_id": "s"}, "parent_id": None, "start_time": "2026-01-01T12:00:00Z", "end_time": "2026-01-01T12:00:01.5Z",
        "status": {"status_code": "ERROR"}, "attributes": SPAN, "resource": {"attributes": {"service.name": "app"}},
    }  # fmt: skip
    write(path, lines(span))


def _csv(path: Path) -> None:
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(
        [
            "trace_id",
            "span_id",
            "start_time",
            "end_time",
            "status_code",
            "attributes.service.name",
            *(f"attributes.{name}" for name in SPAN),
        ]
    )
    table.writerow(["t", "s", "2026-01-01 12:00:00", "2026-01-01 12:00:01.5", "ERROR", "app", *SPAN.values()])
    write(path, out.getvalue())


@pytest.mark.parametrize(("name", "make"), [("t.parquet", _clickhouse), ("t.jsonl", _console), ("t.csv", _csv)])
def test_spans_of_every_table(opened: Open, tmp_path: Path, name: str, make: Any) -> None:
    make(tmp_path / name)
    trace, rows = opened(tmp_path / name)
    assert (trace.format, trace.rows) == ("otel", 1)
    wanted = {
        "request_id": "s",
        "conversation_id": "t",
        "model": "gpt-4o",
        "input_tokens": 500,
        "output_tokens": 20,
        "latency_ms": 1500.0,
        "error_type": "error",
    }
    assert {key: rows[0][key] for key in wanted} == wanted
    assert rows[0]["ts"] == START.replace(tzinfo=None)
    assert {"plan": "pro", "service.name": "app"}.items() <= json.loads(rows[0]["metadata"]).items()


def test_nested_openinference_attributes(opened: Open, tmp_path: Path) -> None:
    span = {
        "name": "llm", "context": {"trace_id": "t", "span_id": "s"}, "start_time": "2026-01-01T12:00:00Z",
        "attributes": {
            "openinference": {"span": {"kind": "LLM"}},
            "llm": {"model_name": "gpt-4o", "token_count": {"prompt": 5, "completion": 1}, "input_messages": [{"message": {"role": "user", "content": "hi"}}]},
            "output": {"value": '{"choices": [{"message": {"role": "assistant", "content": "yes"}}]}'},
        },
    }  # fmt: skip
    trace, rows = opened(write(tmp_path / "t.jsonl", lines(span)))
    assert trace.format == "openinference"
    assert (rows[0]["input_tokens"], rows[0]["messages"], rows[0]["output"]) == (
        5, '[{"role":"user","content":"hi"}]', '{"role":"assistant","content":"yes"}',
    )  # fmt: skip


def test_a_wrapper_in_another_file_is_set_aside_too(opened: Open, tmp_path: Path) -> None:
    first, second, third = records("otlp.jsonl")
    spans = second["resourceSpans"][0]["scopeSpans"][0]["spans"]
    inner, outer = {**second}, json.loads(json.dumps(second))
    outer["resourceSpans"][0]["scopeSpans"][0]["spans"] = spans[2:]
    inner["resourceSpans"][0]["scopeSpans"][0]["spans"] = spans[:2]
    write(tmp_path / "a.jsonl", lines(outer, third))
    write(tmp_path / "b.jsonl", lines(first, inner))
    trace, rows = opened(tmp_path)
    assert {row["span_id"] for row in rows} == {"b7ad6b7169203331", "cccc6b7169203331", "dddd6b7169203331"}
    alone, _ = opened(tmp_path / "a.jsonl")
    assert (trace.parts[0].rows, alone.parts[0].rows) == (2, 3)
    assert trace.parts[0].digest != alone.parts[0].digest  # what is left out is part of what is read


# -- tables --------------------------------------------------------------------------------------------------------


def test_langfuse_in_camel_case_and_as_parquet(opened: Open, tmp_path: Path) -> None:
    snake = records("langfuse.jsonl")
    names = {"tool_call_names": "toolCallNames"}

    def camel(name: str) -> str:
        head, *rest = name.split("_")
        return names.get(name, head + "".join(part.title() for part in rest))

    write(tmp_path / "camel.jsonl", lines(*({camel(key): value for key, value in row.items()} for row in snake)))
    trace, rows = opened(tmp_path / "camel.jsonl")
    wanted = opened(SAMPLES / "langfuse.jsonl")[1]
    leave = {"metadata"}  # holds the fields without a column, under the source's spelling
    assert trace.format == "langfuse"
    assert [{**row, **dict.fromkeys(leave)} for row in rows] == [{**row, **dict.fromkeys(leave)} for row in wanted]
    columns = {
        key: [json.dumps(row.get(key)) if isinstance(row.get(key), dict | list) else row.get(key) for row in snake]
        for key in snake[0]
    }
    columns["usage_details"] = pa.array([list(row["usage_details"].items()) for row in snake], pa.map_(pa.string(), pa.int64()))
    columns["input"] = [json.dumps(row.get("input")) for row in snake]
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    trace, rows = opened(tmp_path / "t.parquet")
    assert [(row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["tools"]) for row in rows] == [
        (row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["tools"]) for row in wanted
    ]


def test_spend_logs_of_a_database_and_of_an_older_version(opened: Open, tmp_path: Path) -> None:
    sample = SAMPLES / "litellm_spend_logs.csv"
    path = tmp_path / "l.db"
    with duckdb.connect(str(path)) as database:
        database.execute(
            f"CREATE TABLE spend AS SELECT * REPLACE (metadata::JSON AS metadata, response::JSON AS response, messages::JSON AS messages) FROM read_csv('{sample}')"
        )
        database.execute(
            "CREATE TABLE older AS SELECT request_id, call_type, api_key, spend, prompt_tokens, completion_tokens, startTime, endTime, model FROM spend"
        )
    _, wanted = opened(sample)
    trace, rows = opened(f"duckdb:{path}/spend")
    names = (
        "request_id",
        "ts",
        "user_id",
        "input_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "cost_usd",
        "error_type",
        "status_code",
        "output",
        "latency_ms",
        "ttft_ms",
    )
    assert trace.format == "litellm-spend"
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in wanted]
    trace, rows = opened(f"duckdb:{path}/older")
    assert (trace.format, [row["request_id"] for row in rows], noted(trace)["other-events"]) == (
        "litellm-spend",
        ["r1", "r2", "r3"],
        1,
    )
    assert [row["latency_ms"] for row in rows] == [2000.0, 1000.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_read_tokens": 90}, 100),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_read_tokens": 90, "total_tokens": 105}, 100),
        ({"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_read_tokens": 90, "total_tokens": 105}, 100),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_read_tokens": 90, "total_tokens": 15}, 100),
    ],
)
def test_helicone_cache_beside_and_inside(opened: Open, tmp_path: Path, fields: dict[str, int], wanted: int) -> None:
    base = {"request_id": "h", "request_created_at": "2026-01-05T07:00:00Z", "response_status": 200, "model": "gpt-4o"}
    _, rows = opened(write(tmp_path / "t.jsonl", lines({**base, **fields})))
    assert (rows[0]["input_tokens"], rows[0]["cached_tokens"]) == (wanted, 90)


def test_helicone_answers_from_its_cache_are_set_aside(opened: Open, tmp_path: Path) -> None:
    base = {
        "request_created_at": "2026-01-05T07:00:00Z",
        "response_status": 200,
        "model": "gpt-4o",
        "prompt_tokens": 1,
        "completion_tokens": 1,
    }
    none, some = "00000000-0000-0000-0000-000000000000", "7f000000-0000-0000-0000-000000000001"
    path = write(
        tmp_path / "t.jsonl",
        lines(*({**base, "request_id": str(at), "cache_reference_id": told} for at, told in enumerate((none, some)))),
    )
    trace, rows = opened(path)
    assert ([row["request_id"] for row in rows], noted(trace)["gateway-cache"]) == (["0"], 1)


# -- batches -------------------------------------------------------------------------------------------------------


def test_a_batch_without_its_other_half(opened: Open) -> None:
    folder = SAMPLES / "openai_batch"
    trace, rows = opened(folder / "output.jsonl")
    assert ([row["messages"] for row in rows], noted(trace)["no-requests"]) == ([None, None], 2)
    assert {row["model"] for row in rows} == {"gpt-4o-mini-2024-07-18"}
    trace, rows = opened(folder / "input.jsonl")
    assert [(row["request_id"], row["input_tokens"]) for row in rows] == [(f"request-{at}", None) for at in (1, 2, 3, 4)]


def test_an_output_that_fits_two_inputs_is_refused(opened: Open, tmp_path: Path) -> None:
    requests = records("openai_batch/input.jsonl")
    write(tmp_path / "a.jsonl", lines(*requests))
    write(tmp_path / "b.jsonl", lines(*({**row, "body": {**row["body"], "model": "gpt-4o"}} for row in requests)))
    write(tmp_path / "out.jsonl", (SAMPLES / "openai_batch" / "output.jsonl").read_text("utf-8"))
    with pytest.raises(TraceError, match="its ids fit 2 batch inputs") as caught:
        opened(tmp_path)
    assert "by itself" in caught.value.help
