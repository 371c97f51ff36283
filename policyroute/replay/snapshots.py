"""Golden decisions: real requests with the decision they got, kept in a file that people review.

Rules of this module
- A file is JSON lines: a head, then one request per line with its signal values, rule and chain. Texts are not kept, only what was found
  in them; keys are, where the policy draws by them.
- The requests are drawn by the MD5 of their ids, some of every rule that takes any: the same trace gives the same file.
- A value that the trace doesn't tell is null. A request is decided again by the query that replays: one whose decision depends on a
  null, or on a signal that was not kept, is said to be so, and counts neither as kept nor as moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from policyroute.backends.sql import CHAIN, RULE, Query, quoted
from policyroute.language.limits import read_signals
from policyroute.language.policy import (
    Apply,
    BoolType,
    EnumType,
    Expression,
    IntType,
    Literal,
    Policy,
    Read,
    Refuse,
    Rule,
    Signal,
    TextType,
    Value,
)  # fmt: skip
from policyroute.prices.catalog import Catalog
from policyroute.replay.options import DECISIVE, Options, Step, silent
from policyroute.replay.prepare import Prepared, prepared
from policyroute.signals.columns import VERSION

EDITION = 1
ROWS = 200


class SnapshotError(Exception):
    """A file that is no snapshot: the message says why, `help` what to do."""

    def __init__(self, message: str, help_: str) -> None:
        super().__init__(message)
        self.help = help_


@dataclass(frozen=True, slots=True)
class Golden:
    """One request: its name in the trace, what the policy saw of it, and the decision. `chain` is empty for a refusal."""

    request: str
    values: Mapping[str, Value | None]
    rule: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """A request whose decision is another one now; `rule` is "" where it depends on what was not kept, and `needs` names that rule."""

    golden: Golden
    rule: str
    chain: tuple[str, ...]
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The requests that are kept for a policy. `source` names the files that they were drawn from."""

    policy: str
    source: tuple[str, ...]
    requests: tuple[Golden, ...]


def drawn(
    policy: Policy, paths: Sequence[str | Path], catalog: Catalog, options: Options, rows: int = ROWS, step: Step = silent
) -> Snapshot:
    """Draw about `rows` requests of a trace, at least one of each rule that takes any; what can't be decided is left out.

    Raises `TraceError` for a trace that can't be read and `SimulationError` for what can't be replayed.
    """
    wide = _reading_all(policy)
    with prepared([wide], paths, catalog, _plain(options), step) as ready:
        chosen = _chosen(ready, policy, rows)
        values = _values(ready, read_signals(wide), [row for row, _ in chosen])
        told = dict(chosen)
        kept = [(told[row], found) for row, found in sorted(values.items())]
        decided = decisions(policy, [found for _, found in kept])
        requests = [
            Golden(name, found, rule, chain)
            for (name, found), (rule, chain) in zip(kept, decided, strict=True)
            if not rule.startswith("?")
        ]
        return Snapshot(policy.name, tuple(sorted({part.name for part in ready.trace.parts})), tuple(requests))


def _reading_all(policy: Policy) -> Policy:
    """The policy with a shadow rule that reads every signal: it decides alike, and a later policy may read what this one doesn't."""
    read = tuple(found for signal in policy.signals.values() if (found := _read(signal)))
    return replace(policy, rules=(Rule("snapshot", Apply("or", read), Refuse("never served"), shadow=True), *policy.rules))


def _read(signal: Signal) -> Expression | None:
    """A condition that reads the signal; keys and texts can't be read."""
    match signal.type:
        case BoolType():
            return Read(signal.name)
        case IntType(low, _):
            return Apply(">=", (Read(signal.name), Literal(low)))
        case EnumType() as type_ if type_.all and signal.kind != "classifier":
            return Apply("in", (Read(signal.name), Literal(type_.all[0])))
    return None


def _plain(options: Options) -> Options:
    return replace(
        options, baseline="recorded", lengths="held", prompt_cache="held", failures=False, details=False, without=DECISIVE
    )


def _chosen(ready: Prepared, policy: Policy, rows: int) -> list[tuple[int, str]]:
    """Numbers and names of the drawn rows: of each rule its share or all it has, then the next ones by hash."""
    ledger, trace = ready.views[0].ledger, ready.trace
    name = "coalesce(CAST(request_id AS VARCHAR), 'row ' || row)" if "request_id" in trace.present else "'row ' || row"
    named = " UNION ALL ".join(f"SELECT row, {name} AS name FROM ({part.relation})" for part in trace.parts)
    decided = " UNION ALL ".join(
        f'SELECT "$row" AS row, "$rule" AS rule FROM ({ledger.rows(source)})' for source, _ in ready.pairs()
    )
    each = max(1, rows // max(1, len(policy.rules)))
    query = f"""
        WITH ranked AS (
            SELECT row, name, row_number() OVER (PARTITION BY rule ORDER BY md5(name), row) AS place, md5(name) AS hash
            FROM ({decided}) JOIN ({named}) USING (row) WHERE rule >= 0
        )
        SELECT row, name FROM ranked ORDER BY place > {each}, hash, row LIMIT {int(rows)}
    """
    return [(int(row), str(told)) for row, told in ready.connection.sql(query).fetchall()]


def _values(ready: Prepared, names: Sequence[str], rows: Sequence[int]) -> dict[int, dict[str, Value | None]]:
    ledger = ready.views[0].ledger
    listed = ", ".join(map(str, rows)) or "-1"
    columns = ", ".join(['"$row"', *map(quoted, names)])
    found: dict[int, dict[str, Value | None]] = {}
    for source in ready.sources[0]:
        query = f"SELECT {columns} FROM ({ledger.signals(f'SELECT * FROM ({source}) WHERE row IN ({listed})')})"
        for row, *values in ready.connection.sql(query).fetchall():
            found[row] = dict(zip(names, values, strict=True))
    return found


def decisions(policy: Policy, requests: Sequence[Mapping[str, Value | None]]) -> list[tuple[str, tuple[str, ...]]]:
    """Rule and chain of each request; `?RULE` for one whose decision at that rule depends on a value that is not there."""
    if not requests:
        return []
    names = [name for name, signal in policy.signals.items() if not isinstance(signal.type, TextType)]
    columns = {name: pa.array([request.get(name) for request in requests], _arrow(policy, name)) for name in names}
    table = pa.table({"$number": pa.array(range(len(requests)), pa.int64())} | columns)
    query = Query(policy, unknown=names)
    with duckdb.connect() as connection:
        connection.register("requests", table)
        told = connection.sql(f'SELECT {RULE}, {CHAIN} FROM ({query.over("requests")}) ORDER BY "$number"').fetchall()
    return [_decision(policy, rule, chain) for rule, chain in told]


def _decision(policy: Policy, rule: int, chain: str | None) -> tuple[str, tuple[str, ...]]:
    if rule < 0:
        return f"?{policy.rules[-1 - rule].name}", ()
    decided = policy.rules[rule]
    if chain is None and not isinstance(decided.target, Refuse):
        return f"?{decided.name}", ()
    return decided.name, tuple(chain.split(",")) if chain else ()


def _arrow(policy: Policy, name: str) -> pa.DataType:
    match policy.signals[name].type:
        case IntType():
            return pa.int64()
        case BoolType():
            return pa.bool_()
    return pa.string()


def flips(policy: Policy, snapshot: Snapshot) -> list[Flip]:
    """The requests that the policy decides otherwise than is kept, or can't decide from what is kept."""
    found = zip(snapshot.requests, decisions(policy, [golden.values for golden in snapshot.requests]), strict=True)
    return [
        Flip(golden, "", (), rule[1:]) if rule.startswith("?") else Flip(golden, rule, chain)
        for golden, (rule, chain) in found
        if (rule, chain) != (golden.rule, golden.chain)
    ]


def updated(policy: Policy, snapshot: Snapshot) -> Snapshot:
    """The same requests with the decisions of the policy; those that it can't decide from what is kept go."""
    found = zip(snapshot.requests, decisions(policy, [golden.values for golden in snapshot.requests]), strict=True)
    requests = [Golden(golden.request, golden.values, rule, chain) for golden, (rule, chain) in found if not rule.startswith("?")]
    return Snapshot(policy.name, snapshot.source, tuple(requests))


# -- files -----------------------------------------------------------------------------------------------------------------


def written(snapshot: Snapshot) -> str:
    """The file's text."""
    head = {"snapshot": EDITION, "policy": snapshot.policy, "source": list(snapshot.source), "extractor": VERSION}
    rows = [{"request": g.request, "rule": g.rule, "chain": list(g.chain), "values": dict(g.values)} for g in snapshot.requests]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (head, *rows))


def read(path: Path) -> Snapshot:
    """A kept file. Raises `SnapshotError` where it is none, or can't be read."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        head, *rows = lines
        if head["snapshot"] != EDITION:
            raise SnapshotError(
                f"`{path}` is a snapshot of edition {head['snapshot']}", "draw it again: `policyroute snapshot TRACE --update`"
            )
        return Snapshot(str(head["policy"]), tuple(head["source"]), tuple(_golden(row) for row in rows))
    except FileNotFoundError:
        raise SnapshotError(f"there is no snapshot `{path}`", "draw one: `policyroute snapshot TRACE`") from None
    except OSError as error:
        raise SnapshotError(f"`{path}` can't be read: {(error.strerror or str(error)).lower()}", "name another file") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SnapshotError(f"`{path}` is no snapshot", "draw one: `policyroute snapshot TRACE`") from None


def _golden(row: dict[str, Any]) -> Golden:
    values = {str(name): value for name, value in row["values"].items() if value is None or isinstance(value, int | str)}
    return Golden(str(row["request"]), values, str(row["rule"]), tuple(str(model) for model in row["chain"]))
