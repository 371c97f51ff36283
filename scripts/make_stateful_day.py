"""Attach users, plans, conversations and latencies to a day of a production service's requests, the same each time.

    python scripts/make_stateful_day.py requests.parquet day.parquet

The input is a sample of ServeGen (github alibaba/ServeGen): `timestamp` in seconds from 0, `client_id`, `input_tokens`, `output_tokens`.
Arrival times, clients and lengths stay as they are. A client's requests are spread over its users, a user's requests over conversations
that last some minutes; a fifth of the users pay. All of it follows from the MD5 of seed, client and row, so that no library's dice are thrown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

SEED = "policyroute day 1"
USERS = 40  # of a client
DAY = "TIMESTAMP '2026-03-10 00:00:00'"


def drawn(*parts: str) -> str:
    """A number from 0 to 2^32 - 1 that follows from the seed and SQL texts."""
    text = " || '|' || ".join(f"CAST({part} AS VARCHAR)" for part in (f"'{SEED}'", *parts))
    return f"CAST('0x' || left(md5({text}), 8) AS BIGINT)"


def day(source: Path) -> str:
    """The SELECT of the requests with what is attached."""
    rows = f"SELECT *, row_number() OVER () - 1 AS n FROM read_parquet('{source}')"
    users = f"SELECT *, 'u' || client_id || '-' || ({drawn('client_id', 'n')} % {USERS}) AS user_id FROM ({rows})"
    return f"""
        SELECT {DAY} + to_microseconds(CAST(round(timestamp * 1000000) AS BIGINT)) AS ts, user_id, 'team ' || client_id AS team,
            CASE WHEN {drawn("user_id")} % 5 = 0 THEN 'pro' ELSE 'free' END AS plan,
            CASE WHEN {drawn("'alone'", "n")} % 10 = 0 THEN NULL
                 ELSE user_id || '/' || CAST(timestamp // (600 + {drawn("user_id")} % 1200) AS BIGINT) END AS conversation_id,
            'big-1' AS model, input_tokens, output_tokens,
            CAST(200 + output_tokens * 8 + {drawn("'latency'", "n")} % 900 AS DOUBLE) AS latency_ms
        FROM ({users}) ORDER BY n"""


def main(source: str, target: str) -> None:
    """Write the file."""
    duckdb.sql(f"COPY ({day(Path(source))}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


if __name__ == "__main__":
    main(*sys.argv[1:])
