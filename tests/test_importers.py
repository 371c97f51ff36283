"""Importers of other tools' files: each sample's rows, notes and normalised content, as data.

The samples are made from the documented shapes (docs/traces.md says where those leave something open).
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest

from policyroute.replay.traces import open_trace
from policyroute.signals.facts import Facts
from tests.traces_support import SAMPLES, Opened, noted, rows_of

COUNTS = ("request_id", "model", "input_tokens", "cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens")  # fmt: skip

# sample: format, notes, and COUNTS of every row
WANTED: dict[str, tuple[str, dict[str, int], list[tuple[Any, ...]]]] = {
    "otlp.jsonl": (
        "otlp", {"other-events": 3, "double-counted": 2, "cache-added": 1},
        [
            ("chatcmpl-1", "gpt-4o", 1200, 1000, None, None, 50, 20),
            ("cccc6b7169203331", "gpt-4o-mini", 30, None, None, None, 3, None),  # the inner of two instrumentations
            ("dddd6b7169203331", "claude-sonnet-4-5", 1000, 900, 90, None, 7, None),  # 10 can't hold 990
        ],
    ),
    "otel_flat.jsonl": (
        "otel", {"other-events": 1, "null-user": 1},
        [("s1", "gpt-4o", 500, 256, None, None, 20, None), ("s3", "gpt-4o", None, None, None, None, None, None)],
    ),
    "phoenix.jsonl": (
        "openinference", {"other-events": 1, "null-user": 1},
        [("p1", "gpt-4o-2024-08-06", 300, 256, None, None, 12, 4), ("p2", "claude-haiku-4-5", 9, None, None, None, None, None)],
    ),
    "litellm_spend_logs.csv": (
        "litellm-spend", {"other-events": 1, "gateway-cache": 1, "zero-output": 1},
        [("r1", "gpt-4o", 1200, 1024, None, None, 40, 16), ("r2", "gpt-4o", 0, None, None, None, 0, None)],
    ),
    "litellm_payload.jsonl": (
        "litellm", {"zero-output": 1},
        [("call-9", "claude-sonnet-4-5", 2000, 1500, 300, None, 50, None), ("call-10", "gpt-4o", 0, None, None, None, 0, None)],
    ),
    "langfuse.jsonl": (
        "langfuse", {"other-events": 1},
        [("o1", "gpt-4o", 1200, 1024, None, None, 40, 16), ("o2", "claude-sonnet-4-5", 1000, 900, 90, None, 5, None)],
    ),
    "helicone.jsonl": (
        "helicone", {"double-counted": 1, "null-user": 1, "zero-output": 1},
        [
            ("h1", "claude-sonnet-4-5-20250929", 1010, 900, 100, None, 100, None),  # the answer's own usage
            ("h2", "gpt-4o", 0, None, None, None, 0, None),
            ("h3", "gpt-4o", 1200, 1024, None, None, 40, None),  # total_tokens says that the cache is inside
        ],
    ),
    "openai_stored.jsonl": (
        "openai-stored", {"double-counted": 1, "null-user": 1},
        [("chatcmpl-a", "gpt-4o-2024-08-06", 1200, 1024, 0, None, 40, 16), ("chatcmpl-b", "gpt-4o-mini-2024-07-18", 20, None, None, None, 2, None)],
    ),
    "openai_batch": (
        "openai-batch", {"unanswered": 1},
        [
            ("request-3", "gpt-4o-mini", None, None, None, None, None, None),
            ("request-2", "gpt-4o-mini", 8, None, None, None, 1, None),
            ("request-1", "gpt-4o-mini", 1200, 1024, 0, None, 40, 16),
        ],
    ),
    "bedrock.jsonl": (
        "bedrock", {"failed-call": 1},
        [
            ("b1", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 1000, 900, 90, None, 12, None),
            ("b2", "anthropic.claude-3-haiku-20240307-v1:0", 25, None, None, None, 6, None),
            ("b3", "amazon.nova-lite-v1:0", None, None, None, None, None, None),
        ],
    ),
    "openrouter.csv": (
        "openrouter", {"null-user": 1},
        [("gen-1", "openai/gpt-4o-2024-08-06", 1200, 1024, None, None, 40, 16), ("gen-2", "anthropic/claude-haiku-4.5", 30, 0, None, None, 1, 0)],
    ),
    "claude_code": (
        "claude-code", {"other-events": 3, "double-counted": 3, "no-system-prompt": 6},
        [
            ("msg_6/req_6", "claude-haiku-4-5-20251001", 10, 0, 0, 0, 2, None),
            ("msg_1/req_1", "claude-sonnet-4-5-20250929", 1104, 1000, 100, 0, 60, None),  # three lines, counted as the last says
            ("msg_2/req_2", "claude-sonnet-4-5-20250929", 1356, 1100, 50, 200, 9, None),
            ("msg_3/req_3", "claude-sonnet-4-5-20250929", 1361, 1356, 0, 0, 3, None),
            ("msg_4/req_4", "claude-sonnet-4-5-20250929", 1361, 1356, 0, 0, 4, None),
            ("msg_5/req_5", "claude-sonnet-4-5-20250929", 430, 0, 400, 0, 5, None),
        ],
    ),
    "codex": (
        "codex", {"other-events": 5, "double-counted": 2, "no-tools": 5},
        [
            ("cx-0:0", "gpt-5", 100, 0, None, None, 5, 0),
            ("cx-0:1", "gpt-5", 120, 64, None, None, 4, 2),  # the running total less the one before
            ("resp_1", "gpt-5.1-codex", 5000, 4000, 0, None, 80, 30),
            ("resp_2", "gpt-5.1-codex", 5150, 5000, 64, None, 9, 0),
            ("resp_3", "gpt-5.1-codex", 900, 0, 0, None, 3, 0),
        ],
    ),
}  # fmt: skip

# (sample, row): other columns; metadata as it is, or the keys that it must have
ROWS: dict[tuple[str, int], dict[str, Any]] = {
    ("otlp.jsonl", 0): {
        "ts": datetime(2026, 1, 1, 12), "conversation_id": "conv-1", "provider": "openai", "response_model": "gpt-4o-2024-08-06", "api": "chat",
        "max_output_tokens": 400, "response_format": '{"type":"json_object"}', "finish_reason": "stop", "latency_ms": 900.0, "ttft_ms": 250.0,
        "service_tier": "default", "metadata": {"service.name": "travel", "gen_ai.request.temperature": 0.2}, "trace_id": "0af7651916cd43dd8448eb211c80319c",
    },
    ("otlp.jsonl", 2): {"stream": True, "error_type": "error", "finish_reason": "end_turn", "conversation_id": "0af7651916cd43dd8448eb211c80319c"},
    ("otel_flat.jsonl", 0): {"user_id": "u1", "conversation_id": "t1", "latency_ms": 1500.0, "metadata": {"app.plan": "pro"}},
    ("otel_flat.jsonl", 1): {"error_type": "timeout", "latency_ms": 30000.0},
    ("phoenix.jsonl", 0): {
        "ts": datetime(2026, 1, 2, 8), "conversation_id": "sess-1", "user_id": "ann", "requested_model": "gpt-4o", "max_output_tokens": 100,
        "response_format": '{"type":"json_object"}', "cost_usd": Decimal("0.00055"), "latency_ms": 2000.0, "finish_reason": "stop",
    },
    ("phoenix.jsonl", 1): {"provider": "anthropic", "error_type": "error", "conversation_id": "pu"},
    ("litellm_spend_logs.csv", 0): {
        "ts": datetime(2026, 1, 3, 10), "user_id": "ann", "team": "t1", "requested_model": "smart", "response_model": "gpt-4o-2024-08-06",
        "latency_ms": 2000.0, "ttft_ms": 500.0, "cost_usd": Decimal("0.00212"), "finish_reason": "stop", "conversation_id": "s1",
        "output": '{"role":"assistant","content":"hello"}', "request_tags": '["web"]', "error_type": None,
    },
    ("litellm_spend_logs.csv", 1): {
        "user_id": "default_user_id", "status_code": 429, "error_type": "RateLimitError", "latency_ms": 1000.0, "ttft_ms": None, "messages": None, "output": None,
    },
    ("litellm_payload.jsonl", 0): {
        "ts": datetime(2026, 1, 3, 10), "user_id": "key-owner", "team": "t2", "stream": True, "latency_ms": 3000.0, "ttft_ms": 750.0, "max_output_tokens": 500,
        "finish_reason": "tool_calls", "provider": "anthropic", "requested_model": "sonnet", "status_code": None,
    },
    ("litellm_payload.jsonl", 1): {"user_id": "bob", "status_code": 429, "error_type": "RateLimitError", "conversation_id": None},
    ("langfuse.jsonl", 0): {
        "ts": datetime(2026, 1, 4, 9), "conversation_id": "ls1", "user_id": "ann", "max_output_tokens": 256, "latency_ms": 1200.0, "ttft_ms": 400.0,
        "cost_usd": Decimal("0.0021"), "tags": '["web"]', "trace_name": "chat", "error_type": None,
    },
    ("langfuse.jsonl", 1): {"error_type": "error", "conversation_id": "lt2", "latency_ms": 5000.0, "messages": '[{"role":"user","content":"hello?"}]', "output": None},
    ("helicone.jsonl", 0): {
        "ts": datetime(2026, 1, 5, 7), "conversation_id": "hs1", "user_id": "ann", "status_code": 200, "stream": True, "max_output_tokens": 300,
        "finish_reason": "end_turn", "latency_ms": 1500.0, "ttft_ms": 300.0, "requested_model": "claude-sonnet-4-5", "service_tier": "standard", "scores": '{"helpful":1}',
    },
    ("helicone.jsonl", 1): {"status_code": 429, "error_type": "rate_limit_error"},
    ("openai_stored.jsonl", 0): {
        "ts": datetime(2026, 1, 5, 8), "user_id": "ann", "api": "chat", "service_tier": "default", "response_format": '{"type":"json_object"}',
        "metadata": {"plan": "pro", "seed": 7, "temperature": 0.5, "request_id": "req_a"}, "messages": None, "finish_reason": "stop",
    },
    ("openai_stored.jsonl", 1): {"messages": '[{"role":"user","content":"hi"}]', "metadata": None},
    ("openai_batch", 0): {"status_code": 400, "error_type": "invalid_request_error", "service_tier": "batch", "messages": '[{"role":"user","content":"three"}]', "ts": None},
    ("openai_batch", 2): {
        "ts": datetime(2026, 1, 6, 11, 46, 41), "status_code": 200, "max_output_tokens": 100, "response_model": "gpt-4o-mini-2024-07-18",
        "metadata": {"plan": "pro", "temperature": 0, "system_fingerprint": "fp", "batch_request_id": "batch_req_1", "response_id": "chatcmpl-1"},
        "messages": '[{"role":"system","content":"Be kind."},{"role":"user","content":"hi"}]',
    },
    ("bedrock.jsonl", 0): {
        "ts": datetime(2026, 1, 6, 10, 1), "user_id": "arn:aws:iam::111122223333:user/ann", "latency_ms": 850.0, "stream": False, "finish_reason": "end_turn",
        "max_output_tokens": 300, "region": "eu-central-1", "api": "Converse", "output": '{"role":"assistant","content":"18 degrees"}',
    },
    ("bedrock.jsonl", 1): {"stream": True, "finish_reason": "end_turn", "output": '{"role":"assistant","content":[{"type":"text","text":"hello"}]}'},
    ("bedrock.jsonl", 2): {"error_type": "ThrottlingException", "messages": None, "metadata": {"inputBodyS3Path": "s3://logs/big.json.gz"}},
    ("openrouter.csv", 0): {
        "ts": datetime(2026, 1, 7, 8, 0, 0, 123000), "cost_usd": Decimal("0.00212"), "provider": "OpenAI", "user_id": "ann", "stream": True,
        "latency_ms": 1800.0, "ttft_ms": 350.0, "finish_reason": "stop", "error_type": None, "app_name": "Chat",
    },
    ("openrouter.csv", 1): {"error_type": "cancelled", "user_id": None, "ttft_ms": None, "finish_reason": None},
    ("claude_code", 0): {"conversation_id": "ses-1/ag1", "ts": datetime(2026, 1, 8, 10, 0, 7), "call": 0},
    ("claude_code", 1): {"conversation_id": "ses-1", "ts": datetime(2026, 1, 8, 10, 0, 3), "finish_reason": "tool_use", "service_tier": "standard", "api": "messages"},
    ("claude_code", 5): {"messages": '[{"role":"user","content":"Summary: tests fail."}]', "call": 4},
    ("codex", 0): {"conversation_id": "cx-0", "effort": "medium", "provider": None, "messages": '[{"role":"user","content":"hello"}]'},
    ("codex", 2): {"conversation_id": "cx-1", "effort": "high", "provider": "openai", "finish_reason": "tool_calls"},
    ("codex", 4): {"finish_reason": "stop", "output": '{"role":"assistant","content":"Fixed."}'},
}  # fmt: skip

# (sample, row): signals read from the normalised content
SIGNALS: dict[tuple[str, int], dict[str, Any]] = {
    ("otlp.jsonl", 0): {
        "turns": 1,
        "steps": 1,
        "tool": "get_weather",
        "tools": 1,
        "json": True,
        "system": "You help travellers.",
        "last": "Weather in Rome?",
    },
    ("otlp.jsonl", 1): {"turns": 1, "tools": None, "last": "Thanks!"},
    ("otlp.jsonl", 2): {"last": "Say hello"},
    ("otel_flat.jsonl", 0): {"last": "hi", "images": False},
    ("phoenix.jsonl", 0): {"turns": 1, "steps": 1, "tool": "look", "tools": 1, "images": True, "system": "Be brief.", "json": True},
    ("litellm_payload.jsonl", 0): {"system": "Be kind.", "last": "hi", "tools": 1},
    ("langfuse.jsonl", 0): {"last": "hi", "tools": 1},
    ("helicone.jsonl", 0): {"system": "Be kind.", "last": "hi", "tools": 1},
    ("bedrock.jsonl", 0): {"system": "Be kind.", "tool": "get_weather", "tool_failed": False, "steps": 1, "tools": 1},
    ("bedrock.jsonl", 1): {"system": "Be brief.", "last": "hi"},
    ("claude_code", 0): {"turns": 2, "last": "look for flaky tests", "tool": "none"},
    ("claude_code", 2): {"turns": 1, "steps": 1, "tool": "Bash", "last": "run the tests", "tool_failed": False},
    ("claude_code", 3): {"turns": 2, "steps": 0, "last": "fix them"},
    ("claude_code", 4): {"turns": 2, "steps": 0, "last": "no, explain them"},  # a branch: "fix them" was taken back
    ("codex", 3): {"turns": 2, "steps": 1, "tool": "shell", "tool_failed": True, "system": "You are a coding agent."},
    ("codex", 4): {"turns": 2, "last": "fix them"},  # after a compaction
}


@cache
def opened(sample: str) -> Opened:
    """A sample's trace and rows, read once."""
    with TemporaryDirectory() as scratch, duckdb.connect() as connection:
        trace = open_trace([SAMPLES / sample], connection=connection, scratch=Path(scratch))
        return trace, rows_of(trace, connection)


@pytest.mark.parametrize("sample", WANTED)
def test_counts_and_notes(sample: str) -> None:
    wanted, notes, counts = WANTED[sample]
    trace, rows = opened(sample)
    assert (trace.format, noted(trace)) == (wanted, notes)
    assert [tuple(row[name] for name in COUNTS) for row in rows] == counts


@pytest.mark.parametrize(("sample", "at"), ROWS, ids=[f"{sample}-{at}" for sample, at in ROWS])
def test_other_columns(sample: str, at: int) -> None:
    row = opened(sample)[1][at]
    wanted = ROWS[sample, at]
    found = {name: json.loads(row[name]) if isinstance(wanted[name], dict) else row[name] for name in wanted}
    assert found == wanted


@pytest.mark.parametrize(("sample", "at"), SIGNALS, ids=[f"{sample}-{at}" for sample, at in SIGNALS])
def test_signals_are_read_from_the_content(sample: str, at: int) -> None:
    row = opened(sample)[1][at]
    facts = Facts.of_row(row["messages"], row["tools"], row["response_format"])
    wanted = SIGNALS[sample, at]
    assert {name: getattr(facts, name) for name in wanted} == wanted
    assert facts.tokens


@pytest.mark.parametrize("sample", WANTED)
def test_no_part_exceeds_its_total(sample: str) -> None:
    for row in opened(sample)[1]:
        parts = sum(row[name] or 0 for name in ("cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"))
        assert parts <= (row["input_tokens"] or 0)
        assert (row["reasoning_tokens"] or 0) <= (row["output_tokens"] or 0)


def test_an_answer_of_several_lines_is_one() -> None:
    answer = json.loads(opened("claude_code")[1][1]["output"])
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]
