"""Prices and clusters of a trace: which rows a replay could price, and whose they are.

A row is priced as the baseline of a replay is: the model that served, at the request's time, tier and size. Spend by cluster is the
sum of these costs; where nothing is priced, tokens stand for it.
"""

from __future__ import annotations

from typing import Any

import duckdb

from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.prices.table import PriceTable, fallbacks_of
from policyroute.replay.figures import dollars, percent
from policyroute.replay.ledger import USAGE
from policyroute.replay.served import Served, served_models
from policyroute.replay.traces import Trace
from policyroute.replay.traces.sql import one

Json = dict[str, Any]
PRICED = "priced_requests"  # one slim row per request, so that the source is read once
RECORDED, COUNTED, NONE = "recorded", "counted from the text", "unknown"


def money(trace: Trace, policy: Policy, catalog: Catalog, connection: duckdb.DuckDBPyConnection) -> Json:
    """`prices` and `clusters` of the examination."""
    served = served_models(connection, trace.relation, [policy], catalog)
    usage = _usage(trace)
    table = PriceTable(served.lists)
    connection.execute(table.create_sql())
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {PRICED} AS {_priced(trace, table, usage == COUNTED)}")
    prices = _prices(trace, served, catalog, usage, connection)
    by = "spend" if int(prices["priced_rows"]) and usage == RECORDED else "tokens" if usage == RECORDED else "rows"
    return {
        "prices": prices,
        "clusters": {
            "by": by,
            "users": _clusters("user_id", by, trace, connection),
            "conversations": _clusters("conversation_id", by, trace, connection),
        },
    }


def _usage(trace: Trace) -> str:
    if "input_tokens" in trace.present:
        return RECORDED
    return COUNTED if "messages" in trace.present else NONE


def _priced(trace: Trace, table: PriceTable, counted: bool) -> str:
    """A SELECT with a row's model, clusters, tokens, cost in picodollars (NULL: unpriceable) and fallback bits.

    Where tokens are still to be counted from the text, they are taken as 0: then only whether there is a price is told.
    """
    read = {name: f"coalesce({name}, 0)" if counted and name in ("input_tokens", "output_tokens") else name for name in USAGE}
    tokens = {name: f"CASE WHEN status_code >= 400 THEN 0 ELSE {sql} END" for name, sql in read.items()}
    ts = "CAST(NULL AS TIMESTAMP)" if trace.relative_time else "ts"
    own = f"SELECT provider, model, user_id, conversation_id, service_tier, {ts} AS ts, {', '.join(f'{sql} AS {name}' for name, sql in tokens.items())}"
    own += ", CASE WHEN coalesce(suspect_cost, false) THEN NULL ELSE cost_usd END AS cost_usd"
    numbered = (
        f'SELECT r.*, coalesce(m."$served", -1) AS number FROM ({own} FROM ({trace.relation})) r '
        "LEFT JOIN served m ON m.model = r.model AND m.provider IS NOT DISTINCT FROM r.provider"
    )
    slotted = f"SELECT *, {table.slot_sql('number', 'ts', 'input_tokens', 'service_tier')} AS the_slot FROM ({numbered})"
    usage = [f"s.{name}" for name in USAGE]
    return (
        f"SELECT s.* EXCLUDE (ts, service_tier, the_slot), {table.cost_sql('p', *usage)} AS cost, {table.fallback_sql('p', *usage[1:4])} AS bits "
        f"FROM ({slotted}) s JOIN {table.name} p ON p.slot = s.the_slot"
    )


def _prices(trace: Trace, served: Served, catalog: Catalog, usage: str, connection: duckdb.DuckDBPyConnection) -> Json:
    models = _models(served, catalog, connection)
    rows = {name: sum(model[f"{name}_rows"] for model in models) for name in ("exact", "fallback", "unpriceable")}
    bits = connection.sql(
        f"SELECT bits, count(*) FROM {PRICED} WHERE cost IS NOT NULL AND bits <> 0 GROUP BY bits ORDER BY 2 DESC, 1"
    )
    recorded, cost, recorded_cost = one(connection, f"SELECT count(cost_usd), sum(cost), sum(cost_usd) FROM {PRICED}")
    why: dict[str, int] = {}
    for value, count in bits.fetchall():
        for reason in fallbacks_of(value):
            why[reason] = why.get(reason, 0) + int(count)
    return {
        "source": catalog.version,
        "usage": usage,
        "priced_rows": rows["exact"] + rows["fallback"],
        "classes": [{"class": name, "rows": count, "percent": percent(count, trace.rows)} for name, count in rows.items()],
        "fallbacks": [{"why": reason, "rows": count} for reason, count in why.items()],
        "spend_usd": dollars(int(cost)) if cost is not None and usage == RECORDED else None,
        "recorded_rows": int(recorded),
        "recorded_usd": None if recorded_cost is None else format(recorded_cost, "f"),
        "models": models,
    }


def _models(served: Served, catalog: Catalog, connection: duckdb.DuckDBPyConnection) -> list[Json]:
    """Every model and provider that the trace names, the most frequent first."""
    query = (
        "SELECT model, provider, any_value(number), count(*), count_if(cost IS NOT NULL AND bits = 0), count_if(cost IS NOT NULL AND bits <> 0), "
        f"count_if(cost IS NULL) FROM {PRICED} GROUP BY model, provider ORDER BY 4 DESC, model, provider"
    )
    found = []
    for model, provider, number, rows, exact, fallback, unpriceable in connection.sql(query).fetchall():
        prices = served.lists[number] if number >= 0 else None
        found.append({
            "model": model,
            "provider": provider,
            "rows": int(rows),
            "priced_as": f"{prices.provider}/{prices.model}".lstrip("/") if prices else None,
            "exact_rows": int(exact),
            "fallback_rows": int(fallback),
            "unpriceable_rows": int(unpriceable),
            "why": _why(model, provider, prices is not None, int(unpriceable), catalog),
        })  # fmt: skip
    return found


def _why(model: str | None, provider: str | None, known: bool, unpriceable: int, catalog: Catalog) -> str | None:
    if not unpriceable:
        return None
    if model is None:
        return "no model is named"
    if known:
        return "tokens are missing, or cached tokens exceed the input"
    if provider and catalog.price_list(model):
        return f"no price at provider `{provider}`; the model has one elsewhere"
    return "; ".join(part for part in ("no price is known", catalog.nearest(model)) if part)


def _clusters(column: str, by: str, trace: Trace, connection: duckdb.DuckDBPyConnection) -> Json | None:
    """How many clusters there are, and how much of the whole the largest one holds; None where the trace names none."""
    if column not in trace.present:
        return None
    measure = {
        "spend": "coalesce(sum(cost), 0)",
        "tokens": "sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))",
        "rows": "count(*)",
    }[by]
    each = f"SELECT {column} AS name, count(*) AS rows, CAST({measure} AS HUGEINT) AS held FROM {PRICED} GROUP BY {column}"
    number, most, several, without, largest, total = one(
        connection,
        "SELECT count(name), max(rows) FILTER (name IS NOT NULL), count_if(rows > 1 AND name IS NOT NULL), coalesce(sum(rows) FILTER (name IS NULL), 0), "
        f"max(held) FILTER (name IS NOT NULL), sum(held) FROM ({each})",
    )
    return {
        "number": int(number),
        "rows_without": int(without),
        "with_several_rows": int(several),
        "most_rows": int(most),
        "largest_percent": percent(int(largest or 0), int(total or 0)),
    }
