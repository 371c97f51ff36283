"""Invents requests and what three models made of them: `python scripts/make_bench_traces.py [FOLDER]`, into traces/.

`bench_requests.parquet` is a trace without answers, `bench_outcomes.parquet` an outcomes table: every model's tokens, latency and score for
every request. A request is easy or hard, and its words tell which in nine cases of ten; the large model is good at both, the small
ones at the easy ones only. So routing by words pays here, by construction: nothing follows for any other traffic.
Every draw is read off the MD5 of what it is for, so the same files come out each time.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
REQUESTS = 600
HARD_SHARE, TOLD = 30, 90  # percent

EASY = ("Which key opens the settings?", "What does this error code mean?", "Where are exports kept?", "How do I rename a board?")
HARD = ("Prove that this schedule has no conflict.", "Debug this race condition.", "Derive the monthly rate from these terms.")


@dataclass(frozen=True, slots=True)
class Answers:
    """How a model answers: right in so many of 100 easy and hard requests, tokens and milliseconds from a base upwards."""

    model: str
    easy: int
    hard: int
    tokens: int
    latency: int


MODELS = (
    Answers("gpt-4o-mini", 93, 35, 90, 500),
    Answers("claude-haiku-4-5", 94, 60, 120, 700),
    Answers("gpt-4o", 96, 90, 110, 1_100),
)


def draw(*parts: object) -> int:
    """A number from 0 to 99 that belongs to these parts."""
    return int(hashlib.md5(" ".join(map(str, parts)).encode()).hexdigest(), 16) % 100


def hard(number: int) -> bool:
    """Whether the request is hard."""
    return draw("hard", number) < HARD_SHARE


def requests() -> Iterator[dict[str, Any]]:
    """The trace."""
    for number in range(REQUESTS):
        told = draw("told", number) < TOLD
        texts = HARD if hard(number) == told else EASY
        text = f"{texts[draw('text', number) % len(texts)]} (case {number})"
        yield {
            "request_id": f"case-{number:03}",
            "user_id": f"user-{draw('user', number) * 7 + draw('of', number) % 7:03}",
            "messages": json.dumps([{"role": "user", "content": text}], separators=(",", ":")),
        }


def outcomes() -> Iterator[dict[str, Any]]:
    """What each model made of each request."""
    for number in range(REQUESTS):
        for answers in MODELS:
            right = draw("right", number, answers.model) < (answers.hard if hard(number) else answers.easy)
            size = draw("size", number, answers.model)
            yield {
                "request_id": f"case-{number:03}",
                "model": answers.model,
                "input_tokens": 20 + draw("input", number),
                "output_tokens": answers.tokens + size * (4 if hard(number) else 1),
                "latency_ms": float(answers.latency + 9 * size),
                "score": 1.0 if right else 0.0,
            }


def main(folder: Path) -> None:
    """Write both files."""
    for name, rows in (("bench_requests", requests()), ("bench_outcomes", outcomes())):
        pq.write_table(pa.Table.from_pylist(list(rows)), folder / f"{name}.parquet", compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "traces")
