"""Two policies over one trace: what each request's decision was and is, and what that does to its money.

A row's outcome under a policy is a model (by id and provider: the same model under another name is the same), a refusal, no
model left, or not replayable. A row has moved where both outcomes are known and differ. Both sides are priced with the same
recorded usage, each with its own policy's prices. Sums are partials that merge, as in `measures`; examples are chosen by the
difference and by the MD5 of the row's number, so neither threads nor a split of the trace change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

import policyroute
from policyroute.backends.sql import ARM, MODEL, NOBODY, RULE, STUCK, Query, quoted
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.replay.measures import Measure, Table, merge, merge_counts
from policyroute.replay.options import CLUSTER, Options, Step, silent
from policyroute.replay.prepare import Prepared, prepared
from policyroute.replay.traces import Trace
from policyroute.replay.traces.sql import one
from policyroute.replay.view import View
from policyroute.signals.columns import VERSION
from policyroute.signals.facts import Facts

# Outcomes that are no model, beside NOBODY (no model left) and STUCK (not replayable).
REFUSES = -3
SAME, MOVED, UNKNOWN = 0, 1, 2
EXAMPLES = 3  # of each pair of rules

SUMS: tuple[Measure, ...] = (
    Measure("rows", "count(*)"),
    Measure("old", 'coalesce(sum("$old_cost"), 0)'),
    Measure("new", 'coalesce(sum("$new_cost"), 0)'),
    Measure("old_known", 'count("$old_cost")'),
    Measure("new_known", 'count("$new_cost")'),
    Measure("bits", 'coalesce(bit_or("$old_bits" | "$new_bits"), 0)', lambda a, b: a | b),
)
_OLD_RULE, _OLD_ARM, _OLD_MODEL = '"$old_rule"', '"$old_arm"', '"$old_model"'
_WAS, _IS, _STATE, _PRICED = '"$was"', '"$is"', '"$state"', '"$priced"'
_FLOW = (_STATE, _PRICED, _OLD_RULE, _OLD_ARM, _WAS, RULE, ARM, _IS)


@dataclass(frozen=True, slots=True)
class Side:
    """One policy of a comparison. `outcomes` gives the outcome of each of its models, by the model's number."""

    policy: Policy
    outcomes: tuple[int, ...]
    without: tuple[str, ...]

    def rule(self, number: int) -> str:
        """A rule's name; a negative number is the rule at which a row got stuck."""
        return self.policy.rules[-1 - number if number < 0 else number].name


@dataclass(frozen=True, slots=True)
class Example:
    """One request that moved. Money in picodollars, None where it can't be priced."""

    row: int
    was: int
    now: int
    old_cost: int | None
    new_cost: int | None
    input_tokens: int | None
    output_tokens: int | None
    why: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Everything that a report of the difference is made from.

    `flows` has the key (state, priced, old rule, old arm, old outcome, new rule, new arm, new outcome), a segment's table
    (state, priced, member). `examples` are by (old rule, new rule), the dearest first.
    """

    old: Side
    new: Side
    labels: tuple[str, ...]
    options: Options
    trace: Trace
    flows: Table
    segments: dict[str, Table]
    examples: dict[tuple[int, int], tuple[Example, ...]]
    unknown: dict[str, tuple[int, str]]
    cluster: str | None
    window: tuple[int, int] | None
    assumed: tuple[str, ...]
    prices: str
    prices_digest: str

    @property
    def engine(self) -> str:
        """What computed this: the version of policyroute and of its extractor."""
        return f"policyroute {policyroute.__version__}, extractor {VERSION}"

    @property
    def engine_digest(self) -> str:
        """SHA-256 of `engine`."""
        return hashlib.sha256(self.engine.encode()).hexdigest()


def compare(
    old: Policy, new: Policy, paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step = silent, *, with_text: bool = False
) -> Comparison:  # fmt: skip
    """Decide each request of `paths` under both policies, whose models are completed from `catalog`.

    `with_text` adds the last user message to the examples. Raises `TraceError` for a trace that can't be read and
    `SimulationError` for what can't be replayed.
    """
    with prepared([new, old], paths, catalog, _alike(options), step, [1, None]) as ready:
        return _compare(ready, catalog, options, step, with_text)


def _alike(options: Options) -> Options:
    """Both sides are priced with the recorded usage: an effect that is reckoned for one policy only would be taken for a difference."""
    return replace(
        options, baseline="recorded", baseline_policy=None, lengths="held", prompt_cache="held", failures=False, details=False
    )


def _compare(ready: Prepared, catalog: Catalog, options: Options, step: Step, with_text: bool) -> Comparison:
    after, before = ready.views
    labels, (was, now) = _outcomes(before.policy, after.policy)
    join = _Join(before, after, was, now)
    flows: list[Table] = []
    segments: list[dict[str, Table]] = []
    chosen: list[list[_Candidate]] = []
    names = tuple(name for name in after.segments if name == CLUSTER or not name.startswith("$"))
    with step("comparing", ready.trace.rows) as advance:
        for part, new_source, old_source in zip(ready.trace.parts, *ready.sources, strict=True):
            rows = join.rows(new_source, old_source)
            table, members = _sums(ready.connection, rows, names)
            flows.append(table)
            segments.append(members)
            chosen.append(_candidates(ready.connection, rows))
            advance(part.rows)
    return Comparison(
        Side(before.policy, was, ready.left_out[1]), Side(after.policy, now, ready.left_out[0]), labels, options, ready.trace,
        merge(flows, SUMS), {name: merge((one.get(name, {}) for one in segments), SUMS) for name in names},
        _examples(ready.connection, ready.trace, _chosen(chosen), with_text), _unknown(ready), after.cluster, _window(ready),
        _assumed((before, after)), catalog.version, catalog.digest,
    )  # fmt: skip


# -- outcomes ------------------------------------------------------------------------------------------------------


def _outcomes(old: Policy, new: Policy) -> tuple[tuple[str, ...], tuple[tuple[int, ...], tuple[int, ...]]]:
    """Labels of all distinct models, and for each policy the outcome of each of its models.

    A model is called by its name; where one name stands for two ids, or one id has two names, the id is told too.
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for policy in (old, new):
        for model in policy.models.values():
            found.setdefault((model.id, model.provider or ""), {})[model.name] = None
    places = {key: number for number, key in enumerate(found)}
    several = [name for names in found.values() for name in names]
    labels = [
        next(iter(names)) if len(names) == 1 and several.count(next(iter(names))) == 1 else f"{' / '.join(names)} ({id_})"
        for (id_, _), names in found.items()
    ]
    was, now = (tuple(places[model.id, model.provider or ""] for model in policy.models.values()) for policy in (old, new))
    return tuple(labels), (was, now)


@dataclass(frozen=True)
class _Join:
    """The rows of both ledgers as one relation."""

    old: View
    new: View
    was: tuple[int, ...]
    now: tuple[int, ...]

    def rows(self, new_source: str, old_source: str) -> str:
        """One row per request: both decisions and costs, the outcomes, whether it moved, whether both sides are priced."""
        kept = ", ".join(quoted("$by " + name) for name in self.new.segments)
        columns = [
            f'n."$row", n.{RULE}, n.{ARM}, n.{MODEL}, o.{_OLD_RULE}, o.{_OLD_ARM}, o.{_OLD_MODEL}', kept,
            'n."$old_cost", n."$new_cost", n."$old_bits", n."$new_bits", n."$input_tokens", n."$output_tokens"',
            f"{_outcome(self.old.ledger.query, self.was, f'o.{_OLD_RULE}', f'o.{_OLD_MODEL}')} AS {_WAS}",
            f"{_outcome(self.new.ledger.query, self.now, f'n.{RULE}', f'n.{MODEL}')} AS {_IS}",
        ]  # fmt: skip
        decided = f'SELECT "$row", {RULE} AS {_OLD_RULE}, {ARM} AS {_OLD_ARM}, {MODEL} AS {_OLD_MODEL} FROM ({self.old.ledger.decided(old_source)})'
        joined = (
            f"SELECT {', '.join(column for column in columns if column)} "
            f'FROM ({self.new.ledger.rows(new_source, old_source)}) n JOIN ({decided}) o USING ("$row")'
        )
        state = f"CASE WHEN {_WAS} = {STUCK} OR {_IS} = {STUCK} THEN {UNKNOWN} WHEN {_WAS} <> {_IS} THEN {MOVED} ELSE {SAME} END"
        priced = f'({_WAS} >= 0 AND {_IS} >= 0 AND "$old_cost" IS NOT NULL AND "$new_cost" IS NOT NULL)'
        return f"SELECT *, {state} AS {_STATE}, {priced} AS {_PRICED} FROM ({joined})"


def _outcome(query: Query, outcomes: Sequence[int], rule: str, model: str) -> str:
    refusing = ", ".join(map(str, query.refusals()))
    whens = [f"WHEN {rule} < 0 OR {model} = {STUCK} THEN {STUCK}"]
    whens += [f"WHEN {rule} IN ({refusing}) THEN {REFUSES}"] if refusing else []
    whens += [f"WHEN {model} = {number} THEN {outcome}" for number, outcome in enumerate(outcomes)]
    return f"CASE {' '.join(whens)} ELSE {NOBODY} END"


# -- sums ----------------------------------------------------------------------------------------------------------


def _sums(connection: duckdb.DuckDBPyConnection, rows: str, names: Iterable[str]) -> tuple[Table, dict[str, Table]]:
    by = {name: quoted("$by " + name) for name in names}
    sets = [_FLOW, *((_STATE, _PRICED, column) for column in by.values())]
    marks = ", ".join(f"grouping({column})" for column in (RULE, *by.values()))
    listed = ", ".join((*_FLOW, *by.values(), *(measure.sql for measure in SUMS)))
    groups = ", ".join(f"({', '.join(columns)})" for columns in sets)
    flows: Table = {}
    segments: dict[str, Table] = {name: {} for name in by}
    width = 1 + len(by)
    for row in connection.sql(f"SELECT {marks}, {listed} FROM ({rows}) GROUP BY GROUPING SETS ({groups})").fetchall():
        rolled, keys, numbers = row[:width], row[width : width + len(_FLOW) + len(by)], row[width + len(_FLOW) + len(by) :]
        if rolled[0] == 0:
            flows[keys[: len(_FLOW)]] = numbers
            continue
        place = rolled[1:].index(0)
        segments[list(by)[place]][keys[0], keys[1], keys[len(_FLOW) + place]] = numbers
    return flows, segments


# -- examples ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    pair: tuple[int, int]
    row: int
    numbers: tuple[Any, ...]  # was, now, old cost, new cost, input tokens, output tokens
    stake: int  # what the row's money differs by; where one side has none, what the other costs; -1 where nothing is known
    hash: str

    def example(self, why: str, facts: Mapping[str, Any]) -> Example:
        was, now, old_cost, new_cost, input_tokens, output_tokens = self.numbers
        return Example(self.row, was, now, old_cost, new_cost, input_tokens, output_tokens, why, facts)


def _candidates(connection: duckdb.DuckDBPyConnection, rows: str) -> list[_Candidate]:
    """Of each pair of rules, the row with the largest difference, and those first by hash, of one part."""
    stake = 'coalesce(abs("$new_cost" - "$old_cost"), "$old_cost", "$new_cost", -1)'
    hashed = f"""SELECT *, {stake} AS "$stake", md5('example ' || "$row") AS "$hash" FROM ({rows}) WHERE {_STATE} = {MOVED}"""
    over = f"PARTITION BY {_OLD_RULE}, {RULE} ORDER BY"
    ranked = f'row_number() OVER ({over} "$stake" DESC, "$hash") = 1 OR row_number() OVER ({over} "$hash") <= {EXAMPLES}'
    numbers = f'{_WAS}, {_IS}, "$old_cost", "$new_cost", "$input_tokens", "$output_tokens"'
    found = connection.sql(
        f'SELECT {_OLD_RULE}, {RULE}, "$row", {numbers}, "$stake", "$hash" FROM ({hashed}) QUALIFY {ranked}'
    ).fetchall()
    return [_Candidate((row[0], row[1]), row[2], row[3:9], int(row[9]), row[10]) for row in found]


def _chosen(parts: Sequence[Sequence[_Candidate]]) -> dict[tuple[int, int], list[_Candidate]]:
    """Of each pair the dearest, then the others by hash."""
    pairs: dict[tuple[int, int], list[_Candidate]] = {}
    for candidate in (candidate for part in parts for candidate in part):
        pairs.setdefault(candidate.pair, []).append(candidate)
    found = {}
    for pair, candidates in pairs.items():
        dearest = min(candidates, key=lambda one: (-one.stake, one.hash))
        others = sorted((one for one in candidates if one is not dearest), key=lambda one: one.hash)
        found[pair] = [dearest, *others[: EXAMPLES - 1]]
    return found


_FACTS = ("request_id", "conversation_id", "user_id", "team", "model")


def _examples(
    connection: duckdb.DuckDBPyConnection, trace: Trace, chosen: Mapping[tuple[int, int], Sequence[_Candidate]], with_text: bool
) -> dict[tuple[int, int], tuple[Example, ...]]:
    facts = _facts(connection, trace, [one.row for candidates in chosen.values() for one in candidates], with_text)
    return {
        pair: tuple(one.example("drawn" if place else "dearest", facts.get(one.row, {})) for place, one in enumerate(candidates))
        for pair, candidates in chosen.items()
    }


def _facts(connection: duckdb.DuckDBPyConnection, trace: Trace, rows: Sequence[int], with_text: bool) -> dict[int, dict[str, Any]]:
    """What the trace says of some rows; content is read only where it is asked for."""
    if not rows:
        return {}
    names = [name for name in _FACTS if name in trace.present]
    columns = ["row", '"ts"' if not trace.relative_time else "CAST(NULL AS TIMESTAMP)", *(quoted(name) for name in names)]
    columns += ["messages"] if with_text else []
    listed = ", ".join(map(str, sorted(rows)))
    found: dict[int, dict[str, Any]] = {}
    for part in trace.parts:
        for row in connection.sql(f"SELECT {', '.join(columns)} FROM ({part.relation}) WHERE row IN ({listed})").fetchall():
            found[row[0]] = {"ts": row[1], **dict(zip(names, row[2:], strict=False))}
            if with_text:
                found[row[0]]["text"] = Facts.of_row(row[-1]).last
    return found


# -- what the figures rest on --------------------------------------------------------------------------------------


def _unknown(ready: Prepared) -> dict[str, tuple[int, str]]:
    """Signals that either policy reads and some rows don't tell: the number of rows, and the place that was looked at."""
    counts: list[dict[str, int]] = []
    sources: dict[str, str] = {}
    for view, parts in zip(ready.views, ready.sources, strict=True):
        names = [name for name in view.ledger.names if view.observed[name].unknown and name not in sources]
        sources |= {name: view.observed[name].source for name in names}
        listed = ", ".join(f"count(*) FILTER (WHERE {quoted(name)} IS NULL)" for name in names)
        queries = [f"SELECT {listed} FROM ({view.ledger.signals(source)})" for source in parts if names]
        counts += [dict(zip(names, one(ready.connection, query), strict=True)) for query in queries]
    return {name: (rows, sources[name]) for name, rows in merge_counts(counts).items() if rows}


def _window(ready: Prepared) -> tuple[int, int] | None:
    """First and last moment in microseconds, None where times have no date."""
    if ready.trace.relative_time:
        return None
    low, high = one(ready.connection, f"SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM ({ready.trace.relation})")
    return None if low is None else (low, high)


def _assumed(views: Iterable[View]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(seen.assumption for view in views for seen in view.observed.values() if seen.assumption))
