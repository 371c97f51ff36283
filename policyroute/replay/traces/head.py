"""What a file looks like before anyone knows what it holds: its kind, its fields, its first rows, and how DuckDB scans it.

Content decides about the kind; the extension only decides where content can't. Everything that is wrong with a file as a file
(missing, empty, cut off, a web page under another name, a line that is not JSON) is found here and said as a `TraceError`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import duckdb

from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.fields import Field, json_fields, table_fields
from policyroute.replay.traces.sql import glob_free, literal, quoted

Kind = Literal["parquet", "csv", "jsonl", "json", "duckdb"]
EXTENSIONS = (".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
COMPRESSED = (".gz", ".zst")
_SNIFFED = 1 << 16
_SAMPLE = 500
_DELIMITERS = (",", "\t", ";", "|")
_JSON_FORMAT = {"jsonl": "newline_delimited", "json": "array"}
ROW_NUMBER = "policyroute_row"


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of one file or table: `scan` is a FROM item with the fields' columns and `ROW_NUMBER`, counted from 0."""

    path: Path
    table: str
    kind: Kind
    fields: tuple[Field, ...]
    scan: str
    sample: tuple[Mapping[str, Any], ...]
    digest: str

    @property
    def name(self) -> str:
        """The file's name without the folder that it lies in."""
        return f"{self.path.name}/{self.table}" if self.table else self.path.name

    @property
    def place(self) -> str:
        """Where it is, as the user said it."""
        return f"{self.path}/{self.table}" if self.table else str(self.path)

    def has(self, *paths: str) -> bool:
        """Whether it holds all these fields, letter case ignored."""
        found = {field.path.casefold() for field in self.fields}
        return all(path.casefold() in found for path in paths)


def digest_of(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Says what DuckDB or a decompressor complains about as a `TraceError`."""
    try:
        yield
    except duckdb.Error as error:
        raise _explained(str(error), place) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _broken_gzip(place) from error
    except UnicodeDecodeError as error:
        raise TraceError("is not UTF-8 text", place, "convert it to UTF-8, or name a Parquet file") from error
    except OSError as error:
        raise TraceError(error.strerror or str(error), place, "check the path and its permissions") from error


def _broken_gzip(place: str) -> TraceError:
    return TraceError("the gzip stream is damaged or cut off", place, "copy or download the file again; `gzip -t FILE` checks it")


def _explained(text: str, place: str) -> TraceError:
    first = text.split("\n", 1)[0]
    if "GZIP" in text.upper():
        return _broken_gzip(place)
    if "maximum_object_size" in text:
        return TraceError(
            "holds a JSON object of more than 16 MB", place, "leave pictures out of it, or convert the file to Parquet"
        )
    if "surrogate" in text:
        return TraceError(
            "holds half of a character (a lone `\\ud83d`, as of an emoji that was cut)", place, "remove that escape from the file"
        )
    line = re.search(r"CSV Error on Line: (\d+)", text)
    if line:
        expected = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
        what = f"{expected[2]} fields where the header has {expected[1]}" if expected else "not a row of this CSV"
        return TraceError(what, f"{place}:{line[1]}", "quote fields that hold the delimiter, or remove the line")
    return TraceError(
        re.sub(r"^[A-Za-z ]+ Error: ", "", first), place, "check that the file is whole and of the kind that its name says"
    )


def open_text(path: Path) -> io.BufferedIOBase:
    """The file's bytes, decompressed where they are gzip."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _start(path: Path, place: str) -> bytes:
    """The first bytes; an empty file, and what is no trace at all, are refused."""
    with reading(place), open_text(path) as stream:
        start = stream.read(_SNIFFED)
    if not start.strip():
        raise TraceError("the file is empty", place, "name a file that holds calls")
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        raise TraceError("is compressed with zstd", place, "decompress it first (`zstd -d FILE`); gzip is read as it is")
    if start[8:12] == b"DUCK":
        raise TraceError("is a DuckDB database", place, f"name the table: duckdb:{place}/TABLE")
    if start.lstrip()[:1] == b"<":
        raise TraceError(
            "is a web page or XML, not a trace", place, "download the file itself: this is a page that a browser shows"
        )
    return start


def _suffix(path: Path) -> str:
    return next((suffix.lower() for suffix in reversed(path.suffixes) if suffix.lower() not in COMPRESSED), "")


def _kind(path: Path, start: bytes, place: str) -> Kind:
    suffix, text = _suffix(path), start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"PAR1"):
        return "parquet"
    if suffix in (".parquet", ".pq"):
        raise TraceError(
            "is not Parquet, though its name says so",
            place,
            "give it the extension of what it is (.csv, .jsonl), or download it again",
        )
    if suffix in (".csv", ".tsv"):
        return "csv"
    if text.startswith(b"[") and suffix not in (".jsonl", ".ndjson"):
        return "json"
    if text.startswith((b"{", b"[")) or suffix in (".json", ".jsonl", ".ndjson"):
        return "jsonl"
    if b"\0" in start:
        raise TraceError("is neither Parquet, JSON, CSV nor a DuckDB database", place, "export the trace to one of them")
    return "csv"


def read_head(path: Path, connection: duckdb.DuckDBPyConnection) -> Head:
    """The head of a file. Raises `TraceError` where the file can't be a trace."""
    place = str(path)
    if not path.is_file():
        raise TraceError("there is no such file", place, "check the path; folders, globs and duckdb:FILE/TABLE are taken too")
    start = _start(path, place)
    kind = _kind(path, start, place)
    if kind == "parquet":
        return _parquet(path, connection)
    return _csv(path, start) if kind == "csv" else _json(path, kind, connection)


def _parquet(path: Path, connection: duckdb.DuckDBPyConnection) -> Head:
    place = str(path)
    with path.open("rb") as stream:
        stream.seek(-4, io.SEEK_END)
        if stream.read() != b"PAR1":
            raise TraceError(
                "the Parquet file is cut off", place, "copy or download it again: its last bytes, which hold the index, are missing"
            )
    file = literal(glob_free(str(path)))
    with reading(place):
        relation = connection.sql(f"SELECT * FROM read_parquet({file})")
        fields = table_fields(relation.columns, relation.types)
        scan = f"(SELECT * RENAME (file_row_number AS {ROW_NUMBER}) FROM read_parquet({file}, file_row_number = true))"
        return Head(path, "", "parquet", fields, scan, (), digest_of(path))


def _csv(path: Path, start: bytes) -> Head:
    place = str(path)
    with reading(place):
        text = start.decode("utf-8-sig", errors="strict" if len(start) < _SNIFFED else "ignore")
        first = text.split("\n", 1)[0]
        delimiter = max(_DELIMITERS, key=first.count)
        header = next(csv.reader(io.StringIO(text), delimiter=delimiter))
        names = [name.strip() or f"column_{at}" for at, name in enumerate(header, 1)]
        twice = sorted({name for name in names if [other.casefold() for other in names].count(name.casefold()) > 1})
        if twice:
            raise TraceError(f"the header names `{twice[0]}` twice", f"{place}:1", "rename one of the columns")
        columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
        source = f"read_csv({literal(glob_free(str(path)))}, auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}})"
        fields = tuple(Field(name, quoted(name), quoted(name), "VARCHAR", "VARCHAR", True) for name in names)
        return Head(path, "", "csv", fields, _numbered(source), (), digest_of(path))


def _numbered(source: str) -> str:
    return f"(SELECT *, row_number() OVER () - 1 AS {ROW_NUMBER} FROM {source})"


def _json(path: Path, kind: Kind, connection: duckdb.DuckDBPyConnection) -> Head:
    file, form = literal(glob_free(str(path))), literal(_JSON_FORMAT[kind])
    objects = f"read_json_objects({file}, format = {form})"
    try:
        sample = tuple(json.loads(text) for (text,) in connection.execute(f"SELECT json FROM {objects} LIMIT {_SAMPLE}").fetchall())
        counted = dict(
            connection.execute(
                f"SELECT key, count(*) FROM (SELECT unnest(CASE WHEN json_type(json) = 'OBJECT' THEN json_keys(json) ELSE [NULL] END) AS key FROM {objects}) GROUP BY key"
            ).fetchall()
        )
    except (duckdb.Error, json.JSONDecodeError) as error:
        if kind == "json":
            raise _explained(str(error), str(path)) from error
        sample, counted = _leniently(path)
    if None in counted or not counted:
        raise (_bad_line(path) if kind == "jsonl" else None) or _explained("holds no JSON objects", str(path))
    fields = json_fields(sample, sorted(counted))
    columns = ", ".join(f"{quoted(field.path)}: 'JSON'" for field in fields if field.top)
    scan = _numbered(f"read_json({file}, format = {form}, columns = {{{columns}}})")
    return Head(path, "", kind, fields, scan, sample, digest_of(path))


def _leniently(path: Path) -> tuple[tuple[dict[str, Any], ...], dict[str, int]]:
    """Sample and keys of lines that DuckDB refuses and Python reads: half of a character, as of an emoji that was cut, or more
    than 16 MB. Formats that are converted line by line are read nonetheless. Raises `TraceError` for the first line that is no object."""
    if problem := _bad_line(path):
        raise problem
    sample: list[dict[str, Any]] = []
    keys: dict[str, int] = {}
    for _, _, found in json_lines(path):
        keys.update(dict.fromkeys(found, 1))
        if len(sample) < _SAMPLE:
            sample.append(found)
    return tuple(sample), keys


def _bad_line(path: Path) -> TraceError | None:
    """The first line that is no JSON object: DuckDB counts lines differently, so they are counted here."""
    place = str(path)
    with reading(place), open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip() and not _is_object(line):
                shown = line.strip()[:40].decode("utf-8", errors="replace")
                return TraceError(
                    f"is not a JSON object: `{shown}`",
                    f"{place}:{number}",
                    "each line must hold one JSON object; remove or repair the line",
                )
    return None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def json_lines(path: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Number, bytes and object of each line; lines that were checked by `read_head`."""
    with reading(str(path)), open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line, json.loads(line)


def duckdb_head(path: Path, table: str, connection: duckdb.DuckDBPyConnection) -> Head:
    """The head of a table in a DuckDB database, which is attached for reading only."""
    place = f"duckdb:{path}/{table}"
    if not path.is_file():
        raise TraceError("there is no such database", place, "write duckdb:FILE/TABLE")
    with reading(place):
        digest = digest_of(path)
        alias = quoted(f"trace_{digest[:16]}")
        connection.execute(f"ATTACH IF NOT EXISTS {literal(str(path))} AS {alias} (READ_ONLY)")
        owned = f"WHERE NOT internal AND database_name = {literal(f'trace_{digest[:16]}')}"
        listing = f"SELECT table_name FROM duckdb_tables() {owned} UNION SELECT view_name FROM duckdb_views() {owned} ORDER BY 1"
        tables = [name for (name,) in connection.execute(listing).fetchall()]
        if table not in tables:
            raise TraceError(
                f"the database has no table `{table}`", place, f"tables found: {', '.join(islice(tables, 20)) or 'none'}"
            )
        relation = connection.sql(f"SELECT * FROM {alias}.{quoted(table)}")
        fields = table_fields(relation.columns, relation.types)
        return Head(path, table, "duckdb", fields, _numbered(f"{alias}.{quoted(table)}"), (), digest)
