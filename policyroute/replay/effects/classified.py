"""Classifiers' answers that the trace doesn't hold: drawn by shares that are stated, or asked for now.

- A drawn answer follows from the MD5 of the classifier's name and the request's id (its row's number without one), so that a replay says
  the same again. It doesn't follow from what the request says, as a model's would: so a report shows the saving for each single answer too.
- Asked are requests whose evaluation gets stuck for want of an answer, with their messages, once each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from policyroute.backends.sql import RULE, Query, literal, quoted
from policyroute.language.decision import PARTS
from policyroute.language.policy import Policy, reads
from policyroute.replay.ledger import CLASSES, PRICED, Ledger
from policyroute.replay.observe import Observed
from policyroute.replay.traces.sql import one

AT_ONCE = 8  # calls under way
Answer = tuple[str, int | None]
"""A member, and what it cost to learn it in picodollars; None where that isn't known."""
Ask = Callable[[str, object], Answer]
"""The answer of a classifier, by its name, to a request's messages (JSON text, or None)."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What would be saved if a classifier gave one answer to all requests that nobody asked it about. Money is picodollars."""

    classifier: str
    member: str
    old: int
    new: int


def drawn(
    policy: Policy, observed: Mapping[str, Observed], mix: Mapping[str, Sequence[int]], identified: bool
) -> dict[str, Observed]:
    """How signals are read, with answers drawn by `mix`: for each classifier its members' shares, in parts of ten thousand."""
    found = dict(observed)
    for name, shares in mix.items():
        if name not in found or not found[name].unknown:
            continue
        members = policy.classifiers[name].members
        key = "coalesce(request_id, CAST(row AS VARCHAR))" if identified else "CAST(row AS VARCHAR)"
        draw = f"CAST('0x' || left(md5({literal(f'classify{chr(31)}{name}{chr(31)}')} || {key}), 15) AS BIGINT) % {PARTS}"
        told = ", ".join(f"{share / 100:g} % {member}" for member, share in zip(members, shares, strict=True))
        found[name] = _filled(found[name], _by_share(draw, members, shares), f"drawn: {told}")
    return found


def _by_share(draw: str, members: Sequence[str], shares: Sequence[int]) -> str:
    whens, upto = [], 0
    for member, share in zip(members[:-1], shares[:-1], strict=True):
        upto += share
        whens.append(f"WHEN {draw} < {upto} THEN {literal(member)}")
    return f"CASE {' '.join(whens)} ELSE {literal(members[-1])} END" if whens else literal(members[-1])


def _filled(seen: Observed, sql: str, source: str) -> Observed:
    assumption = f"where nobody has asked the classifier `{seen.signal}`, its answers are {source}; they don't follow from what a request says"
    return Observed(seen.signal, f"coalesce({seen.sql}, {sql})", f"{seen.source}, else {source}", False, seen.odd, assumption)


# -- asked now -------------------------------------------------------------------------------------------------------


def asked(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, sources: Sequence[str], ask: Ask, advance: Callable[[int], None]
) -> tuple[str, ...]:
    """Ask the classifiers of a ledger's policy what the trace doesn't hold, and let the ledger read the answers; its new sources."""
    for name in [name for name in ledger.policy.classifiers if name in ledger.observed and ledger.observed[name].unknown]:
        waiting = [row for source in sources for row in _stuck(connection, ledger, source, name)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda row: _counted(ask, name, row[1], advance), waiting))  # noqa: B023 - all are done here
        table = f'"$asked {name}"'
        rows = pa.table({  # noqa: F841 - DuckDB reads it by its name
            "row": pa.array([row for row, _ in waiting], pa.int64()), "member": pa.array([member for member, _ in answers], pa.string()),
            "cost": pa.array([cost for _, cost in answers], pa.int64()),
        })  # fmt: skip
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM rows")
        column, cost = quoted(f"asked {name}"), quoted(f"paid {name}")
        sources = [
            f"SELECT s.*, a.member AS {column}, a.cost AS {cost} FROM ({source}) s LEFT JOIN {table} a ON a.row = s.row"
            for source in sources
        ]
        seen = ledger.observed[name]
        told = replace(
            seen, sql=f"coalesce({seen.sql}, {column})", source=f"{seen.source}, else asked now" if waiting else seen.source
        )
        _read(ledger, {**ledger.observed, name: told})
        ledger.aside.asked_now[name] = f"paid {name}"
    return tuple(sources)


def _stuck(connection: duckdb.DuckDBPyConnection, ledger: Ledger, source: str, name: str) -> list[tuple[int, object]]:
    """Rows that are stuck at a rule for want of the classifier's answer, with their messages."""
    rules = [-1 - number for number, rule in enumerate(ledger.policy.rules) if name in reads(rule.condition)]
    if not rules:
        return []
    decided = ledger.query.over(f"({ledger.signals(source)})")
    return connection.sql(
        f'SELECT s.row, s.messages FROM ({source}) s JOIN ({decided}) d ON d."$row" = s.row '
        f"WHERE d.{RULE} IN ({', '.join(map(str, rules))}) AND d.{quoted(name)} IS NULL ORDER BY s.row"
    ).fetchall()


def _counted(ask: Ask, name: str, messages: object, advance: Callable[[int], None]) -> Answer:
    found = ask(name, messages)
    advance(1)
    return found


def _read(ledger: Ledger, observed: dict[str, Observed]) -> None:
    ledger.observed = observed
    ledger.query = Query(ledger.policy, unknown=[each for each, seen in observed.items() if seen.unknown], full=ledger.query.full)


# -- what the answers could do ---------------------------------------------------------------------------------------


def bounds(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, told: Mapping[str, Observed], pairs: Sequence[tuple[str, str]],
    mix: Mapping[str, Sequence[int]], follow: Callable[[Ledger, str], None],
) -> Iterator[Bound]:  # fmt: skip
    """The sums for each single answer of each classifier that was drawn. `told` is what the trace itself tells of signals; `follow` gives a
    ledger its own state."""
    for name in (each for each in mix if each in told and told[each].unknown):
        for place, member in enumerate(ledger.policy.classifiers[name].members):
            other = copy(ledger)
            _read(
                other,
                {**ledger.observed, name: replace(told[name], sql=f"coalesce({told[name].sql}, {literal(member)})", unknown=False)},
            )
            if ledger.changes is not None:
                follow(other, f"bound_{name}_{place}")
            yield Bound(name, member, *_sums(connection, other, pairs))


def _sums(connection: duckdb.DuckDBPyConnection, ledger: Ledger, pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    priced = ", ".join(str(CLASSES.index(name)) for name in PRICED)
    old = new = 0
    for pair in pairs:
        found = one(
            connection,
            f'SELECT coalesce(sum("$old_cost"), 0), coalesce(sum("$new_cost"), 0) FROM ({ledger.rows(*pair)}) WHERE "$class" IN ({priced})',
        )
        old, new = old + int(found[0]), new + int(found[1])
    return old, new
