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

import duckdb

from policyroute.replay.traces import aider, bfcl, pi, tau
from policyroute.replay.traces.convert import Row, Tally, convert
from policyroute.replay.traces.head import Head, read_head
from policyroute.replay.traces.notes import counted
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


def _convert(head: Head, rows: Callable[[Tally], Iterable[Row]], extras: Mapping[str, str], shape: Shape, job: Job) -> Table:
    tally = Tally()
    table = convert(rows(tally), extras, head, shape, job.scratch, job.connection)
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


def _joined(*heads: Head | None) -> str:
    """One digest of what was read together; a single file's own."""
    digests = [head.digest for head in heads if head is not None]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _is(*fields: str) -> Callable[[Head], bool]:
    return lambda head: head.has(*fields)


def _is_servegen(head: Head) -> bool:
    return {field.path for field in head.fields} == {"request_id", "client_id", "timestamp", "input_tokens", "output_tokens"}


def _is_canonical(head: Head) -> bool:
    return head.has("ts") and (head.has("input_tokens") or head.has("messages"))


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
        Importer("canonical", "the canonical columns below, as `policyroute import` writes them", _is_canonical, _table()),
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
