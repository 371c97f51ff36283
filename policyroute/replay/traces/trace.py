"""Opening a trace: where its files are, which format they have, and one relation per file that gives canonical columns.

A trace is opened in seconds and holds no rows: each `Part` is the text of a SELECT. Every part gives the same columns in the same
order with the same types, so that parts can be read one by one or all together.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb

from policyroute.replay.traces import journal
from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.facts import Facts, gather, suspect
from policyroute.replay.traces.head import COMPRESSED, EXTENSIONS, Head, duckdb_head, read_head, reading
from policyroute.replay.traces.importers import IMPORTERS, Importer, Job, importer_of
from policyroute.replay.traces.notes import NOTES, Note
from policyroute.replay.traces.schema import COLUMNS, SUSPECT
from policyroute.replay.traces.sql import literal, one, quoted
from policyroute.replay.traces.tables import Bound, bind

_PREFIX = "duckdb:"
RETRIES = 20
_NO_MAPPING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """One file or table: `relation` is a SELECT of `row`, all canonical columns in the order of `schema.COLUMNS`, and the
    trace's extra columns; `digest` the SHA-256 of the file's bytes; `name` its name without folders."""

    name: str
    relation: str
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Trace:
    """An open trace. `present` are the canonical columns that have at least one value, `extra` the other columns that were
    kept; `relative_time` tells that `ts` counts from 1970-01-01 only for want of a date. `digest` identifies what is read: the
    files' bytes, the format, the mapping and the incumbent. `cached` are answers of a gateway's own cache, set aside, and the
    dollars that they would have cost, None where there are none. Relations are valid on the connection that opened it."""

    format: str
    parts: tuple[Part, ...]
    present: frozenset[str]
    extra: tuple[str, ...]
    notes: tuple[Note, ...]
    rows: int
    digest: str
    relative_time: bool
    cached: tuple[int, Decimal] | None = None

    @property
    def relation(self) -> str:
        """A SELECT of all parts, in order."""
        return " UNION ALL ".join(part.relation for part in self.parts)


def open_trace(
    paths: str | Path | Sequence[str | Path],
    *,
    connection: duckdb.DuckDBPyConnection,
    format: str | None = None,  # noqa: A002 - the option's name
    mapping: Mapping[str, str] = _NO_MAPPING,
    incumbent: str | None = None,
    scratch: Path,
) -> Trace:
    """Opens files, folders, globs and `duckdb:FILE/TABLE` as one trace.

    `format` names an importer where it should not be guessed; `mapping` is {canonical or free column: field of the source};
    `incumbent` is the model of a trace that names none. What must be converted is written into `scratch`, which has to outlive
    the trace. The connection must keep `preserve_insertion_order`, as is DuckDB's default: rows are numbered in the order of the
    file. Raises `TraceError`.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    if format is not None and format not in IMPORTERS:
        raise TraceError(f"there is no format `{format}`", "", f"formats: {', '.join(IMPORTERS)}")
    heads, notes = _heads(paths, connection, scratch)
    importer, heads = _importer(heads, format)
    with reading(heads[0].place):
        tables = importer.read(heads, Job(connection, scratch))
    bound = [bind(table, mapping, incumbent, connection) for table in tables]
    facts = [gather(each, connection, scratch) for each in bound]
    if not sum(fact.rows for fact in facts):
        raise TraceError(
            "holds no calls",
            ", ".join(str(path) for path in paths),
            f"it was read as `{importer.name}`; --trace-format NAME reads it as another one",
        )
    extras = _extras(bound)
    parts = _parts(bound, facts, extras)
    ratings = journal.feedback((Path(head.place) for head in heads), connection) if "policy_digest" in extras else ""
    if ratings and "feedback" not in extras:
        extras |= {"feedback": "DOUBLE"}
        parts = tuple(_rated(part, ratings, connection) for part in parts)
    stamp = [importer.name, repr(sorted(mapping.items())), repr(incumbent), *(part.digest for part in parts)]
    stamp += [note.message for fact in facts for note in fact.notes if note.code == "model-from-name"]
    return Trace(
        format=importer.name,
        parts=parts,
        present=frozenset().union(*(fact.present for fact in facts)),
        extra=tuple(extras),
        notes=_merged([*notes, *(note for fact in facts for note in fact.notes)]),
        rows=sum(part.rows for part in parts),
        digest=hashlib.sha256("\n".join(stamp).encode()).hexdigest(),
        relative_time=any(each.relative for each in bound),
        cached=_cached(facts),
    )


def _cached(facts: Sequence[Facts]) -> tuple[int, Decimal] | None:
    """Answers of a gateway's own cache, where a file tells what they would have cost."""
    told = [fact for fact in facts if fact.spared is not None]
    rows = sum(note.rows for fact in told for note in fact.notes if note.code == "gateway-cache")
    return (rows, sum((fact.spared for fact in told if fact.spared is not None), Decimal(0))) if told else None


# -- files ---------------------------------------------------------------------------------------------------------


def _heads(paths: Sequence[str | Path], connection: duckdb.DuckDBPyConnection, scratch: Path) -> tuple[list[Head], list[Note]]:
    """The heads of all files, each content once."""
    heads: list[Head] = []
    copies: list[str] = []
    torn: list[Note] = []
    for path in paths:
        text = str(path)
        if text.startswith(_PREFIX):
            file, _, table = text.removeprefix(_PREFIX).rpartition("/")
            heads.append(duckdb_head(Path(file), table, connection))
        else:
            files, skipped, told = _read(text, connection, scratch)
            heads += files
            copies += skipped
            torn += told
    unique = {(head.digest, head.table): head for head in reversed(heads)}
    kept = [head for head in heads if unique[head.digest, head.table] is head] if len(unique) < len(heads) else heads
    notes = (
        [Note("same-file", f"{len(heads) - len(kept)} {NOTES['same-file']}", len(heads) - len(kept))]
        if len(kept) < len(heads)
        else []
    )
    notes += [Note("same-name", f"{', '.join(copies)}: {NOTES['same-name']}", len(copies))] if copies else []
    notes += torn
    if not kept:
        raise TraceError("no trace was named", "", "name files, folders, globs or duckdb:FILE/TABLE")
    return kept, notes


def _read(text: str, connection: duckdb.DuckDBPyConnection, scratch: Path) -> tuple[list[Head], list[str], list[Note]]:
    """The heads of the files that a path means, copies left out, and what was seen in a journal's segments.

    A journal's folder may change meanwhile: it is listed twice, since a file that gets another name can be missed once, and read
    again where a segment is gone, whose rows are in a new Parquet file then.
    """
    for _ in range(RETRIES):
        files, skipped = _files(text)
        if not any(file.name.startswith(journal.PREFIX) for file in files):
            return [read_head(file, connection) for file in files], skipped, []
        files = list(dict.fromkeys([*files, *_files(text)[0]]))
        others = [file for file in files if not journal.is_segment(file)]
        found = journal.read_segments([file for file in files if journal.is_segment(file)], others, scratch)
        if found is not None:
            heads = [*(read_head(file, connection) for file in others), *found[0]]
            if heads:
                return heads, skipped, found[1]
            raise TraceError("the journal holds no rows yet", text, "rows are there a window after their requests have ended")
        if files == [Path(text)]:
            return [read_head(Path(text), connection)], skipped, []  # which says that it isn't there
    raise TraceError("the journal changes faster than it can be read", text, "copy the folder, and read the copy")


def _files(text: str) -> tuple[list[Path], list[str]]:
    """The files that a path means, and the names of those left out as copies."""
    path = Path(text)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and _is_trace(file.relative_to(path)))
        if not found:
            raise TraceError("the folder holds no trace", text, f"files that are read: {', '.join(EXTENSIONS)}, also with .gz")
    elif not path.exists() and glob.has_magic(text):
        found = sorted(Path(name) for name in glob.glob(text, recursive=True) if Path(name).is_file())  # noqa: PTH207 - absolute patterns
        if not found:
            raise TraceError("no file matches", text, "quote the pattern, or check the folder")
    else:
        return [path], []
    segments = [file for file in found if journal.is_segment(file)]
    found = [file for file in found if file not in segments]
    chosen: dict[Path, Path] = {}
    for file in found:
        stem = file.with_name(_stem(file))
        if stem not in chosen or file.suffix in (".parquet", ".pq"):
            chosen[stem] = file
    kept = sorted(chosen.values())
    return [*kept, *segments], [file.name for file in found if file not in kept]


def _stem(file: Path) -> str:
    name = file.name
    for endings in (COMPRESSED, EXTENSIONS):
        name = next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
    return name


def _is_trace(file: Path) -> bool:
    named = _stem(file) != file.name.removesuffix(".gz") or journal.is_segment(file)
    return named and not any(part.startswith(".") for part in file.parts)


def _importer(heads: list[Head], format_: str | None) -> tuple[Importer, list[Head]]:
    """The format of all files; with a format given, the files that it recognises where it recognises any."""
    if format_ is not None:
        importer = IMPORTERS[format_]
        return importer, [head for head in heads if importer.recognises(head)] or heads
    found = {head.place: importer_of(head) for head in heads}
    names = list(dict.fromkeys(importer.name for importer in found.values()))
    if len(names) > 1:
        told = ", ".join(f"{Path(place).name} is {importer.name}" for place, importer in list(found.items())[:6])
        raise TraceError(
            f"the files are of {len(names)} formats ({told})",
            "",
            f"name the files of one, or give --trace-format: {', '.join(names)}",
        )
    return IMPORTERS[names[0]], heads


# -- relations -----------------------------------------------------------------------------------------------------


def _extras(bound: Sequence[Bound]) -> dict[str, str]:
    """Name and type of the extra columns of all parts; text where the parts differ."""
    types: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for each in bound:
        for name, (_, type_) in each.extras.items():
            first = spelled.setdefault(name.casefold(), name)
            types[first] = type_ if types.get(first, type_) == type_ else "VARCHAR"
    return types


def _parts(bound: Sequence[Bound], facts: Sequence[Facts], extras: Mapping[str, str]) -> tuple[Part, ...]:
    parts = []
    offset = 0
    for each, fact in zip(bound, facts, strict=True):
        parts.append(Part(each.table.name, _relation(each, fact, extras, offset), fact.rows, each.table.digest))
        offset += fact.span
    return tuple(parts)


def _relation(bound: Bound, fact: Facts, extras: Mapping[str, str], offset: int) -> str:
    listed = [f"CAST(row + {offset} AS BIGINT) AS row"]
    for column in COLUMNS:
        value = column.name if column.name in bound.columns else "NULL"
        sql = suspect(bound.columns) if column.name == SUSPECT else f"CAST({value} AS {column.sql_type})"
        listed.append(f"{sql} AS {column.name}")
    own = {name.casefold(): name for name in bound.extras}
    for name, type_ in extras.items():
        value = quoted(own[name.casefold()]) if name.casefold() in own else "NULL"
        listed.append(f"CAST({value} AS {type_}) AS {quoted(name)}")
    dropped = f" ANTI JOIN read_parquet({literal(str(fact.dropped))}) USING (row)" if fact.dropped else ""
    return f"SELECT {', '.join(listed)} FROM ({bound.inner()}){dropped}"


def _rated(part: Part, ratings: str, connection: duckdb.DuckDBPyConnection) -> Part:
    """A journal's part with what users thought of its answers; what they say later makes another digest."""
    (told,) = one(
        connection, f"SELECT coalesce(md5(string_agg(decision_id || feedback, ',' ORDER BY decision_id)), '') FROM {ratings}"
    )
    relation = f"SELECT r.*, f.feedback FROM ({part.relation}) r LEFT JOIN {ratings} f ON f.decision_id = r.request_id"
    return Part(part.name, relation, part.rows, hashlib.sha256(f"{part.digest}{told}".encode()).hexdigest())


def _merged(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Notes of the same code and text as one, with the rows added up, in the order of `NOTES`, however the trace is cut."""
    found: dict[tuple[str, str], Note] = {}
    for note in notes:
        text = note.message.removeprefix(f"{note.rows:,} ")
        before = found.get((note.code, text))
        rows = note.rows + (before.rows if before else 0)
        counted = text != note.message
        found[note.code, text] = Note(note.code, f"{rows:,} {text}" if counted else text, rows)
    order = list(NOTES)
    return tuple(sorted(found.values(), key=lambda note: (order.index(note.code), note.message)))


# -- writing -------------------------------------------------------------------------------------------------------


def write_canonical(trace: Trace, connection: duckdb.DuckDBPyConnection, target: Path) -> int:
    """Writes the trace as canonical Parquet, in its order, and returns the number of rows. The file appears whole or not at
    all. `row` and `suspect_cost` are left out: whoever reads the file makes them anew."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    order = " UNION ALL ".join(f"(SELECT * EXCLUDE (row, {SUSPECT}) FROM ({part.relation}))" for part in trace.parts)
    try:
        with reading(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            connection.execute(f"COPY ({order}) TO {literal(str(partial))} (FORMAT parquet, COMPRESSION zstd)")
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return trace.rows
