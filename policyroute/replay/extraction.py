"""Extraction in columns: what only a row's content tells, computed once and kept beside the trace.

A kept file holds `row` and one column per extracted signal or scan, under names that say what was computed (a scan's
name carries the digest of its word set). The next policy on the same trace reads what is there and computes the rest.
The file's own name is the digest of its bytes: one that was damaged or cut would change figures, and is left aside.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.backends.sql import literal, quoted
from policyroute.language.policy import Policy, TextSet
from policyroute.replay.observe import ANSWER, EXTRACTED
from policyroute.replay.traces import Part
from policyroute.replay.traces.head import digest_of
from policyroute.replay.traces.sql import one
from policyroute.signals import columns
from policyroute.signals.answers import answer_tokens
from policyroute.signals.columns import Plan
from policyroute.signals.kept import kept_scan

CONTENT = ("messages", "tools", "response_format", "output")
BATCH = 2_048  # rows
NAME = 32  # hex digits of a kept file's name
SMALL = 8 << 20  # bytes of content up to which starting a second process doesn't pay

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One column to extract: the signal or `<text> has <set>` of a policy, and its name in kept files."""

    signal: str
    kept: str
    scan: tuple[str, TextSet] | None = None


def wanted(policy: Policy, names: Sequence[str]) -> tuple[Wanted, ...]:
    """The columns for `names`: signals of the policy, or `ANSWER`."""
    found = []
    for name in names:
        if name == ANSWER:
            found.append(Wanted(name, name))
            continue
        signal = policy.signals[name]
        if signal.kind != "match":
            found.append(Wanted(name, name))
            continue
        text_set = policy.texts[signal.words]
        found.append(Wanted(name, kept_scan(signal.text, text_set), (signal.text, text_set)))
    return tuple(found)


def extracted(connection: duckdb.DuckDBPyConnection, part: Part, needed: Sequence[Wanted], folder: Path, progress: Progress) -> str:
    """A SELECT of the part's relation with one column `extracted <signal>` for each wanted one.

    Kept files lie in a folder of `folder` that is named by the part's content and the extractor's version.
    """
    place = folder / hashlib.sha256(f"{part.digest}\n{part.rows}\n{columns.VERSION}".encode()).hexdigest()[:32]
    place.mkdir(parents=True, exist_ok=True)
    (first,) = one(connection, f"SELECT coalesce(min(row), 0) FROM ({part.relation})")
    kept = _kept(place)
    missing = [want for want in needed if want.kept not in kept]
    if missing:
        written = _extract(connection, part, first, missing, place, progress)
        kept |= {want.kept: written for want in missing}
    return _joined(part, first, needed, kept)


def _kept(place: Path) -> dict[str, Path]:
    """Kept columns and the files that hold them; a file that isn't as it was written is left aside."""
    found: dict[str, Path] = {}
    for path in sorted(place.glob("*.parquet")):
        if digest_of(path)[:NAME] == path.stem:
            found |= {name: path for name in pq.read_schema(path).names if name != "row"}
    return found


def _joined(part: Part, first: int, needed: Sequence[Wanted], kept: dict[str, Path]) -> str:
    """Rows of a part are numbered in its order, so a kept file counts from 0 and the part's first row is added."""
    relation = f"({part.relation}) t"
    selected = ["t.*"]
    for number, path in enumerate(dict.fromkeys(kept[want.kept] for want in needed)):
        alias = f"x{number}"
        relation += f" LEFT JOIN read_parquet({literal(path)}) {alias} ON {alias}.row = t.row - {first}"
        selected += [
            f"{alias}.{quoted(want.kept)} AS {quoted(EXTRACTED + want.signal)}" for want in needed if kept[want.kept] == path
        ]
    return f"SELECT {', '.join(selected)} FROM {relation}"


def _extract(
    connection: duckdb.DuckDBPyConnection, part: Part, first: int, missing: Sequence[Wanted], place: Path, progress: Progress
) -> Path:
    """Extract the missing columns into a file of the folder `place`, which appears whole or not at all."""
    plan = Plan(
        tuple(want.signal for want in missing if want.scan is None and want.signal != ANSWER),
        tuple(want.scan for want in missing if want.scan is not None),
    )
    answers = any(want.signal == ANSWER for want in missing)
    names = {_extracted_name(want): want.kept for want in missing}
    relation = f"SELECT row - {first} AS row, {', '.join(CONTENT)} FROM ({part.relation})"
    (size,) = one(connection, f"SELECT coalesce(sum(strlen(messages) + coalesce(strlen(tools), 0)), 0) FROM ({part.relation})")
    workers = 1 if size <= SMALL else os.cpu_count() or 1
    partial = place / f"{uuid.uuid4().hex}.partial"
    reader = connection.sql(relation).to_arrow_reader(BATCH)
    nothing = pa.RecordBatch.from_pylist([], schema=reader.schema)  # so that a part without rows has its columns too
    try:
        with pq.ParquetWriter(partial, _renamed(work(nothing, plan, answers), names).schema, compression="zstd") as writer:
            for table in _tables(reader, plan, answers, workers):
                writer.write_table(_renamed(table, names))
                progress(table.num_rows)
        return partial.replace(place / f"{digest_of(partial)[:NAME]}.parquet")
    finally:
        partial.unlink(missing_ok=True)


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def _extracted_name(want: Wanted) -> str:
    return want.signal if want.scan is None else f"{want.scan[0]} has {want.scan[1].name}"


def work(batch: pa.RecordBatch, plan: Plan, answers: bool) -> pa.Table:
    """One batch: the plan's columns, and `ANSWER` where `answers` asks for it. Runs in a worker process."""
    table = columns.extract(batch, plan)
    if not answers:
        return table
    counts = pa.array([answer_tokens(output) for output in batch.column("output").to_pylist()], pa.int64())
    return table.append_column(ANSWER, counts)


def _tables(reader: pa.RecordBatchReader, plan: Plan, answers: bool, workers: int) -> Iterator[pa.Table]:
    """Extracted batches in the order of the rows."""
    if workers == 1:
        yield from (work(batch, plan, answers) for batch in reader)
        return
    # Spawned, not forked: DuckDB's threads don't survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: list[Future[pa.Table]] = []
        for batch in reader:
            running.append(pool.submit(work, batch, plan, answers))
            if len(running) > 2 * workers:
                yield running.pop(0).result()
        for future in running:
            yield future.result()
