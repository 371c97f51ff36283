"""The formats of outcomes: one row each. The first row that recognises a file reads it; the last takes any table with scores.

A format's `select` is a SELECT of the columns `COLUMNS` as text: request, model, tokens, latency in milliseconds, score in the
format's own scale, and whether the call failed at the provider.

A request that has no id is named by the digest of its prompt (`PROMPT` before it): a trace that has none either is matched by
what was asked, never by the place of a row in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from policyroute.replay.traces.errors import TraceError
from policyroute.replay.traces.fields import Field, find
from policyroute.replay.traces.head import Head, read_head, reading
from policyroute.replay.traces.sql import literal, quoted
from policyroute.signals.answers import answer_tokens

COLUMNS = ("request_id", "model", "input_tokens", "output_tokens", "latency_ms", "score", "failed")
PROMPT = "prompt:"

REQUEST = ("request_id", "request", "id", "question_id")
MODEL = ("model", "model_name", "model_id")
INPUT = ("input_tokens", "input_token_count", "prompt_tokens")
OUTPUT = ("output_tokens", "output_token_count", "completion_tokens")
LATENCY = ("latency_ms", "latency")
SCORE = ("score", "valid", "correct", "passed", "success", "reward")


@dataclass(frozen=True, slots=True)
class Scale:
    """The ends of a format's scores, and what they mean in words."""

    low: int
    high: int
    words: str


@dataclass(frozen=True, slots=True)
class Format:
    """A format: `recognises` looks at one file's head, `select` gives the rows of all files of the format."""

    name: str
    doc: str
    scale: Scale
    recognises: Callable[[Head], bool]
    select: Callable[[Sequence[Head], duckdb.DuckDBPyConnection], str]


UNIT = Scale(0, 1, "0 to 1 (true is 1, false is 0)")
JUDGED = Scale(1, 10, "1 to 10 as a judge model gave it, shown as 0 to 1 by (score - 1) / 9")


def of_names(fields: Iterable[Field], names: Sequence[str]) -> Field | None:
    """The first field that has one of the names."""
    known = tuple(fields)
    return next((found for name in names if (found := find(known, name)) is not None), None)


def _text(field: Field | None) -> str:
    return "CAST(NULL AS VARCHAR)" if field is None else f"CAST({field.text} AS VARCHAR)"


def _row(head: Head, **columns: str) -> str:
    listed = ", ".join(f"{columns.get(name, 'NULL')} AS {name}" for name in COLUMNS[:-1])
    return f"SELECT {listed}, {columns.get('failed', 'FALSE')} AS failed FROM {head.scan}"


# -- any table -----------------------------------------------------------------------------------------------------


def _generic(heads: Sequence[Head], _connection: duckdb.DuckDBPyConnection) -> str:
    return " UNION ALL ".join(map(_generic_one, heads))


def _generic_one(head: Head) -> str:
    names = {
        "request_id": REQUEST,
        "model": MODEL,
        "input_tokens": INPUT,
        "output_tokens": OUTPUT,
        "latency_ms": LATENCY,
        "score": SCORE,
    }
    found = {column: of_names(head.fields, aliases) for column, aliases in names.items()}
    missing = [column for column in ("request_id", "model", "score") if found[column] is None]
    if missing:
        listed = ", ".join(f"`{field.path}`" for field in head.fields if field.top)
        raise TraceError(
            f"no column tells {' and '.join('the request' if name == 'request_id' else f'the {name}' for name in missing)}",
            head.place,
            f"columns found: {listed}; outcomes are one row per request and model: request_id, model, output_tokens, latency_ms, score",
        )
    return _row(head, **{column: _text(field) for column, field in found.items()})


def _is_generic(head: Head) -> bool:
    return all(of_names(head.fields, names) is not None for names in (REQUEST, MODEL, SCORE))


# -- the Berkeley function-calling leaderboard -----------------------------------------------------------------------


def _is_bfcl(head: Head) -> bool:
    return head.has("id", "model_name", "result", "valid", "latency")


def _bfcl(heads: Sequence[Head], _connection: duckdb.DuckDBPyConnection) -> str:
    """`-FC` says how a model was called and is no part of its name. A call without any token failed at the provider."""
    model = "regexp_replace(model_name, '-FC(-Auto|-Any)?$', '')"
    tokens = "(input_token_count = 0 AND output_token_count = 0)"
    return " UNION ALL ".join(
        _row(
            head, request_id="CAST(id AS VARCHAR)", model=model, input_tokens="CAST(input_token_count AS VARCHAR)",
            output_tokens="CAST(output_token_count AS VARCHAR)", latency_ms="CAST(latency * 1000 AS VARCHAR)", score="CAST(valid AS VARCHAR)",
            failed=f"coalesce({tokens}, FALSE)",
        )
        for head in heads
    )  # fmt: skip


# -- arena-hard's early data -----------------------------------------------------------------------------------------

_ANSWERS = "model_answer.parquet"


def _is_arena(head: Head) -> bool:
    return _is_arena_judgment(head) or _is_arena_answer(head)


def _is_arena_judgment(head: Head) -> bool:
    return head.has("question_id", "model", "judgment", "score") and not head.has("turn")


def _is_arena_answer(head: Head) -> bool:
    return head.has("question_id", "model_id", "choices")


def _arena(heads: Sequence[Head], connection: duckdb.DuckDBPyConnection) -> str:
    """Scores of the judgments; output tokens are counted from the answers, which lie in the same folder."""
    judgments = [head for head in heads if _is_arena_judgment(head)]
    if not judgments:
        raise TraceError("holds answers and no scores", heads[0].place, "name the folder, or model_judgment.parquet in it")
    answers = [head for head in heads if _is_arena_answer(head)]
    beside = judgments[0].path.parent / _ANSWERS
    if not answers and beside.is_file():
        answers = [read_head(beside, connection)]
    texts = " UNION ALL ".join(
        f"SELECT question_id AS request_id, model_id AS model, array_to_string(choices[1].turns, '\n') AS text FROM {head.scan}"
        for head in answers
    )
    counted = _counted(texts, judgments[0], connection) if answers else None
    scores = " UNION ALL ".join(
        _row(head, request_id="CAST(question_id AS VARCHAR)", model="CAST(model AS VARCHAR)", score="CAST(score AS VARCHAR)")
        for head in judgments
    )
    return _with_tokens(scores, counted)


# -- RouteLLM ----------------------------------------------------------------------------------------------------------


def _models_of(head: Head) -> list[Field]:
    """The columns that hold right or wrong, one per model."""
    return [field for field in head.fields if field.top and field.kept == "BOOLEAN"]


def _is_wide(head: Head) -> bool:
    return head.has("prompt") and not head.has("model") and len(_models_of(head)) >= 2


def _wide(heads: Sequence[Head], connection: duckdb.DuckDBPyConnection) -> str:
    selects, texts = [], []
    for head in heads:
        prompt, own = find(head.fields, "prompt"), of_names(head.fields, REQUEST)
        key = _text(own) if own else f"{literal(PROMPT)} || md5({_text(prompt)})"
        for field in _models_of(head):
            selects.append(_row(head, request_id=key, model=literal(field.path), score=_text(field)))
            response = find(head.fields, f"{field.path}_response")
            if response is not None:
                texts.append(
                    f"SELECT {key} AS request_id, {literal(field.path)} AS model, {_text(response)} AS text FROM {head.scan}"
                )
    counted = _counted(" UNION ALL ".join(texts), heads[0], connection) if texts else None
    return _with_tokens(" UNION ALL ".join(selects), counted)


def _is_mt_bench(head: Head) -> bool:
    return head.has("question_id", "model", "judge", "score", "turn")


def _mt_bench(heads: Sequence[Head], _connection: duckdb.DuckDBPyConnection) -> str:
    """A question's score is the mean of its turns, as MT-bench reports it; one failed judgment fails the question."""
    selects = []
    for head in heads:
        score = _text(find(head.fields, "score"))
        number = f"TRY_CAST({score} AS DOUBLE)"
        mean = f"CASE WHEN bool_and(coalesce({number} >= 0, FALSE)) THEN CAST(avg({number}) AS VARCHAR) ELSE '-1' END"
        request, model = _text(find(head.fields, "question_id")), _text(find(head.fields, "model"))
        selects.append(
            f"SELECT {request} AS request_id, {model} AS model, NULL AS input_tokens, NULL AS output_tokens, NULL AS latency_ms, "
            f"{mean} AS score, FALSE AS failed FROM {head.scan} GROUP BY 1, 2"
        )
    return " UNION ALL ".join(selects)


# -- answers that have to be counted -----------------------------------------------------------------------------------


def _counted(texts: str, head: Head, connection: duckdb.DuckDBPyConnection) -> str:
    """A temporary table of output tokens, counted from the SELECT of `request_id, model, text`; its name."""
    with reading(head.place):
        rows = connection.sql(f"SELECT DISTINCT request_id, model, text FROM ({texts}) WHERE text IS NOT NULL").fetchall()
    table = pa.table({
        "request_id": pa.array([row[0] for row in rows], pa.string()), "model": pa.array([row[1] for row in rows], pa.string()),
        "tokens": pa.array([answer_tokens(row[2]) for row in rows], pa.int64()),
    })  # fmt: skip
    name = "outcomes_counted"
    connection.register("outcomes_counting", table)
    # Two answers to one request are two rows of the outcomes only where their scores differ too: the longer one is kept.
    query = "SELECT request_id, model, max(tokens) AS tokens FROM outcomes_counting GROUP BY ALL"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
    connection.unregister("outcomes_counting")
    return name


def _with_tokens(select: str, counted: str | None) -> str:
    if counted is None:
        return select
    return (
        f"SELECT o.* REPLACE (CAST(c.tokens AS VARCHAR) AS output_tokens) FROM ({select}) o "
        f"LEFT JOIN {quoted(counted)} c ON c.request_id = o.request_id AND c.model = o.model"
    )


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("bfcl", "BFCL results: `id`, `model_name`, `valid`, token counts, `latency` in seconds", UNIT, _is_bfcl, _bfcl),
        Format("mt-bench", "MT-bench judgments: `question_id`, `model`, `turn`, `score` 1 to 10", JUDGED, _is_mt_bench, _mt_bench),
        Format("arena-bench", "arena-hard judgments (`question_id`, `model`, `judgment`, `score` 1 to 10) and answers beside them",
               JUDGED, _is_arena, _arena),
        Format("routellm", "one column of right and wrong per model, beside `prompt`; `<model>_response` is counted", UNIT, _is_wide, _wide),
        Format("table", "any table: `request_id`, `model`, `output_tokens`, `latency_ms`, `score` from 0 to 1 or true and false",
               UNIT, _is_generic, _generic),
    )
}  # fmt: skip
