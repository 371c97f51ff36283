"""The failure calendar: minutes in which a provider was out, from the errors that the trace records.

Outages are common shocks: when a provider fails for one caller it fails for those who would have been sent there too. So no
dice are thrown. A provider is out in a minute in which at least half of its recorded calls failed (429, a status from 500 on,
or an error without a status). A request that the policy sends to another model than the recorded one, in a minute in which that model's
provider is out, is answered by the first of its chain, then of the tiers above, whose provider is not; its retries fail with
the others and cost no tokens, so what a fallback costs is the difference of the two models' prices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import duckdb

from policyroute.backends.sql import MODEL, Query, literal
from policyroute.language.policy import REQUESTED, Chain, Policy, Route
from policyroute.replay.served import Served
from policyroute.replay.traces.sql import one

MINUTE = "time_bucket(INTERVAL 1 MINUTE, {})"
FAILED = "(status_code = 429 OR status_code >= 500 OR (status_code IS NULL AND error_type IS NOT NULL))"


class Named(Protocol):
    """What state makes of a row's models."""

    def names(self, otherwise: str, query: Query, of: Callable[[Route], Chain]) -> str:
        """Usable models of what `of` gives for the row's route."""
        ...


def create_calendar(
    connection: duckdb.DuckDBPyConnection, relation: str, served: Served, policy: Policy, numbers: Sequence[int]
) -> int:
    """Make the table `outages(minute, down)`, `down` being those of the policy's models that are out; the number of its minutes."""
    providers = "[" + ", ".join(literal(provider) for provider in served.providers) + "]"
    whose = f'coalesce(r.provider, {providers}[1 + m."$served"])'
    calls = (
        f"SELECT {MINUTE.format('r.ts')} AS minute, {whose} AS provider, count(*) AS calls, count_if({FAILED}) AS failures FROM ({relation}) r "
        "LEFT JOIN served m ON m.model = r.model AND m.provider IS NOT DISTINCT FROM r.provider WHERE r.ts IS NOT NULL GROUP BY ALL"
    )
    rows = ", ".join(
        f"({literal(name)}, {literal(served.providers[number])})" for name, number in zip(policy.models, numbers, strict=True)
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE outages AS SELECT minute, list(name ORDER BY name) AS down FROM ({calls}) c "
        f"JOIN (VALUES {rows}) v(name, provider) USING (provider) WHERE failures * 2 >= calls AND failures > 0 AND provider <> '' GROUP BY minute"
    )
    (minutes,) = one(connection, "SELECT count(*) FROM outages")
    return int(minutes)


def answered(query: Query, relation: str, numbers: Sequence[int], changes: Named | None = None) -> str:
    """The rows of `relation` (decided, with "$old" and the decided model's number "$decided") with "$new": who answers. -1: nobody could."""
    names = query.names(lambda route: reach(query.policy, route))
    if changes is not None:
        names = changes.names(names, query, lambda route: reach(query.policy, route))
    up = f"list_filter(string_split({names}, ','), lambda name: NOT list_contains(o.down, name))"
    whens = " ".join(f"WHEN {literal(name)} THEN {number}" for name, number in zip(query.policy.models, numbers, strict=True))
    # A call that itself failed has no usage: it costs nothing before and after, whoever is asked.
    hit = f'o.down IS NOT NULL AND coalesce(r."$input_tokens" > 0, TRUE) AND {MODEL} >= 0 AND r."$decided" <> r."$old" AND list_contains(o.down, {_name(query.policy)}[1 + {MODEL}])'
    minute = MINUTE.format('r."$ts"')
    return (
        f'SELECT r.*, CASE WHEN {hit} THEN CASE {up}[1] {whens} ELSE -1 END ELSE r."$decided" END AS "$new" FROM ({relation}) r '
        f"LEFT JOIN outages o ON o.minute = {minute}"
    )


def reach(policy: Policy, route: Route) -> Chain:
    """A route's chain and, where its tier is ranked, the tiers above it: what `next` can come to."""
    above = policy.order[policy.order.index(route.tier) + 1 :] if route.tier in policy.order else ()
    chains = (route.chain, *(policy.tiers[tier] for tier in above))
    return tuple(dict.fromkeys(name for chain in chains for name in chain if name != REQUESTED or chain is route.chain))


def _name(policy: Policy) -> str:
    return "[" + ", ".join(literal(name) for name in policy.models) + "]"
