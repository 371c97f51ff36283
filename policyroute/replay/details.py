"""What a full report shows beside the sums, each at the cost of a further pass: examples, marginal values, switches.

Chosen rows don't depend on the order in which they are read: the dearest by its difference and then by its number, the
others by the MD5 of their numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from policyroute.backends.sql import MODEL, RULE, Query
from policyroute.language.policy import Policy
from policyroute.replay.ledger import CLASSES, PRICED, Ledger
from policyroute.replay.options import Step
from policyroute.replay.state.changes import changes_of
from policyroute.replay.traces.sql import one
from policyroute.signals.facts import Facts

EXAMPLES = 3  # for each rule, the dearest difference among them
MOST_EXAMPLES = 90
Pairs = Sequence[tuple[str, str]]
_COLUMNS = ("rule", "old", "new", "row", "request_id", "ts", "input_tokens", "output_tokens", "old_cost", "new_cost")
_IS_PRICED = f'"$class" IN ({", ".join(str(CLASSES.index(name)) for name in PRICED)})'


@dataclass(frozen=True, slots=True)
class Example:
    """A request whose model changes. Money is picodollars; `text` the last message, where it was asked for."""

    rule: int
    old: int
    new: int
    row: int
    request_id: str | None
    ts: Any
    input_tokens: int
    output_tokens: int
    old_cost: int
    new_cost: int
    dearest: bool
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Switches:
    """Conversations (or users) with more than one call, and those of them that meet several models, before and after."""

    of: str
    members: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Details:
    """`without` is, by rule number, the routed cost of the rule's priced requests if it were removed; None where that has no price for some."""

    examples: tuple[Example, ...]
    without: dict[int, int | None]
    switches: tuple[Switches, ...]


def details(connection: duckdb.DuckDBPyConnection, ledger: Ledger, pairs: Pairs, step: Step, texts: Iterable[str] = ()) -> Details:
    """Everything, in passes over the ledger's rows; `texts` are relations whose `messages` tell the examples' last user messages."""
    rows = " UNION ALL ".join(f"({ledger.rows(*pair)})" for pair in pairs)
    with step("details", 3) as advance:
        examples = _with_text(connection, _examples(connection, rows), texts)
        advance(1)
        without = _without(connection, ledger, pairs)
        advance(1)
        switches = tuple(_switches(connection, rows, name) for name in ("conversation", "user") if f"{name}_id" in ledger.columns)
        advance(1)
    return Details(examples, without, tuple(found for found in switches if found.members))


def _examples(connection: duckdb.DuckDBPyConnection, rows: str) -> tuple[Example, ...]:
    difference = 'abs(CAST("$new_cost" AS HUGEINT) - "$old_cost")'
    changed = f'SELECT * FROM ({rows}) WHERE "$changed" AND {_IS_PRICED}'
    picked = (
        f"SELECT max({{'by': {difference}, 'row': -\"$row\"}}).row AS dearest, min({{'by': md5('' || \"$row\"), 'row': \"$row\"}}, {EXAMPLES}) AS others "
        f"FROM ({changed}) GROUP BY {RULE}"
    )
    dearest, others = [], []
    for top, listed in connection.sql(picked).fetchall():
        dearest.append(-top)
        others += [each["row"] for each in listed if each["row"] != -top][: EXAMPLES - 1]
    wanted = ", ".join(str(row) for row in (dearest + others)[:MOST_EXAMPLES]) or "NULL"
    columns = f'{RULE}, "$old", "$new", "$row", "$request", "$ts", "$input_tokens", "$output_tokens", "$old_cost", "$new_cost"'
    found = connection.sql(
        f'SELECT {columns} FROM ({rows}) WHERE "$row" IN ({wanted}) ORDER BY {RULE}, {difference} DESC, "$row"'
    ).fetchall()
    return tuple(Example(**dict(zip(_COLUMNS, row, strict=True)), dearest=row[3] in dearest) for row in found)


def _with_text(connection: duckdb.DuckDBPyConnection, examples: tuple[Example, ...], texts: Iterable[str]) -> tuple[Example, ...]:
    listed = ", ".join(str(example.row) for example in examples) or "NULL"
    found = [
        row for text in texts for row in connection.sql(f"SELECT row, messages FROM ({text}) WHERE row IN ({listed})").fetchall()
    ]
    last = {row: Facts.of_row(messages).last for row, messages in found}
    return tuple(replace(example, text=last.get(example.row)) for example in examples)


def _without(connection: duckdb.DuckDBPyConnection, ledger: Ledger, pairs: Pairs) -> dict[int, int | None]:
    """Each rule's requests decided as if the rule weren't there; lengths and cache as recorded, on both sides."""
    taken = " UNION ALL ".join(
        f'(SELECT "$row" AS taken, {RULE} AS rule FROM ({ledger.rows(*pair)}) WHERE {_IS_PRICED})' for pair in pairs
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE taken AS {taken}")
    found: dict[int, int | None] = {}
    for number, rule in enumerate(ledger.policy.rules[:-1]):
        if rule.shadow or not rule.routes:
            continue
        other = _decided_as(
            connection, ledger, pairs, replace(ledger.policy, rules=tuple(r for r in ledger.policy.rules if r is not rule))
        )
        total, rows, known = 0, 0, 0
        for source, before in pairs:
            theirs = f"SELECT s.* FROM ({source}) s JOIN taken t ON t.taken = s.row AND t.rule = {number}"
            sums = one(
                connection,
                f'SELECT count(*), count("$new_cost"), coalesce(sum("$new_cost"), 0) FROM ({other.rows(theirs, before)})',
            )
            total, rows, known = total + int(sums[2]), rows + sums[0], known + sums[1]
        found[number] = total if rows == known else None
    return found


def _decided_as(connection: duckdb.DuckDBPyConnection, ledger: Ledger, pairs: Pairs, policy: Policy) -> Ledger:
    """The same ledger under a policy with fewer rules, whose splits still draw by the same names."""
    other = Ledger(
        policy,
        ledger.observed,
        ledger.served,
        baseline=ledger.baseline,
        columns=ledger.columns,
        estimated=ledger.estimated,
        dated=ledger.dated,
    )
    other.numbers = ledger.numbers
    other.query = Query(policy, unknown=ledger.query.unknown, full=False)
    if ledger.changes is not None:
        with tempfile.TemporaryDirectory(prefix="policyroute-") as scratch:
            other.changes = changes_of(connection, other, ledger.columns, [source for source, _ in pairs], "without", Path(scratch))
    return other


def _switches(connection: duckdb.DuckDBPyConnection, rows: str, name: str) -> Switches:
    several = (
        f'SELECT min("$old") <> max("$old") AS before, min("$new") <> max("$new") AS after FROM ({rows}) '
        f'WHERE "${name}" IS NOT NULL AND {MODEL} >= 0 GROUP BY "${name}" HAVING count(*) > 1'
    )
    members, before, after = one(
        connection, f"SELECT count(*), coalesce(count_if(before), 0), coalesce(count_if(after), 0) FROM ({several})"
    )
    return Switches(name, int(members), int(before), int(after))
