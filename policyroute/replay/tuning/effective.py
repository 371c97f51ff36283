"""Policies of a sweep with all that a replay reckons: answers' lengths, the prompt cache, recorded outages. One pass over the trace for each.

A sweep chooses among many with usage held as recorded; the few that are compared or chosen are reckoned here, as `simulate` would.
"""

from __future__ import annotations

from typing import NamedTuple

from policyroute.language.policy import Policy
from policyroute.replay.effects import caching
from policyroute.replay.effects.failures import create_calendar
from policyroute.replay.ledger import CLASSES, PRICED, Effects, Ledger
from policyroute.replay.ratios import create_lengths
from policyroute.replay.tuning.sweep import Sweep


class Priced(NamedTuple):
    """The priced requests of one bag of clusters: their number, those that change their model, and their money before and after."""

    rows: int
    changed: int
    old: int
    new: int


def effects_of(sweep: Sweep) -> Effects:
    """What the sweep's options ask a replay for, or its trace can carry."""
    return sweep.ready.views[0].ledger.effects


def replayed(sweep: Sweep, policy: Policy, *, late: bool | None = None) -> dict[int, Priced]:
    """One policy, by bag of clusters; `late` takes the hold-out, or with False what comes before it."""
    rows = _rows(sweep, policy)
    sums = 'count(*), count(*) FILTER (WHERE r."$changed"), sum(r."$old_cost"), sum(r."$new_cost")'
    found = sweep.connection.sql(
        f'SELECT s."$bag", {sums} FROM ({rows}) r JOIN {sweep.table} s USING ("$row") WHERE {_period(sweep, late)} GROUP BY 1 ORDER BY 1'
    ).fetchall()
    return {int(bag, 16): Priced(*map(int, numbers)) for bag, *numbers in found}


def paired(sweep: Sweep, was: Policy, now: Policy) -> dict[int, tuple[int, int, int]]:
    """The hold-out's requests that are priced under both policies, by bag of clusters: money under the baseline, under `was`, under `now`.

    The two may differ in their rules and limits only.
    """
    found = sweep.connection.sql(
        f'SELECT s."$bag", sum(a."$old_cost"), sum(a."$new_cost"), sum(b."$new_cost") FROM ({_rows(sweep, was)}) a '
        f'JOIN ({_rows(sweep, now)}) b USING ("$row") JOIN {sweep.table} s USING ("$row") WHERE {_period(sweep, True)} GROUP BY 1 ORDER BY 1'
    ).fetchall()
    return {int(bag, 16): (int(old), int(before), int(after)) for bag, old, before, after in found}


def _rows(sweep: Sweep, policy: Policy) -> str:
    """The priced rows of the whole trace; the tables that the effects read are made for this policy."""
    effects = effects_of(sweep)
    ledger = sweep.view_of(policy, effects).ledger
    if effects.failures:
        create_calendar(sweep.connection, sweep.trace.relation, sweep.ready.served, policy, ledger.numbers)
    create_lengths(sweep.connection, ledger, [source for source, _ in sweep.sources])
    classes = ", ".join(str(CLASSES.index(name)) for name in PRICED)
    kept = '"$row", "$changed", "$old_cost", "$new_cost"'
    return f'SELECT {kept} FROM ({_united(sweep, ledger)}) WHERE "$class" IN ({classes})'


def _united(sweep: Sweep, ledger: Ledger) -> str:
    """The ledger's rows over all parts. The prompt cache's state goes through the whole trace: then all parts are one."""
    if ledger.effects.cache == caching.MODEL:
        return ledger.rows(" UNION ALL ".join(f"({source})" for source, _ in sweep.sources))
    return " UNION ALL ".join(f"({ledger.rows(*pair)})" for pair in sweep.sources)


def _period(sweep: Sweep, late: bool | None) -> str:
    """The cut's condition; both tables that it is asked of are joined by row, and only the sweep's has its columns."""
    return "TRUE" if late is None else f'(SELECT {sweep.where.late} FROM (SELECT s."$ts", s."$bag")) = {late}'
