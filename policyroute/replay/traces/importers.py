"""The formats that are read: one row each. The first row that recognises a file reads it; the last takes any table.

A new format is a row here: often only its `Shape` (a table whose columns the aliases don't place), else a module that turns its
lines into canonical rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from policyroute.replay.traces import (
    aider,
    bedrock,
    bfcl,
    claude_code,
    codex,
    helicone,
    journal,
    langfuse,
    litellm,
    openai,
    otel,
    pi,
    spans,
    tau,
)
from policyroute.replay.traces.convert import Row, Tally, convert
from policyroute.replay.traces.head import Head, read_head
from policyroute.replay.traces.notes import counted
from policyroute.replay.traces.records import records
from policyroute.replay.traces.tables import Shape, Table


@dataclass(frozen=True, slots=True)
class Job:
    """What a reader may use: the connection, and a folder for what it converts."""

    connection: duckdb.DuckDBPyConnection
    scratch: Path


Reader = Callable[[Sequence[Head], Job], list[Table]]


@dataclass(frozen=True, slots=True)
class Importer:
    """A format: `recognises` looks at a file's head, `read` gives the tables of all files of the format."""

    name: str
    doc: str
    recognises: Callable[[Head], bool]
    read: Reader


def _table(shape: Shape = Shape()) -> Reader:  # noqa: B008 - frozen
    """A reader that leaves the scan to DuckDB."""
    return lambda heads, job: [Table(head, shape, head.name, head.digest) for head in heads]


def _converted(rows: Callable[[Head, Tally], Iterable[Row]], extras: Mapping[str, str], shape: Shape = Shape()) -> Reader:  # noqa: B008
    """A reader that converts each file by itself."""

    def read(heads: Sequence[Head], job: Job) -> list[Table]:
        return [_convert(head, partial(rows, head), extras, shape, job) for head in heads]

    return read


def _from_records(rows: Callable[[Iterable[Mapping[str, Any]], Tally], Iterable[Row]], extras: Mapping[str, str]) -> Reader:
    """A reader that converts the rows of each file, of whatever kind it is."""

    def read(heads: Sequence[Head], job: Job) -> list[Table]:
        return [_convert(head, partial(rows, records(head, job.connection)), extras, Shape(), job) for head in heads]

    return read


def _convert(head: Head, rows: Callable[[Tally], Iterable[Row]], extras: Mapping[str, str], shape: Shape, job: Job) -> Table:
    """The digest of a table also covers what was left out of it for another file's sake."""
    tally = Tally()
    table = convert(rows(tally), extras, head, shape, job.scratch, job.connection)
    if tally.aside:
        table = replace(table, digest=hashlib.sha256("\n".join([head.digest, *tally.aside]).encode()).hexdigest())
    return replace(table, notes=tuple(counted(code, count) for code, count in tally.counts.items() if count))


def _read_tau(heads: Sequence[Head], job: Job) -> list[Table]:
    return [_convert(head, partial(tau.rows, job.connection, head), tau.EXTRAS, tau.SHAPE, job) for head in heads]


def _read_bfcl(heads: Sequence[Head], job: Job) -> list[Table]:
    """Requests and answers belong together where they lie in one folder, whether one of them was named or both."""
    tables: list[Table] = []
    no_answers: Head | None = None
    for folder in dict.fromkeys(head.path.parent for head in heads):
        near = {head.path: head for head in heads if head.path.parent == folder}
        for name in ("requests.parquet", "model_results.parquet"):
            path = folder / name
            if path not in near and path.is_file():
                near[path] = read_head(path, job.connection)
        requests = next((head for head in near.values() if bfcl.is_requests(head)), None)
        answers = [head for head in near.values() if bfcl.is_results(head)]
        for results in (*answers,) or (no_answers,):
            source = results or requests
            if source is not None:
                table = _convert(source, partial(bfcl.rows, job.connection, requests, results), bfcl.EXTRAS, Shape(), job)
                tables.append(replace(table, digest=_joined(requests, results)))
    return tables


def _spans(read: otel.Read) -> Reader:
    """Spans: all files are looked at before the first row, since a span and the one around it may lie in different files."""

    def reader(heads: Sequence[Head], job: Job) -> list[Table]:
        index = otel.Index()
        for head in heads:
            for record in records(head, job.connection):
                for span in read(record):
                    index.add(span)
        wrappers = index.wrappers()

        def rows(head: Head, tally: Tally) -> Iterable[Row]:
            return otel.rows((span for record in records(head, job.connection) for span in read(record)), index, wrappers, tally)

        return [_convert(head, partial(rows, head), otel.EXTRAS, Shape(), job) for head in heads]

    return reader


def _read_batches(heads: Sequence[Head], job: Job) -> list[Table]:
    tables = []
    for batch in openai.batches(heads, job.connection):
        table = _convert(batch.source, partial(openai.batch, job.connection, batch), {}, Shape(), job)
        tables.append(replace(table, digest=_joined(batch.input, batch.output)))
    return tables


def _read_claude_code(heads: Sequence[Head], job: Job) -> list[Table]:
    index = claude_code.Index()
    for head in heads:
        index.add(head)
    shape = Shape(notes=("no-system-prompt",))
    return [_convert(head, partial(claude_code.rows, head, index), claude_code.EXTRAS, shape, job) for head in heads]


def _read_codex(heads: Sequence[Head], job: Job) -> list[Table]:
    seen: set[object] = set()
    return [_convert(head, partial(codex.rows, head, seen), codex.EXTRAS, Shape(notes=("no-tools",)), job) for head in heads]


def _joined(*heads: Head | None) -> str:
    """One digest of what was read together; a single file's own."""
    digests = [head.digest for head in heads if head is not None]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _read_litellm(heads: Sequence[Head], _job: Job) -> list[Table]:
    return [Table(head, litellm.shape(head), head.name, head.digest) for head in heads]


def _read_canonical(heads: Sequence[Head], _job: Job) -> list[Table]:
    return [Table(head, journal.shape(head), head.name, head.digest) for head in heads]


def _is(*fields: str) -> Callable[[Head], bool]:
    return lambda head: head.has(*fields)


def _is_servegen(head: Head) -> bool:
    return {field.path for field in head.fields} == {"request_id", "client_id", "timestamp", "input_tokens", "output_tokens"}


def _is_canonical(head: Head) -> bool:
    return head.has("ts") and (head.has("input_tokens") or head.has("messages"))


# Its `finish_reason_raw` is the provider's word. A generation that the caller broke off is billed for what it had said.
OPENROUTER = Shape(
    columns={"requested_model": "", "model": "model_permaslug", "finish_reason": "finish_reason_normalized"},
    expressions={"error_type": "CASE WHEN lower(CAST(cancelled AS VARCHAR)) = 'true' THEN 'cancelled' END"},
)

IMPORTERS: dict[str, Importer] = {
    importer.name: importer
    for importer in (
        Importer("aider", "aider's analytics as a table: `main_model`, `prompt_tokens`, `completion_tokens`, `edit_format`",
                 _is("main_model", "prompt_tokens", "completion_tokens", "edit_format"), _table(Shape(columns={"ts": "time", "cost_usd": "cost"}))),
        Importer("aider-events", "aider's analytics as it writes them: JSON lines of events, figures under `properties`",
                 aider.recognises, _converted(aider.rows, aider.EXTRAS)),
        Importer("azure", "Azure LLM inference traces: `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`",
                 _is("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _table()),
        Importer("burstgpt", "BurstGPT: `Timestamp` (seconds from 0), `Model`, `Request tokens`, `Response tokens`",
                 _is("Timestamp", "Model", "Request tokens", "Response tokens"), _table()),
        Importer("mooncake", "Mooncake: `timestamp` (milliseconds from 0), `input_length`, `output_length`, `hash_ids`",
                 _is("timestamp", "input_length", "output_length", "hash_ids"), _table(Shape(unit=1_000, keep_repeats=True))),
        Importer("servegen", "ServeGen: `client_id`, `timestamp` (seconds from 0), `input_tokens`, `output_tokens`", _is_servegen, _table()),
        Importer("pi", "sessions of the pi coding agent: JSON lines with `message.usage`",
                 pi.recognises, _converted(pi.rows, pi.EXTRAS, Shape(notes=("no-system-prompt",)))),
        Importer("tau-bench", "tau-bench runs: a JSON list of runs with their trajectories, one row per assistant message", tau.recognises, _read_tau),
        Importer("tau-bench-steps", "tau-bench runs as a table of steps, each with its prompt", tau.recognises_steps, _table(tau.STEPS)),
        Importer("bfcl", "BFCL requests (`question`, `function`) joined with models' answers (`result`)", bfcl.recognises, _read_bfcl),
        Importer("bfcl-v4", "BFCL version 4 requests: JSON lines, `question` a list of turns", bfcl.recognises_v4, _converted(bfcl.rows_v4, bfcl.V4_EXTRAS)),
        Importer("otlp", "OpenTelemetry spans as the collector's file exporter writes them: JSON lines of `resourceSpans`",
                 otel.recognises_otlp, _spans(spans.of_otlp)),
        Importer("openinference", "OpenInference spans, one per row or JSON object (Phoenix): `llm.token_count.prompt`, with or without `attributes.` before",
                 otel.recognises_openinference, _spans(lambda row: [spans.of_row(row)])),
        Importer("otel", "OpenTelemetry GenAI spans, one per row or JSON object: `gen_ai.usage.input_tokens`, with or without `attributes.` before",
                 otel.recognises, _spans(lambda row: [spans.of_row(row)])),
        Importer("litellm-spend", "LiteLLM's table `LiteLLM_SpendLogs`: `spend`, `call_type`, `startTime`, `endTime`", litellm.recognises_spend, _read_litellm),
        Importer("litellm", "LiteLLM's `StandardLoggingPayload`: `response_cost`, `call_type`, `hidden_params`", litellm.recognises_payload, _read_litellm),
        Importer("langfuse", "Langfuse observations: the blob export (`usage_details`) or the API (`usageDetails`)",
                 langfuse.recognises, _from_records(langfuse.rows, langfuse.EXTRAS)),
        Importer("helicone", "Helicone requests: `request_created_at`, `response_status`, `request_body`", helicone.recognises, _from_records(helicone.rows, helicone.EXTRAS)),
        Importer("openai-stored", "OpenAI's stored completions: objects `chat.completion` (or `response`), or pages of them",
                 openai.recognises_stored, _from_records(openai.stored, {})),
        Importer("openai-batch", "OpenAI's batch files: inputs (`custom_id`, `body`) joined with outputs (`custom_id`, `response`)", openai.recognises_batch, _read_batches),
        Importer("bedrock", "AWS Bedrock's model invocation logs: `modelId`, `operation`, `input.inputTokenCount`",
                 bedrock.recognises, _from_records(bedrock.rows, bedrock.EXTRAS)),
        Importer("openrouter", "OpenRouter's activity, a generation per row: `generation_id`, `model_permaslug`, `cost_total`",
                 _is("generation_id", "model_permaslug", "tokens_prompt", "cancelled"), _table(OPENROUTER)),
        Importer("claude-code", "Claude Code's session transcripts: the folder `~/.claude/projects` or files in it", claude_code.recognises, _read_claude_code),
        Importer("codex", "Codex's session transcripts: the folder `~/.codex/sessions` or files in it", codex.recognises, _read_codex),
        Importer("canonical", "the canonical columns below, as `policyroute import` writes them", _is_canonical, _read_canonical),
        Importer("table", "any other table: columns are found by their aliases, or mapped with `--map`", lambda head: True, _table()),
    )
}  # fmt: skip


def importer_of(head: Head) -> Importer:
    """The first importer that recognises the head."""
    return next(importer for importer in IMPORTERS.values() if importer.recognises(head))


def importers_markdown() -> str:
    """The formats as a Markdown table, as `docs/traces.md` holds it."""
    return (
        "\n".join(["| format | what it is |", "| --- | --- |", *(f"| `{row.name}` | {row.doc} |" for row in IMPORTERS.values())])
        + "\n"
    )
