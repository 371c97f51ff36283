"""The canonical trace: one row per column, from which readers, writer, `TraceRow`, documentation and tests are made.

Rules for whoever edits this file
- A column is one row of `COLUMNS`: name, type, meaning, example, and the names under which other sources hold it. No reader
  lists names of its own, except where its source means something else by a name.
- `input_tokens` is the total: cached tokens and cache writes are parts of it, as OpenAI and OpenTelemetry define it.
- An alias may be dotted: `usage.prompt_tokens` is the key `prompt_tokens` of the object `usage`, or a column of that name.
- The order of aliases is the order of preference. Letter case is ignored.
- Types are DuckDB's. `JSON` is text that holds JSON: it is kept as VARCHAR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["BIGINT", "INTEGER", "DOUBLE", "BOOLEAN", "VARCHAR", "TIMESTAMP", "DECIMAL(24,12)", "JSON"]


@dataclass(frozen=True, slots=True)
class Column:
    """One canonical column. `example` is as `TraceRow` takes it."""

    name: str
    type: ColumnType
    doc: str
    example: str
    aliases: tuple[str, ...] = ()

    @property
    def sql_type(self) -> str:
        """The type of the column in a relation: JSON is text there."""
        return "VARCHAR" if self.type == "JSON" else self.type


ROW = Column("row", "BIGINT", "place in the trace, counted from 0 over all files; gaps where rows were set aside", "0")

COLUMNS: tuple[Column, ...] = (
    Column(
        "ts",
        "TIMESTAMP",
        "start of the request, UTC",
        "2026-01-31T12:00:00Z",
        (
            "timestamp",
            "time",
            "created_at",
            "start_time",
            "starttime",
            "request_created_at",
            "datetime_utc",
            "startTimeUnixNano",
            "created",
            "request_time",
            "request_start",
            "datetime",
            "date",
        ),
    ),
    Column(
        "request_id",
        "VARCHAR",
        "the call's own id",
        "req_1",
        ("requestid", "generation_id", "gen_ai.response.id", "custom_id", "litellm_call_id", "id"),
    ),
    Column(
        "conversation_id",
        "VARCHAR",
        "the conversation or agent run that the call belongs to",
        "conv_1",
        (
            "session_id",
            "sessionid",
            "thread_id",
            "chat_id",
            "gen_ai.conversation.id",
            "session.id",
            "session id",
            "conversation",
            "trace_id",
            "traceid",
        ),
    ),
    Column(
        "user_id",
        "VARCHAR",
        "who asks",
        "user_1",
        ("client_id", "user", "end_user", "user.id", "request_user_id", "userid", "customer_id", "distinct_id", "metadata.user_id"),
    ),
    Column("team", "VARCHAR", "the caller's team", "support", ("team_id", "metadata.user_api_key_team_id", "metadata.team")),
    Column(
        "provider",
        "VARCHAR",
        "who served it",
        "openai",
        ("gen_ai.provider.name", "gen_ai.system", "custom_llm_provider", "provider_name", "llm.provider", "ls_provider"),
    ),
    Column(
        "model",
        "VARCHAR",
        "the model that served it, as the source spells it",
        "gpt-4o-mini",
        (
            "main_model",
            "model_name",
            "gen_ai.request.model",
            "provided_model_name",
            "request_model",
            "model_permaslug",
            "llm.model_name",
            "modelid",
            "model_id",
            "body.model",
            "request.model",
            "deployment",
        ),
    ),
    Column(
        "requested_model",
        "VARCHAR",
        "the model that the caller named, where another one served",
        "auto",
        ("model_group", "llm.request.model_name"),
    ),
    Column(
        "response_model",
        "VARCHAR",
        "the model that the answer names",
        "gpt-4o-mini-2024-07-18",
        ("gen_ai.response.model", "response.model", "resolved_model"),
    ),
    Column(
        "api", "VARCHAR", "which API was called: `chat`, `responses`, `messages`", "chat", ("call_type", "gen_ai.operation.name")
    ),
    Column(
        "input_tokens",
        "BIGINT",
        "all input tokens, cached ones and cache writes included",
        "1200",
        (
            "prompt_tokens",
            "ContextTokens",
            "input_length",
            "input_token_count",
            "token_usage.input_tokens",
            "token_usage.prompt_tokens",
            "usage.input_tokens",
            "usage.prompt_tokens",
            "response.usage.prompt_tokens",
            "response.usage.input_tokens",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.prompt_tokens",
            "llm.token_count.prompt",
            "tokens_prompt",
            "usage_details.input",
            "metrics.prompt_tokens",
            "usage_metadata.input_tokens",
            "request tokens",
            "request_tokens",
            "promptTokens",
            "inputTokens",
            "tokens_in",
        ),
    ),
    Column(
        "cached_tokens",
        "BIGINT",
        "input tokens read from a cache",
        "1000",
        (
            "cached_input_tokens",
            "cache_read_input_tokens",
            "usage.prompt_tokens_details.cached_tokens",
            "usage.input_tokens_details.cached_tokens",
            "usage.cache_read_input_tokens",
            "token_usage.cache_read_input_tokens",
            "prompt_tokens_details.cached_tokens",
            "response.usage.prompt_tokens_details.cached_tokens",
            "metadata.usage_object.prompt_tokens_details.cached_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read",
            "prompt_cache_read_tokens",
            "tokens_cached",
            "usage_details.input_cached_tokens",
            "cache_read_tokens",
        ),
    ),
    Column(
        "cache_write_5m_tokens",
        "BIGINT",
        "input tokens written to a cache for five minutes (or for the provider's usual time)",
        "0",
        (
            "usage.cache_creation.ephemeral_5m_input_tokens",
            "cache_creation.ephemeral_5m_input_tokens",
            "cache_creation_input_tokens",
            "usage.cache_creation_input_tokens",
            "token_usage.cache_creation_input_tokens",
            "metadata.usage_object.cache_creation_input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "prompt_cache_write_tokens",
            "cache_write_tokens",
            "usage.prompt_tokens_details.cache_write_tokens",
            "cache_creation_tokens",
        ),
    ),
    Column(
        "cache_write_1h_tokens",
        "BIGINT",
        "input tokens written to a cache for an hour",
        "0",
        ("usage.cache_creation.ephemeral_1h_input_tokens", "cache_creation.ephemeral_1h_input_tokens"),
    ),
    Column(
        "output_tokens",
        "BIGINT",
        "all output tokens, reasoning included; 0 is an answer without tokens",
        "150",
        (
            "completion_tokens",
            "GeneratedTokens",
            "output_length",
            "output_token_count",
            "token_usage.output_tokens",
            "token_usage.completion_tokens",
            "usage.output_tokens",
            "usage.completion_tokens",
            "response.usage.completion_tokens",
            "response.usage.output_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
            "tokens_completion",
            "usage_details.output",
            "metrics.completion_tokens",
            "usage_metadata.output_tokens",
            "response tokens",
            "response_tokens",
            "completionTokens",
            "outputTokens",
            "tokens_out",
        ),
    ),
    Column(
        "reasoning_tokens",
        "BIGINT",
        "output tokens spent on reasoning",
        "0",
        (
            "usage.completion_tokens_details.reasoning_tokens",
            "usage.output_tokens_details.reasoning_tokens",
            "tokens_reasoning",
            "completion_tokens_details.reasoning_tokens",
            "gen_ai.usage.reasoning.output_tokens",
            "llm.token_count.completion_details.reasoning",
            "usage_details.reasoning_tokens",
            "metadata.usage_object.completion_tokens_details.reasoning_tokens",
        ),
    ),
    Column(
        "max_output_tokens",
        "BIGINT",
        "the caller's limit on output",
        "1024",
        (
            "max_tokens",
            "max_completion_tokens",
            "body.max_tokens",
            "body.max_completion_tokens",
            "request.max_tokens",
            "gen_ai.request.max_tokens",
            "model_parameters.max_tokens",
        ),
    ),
    Column(
        "messages",
        "JSON",
        "the prompt: a list of messages as OpenAI chat or Anthropic take them",
        '[{"role": "user", "content": "hi"}]',
        (
            "body.messages",
            "request.messages",
            "request_body.messages",
            "gen_ai.input.messages",
            "input_messages",
            "prompt",
            "input",
        ),
    ),
    Column(
        "tools",
        "JSON",
        "the tools offered: a list",
        "[]",
        ("body.tools", "request.tools", "request_body.tools", "gen_ai.tool.definitions", "tool_definitions"),
    ),
    Column(
        "response_format",
        "JSON",
        "the structured output asked for",
        '{"type": "json_object"}',
        ("body.response_format", "request.response_format", "model_parameters.response_format"),
    ),
    Column(
        "output",
        "JSON",
        "the answer: a message, or its text",
        '"hello"',
        ("response", "completion", "gen_ai.output.messages", "answer", "response_body"),
    ),
    Column(
        "stream",
        "BOOLEAN",
        "streaming was asked for",
        "false",
        ("streamed", "body.stream", "request.stream", "gen_ai.request.stream"),
    ),
    Column(
        "status_code", "INTEGER", "HTTP status of the answer", "200", ("response_status", "http_status", "response.status_code")
    ),
    Column("error_type", "VARCHAR", "what went wrong with the call", "timeout", ("error.type", "errorcode", "error_code")),
    Column(
        "finish_reason",
        "VARCHAR",
        "why the answer ended",
        "stop",
        ("stop_reason", "finish_reason_normalized", "gen_ai.response.finish_reasons", "llm.finish_reason"),
    ),
    Column(
        "latency_ms",
        "DOUBLE",
        "from request to the last byte, milliseconds",
        "840.5",
        ("duration_ms", "request_duration_ms", "generation_time_ms", "delay_ms"),
    ),
    Column("ttft_ms", "DOUBLE", "from request to the first token, milliseconds", "210.0", ("time_to_first_token_ms",)),
    Column(
        "cost_usd",
        "DECIMAL(24,12)",
        "dollars that the source says it cost",
        "0.00213",
        ("cost", "response_cost", "spend", "cost_total", "costusd", "total_cost", "llm.cost.total", "usage.cost"),
    ),
    Column(
        "service_tier",
        "VARCHAR",
        "`standard`, `priority`, `flex`, `batch`",
        "standard",
        ("usage.service_tier", "openai.response.service_tier"),
    ),
    Column("metadata", "JSON", "anything else the source says", '{"reward": 1.0}', ("request_properties",)),
    Column(
        "suspect_cost", "BOOLEAN", "set by the reader: `cost_usd` is beyond what any price gives, and belongs in no sum", "false"
    ),
)

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
SUSPECT = "suspect_cost"
SUSPECT_DOLLARS_PER_TOKEN = "0.01"  # the dearest list price of 2026 is under $0.001 per token
SUSPECT_FREE_TOKENS = 100  # so that a fee per call (a web search is $0.035 at most) is not taken for an error

# The parts of the input by which Anthropic's usage leaves the total short: beside one of these, `input_tokens` excludes them.
EXCLUSIVE_CACHE = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
)
CACHE_PARTS = ("cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


def sources(column: Column) -> tuple[str, ...]:
    """Every name that the column is found under, best first."""
    return (column.name, *column.aliases)


def markdown() -> str:
    """The schema as a Markdown table, as `docs/traces.md` holds it."""
    head = ["| column | type | meaning | example | also found as |", "| --- | --- | --- | --- | --- |"]
    rows = [
        f"| `{column.name}` | {column.type} | {column.doc} | `{column.example}` | {', '.join(f'`{alias}`' for alias in column.aliases)} |"
        for column in (ROW, *COLUMNS)
    ]
    return "\n".join(head + [row.replace("|  |", "| |") for row in rows]) + "\n"
