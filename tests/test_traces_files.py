"""Traces: paths, mappings and parts, what is written, and every way in which a file can be bad."""

# ruff: noqa: F811 - fixtures are imported, and asked for by name

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policyroute.replay.traces import (
    TraceError,
    open_trace,
    write_canonical,
)
from tests.traces_support import SAMPLES, Open, connection, lines, noted, opened, write  # noqa: F401 - fixtures

# -- paths, mapping, parts -----------------------------------------------------------------------------------------


def test_a_mapping_covers_any_shape(opened: Open, tmp_path: Path) -> None:
    row = {
        "svc": {"llm": {"in": 5, "out": 6}},
        "model": "alias",
        "real": "gpt-4o",
        "who": "u",
        "tags": {"plan": "pro"},
        "blob": '{"a": {"b": "7"}}',
    }
    path = write(tmp_path / "t.jsonl", lines(row))
    mapping = {
        "input_tokens": "svc.llm.in",
        "output_tokens": "svc.llm.out",
        "model": "real",
        "user_id": "who",
        "plan": "tags.plan",
        "deep": "blob.a.b",
    }
    trace, rows = opened(path, mapping=mapping)
    values = {
        "input_tokens": 5,
        "output_tokens": 6,
        "model": "gpt-4o",
        "user_id": "u",
        "plan": "pro",
        "deep": "7",
        "source_model": "alias",
    }
    assert {key: rows[0][key] for key in values} == values
    assert trace.digest != opened(path, mapping={**mapping, "plan": "who"})[0].digest


def test_parts_share_their_columns_and_count_their_rows_on(opened: Open, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "prompt_tokens,plan,only_a\n1,3,x\n2,4,y\n")
    write(tmp_path / "b.jsonl", lines({"prompt_tokens": 3, "Plan": 5, "only_b": True}))
    trace, rows = opened(tmp_path)
    assert [part.name for part in trace.parts] == ["a.csv", "b.jsonl"]
    assert [(row["row"], row["input_tokens"], row["plan"], row["only_a"], row["only_b"]) for row in rows] == [
        (0, 1, "3", "x", None), (1, 2, "4", "y", None), (2, 3, "5", None, True),
    ]  # fmt: skip
    assert str(tmp_path) not in "".join(part.name for part in trace.parts)


def test_folders_globs_and_copies(opened: Open, tmp_path: Path) -> None:
    text = "prompt_tokens\n1\n2\n"
    write(tmp_path / "day[1].csv", text)
    (tmp_path / "day[1].csv.gz").write_bytes(gzip.compress(text.encode()))
    write(tmp_path / "notes.txt", "not a trace")
    write(tmp_path / "same.csv", text)
    trace, _ = opened(tmp_path)
    assert (trace.rows, noted(trace)) == (2, {"same-file": 1, "same-name": 1})
    assert opened(f"{tmp_path}/d*.csv")[0].rows == 2
    assert opened(tmp_path / "day[1].csv.gz")[0].rows == 2


def test_a_file_whose_name_looks_like_a_pattern(opened: Open, tmp_path: Path) -> None:
    write(tmp_path / "a*.csv", "prompt_tokens\n1\n")
    write(tmp_path / "ab.csv", "prompt_tokens\n5\n6\n")
    assert opened(tmp_path / "a*.csv")[0].rows == 1
    assert opened(tmp_path)[0].rows == 3


def test_a_table_of_a_duckdb_database(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with duckdb.connect(str(path)) as database:
        database.execute(
            "CREATE TABLE log AS SELECT i AS prompt_tokens, {'input': 1} AS nested, 'gpt-4o' AS model FROM range(3) t(i)"
        )
    trace, rows = opened(f"duckdb:{path}/log")
    assert [row["input_tokens"] for row in rows] == [0, 1, 2]
    assert (rows[0]["nested"], trace.parts[0].name) == ('{"input":1}', "calls.db/log")


def test_the_incumbent_fills_only_a_trace_without_models(
    opened: Open, tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    trace, rows = opened(SAMPLES / "azure.csv", incumbent="gpt-4o")
    assert ({row["model"] for row in rows}, "model" in trace.present) == ({"gpt-4o"}, True)
    _, rows = opened(SAMPLES / "aider_events.jsonl", incumbent="gpt-4o")
    assert None in {row["model"] for row in rows}
    write_canonical(opened(SAMPLES / "azure.csv")[0], connection, tmp_path / "kept.parquet")
    assert {row["model"] for row in opened(tmp_path / "kept.parquet", incumbent="x")[1]} == {"x"}


@pytest.mark.parametrize("sample", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_what_is_imported_reads_back_the_same(
    opened: Open, tmp_path: Path, connection: duckdb.DuckDBPyConnection, sample: Path
) -> None:
    trace, rows = opened(sample)
    assert write_canonical(trace, connection, tmp_path / "kept" / "t.parquet") == trace.rows
    again, same = opened(tmp_path / "kept" / "t.parquet", format="canonical")
    assert [{**row, "row": 0} for row in same] == [{**row, "row": 0} for row in rows]
    assert (again.present, again.extra) == (trace.present, trace.extra)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["t.parquet"]


def test_order_survives_many_row_groups(opened: Open, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"COPY (SELECT i AS prompt_tokens FROM range(400000) t(i)) TO '{tmp_path}/t.csv'")
    trace = open_trace([tmp_path / "t.csv"], connection=connection, scratch=tmp_path)
    assert connection.execute(f"SELECT count_if(row <> input_tokens), count(*) FROM ({trace.relation})").fetchone() == (0, 400_000)
    write_canonical(trace, connection, tmp_path / "t.parquet")
    again = open_trace([tmp_path / "t.parquet"], connection=connection, scratch=tmp_path)
    assert connection.execute(f"SELECT count_if(row <> input_tokens) FROM ({again.relation})").fetchone() == (0,)


def test_a_scan_reads_only_the_columns_that_it_uses(opened: Open, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    pq.write_table(pa.table({"prompt_tokens": [1], "secret_text": ["x"], "model": ["m"]}), tmp_path / "t.parquet")
    trace, _ = opened(tmp_path / "t.parquet")
    plan = str(connection.execute(f"EXPLAIN SELECT sum(input_tokens) FROM ({trace.relation})").fetchall())
    assert "prompt_tokens" in plan
    assert "secret_text" not in plan


# -- bad input -----------------------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes, str, str]] = [
    ("empty.jsonl", b"", "the file is empty", "holds calls"),
    ("blank.csv", b"\n\n", "the file is empty", "holds calls"),
    ("page.parquet", b"<!DOCTYPE html><html></html>", "is a web page or XML", "download the file itself"),
    ("text.parquet", b"model,prompt_tokens\n", "is not Parquet", "extension"),
    ("cut.parquet", b"PAR1 and then nothing more of it", "cut off", "again"),
    ("garbled.parquet", b"PAR1" + b"\1" * 40 + b"PAR1", "", "whole"),
    (
        "cut.jsonl.gz",
        gzip.compress(lines(*({"input_tokens": i, "x": i * 7919} for i in range(9000))).encode())[:9000],
        "gzip stream is damaged",
        "again",
    ),
    (
        "cut.csv.gz",
        gzip.compress(b"prompt_tokens\n" + b"".join(b"%d\n" % (i * 7919) for i in range(40000)))[:30000],
        "gzip stream is damaged",
        "again",
    ),
    ("bad.jsonl.gz", b"\x1f\x8bnot really", "gzip stream is damaged", "again"),
    ("line.jsonl", b'{"input_tokens": 1}\nhello\n', "is not a JSON object: `hello`", "remove or repair"),
    ("number.jsonl", b'{"input_tokens": 1}\n42\n', "is not a JSON object: `42`", "remove or repair"),
    ("open.jsonl", b'{"input_tokens": 1}\n{"input_tokens": 2\n{"input_tokens": 3}\n', "is not a JSON object", "remove or repair"),
    ("list.json", b"[1, 2]", "holds no JSON objects", ""),
    (
        "unknown.csv",
        b"a,b\n1,2\n",
        "no column tells tokens, messages or cost",
        "columns found: `a`, `b`; map them with --map input_tokens=FIELD",
    ),
    ("twice.csv", b"prompt_tokens,Prompt_Tokens\n1,2\n", "twice", "rename"),
    ("ragged.csv", b"prompt_tokens,b\n1,2\n1,2,3\n", "3 fields where the header has 2", "quote"),
    ("header.csv", b"prompt_tokens,model\n", "holds no calls", "--trace-format"),
    ("latin.csv", "prompt_tokens,größe\n".encode("latin-1"), "is not UTF-8", "convert"),
    ("picture.bin", b"\x89PNG\0\0\0\0", "is neither Parquet", "export"),
    ("packed.jsonl.zst", b"\x28\xb5\x2f\xfd\0\0\0\0", "zstd", "decompress"),
]


@pytest.mark.parametrize(("name", "content", "message", "help_"), BAD, ids=[bad[0] for bad in BAD])
def test_a_bad_file_is_said_with_place_and_remedy(
    opened: Open, tmp_path: Path, name: str, content: bytes, message: str, help_: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        opened(path)
    assert message in caught.value.message
    assert help_ in caught.value.help
    assert name in caught.value.place
    assert "Error:" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "line"), [("line.jsonl", 2), ("number.jsonl", 2), ("open.jsonl", 2), ("ragged.csv", 3), ("twice.csv", 1)]
)
def test_a_bad_line_is_named(opened: Open, tmp_path: Path, name: str, line: int) -> None:
    content = next(bad[1] for bad in BAD if bad[0] == name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TraceError) as caught:
        opened(tmp_path / name)
    assert caught.value.place.endswith(f"{name}:{line}")


def test_bad_paths_options_and_mixtures(opened: Open, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "prompt_tokens\n1\n")
    write(tmp_path / "azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01,1,2\n")
    (tmp_path / "empty").mkdir()
    with duckdb.connect(str(tmp_path / "x.db")) as database:
        database.execute("CREATE TABLE log AS SELECT 1 AS prompt_tokens")
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str, str]] = [
        ((tmp_path / "none.csv",), {}, "no such file", "check the path"),
        ((f"{tmp_path}/*.parquet",), {}, "no file matches", "pattern"),
        ((tmp_path / "empty",), {}, "folder holds no trace", ".parquet"),
        ((), {}, "no trace was named", "name files"),
        ((tmp_path / "a.csv",), {"format": "exel"}, "no format `exel`", "canonical"),
        ((tmp_path,), {}, "2 formats", "--trace-format: table, azure"),
        (
            (tmp_path / "a.csv",),
            {"mapping": {"output_tokens": "promt_tokens"}},
            "no field `promt_tokens`",
            "did you mean `prompt_tokens`?",
        ),
        ((tmp_path / "a.csv",), {"mapping": {"row": "prompt_tokens"}}, "can't be the name", "canonical columns"),
        ((f"duckdb:{tmp_path}/x.db/nope",), {}, "no table `nope`", "tables found: log"),
        ((f"duckdb:{tmp_path}/y.db/log",), {}, "no such database", "FILE/TABLE"),
        ((tmp_path / "x.db",), {}, "is a DuckDB database", "name the table"),
    ]
    for paths, options, message, help_ in cases:
        with pytest.raises(TraceError, match=re.escape(message)) as caught:
            opened(*paths, **options)
        assert help_ in caught.value.help
    assert opened(tmp_path, format="azure")[0].rows == 1


def test_a_failed_write_leaves_nothing(opened: Open, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    path = write(tmp_path / "a.csv", "prompt_tokens\n1\n")
    trace, _ = opened(path)
    path.unlink()
    with pytest.raises(TraceError):
        write_canonical(trace, connection, tmp_path / "out" / "t.parquet")
    assert not list((tmp_path / "out").iterdir())
