"""What state did in a replay: by what acted, how many requests it moved, whom, and what that cost or saved."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

from policyroute.backends.sql import MODEL
from policyroute.replay.ledger import CLASSES, PLAIN, PRICED, REFUSED, Ledger
from policyroute.replay.prepare import Prepared
from policyroute.replay.state.changes import ACTED, PLAIN_MODEL, Changes


@dataclass(frozen=True, slots=True)
class Acted:
    """What one line of the policy, or several together, did: requests whose decision it changed, those of them that got another model,
    that were refused, users among them (0 where the trace names none), and the cost of those that have a price on both sides, as the
    rules alone would have it and as it is, in picodollars."""

    by: tuple[str, ...]
    rows: int
    moved: int
    refused: int
    users: int
    plain: int
    cost: int


@dataclass(frozen=True, slots=True)
class StateReport:
    """All that acted, the largest first; `followed` of `rows` requests went through the transitions one by one; `idle` are the titles
    that never acted; `timeless` requests have no time, and `unknown` ones something that a limit asks for and the trace doesn't tell."""

    acted: tuple[Acted, ...]
    rows: int
    followed: int
    idle: tuple[str, ...]
    unknown: int


def state_report(ready: Prepared) -> StateReport | None:
    """What state did under the first policy, over the whole trace; None for a policy without state."""
    ledger = ready.views[0].ledger
    changes = ledger.changes
    if not isinstance(changes, Changes):
        return None
    found = tuple(_acted(ready, ledger, changes))
    titles = [one.title for one in (*((ledger.policy.sticky,) if ledger.policy.sticky else ()), *ledger.policy.allowances)]
    seen = {title for one in found for title in one.by}
    (unknown,) = ready.connection.sql(f"SELECT count(*) FROM {changes.table} WHERE acted < 0").fetchall()[0]
    idle = tuple(title for title in titles if title not in seen)
    return StateReport(found, changes.followed.rows, changes.followed.followed, idle, unknown)


def _acted(ready: Prepared, ledger: Ledger, changes: Changes) -> Iterable[Acted]:
    """By what acted: the rows under state, joined with the same rows under the rules alone, with the recorded usage."""
    kept, plain = copy(ledger), copy(ledger)
    kept.effects = plain.effects = PLAIN  # of some rows alone neither the cache nor an outage can be told
    plain.changes = None
    user = "u.user_id" if "user_id" in ledger.columns else "NULL"
    both = " AND ".join(f'{side}."$class" IN ({", ".join(str(CLASSES.index(name)) for name in PRICED)})' for side in "ab")
    parts = []
    for source, before in ready.pairs():
        theirs = f"SELECT s.* FROM ({source}) s JOIN {changes.table} t ON t.row = s.row"
        parts.append(
            f'SELECT a.{ACTED} AS acted, a.{MODEL} <> a.{PLAIN_MODEL} AS moved, a."$class" = {CLASSES.index(REFUSED)} AS refused, {user} AS who, '
            f'CASE WHEN {both} THEN b."$new_cost" END AS plain, CASE WHEN {both} THEN a."$new_cost" END AS cost FROM ({kept.rows(theirs, before)}) a '
            f'JOIN ({plain.rows(theirs, before)}) b USING ("$row") JOIN ({source}) u ON u.row = a."$row" WHERE a.{ACTED} >= 0'
        )
    query = (
        "SELECT acted, count(*), count_if(moved AND NOT refused), count_if(refused), count(DISTINCT who), coalesce(sum(plain), 0), "
        f"coalesce(sum(cost), 0) FROM ({' UNION ALL '.join(parts)}) GROUP BY acted ORDER BY count(*) DESC, acted"
    )
    for code, *numbers in ready.connection.sql(query).fetchall():
        yield Acted(changes.followed.acted[code], *(int(number) for number in numbers))
