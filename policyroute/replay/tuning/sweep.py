"""Many candidate policies over one trace: one pass over its signals, whatever the number of candidates.

A narrow table holds, per request, the signals that any candidate reads, the baseline's cost, and what each model of the policy would cost.
For a set of candidates its rows fall into classes (`candidates.keys`) which all of them decide alike, with exact sums of each class; a candidate
decides one row of each class. Sums are whole numbers of picodollars, so a class changes no digit.

Usage is held as recorded, and every call succeeds at the first attempt: with the same, `simulate` gives the same totals to the picodollar.
What depends on a request's neighbours (a prompt cache that follows a conversation) can't be had from one pass: `effective` reckons it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import duckdb

from policyroute.backends.sql import ARM, MODEL, RULE, Query, literal, quoted
from policyroute.language.limits import read_signals
from policyroute.language.policy import Policy, Route, Rule
from policyroute.language.without import without
from policyroute.prices.catalog import Catalog
from policyroute.replay.effects import caching
from policyroute.replay.ledger import PLAIN, USAGE, Effects, Ledger
from policyroute.replay.options import CLUSTER, Options, SimulationError, Step, silent
from policyroute.replay.prepare import Prepared, prepared
from policyroute.replay.statistics import bag_sql
from policyroute.replay.traces import Trace
from policyroute.replay.traces.sql import one
from policyroute.replay.tuning.candidates import column_of, keys, lifted, reading
from policyroute.replay.tuning.holdout import NOTHING, Cut, Holdout, cut
from policyroute.replay.tuning.totals import Periods, totals_of
from policyroute.replay.view import View

USERS = "$by user_id"
Bags = dict[int, tuple[int, int]]


class Arm(NamedTuple):
    """A model alone, or the policy (""), over some requests: picodollars, and the sum of scores in millionths."""

    model: str
    requests: int
    cost: int
    score: int


# -- one trace for several policies --------------------------------------------------------------------------------


@contextmanager
def sweeping(
    policies: Sequence[Policy], paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step = silent, holdout: Holdout | None = None
) -> Iterator[list[Sweep]]:  # fmt: skip
    """A sweep for each of `policies`, whose models are completed from `catalog`; those with the same signals and models share one.

    A sweep takes any policy that differs from the one it was made for in its rules and limits only. All are compared with the same
    baseline, in which a recorded model that the first policy declares has that policy's price. Raises as `prepared` does.
    """
    options = replace(options, output=None, details=False)
    _refuse_state(policies, options)
    families = _families(policies)
    carriers = [_carrier([policies[place] for place in family]) for family in families]
    other = [options.baseline_policy] if options.baseline_policy else []
    _refuse_unknown_baseline(carriers, options)
    baselines = [len(carriers) if other else None] * len(carriers) + [None] * len(other)
    with prepared([*carriers, *other], paths, catalog, options, step, baselines) as ready:
        made = [Sweep(ready, place, options, step) for place in range(len(carriers))]
        if holdout is not None and made:
            where = made[0].cut(holdout)
            for sweep in made:
                sweep.where = where
        yield [made[next(place for place, family in enumerate(families) if number in family)] for number in range(len(policies))]


def _families(policies: Sequence[Policy]) -> list[list[int]]:
    """Places of policies that read a trace alike and price it alike."""
    families: list[list[int]] = []
    for number, policy in enumerate(policies):
        same = (family for family in families if _alike(policies[family[0]], policy))
        family = next(same, None)
        if family is None:
            families.append([number])
        else:
            family.append(number)
    return families


def _alike(one: Policy, other: Policy) -> bool:
    return (one.signals, one.texts, one.models, one.timezone) == (other.signals, other.texts, other.models, other.timezone)


def _carrier(policies: Sequence[Policy]) -> Policy:
    """The first policy with a shadow rule that reads what any of them reads: what a trace is prepared for."""
    names = dict.fromkeys(name for policy in policies for name in read_signals(policy))
    constructs = dict.fromkeys(construct for policy in policies for construct in policy.constructs)
    rule = Rule("$candidates", reading(tuple(names)), Route(()), shadow=True)
    return replace(policies[0], rules=(rule, *policies[0].rules), constructs=tuple(constructs))


def _refuse_state(policies: Sequence[Policy], options: Options) -> None:
    """Candidates are added up without following them from request to request."""
    for policy in (without(policy, options.without) for policy in policies):
        titles = [one.title for one in (*((policy.sticky,) if policy.sticky else ()), *policy.allowances)]
        if titles:
            raise SimulationError(
                f"candidates are compared without state, and `{policy.name}` has {', '.join(f'`{title}`' for title in titles)}",
                "`--without sticky,quota,budget` compares them as if they had none, and the report says so; `simulate` follows the one you choose",
            )


def _refuse_unknown_baseline(policies: Sequence[Policy], options: Options) -> None:
    if options.baseline_policy or options.baseline in ("recorded", "requested"):
        return
    for policy in policies:
        if options.baseline not in policy.models:
            raise SimulationError(
                f"`{policy.name}` has no model `{options.baseline}` to compare with", f"its models are {', '.join(policy.models)}"
            )


# -- the narrow table ----------------------------------------------------------------------------------------------


class Sweep:
    """The narrow table of one family of policies. `where` cuts it into the part to choose on and the hold-out."""

    def __init__(self, ready: Prepared, place: int, options: Options, step: Step) -> None:
        self.ready, self.place, self.options = ready, place, options
        self.connection: duckdb.DuckDBPyConnection = ready.connection
        self.trace: Trace = ready.trace
        self.view = self.view_of(ready.views[place].policy, PLAIN)
        self.ledger: Ledger = self.view.ledger
        self.sources = self._sources()
        self.table = f"sweep_{place}"
        self.where: Cut = NOTHING
        self.scores: frozenset[int] = frozenset()
        self.numbers = tuple(dict.fromkeys(self.ledger.numbers))
        self.unknown = [name for name, seen in self.view.observed.items() if seen.unknown]
        self.users = USERS.removeprefix("$by ") in self.ledger.segments
        cold = options.prompt_cache == caching.OFF
        with step("pricing", self.trace.rows) as advance:
            rows = " UNION ALL ".join(f"({self._rows(*pair, cold)})" for pair in self.sources)
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {self.table} AS {rows}")
            advance(self.trace.rows)
        self.columns = [str(name) for name in self.connection.table(self.table).columns]

    def view_of(self, policy: Policy, effects: Effects) -> View:
        """A policy of the family as it sees the trace, with these effects."""
        ready = self.ready
        return View(
            policy,
            ready.trace,
            self.options,
            ready.served,
            ready.views[self.place].ledger.baseline,
            place=self.place,
            effects=effects,
        )

    def _sources(self) -> list[tuple[str, str]]:
        """For each part of the trace, its SELECT and that of the baseline policy ("" without one)."""
        ready = self.ready
        baseline = ready.views[self.place].ledger.baseline
        others = [place for place, view in enumerate(ready.views) if view.ledger is baseline]
        against = ready.sources[others[0]] if others else [""] * len(ready.sources[self.place])
        return list(zip(ready.sources[self.place], against, strict=True))

    def cut(self, holdout: Holdout) -> Cut:
        """Where this trace is cut for a hold-out."""
        return cut(self.connection, self.table, holdout, clustered=self.view.cluster is not None)

    def _rows(self, source: str, baseline_source: str, cold: bool) -> str:
        """One row per request of a part: signals, baseline, and what each model costs."""
        ledger, prices = self.ledger, self.ledger.prices
        bag = quoted(f"$by {CLUSTER}") if CLUSTER in ledger.segments else bag_sql("'row ' || \"$row\"")
        kept = ['"$row"', '"$ts"', f'{bag} AS "$bag"', '"$old"', '"$old_cost"', *map(quoted, ledger.names)]
        kept += [quoted(USERS)] if self.users else []
        usage = [f'"${name}"' for name in USAGE]
        ts = '"$ts"' if ledger.dated else "CAST(NULL AS TIMESTAMP)"
        slots = ", ".join(
            f'{prices.slot_sql(str(n), ts, usage[0], chr(34) + "$service_tier" + chr(34))} AS "$slot_{n}"' for n in self.numbers
        )
        rows = f"SELECT {', '.join(kept)}, {', '.join(usage)}, {slots} FROM ({ledger.rows(source, baseline_source)})"
        costs = []
        for number in self.numbers:
            parts = [f'CASE WHEN "$old" <> {number} THEN 0 ELSE {part} END' for part in usage[1:4]] if cold else usage[1:4]
            costs.append(f'{prices.cost_sql(f"p{number}", *[usage[0], *parts, usage[4]])} AS "$cost_{number}"')
        joins = " ".join(f'JOIN {prices.name} p{n} ON p{n}.slot = s."$slot_{n}"' for n in self.numbers)
        dropped = ", ".join([*usage, *(f'"$slot_{n}"' for n in self.numbers)])
        return f"SELECT s.* EXCLUDE ({dropped}), {', '.join(costs)} FROM ({rows}) s {joins}"

    def score(self, names: str, numbered: str, numbers: frozenset[int]) -> None:
        """Add the scores of outcomes: `names` is a SELECT of `row, request_id`, `numbered` a table of `Outcomes.numbered`."""
        listed = ", ".join(f'max(o.score) FILTER (WHERE o.number = {n}) AS "$score_{n}"' for n in sorted(numbers))
        scores = f'SELECT n.row AS "$row", {listed} FROM ({names}) n JOIN {numbered} o USING (request_id) GROUP BY n.row'
        self.connection.execute(
            f'CREATE OR REPLACE TEMP TABLE {self.table} AS SELECT s.*, o.* EXCLUDE ("$row") FROM {self.table} s LEFT JOIN ({scores}) o USING ("$row")'
        )
        self.scores = numbers
        self.columns += [f"$score_{n}" for n in sorted(numbers)]

    # -- candidates ------------------------------------------------------------------------------------------------

    def totals(self, candidates: Sequence[Policy], step: Step = silent) -> list[Periods]:
        """What each candidate does, before the cut and in the hold-out."""
        classes = self._classes(candidates)
        found: dict[int, Periods] = {}
        with step("sweeping", len(candidates)) as advance:
            for shape, places in _shapes(candidates):
                periods = self._totals(shape, [candidates[place] for place in places], classes)
                found |= dict(zip(places, periods, strict=True))
                advance(len(places))
        return [found[place] for place in range(len(candidates))]

    def _classes(self, candidates: Sequence[Policy]) -> str:
        """A table of the classes of requests that all `candidates` decide alike: one request of each, and the sums over all of its."""
        grouped = {f'"$key_{place}"': sql for place, sql in enumerate(keys(candidates))}
        late = f'({self.where.late}) AS "$late"'
        keyed = ", ".join(["*", late, *(f"{sql} AS {name}" for name, sql in grouped.items())])
        sums = {
            '"$row"': 'min("$row")',
            '"$n"': "count(*)",
            '"$named"': 'count(*) FILTER (WHERE "$old" >= 0)',
            '"$scored"': f"count(*) FILTER (WHERE {self._scorable})",
        }
        for n in self.numbers:
            priced = f'"$old_cost" IS NOT NULL AND "$cost_{n}" IS NOT NULL'
            sums |= {
                f'"$priced_{n}"': f"count(*) FILTER (WHERE {priced})", f'"$changed_{n}"': f'count(*) FILTER (WHERE {priced} AND "$old" <> {n})',
                f'"$before_{n}"': f'coalesce(sum("$old_cost") FILTER (WHERE {priced}), 0)', f'"$after_{n}"': f'coalesce(sum("$cost_{n}") FILTER (WHERE {priced}), 0)',
                f'"$moved_{n}"': f'count(*) FILTER (WHERE "$old" >= 0 AND "$old" <> {n})',
                f'"$points_{n}"': f'coalesce(sum("$score_{n}") FILTER (WHERE {self._scorable}), 0)' if n in self.scores else "0",
            }  # fmt: skip
        summed = ", ".join(f"{sql} AS {name}" for name, sql in sums.items())
        by = ", ".join(['"$late"', *grouped])
        signals = ", ".join(f"s.{quoted(name)}" for name in self.ledger.names)
        table = f"{self.table}_classes"
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT c.*{', ' if signals else ''}{signals} FROM "
            f'(SELECT "$late", {summed} FROM (SELECT {keyed} FROM {self.table}) GROUP BY {by}) c JOIN {self.table} s USING ("$row")'
        )
        return table

    @property
    def _scorable(self) -> str:
        return " AND ".join(f'"$score_{n}" IS NOT NULL' for n in sorted(self.scores)) or "FALSE"

    def _totals(self, shape: Policy, candidates: Sequence[Policy], classes: str) -> list[Periods]:
        """Totals of candidates that differ in their tunables: one query, in which the tunables' values are columns."""
        query = self._query(shape)
        names = list(candidates[0].tunables)
        rows = [[place, *(policy.tunables[name].value for name in names)] for place, policy in enumerate(candidates)]
        values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
        given = ", ".join(['"$candidate"', *(quoted(column_of(name)) for name in names)])
        relation = f"(SELECT * FROM {classes} CROSS JOIN (VALUES {values}) AS v({given}))"
        answered = f"{MODEL} >= 0"
        sums = [
            'sum("$n")', *(f"sum({self._of_model(name)})" for name in ("priced", "changed", "before", "after")),
            f'coalesce(sum("$named") FILTER (WHERE {answered}), 0)', f"sum({self._of_model('moved')})",
            f'coalesce(sum("$scored") FILTER (WHERE {answered}), 0)', f"sum({self._of_model('points')})",
        ]  # fmt: skip
        found = self.connection.sql(
            f'SELECT "$candidate", "$late", {RULE}, {ARM}, {MODEL}, {", ".join(sums)} FROM ({query.over(relation)}) GROUP BY ALL ORDER BY ALL'
        ).fetchall()
        groups: dict[tuple[int, bool], list[tuple[int, ...]]] = {}
        for place, late, *group in found:
            groups.setdefault((place, late), []).append(tuple(group))
        return [
            Periods(*(totals_of(shape, query, groups.get((place, side), [])) for side in (False, True)))
            for place in range(len(candidates))
        ]

    def _query(self, policy: Policy) -> Query:
        return Query(policy, unknown=self.unknown, full=False)

    def _of_model(self, name: str) -> str:
        """The class's sum `name` for the model that is decided; 0 where none is."""
        whens = " ".join(f'WHEN {place} THEN "${name}_{number}"' for place, number in enumerate(self.ledger.numbers))
        return f"CASE {MODEL} {whens} ELSE 0 END"

    # -- clusters --------------------------------------------------------------------------------------------------

    def bags(self, policy: Policy, *, late: bool | None = None) -> Bags:
        """Baseline and routed money of each bag of clusters, of priced requests; `late` takes the hold-out, or with False what is before it."""
        rows = f"(SELECT * FROM {self.table}" + (")" if late is None else f" WHERE ({self.where.late}) = {late})")
        whens = " ".join(f'WHEN {place} THEN "$cost_{number}"' for place, number in enumerate(self.ledger.numbers))
        decided = f'SELECT "$bag", "$old_cost" AS old, CASE {MODEL} {whens} END AS new FROM ({self._query(policy).over(rows)})'
        found = self.connection.sql(
            f'SELECT "$bag", sum(old), sum(new) FROM ({decided}) WHERE old IS NOT NULL AND new IS NOT NULL GROUP BY 1 ORDER BY 1'
        ).fetchall()
        return {int(bag, 16): (int(old), int(new)) for bag, old, new in found}

    def arms(self, policy: Policy) -> tuple[Arm, ...]:
        """The policy ("") and each model alone over the hold-out's requests that all models could answer at a known cost and score."""
        known = " AND ".join([f"({self.where.late})", self._scorable, *(f'"$cost_{n}" IS NOT NULL' for n in self.numbers)])
        rows = f"(SELECT * FROM {self.table} WHERE {known})"
        chosen = [
            f"CASE {MODEL} {' '.join(f'WHEN {p} THEN {chr(34)}${what}_{n}{chr(34)}' for p, n in enumerate(self.ledger.numbers))} END"
            for what in ("cost", "score")
        ]
        sums = [f"coalesce(sum({sql}), 0)" for sql in chosen]
        sums += [f'coalesce(sum("${what}_{n}"), 0)' for n in self.ledger.numbers for what in ("cost", "score")]
        count, *found = map(
            int,
            one(self.connection, f"SELECT count(*), {', '.join(sums)} FROM ({self._query(policy).over(rows)}) WHERE {MODEL} >= 0"),
        )
        names = ("", *policy.models)
        return tuple(Arm(name, count, found[2 * place], found[2 * place + 1]) for place, name in enumerate(names)) if count else ()

    def moved_users(self, policy: Policy) -> tuple[tuple[int, int], tuple[int, int]]:
        """Users of whom a request changes its model, and all users: before the cut, and in the hold-out. One pass over the table."""
        numbers = " ".join(f"WHEN {place} THEN {number}" for place, number in enumerate(self.ledger.numbers))
        who = quoted(USERS)
        moved = f'"$old" >= 0 AND "$old" <> CASE {MODEL} {numbers} END'
        rows = self.connection.sql(
            f"SELECT ({self.where.late}) AS late, count(DISTINCT {who}) FILTER (WHERE {moved}), count(DISTINCT {who}) "
            f"FROM ({self._query(policy).over(self.table)}) GROUP BY 1"
        ).fetchall()
        by = {late: (int(some), int(all_)) for late, some, all_ in rows}
        return by.get(False, (0, 0)), by.get(True, (0, 0))


def _shapes(candidates: Sequence[Policy]) -> list[tuple[Policy, list[int]]]:
    """Candidates that differ in their tunables' values alone, together: what they have in common, and their places."""
    found: list[tuple[Policy, list[int]]] = []
    for place, policy in enumerate(candidates):
        shape = lifted(policy)
        places = next((places for known, places in found if known == shape), None)
        if places is None:
            found.append((shape, [place]))
        else:
            places.append(place)
    return found
