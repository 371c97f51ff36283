"""The tables that a replay's effects read, made once before the rows are decided: ratios of lengths, paired outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from policyroute.backends.sql import RULE
from policyroute.replay.effects import lengths
from policyroute.replay.effects.lengths import HELD, MODELLED, PAIRED, Ratio
from policyroute.replay.ledger import Ledger


def create_lengths(connection: duckdb.DuckDBPyConnection, ledger: Ledger, sources: Sequence[str]) -> list[Ratio]:
    """Make what `ledger.effects.lengths` reads; the ratios that are known, none where lengths are held or paired."""
    mode = ledger.effects.lengths
    if mode in (HELD, PAIRED):
        return []
    if mode == MODELLED:
        ratios = lengths.modelled(_means(connection, ledger, sources), ledger.numbers)
    else:
        ratios = lengths.read_ratios(Path(mode), ledger.policy, ledger.served)
    lengths.create_ratios(connection, ratios, len(ledger.policy.rules))
    return ratios


def _means(connection: duckdb.DuckDBPyConnection, ledger: Ledger, sources: Sequence[str]) -> dict[tuple[int, int], tuple[int, int]]:
    """How many answers each served model gave to the requests of each rule, and their tokens; failed and empty ones left out."""
    rows = " UNION ALL ".join(f"({ledger.compared(source)})" for source in sources)
    found = connection.sql(
        f'SELECT {RULE}, "$old", count(*), sum("$output_tokens") FROM ({rows}) WHERE "$output_tokens" > 0 AND "$old" >= 0 AND {RULE} >= 0 GROUP BY ALL'
    ).fetchall()
    return {(rule, model): (int(rows), int(tokens)) for rule, model, rows, tokens in found}
