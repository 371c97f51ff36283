"""A gateway's journal: Parquet files, and beside them segments of JSON lines that are not Parquet yet, written to while they are read.

- A segment is `journal-….jsonl`, or `journal-….jsonl.part` while its writer has it open (or was killed). All of a folder's segments
  are copied and read as one table, so that what happens to them meanwhile changes nothing.
- A Parquet file names the segments whose rows it holds in its metadata: those are not read again where a crash left them behind.
- A line that isn't whole is set aside: the writer was killed in mid-write, or is writing.
- Answers from the gateway's own answer cache, and calls that it passed through without a decision, are set aside by the canonical
  importer (`shape`): no policy would route them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from policyroute.replay.traces.fields import find, json_field, kind_of
from policyroute.replay.traces.head import ROW_NUMBER, Head, reading
from policyroute.replay.traces.notes import Note, counted
from policyroute.replay.traces.schema import COLUMNS, SUSPECT
from policyroute.replay.traces.sql import glob_free, literal, quoted
from policyroute.replay.traces.tables import Shape

ENDINGS = (".jsonl.part", ".jsonl")
PREFIX = "journal-"
FEEDBACK, RATINGS = "feedback.lines", '"$ratings"'  # what users thought of answers, beside the journal's files
SEGMENTS = b"policyroute.segments"  # the metadata under which a Parquet file names its segments
SMALLEST_LIMIT = 16 << 20  # bytes of a line that DuckDB is told to expect
_OWN = ("policy_digest", "decision_rule", "verdict")  # what a journal has and hardly any other trace


class _Copied(NamedTuple):
    """The whole lines of some segments in one file, and what was seen on the way."""

    rows: int
    torn: int
    longest: int
    kinds: dict[str, set[str]]
    digest: str


def is_segment(path: Path) -> bool:
    """Whether a file's name is that of a segment."""
    return path.name.startswith(PREFIX) and path.name.endswith(ENDINGS)


def read_segments(paths: Sequence[Path], parquet: Iterable[Path], scratch: Path) -> tuple[list[Head], list[Note]] | None:
    """The head of all segments together, none where they hold no rows; None where one vanished, and the folder has to be listed anew.

    `parquet` are the folder's Parquet files. The copy in `scratch` has to outlive the trace.
    """
    if not paths:
        return [], []
    done = _superseded(parquet)
    # One that was listed open and closed is one.
    wanted = list({_stem(path): path for path in paths if _stem(path) not in done}.values())
    scratch.mkdir(parents=True, exist_ok=True)
    target = scratch / f"segments-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]}.jsonl"
    try:
        copied = _copied(wanted, target)
    except FileNotFoundError:
        return None
    notes = [counted("torn-lines", copied.torn)] if copied.torn else []
    return ([_head(wanted, target, copied)] if copied.rows else []), notes


def feedback(paths: Iterable[Path], connection: duckdb.DuckDBPyConnection) -> str:
    """The table of ratings in the folders of these files (`decision_id`, `feedback`), the last one of each decision; "" where there are none.

    A line that isn't whole, or no rating, is left out.
    """
    folders = dict.fromkeys(path.parent for path in paths)
    files = [str(folder / FEEDBACK) for folder in folders if (folder / FEEDBACK).is_file()]
    if not files:
        return ""
    listed = ", ".join(literal(glob_free(file)) for file in files)
    lines = f"read_csv([{listed}], columns = {{'line': 'VARCHAR'}}, delim = chr(1), quote = '', escape = '', header = false, auto_detect = false)"
    fields = [
        f"CASE WHEN json_valid(line) THEN json_extract_string(line, '$.{name}') END AS {name}"
        for name in ("decision_id", "feedback", "ts")
    ]
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {RATINGS} AS SELECT decision_id, arg_max(TRY_CAST(feedback AS DOUBLE), ts) AS feedback FROM "
        f"(SELECT {', '.join(fields)} FROM {lines}) WHERE TRY_CAST(feedback AS DOUBLE) IS NOT NULL GROUP BY decision_id"
    )
    return RATINGS


def shape(head: Head) -> Shape:
    """How a canonical table is read: without what a gateway answered from its cache or passed through."""
    aside = {}
    cached = find(head.fields, "answer_cached")
    if cached is not None:
        aside["gateway-cache"] = f"coalesce(TRY_CAST({cached.text} AS BOOLEAN), FALSE)"
    verdict = find(head.fields, "verdict")
    if verdict is not None and head.has(*_OWN):
        aside["passed-through"] = f"coalesce({verdict.text} = 'passed', FALSE)"
    saved = find(head.fields, "saved_usd") if cached is not None else None
    spared = f"TRY_CAST({saved.text} AS DECIMAL(24,12))" if saved is not None else ""
    return Shape(where=" AND ".join(f"NOT {sql}" for sql in aside.values()), aside=aside, spared=spared)


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending))


def _superseded(parquet: Iterable[Path]) -> frozenset[str]:
    """The segments whose rows are in these files. A file that is no Parquet is said to be none by whoever reads it."""
    found: set[str] = set()
    for path in parquet:
        try:
            found.update(json.loads((pq.read_metadata(path).metadata or {}).get(SEGMENTS, b"[]")))
        except (pa.ArrowException, OSError, ValueError):
            continue
    return frozenset(found)


def _copied(paths: Sequence[Path], target: Path) -> _Copied:
    """Copy the whole lines. Raises FileNotFoundError where a segment is gone."""
    rows = torn = longest = 0
    kinds: dict[str, set[str]] = {}
    digest = hashlib.sha256()
    with target.open("wb") as written:
        for path in paths:
            with _stream(path) as stream:
                for line in stream:
                    row = _row(line)
                    if row is None:
                        torn += 1
                        continue
                    for key, value in row.items():
                        kinds.setdefault(key, set()).update(() if value is None else (kind_of(value),))
                    written.write(line)
                    digest.update(line)
                    rows, longest = rows + 1, max(longest, len(line))
    return _Copied(rows, torn, longest, kinds, digest.hexdigest())


def _stream(path: Path) -> BinaryIO:
    """The segment's bytes, whether it is still open or closed by now."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return path.with_name(_stem(path) + ENDINGS[1]).open("rb")


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _head(paths: Sequence[Path], target: Path, copied: _Copied) -> Head:
    """All canonical columns are there, though no row may have them: no other field is to be taken for one."""
    names = [column.name for column in COLUMNS if column.name != SUSPECT]
    kinds: dict[str, set[str]] = {name: copied.kinds.get(name, set()) for name in names} | copied.kinds
    columns = ", ".join(f"{quoted(name)}: 'JSON'" for name in kinds)
    limit = max(SMALLEST_LIMIT, copied.longest + 1)
    source = f"read_json({literal(glob_free(str(target)))}, format = 'newline_delimited', columns = {{{columns}}}, maximum_object_size = {limit})"
    scan = f"(SELECT *, row_number() OVER () - 1 AS {ROW_NUMBER} FROM {source})"
    fields = tuple(json_field((name,), found) for name, found in kinds.items())
    named = paths[0] if len(paths) == 1 else paths[0].with_name(f"{PREFIX}… ({len(paths)} segments)")
    with reading(str(named)):
        return Head(named, "", "jsonl", fields, scan, (), copied.digest)
