"""The prompt cache in a replay: a conversation that moves to another model loses its cached prefix.

For each call the state is that of its conversation at its model: the call before at the same model (failed calls leave nothing), how
large its prompt was, and how long ago it was. If the call before is the same one in the replay as in the trace, and the model is
the recorded one, nothing has changed and the recorded tokens stand. Otherwise the prefix is the smaller of both prompts while the provider keeps
it (prices/caching.py), and nothing after that; where the model bills cache writes, the rest of the prompt is written. A recorded call that
found nothing cached right after another shows that the prompt's beginning changed there: no model keeps a prefix across it.

Conservative: conversations whose calls never used a cache get none, prefixes that several conversations share are not
carried over, and a call without a conversation keeps what was recorded at its own model and finds nothing at another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from policyroute.prices.caching import HOUR, cache_rule
from policyroute.replay.served import Served
from policyroute.replay.traces.sql import one

HELD, MODEL, OFF = "held", "model", "off"
TABLE = "cache_rules"
PARTS = ("cached_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


def create_rules(connection: duckdb.DuckDBPyConnection, served: Served) -> None:
    """Make the table of rules by model number; a model without a known rule keeps nothing."""
    rows = []
    for number, (prices, provider) in enumerate(zip(served.lists, served.providers, strict=True)):
        rule = cache_rule(provider) or (
            cache_rule(prices.provider) if prices else None
        )  # a trace may have its own name for a seller
        sells = bool(prices) and any(price.write_5m is not None for price in prices.prices) if prices else False
        rows.append((number, rule.lifetime, rule.minimum, rule.step, sells) if rule else (number, -1, 0, 1, False))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {TABLE} (number INTEGER, lifetime BIGINT, minimum BIGINT, step BIGINT, writes BOOLEAN)"
    )
    if rows:
        connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", rows)


def cached(
    relation: str, *, new: str = '"$new"', old: str = '"$old"', size: str = '"$new_input_tokens"', all_rows: bool = False
) -> str:
    """The rows of `relation` with "$new_cached_tokens" and both "$new_cache_write_..." as the model `new` would have billed them.

    `relation` has "$conversation", "$ts", "$row" and the recorded usage. With `all_rows` the model is asked of rows that
    did not change too: what the check against the record needs.
    """
    used = " + ".join(f'coalesce("${part}", 0)' for part in PARTS)
    whole = 'OVER (PARTITION BY "$conversation")'
    order = 'ORDER BY "$ts", "$input_tokens", "$row" ROWS BETWEEN UNBOUNDED PRECEDING AND'
    theirs = _last("{'row': \"$row\", 'ts': \"$ts\", 'size': \"$input_tokens\"}", old, '"$input_tokens"', order)
    known = (
        f'SELECT *, max({used}) {whole} > 0 AS "$uses", max(coalesce("$cache_write_1h_tokens", 0)) {whole} > 0 AS "$hour", '
        f'{theirs} AS "$theirs" FROM ({relation})'
    )
    # A call that found nothing cached although the one before was just there: its prompt begins differently, at any model.
    small = 'CASE WHEN k."$theirs".size < k."$input_tokens" THEN k."$theirs".size ELSE k."$input_tokens" END'
    missed = f'k."$uses" AND {_fresh("k", "$theirs")} AND {small} >= c.minimum AND coalesce(k."$cached_tokens", 0) = 0'
    reset = "FALSE" if all_rows else f"coalesce({missed}, FALSE)"
    resets = f'SELECT k.*, {reset} AS "$reset" FROM ({known}) k LEFT JOIN {TABLE} c ON c.number = k.{old}'
    heads = f'SELECT *, sum(CAST("$reset" AS INTEGER)) OVER (PARTITION BY "$conversation" {order} CURRENT ROW) AS "$head" FROM ({resets})'
    mine = _last(f"{{'row': \"$row\", 'ts': \"$ts\", 'size': {size}, 'head': \"$head\"}}", new, size, order)
    state = f'SELECT *, {mine} AS "$mine" FROM ({heads})'
    unmoved = 's."$conversation" IS NULL OR s."$mine".row IS NOT DISTINCT FROM s."$theirs".row'
    same = "FALSE" if all_rows else f"{new} = {old} AND ({unmoved})"
    warm = f's."$conversation" IS NOT NULL AND s."$uses" AND s."$mine".head = s."$head" AND {_fresh("s", "$mine")}'
    prefix = f'CASE WHEN {warm} THEN CASE WHEN s."$mine".size < {size} THEN s."$mine".size ELSE {size} END ELSE 0 END'
    read = (
        f'SELECT s.*, {same} AS "$same", c.writes AS "$writes", {prefix} AS "$prefix", coalesce(c.minimum, 0) AS "$minimum", '
        f'coalesce(c.step, 1) AS "$step" FROM ({state}) s LEFT JOIN {TABLE} c ON c.number = {new}'
    )
    reads = f'SELECT *, CASE WHEN "$prefix" >= "$minimum" THEN "$prefix" - "$prefix" % "$step" ELSE 0 END AS "$read" FROM ({read})'
    written = (
        f'CASE WHEN "$writes" AND "$uses" AND "$conversation" IS NOT NULL AND {size} >= "$minimum" THEN {size} - "$read" ELSE 0 END'
    )
    writes = f'SELECT *, {written} AS "$written" FROM ({reads})'
    columns = [
        f'CASE WHEN "$same" THEN "${PARTS[0]}" ELSE "$read" END AS "$new_{PARTS[0]}"',
        f'CASE WHEN "$same" THEN "${PARTS[1]}" WHEN "$hour" THEN 0 ELSE "$written" END AS "$new_{PARTS[1]}"',
        f'CASE WHEN "$same" THEN "${PARTS[2]}" WHEN "$hour" THEN "$written" ELSE 0 END AS "$new_{PARTS[2]}"',
    ]
    return f"SELECT *, {', '.join(columns)} FROM ({writes})"


def _last(value: str, model: str, size: str, order: str) -> str:
    """The call before at the same model in the same conversation; calls that failed have no size."""
    return f'last_value(CASE WHEN {size} > 0 THEN {value} END IGNORE NULLS) OVER (PARTITION BY "$conversation", {model} {order} 1 PRECEDING)'


def _fresh(alias: str, before: str) -> str:
    """Whether the call `before` is recent enough for its prompt to be kept by the rule `c`; NULL where there is none."""
    lifetime = f'CASE WHEN {alias}."$hour" AND c.writes THEN {HOUR} ELSE c.lifetime END'
    return f'epoch_us({alias}."$ts") - epoch_us({alias}."{before}".ts) <= {lifetime} * 1000000'


def check(connection: duckdb.DuckDBPyConnection, relation: str, prices: Any) -> dict[str, int] | None:
    """What the model of the cache says of the recorded calls themselves, against what was recorded; None where nothing was cached.

    `relation` has the recorded model's number as "$old" and its slot as "$old_slot". Tokens, and money in picodollars.
    """
    modelled = cached(relation, new='"$old"', old='"$old"', size='"$input_tokens"', all_rows=True)
    usage = ('"$input_tokens"', *(f'"$new_{part}"' for part in PARTS), '"$output_tokens"')
    recorded = ('"$input_tokens"', *(f'"${part}"' for part in PARTS), '"$output_tokens"')
    row = one(
        connection,
        f'SELECT count(*), coalesce(sum("$new_cached_tokens"), 0), coalesce(sum("$cached_tokens"), 0), '
        f'coalesce(sum(abs("$new_cached_tokens" - coalesce("$cached_tokens", 0))), 0), coalesce(sum(modelled), 0), coalesce(sum(recorded), 0) FROM '
        f"(SELECT m.*, {prices.cost_sql('p', *usage)} AS modelled, {prices.cost_sql('p', *recorded)} AS recorded "
        f'FROM ({modelled}) m JOIN {prices.name} p ON p.slot = m."$old_slot" WHERE "$uses" AND "$conversation" IS NOT NULL) '
        "WHERE modelled IS NOT NULL AND recorded IS NOT NULL",
    )
    names = ("rows", "modelled_tokens", "recorded_tokens", "off_tokens", "modelled", "recorded")
    found = dict(zip(names, (int(number) for number in row), strict=True))
    return found if found["rows"] else None


def able(columns: Sequence[str] | frozenset[str]) -> bool:
    """Whether a trace tells enough for the model: conversations, times, and cached tokens."""
    return {"conversation_id", "ts", "cached_tokens"} <= set(columns)
