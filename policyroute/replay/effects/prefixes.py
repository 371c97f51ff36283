"""The model of the prompt cache against prefix hashes, where a trace has them: the truth of what two prompts share.

`hash_ids` (Mooncake's name) lists one hash for each block of a prompt, each covering all before it: two calls share a prefix as far as
their lists agree. What a call shares with any earlier one within the lifetime is what a cache could serve. The model knows no hashes: of a
call that continues another it takes the smaller of both prompts. A call continues the one with which it shares most, if that
is at least half of the earlier prompt; where it continues none the model expects nothing, and what is shared (a system prompt) is missed.
"""

from __future__ import annotations

import duckdb

from policyroute.replay.traces.sql import one

COLUMN = "hash_ids"
LIFETIME = 300  # seconds: the shortest that a provider states


def check(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int] | None:
    """Tokens that prompts share by their hashes and by the model, over the calls of `relation`; None where no call has hashes."""
    calls = (
        f"SELECT row, ts, input_tokens AS size, from_json({COLUMN}, '[\"VARCHAR\"]') AS ids FROM ({relation}) "
        f"WHERE json_valid({COLUMN}) AND input_tokens > 0 AND ts IS NOT NULL"
    )
    blocks = (
        "SELECT row, ts, size, len(ids) AS n, unnest(ids) AS hash, unnest(range(len(ids))) AS place FROM calls WHERE len(ids) > 0"
    )
    seen = (
        "SELECT *, lag(row) OVER earlier AS other, lag(ts) OVER earlier AS other_ts FROM blocks "
        "WINDOW earlier AS (PARTITION BY hash ORDER BY ts, row)"
    )
    warm = f"SELECT *, coalesce(epoch_us(ts) - epoch_us(other_ts) <= {LIFETIME * 1_000_000}, FALSE) AS warm FROM seen"
    shared = "SELECT row, size, n, coalesce(min(place) FILTER (WHERE NOT warm), n) AS same FROM warm GROUP BY row, size, n"
    continued = (
        "SELECT s.row, s.size, s.n, s.same, w.other FROM shared s LEFT JOIN warm w ON w.row = s.row AND w.place = s.same - 1"
    )
    found = one(
        connection,
        f"WITH calls AS ({calls}), blocks AS ({blocks}), seen AS ({seen}), warm AS ({warm}), shared AS ({shared}), continued AS ({continued}), "
        "modelled AS (SELECT c.*, CASE WHEN p.n <= 2 * c.same THEN CASE WHEN p.size < c.size THEN p.size ELSE c.size END ELSE 0 END AS model "
        "FROM continued c LEFT JOIN shared p ON p.row = c.other) "
        "SELECT count(*), count_if(model > 0), coalesce(sum(size * same // n), 0), coalesce(sum(model), 0), "
        "coalesce(sum(abs(model - size * same // n)), 0) FROM modelled",
    )
    numbers = dict(zip(("rows", "continuing", "shared", "modelled", "off"), (int(number or 0) for number in found), strict=True))
    return numbers if numbers["rows"] else None
