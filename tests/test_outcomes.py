"""Outcomes: files of any format as one table, and published scores by hand and by leaderboard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyroute.replay.outcomes import open_outcomes
from policyroute.replay.outcomes.hull import Point, frontier, mix_at
from policyroute.replay.outcomes.intervals import paired, plain
from policyroute.replay.outcomes.scores import aiq, router_arena
from policyroute.replay.traces import TraceError
from policyroute.signals.answers import answer_tokens
from tests.outcomes_support import DATA, MICRO, needs_data, write


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


# -- published scores ----------------------------------------------------------------------------------------------

# Accuracy, dollars per 1,000 queries and score as RouterArena published them (README of November 2025, pull requests 119 and 144).
LEADERBOARD = (
    (0.7396, 10.02, 64.32),  # GPT-5 alone
    (0.6809, 0.54, 66.66),  # Azure-Router
    (0.6688, 0.15, 66.89),  # MIRT-BERT
    (0.6634, 0.21, 66.12),  # NIRT-BERT
    (0.7632, 0.9442, 72.82),
    (0.1818, 0.0518, 19.53),
)


@pytest.mark.parametrize(("accuracy", "price", "score"), LEADERBOARD)
def test_router_arena_is_the_leaderboards(accuracy: float, price: float, score: float) -> None:
    """To the digits that the inputs are published with."""
    found = router_arena(accuracy, price)
    assert found is not None and abs(found * 100 - score) < 0.03


def test_router_arena_at_its_ends() -> None:
    """At the cheapest model's cost C is 1, at the dearest's 0; without a cost there is no score."""
    assert router_arena(0.5, 0.0044) == pytest.approx(1.1 * 0.5 / (0.05 + 1))
    assert router_arena(0.5, 200) == 0
    assert router_arena(0.5, 0) is None


def points(*pairs: tuple[int, int]) -> list[Point]:
    return [Point(price, score, who) for who, (price, score) in enumerate(pairs)]


# Points of cost and score, the range of costs, the area by hand.
AREAS = (
    (((1, 2), (3, 6)), (1, 3), Fraction(4)),
    (((1, 2), (3, 6), (4, 5)), (1, 4), Fraction(2 * 4 + 6, 3)),  # flat beyond the best
    (((1, 2), (2, 3), (3, 6)), (1, 3), Fraction(4)),  # below the line: no corner
    (((1, 2), (2, 5), (3, 6)), (1, 3), Fraction(7 + 11, 4)),
    (((2, 4), (2, 6)), (0, 2), Fraction(3)),  # down to the null router, which costs and scores nothing
    (((5, 5),), (5, 9), Fraction(5)),
)


@pytest.mark.parametrize(("known", "ends", "area"), AREAS)
def test_aiq_by_hand(known: tuple[tuple[int, int], ...], ends: tuple[int, int], area: Fraction) -> None:
    assert aiq(points(*known), *ends) == area


def test_aiq_needs_a_range() -> None:
    assert aiq(points((1, 2)), 1, 1) is None
    assert aiq([], 1, 2) is None


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=7), st.integers(0, 80))
def test_mix_is_the_best_of_all_pairs(known: list[tuple[int, int]], price: int) -> None:
    """No random mix of two models that costs no more scores more; below the cheapest, some of its requests go unanswered."""
    everyone = points(*known)
    mix = mix_at(frontier(everyone), price)
    affordable = [one for one in everyone if one.cost <= price]
    best = [one.score + share_to(one, two, price) * (two.score - one.score) for one in affordable for two in everyone]
    cheapest = min(everyone, key=lambda one: (one.cost, -one.score))
    assert mix.score == max(best, default=Fraction(price * cheapest.score, cheapest.cost)) and mix.cost <= price


def share_to(one: Point, two: Point, price: int) -> Fraction:
    """The part of `two` that a mix with `one` can pay for, where it is worth having."""
    if two.score <= one.score:
        return Fraction(0)
    return Fraction(1) if two.cost <= price else Fraction(price - one.cost, two.cost - one.cost)


# -- intervals -----------------------------------------------------------------------------------------------------


def test_plain_interval_by_hand() -> None:
    """Three clusters of one request each with 0, 1, 2: mean 1, standard error sqrt(1/3)."""
    found = plain([(1, 0), (1, 1), (1, 2)])
    assert found is not None
    reach = Decimal("1.959963984540054") * (Decimal(1) / 3).sqrt()
    assert abs(found.high - 1 - reach) < Decimal("1e-20") and abs(1 - found.low - reach) < Decimal("1e-20")
    assert plain([(1, 0)]) is None


def test_paired_interval_holds_the_mean() -> None:
    """Twice the spread gives twice the width; no spread gives none."""
    once = paired({f"{bag:04x}": (1, Fraction(bag % 3 - 1, 10)) for bag in range(300)})
    twice = paired({f"{bag:04x}": (1, Fraction(bag % 3 - 1, 5)) for bag in range(300)})
    assert once is not None and twice is not None
    assert once.low < 0 < once.high
    assert abs((twice.high - twice.low) / (once.high - once.low) - 2) < Decimal("1e-6")
    same = paired({f"{bag:04x}": (1, Fraction(1, 4)) for bag in range(300)})
    assert same is not None and round(same.low, 9) == round(same.high, 9) == Decimal("0.25")


# -- reading -------------------------------------------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"request_id": "a", "model": "x", "output_tokens": 10, "latency_ms": 5.5, "score": 0.25},
    {"request_id": "a", "model": "y", "output_tokens": 20, "latency_ms": None, "score": 1.0},
    {"request_id": "b", "model": "x", "output_tokens": None, "latency_ms": 7.0, "score": 0.0},
]
READ = [("a", "x", None, 10, 5.5, 250_000), ("a", "y", None, 20, None, 1_000_000), ("b", "x", None, None, 7.0, 0)]


def table(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    return connection.sql(
        "SELECT request_id, model, input_tokens, output_tokens, latency_ms, score FROM outcomes ORDER BY ALL"
    ).fetchall()


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.jsonl"])
def test_any_table(name: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    found = open_outcomes(write(tmp_path / name, ROWS), connection)
    assert table(connection) == READ
    assert (found.format, found.rows, dict(found.left_out), dict(found.models)) == ("table", 3, {}, {"x": 2, "y": 1})


def test_other_names_and_booleans(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "model_name": "x", "prompt_tokens": 3, "completion_tokens": 4, "latency": 9, "passed": True}
    ]
    open_outcomes(write(tmp_path / "o.jsonl", rows), connection)
    assert table(connection) == [("a", "x", 3, 4, 9.0, 1_000_000)]


BAD = [
    ({"score": "-1"}, "no-score"),
    ({"score": None}, "no-score"),
    ({"score": "NaN"}, "no-score"),
    ({"score": "good"}, "not-a-number"),
    ({"model": None}, "no-request"),
    ({"request_id": " "}, "no-request"),
    ({}, "repeat"),
    ({"score": "0.5"}, "conflict"),
]


@pytest.mark.parametrize(("change", "class_"), BAD, ids=[f"{class_} {change}" for change, class_ in BAD])
def test_rows_that_are_left_out(change: dict[str, Any], class_: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Each is counted under its class; rows that contradict each other are all left out."""
    good = {"request_id": "a", "model": "x", "output_tokens": "10", "score": "0.25"}
    other = {"request_id": "z", "model": "x", "output_tokens": "10", "score": "1"}
    found = open_outcomes(write(tmp_path / "o.jsonl", [good, other, good | change]), connection)
    assert dict(found.left_out) == {class_: 2 if class_ == "conflict" else 1}
    assert len(table(connection)) == (1 if class_ == "conflict" else 2)


def test_impossible_tokens_and_latency_are_unknown(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    rows = [{"request_id": "a", "model": "x", "output_tokens": "-5", "latency_ms": "-1", "score": "1"}]
    rows += [{"request_id": "b", "model": "x", "output_tokens": "99999999999", "latency_ms": "inf", "score": "1"}]
    open_outcomes(write(tmp_path / "o.jsonl", rows), connection)
    assert [row[3:5] for row in table(connection)] == [(None, None), (None, None)]


ERRORS = (
    ("o.csv", "", "the file is empty"),
    ("o.parquet", "PAR1 and no more", "cut off"),
    ("o.csv", "request_id,model\na,x\n", "no column tells the score"),
    ("o.csv", "name,score\na,1\n", "no column tells the request and the model"),
    ("o.csv", "request_id,model,score\na,x,7\nb,x,10\n", "scores go from 7 to 10"),
    ("o.csv", "request_id,model,score\na,x,good\n", "no outcome that can be used: 1 have a score that is not a number"),
    ("o.csv", "request_id,model,score\n", "it has no rows"),
    ("o.jsonl", "{\n", "is not a JSON object"),
)


@pytest.mark.parametrize(("name", "text", "message"), ERRORS)
def test_files_that_cannot_be_read(
    name: str, text: str, message: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(TraceError) as caught:
        open_outcomes(tmp_path / name, connection)
    assert message in str(caught.value) and caught.value.help


def test_files_that_are_not_there(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    for path, form in ((tmp_path / "none.csv", None), (tmp_path, None), (tmp_path, "nonsense")):
        with pytest.raises(TraceError) as caught:
            open_outcomes(path, connection, form)
        assert caught.value.help


def test_bfcl(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Seconds become milliseconds, `-FC` is cut, a call without tokens failed."""
    row = {"id": "java_0", "test_category": "java", "model_name": "gpt-4o-FC", "result": "[]", "input_token_count": 12, "output_token_count": 3,
           "latency": 0.5, "valid": True, "error_type": None}  # fmt: skip
    failed = row | {"model_name": "open-mistral-nemo-FC-Auto", "input_token_count": 0, "output_token_count": 0, "valid": False}
    found = open_outcomes(write(tmp_path / "model_results.parquet", [row, failed]), connection)
    assert found.format == "bfcl" and dict(found.left_out) == {"failed-call": 1}
    assert table(connection) == [("java_0", "gpt-4o", 12, 3, 500.0, 1_000_000)]


ANSWER = "Rain, said the roof."


def arena(folder: Path) -> None:
    judged = [("q1", "x", 10.0), ("q1", "y", 4.0), ("q2", "x", -1.0), ("q2", "y", None)]
    write(
        folder / "model_judgment.parquet",
        [{"question_id": q, "model": m, "judgment": "", "score": s, "source_file": "f"} for q, m, s in judged],
    )
    choices = [{"index": 0, "turns": [ANSWER]}]
    write(folder / "model_answer.parquet", [{"question_id": "q1", "model_id": "x", "choices": choices}])
    (folder / "question.jsonl").write_text('{"question_id": "q1", "turns": ["Rain?"]}\n', "utf-8")


@pytest.mark.parametrize("name", ["", "model_judgment.parquet"])
def test_arena(name: str, tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """The folder, or the judgments in it: 1 to 10 as parts of 1, failed judgments counted, answers' tokens counted."""
    arena(tmp_path)
    found = open_outcomes(tmp_path / name, connection)
    assert found.format == "arena-bench" and dict(found.left_out) == {"no-score": 2}
    assert table(connection) == [("q1", "x", None, answer_tokens(ANSWER), None, MICRO), ("q1", "y", None, None, None, 333_333)]


def test_arena_answers_alone(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    arena(tmp_path)
    with pytest.raises(TraceError, match="holds answers and no scores"):
        open_outcomes(tmp_path / "model_answer.parquet", connection)


def test_routellm(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """A column per model; requests without an id are named by their prompt."""
    rows = [{"prompt": "1+1?", "org/weak": False, "strong": True, "strong_response": ANSWER}]
    found = open_outcomes(write(tmp_path / "gsm8k.parquet", rows), connection)
    key = "prompt:" + hashlib.md5(b"1+1?").hexdigest()
    assert found.format == "routellm"
    assert table(connection) == [(key, "org/weak", None, None, None, 0), (key, "strong", None, answer_tokens(ANSWER), None, MICRO)]


def test_mt_bench(tmp_path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """The mean of a question's turns; one failed judgment fails the question."""
    rows = [
        {"question_id": q, "model": "x", "judge": ["gpt-4"], "judgment": "", "score": s, "turn": t}
        for q, t, s in ((81, 1, 10.0), (81, 2, 1.0), (82, 1, 5.0), (82, 2, -1.0))
    ]
    found = open_outcomes(write(tmp_path / "j.jsonl", rows), connection)
    assert found.format == "mt-bench" and dict(found.left_out) == {"no-score": 1}
    assert table(connection) == [("81", "x", None, None, None, 500_000)]


# -- what was recorded elsewhere --------------------------------------------------------------------------------


@needs_data
def test_bfcl_scores_are_the_leaderboards(connection: duckdb.DuckDBPyConnection) -> None:
    """Mean scores of models whose calls never failed are the recorded shares of valid answers."""
    open_outcomes(DATA / "bfcl_2024-08" / "model_results.parquet", connection)
    found = dict(connection.sql("SELECT model, sum(score) FROM outcomes GROUP BY model").fetchall())
    assert found["gpt-4o-2024-08-06"] == 999 * MICRO and found["gpt-3.5-turbo-0125"] == 793 * MICRO


@needs_data
def test_a_folder_of_several_formats(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(TraceError, match="files of several formats"):
        open_outcomes(DATA / "routellm", connection)
