"""What gates are judged from: whole numbers per bag of clusters, which merge by addition, and where a gate's trace lies.

One more streaming query over the ledger, asked only where a gate is. Shares are of the requests whose decision is known;
money is that of the classes which carry a saving, as in the report.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from policyroute.backends.sql import MODEL, RULE, literal, quoted
from policyroute.language.policy import Policy
from policyroute.language.statements import Gate
from policyroute.replay.ledger import CLASSES, PRICED, REFUSED, UNKNOWN, UNROUTABLE, Ledger
from policyroute.replay.options import CLUSTER, SimulationError
from policyroute.replay.view import View

Sums = dict[str, int]


@dataclass(frozen=True)
class GateSums:
    """The sums of each bag by name, the column that bags are of (None: nothing to draw), and the trace's first and last
    moment in microseconds. `shares` are the arguments of `share(...)` in the order of the sums `in 0`, `in 1`, ..."""

    bags: Mapping[int, Sums]
    cluster: str | None
    shares: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None
    timed: bool = False

    def total(self, name: str) -> int:
        """One sum over all bags."""
        return sum(sums[name] for sums in self.bags.values())

    @property
    def seconds(self) -> int:
        """The time that the trace covers; 0 where it has no times."""
        return 0 if self.first is None or self.last is None else (self.last - self.first) // 1_000_000


def gate_bags(connection: duckdb.DuckDBPyConnection, view: View, sources: Sequence[tuple[str, str]], gate: Gate) -> GateSums:
    """The sums that `gate` is judged from. `sources` are pairs of a part's SELECT and that of its baseline ("" for none)."""
    asked = [requirement for requirement in gate.requirements if requirement.metric == "share"]
    shares = tuple(dict.fromkeys(requirement.argument for requirement in asked))
    columns = view.trace.present
    timed = "latency_ms" in columns and any(requirement.metric == "latency" for requirement in gate.requirements)
    measures = _sums(view.ledger, shares, timed)
    key = quoted(f"$by {CLUSTER}") if view.cluster is not None else "'0'"
    moments = 'epoch_us(min("$ts")), epoch_us(max("$ts"))'
    parts = []
    for source, baseline in sources:
        rows = view.ledger.rows(source, baseline)
        if timed:
            rows = _timed(rows, source)
        found = connection.sql(f"SELECT {key}, {moments}, {', '.join(measures.values())} FROM ({rows}) GROUP BY 1").fetchall()
        parts += [(int(row[0], 16), row[1], row[2], dict(zip(measures, map(int, row[3:]), strict=True))) for row in found]
    firsts, lasts = [part[1] for part in parts if part[1] is not None], [part[2] for part in parts if part[2] is not None]
    bags = _merged((bag, sums) for bag, _, _, sums in parts)
    return GateSums(bags, view.cluster, shares, min(firsts, default=None), max(lasts, default=None), timed)


def _merged(parts: Iterable[tuple[int, Sums]]) -> dict[int, Sums]:
    bags: dict[int, Sums] = {}
    for bag, sums in parts:
        before = bags.get(bag)
        bags[bag] = sums if before is None else {name: number + before[name] for name, number in sums.items()}
    return dict(sorted(bags.items()))


def _sums(ledger: Ledger, shares: Sequence[str], timed: bool) -> dict[str, str]:
    """Each sum's SQL over the ledger's rows."""
    priced = f'"$class" IN ({_places(PRICED)})'
    known = f'"$class" <> {CLASSES.index(UNKNOWN)}'
    named = f'{known} AND {MODEL} >= 0 AND "$new" >= 0 AND "$old" >= 0'
    sums = {
        "rows": "count(*)",
        "known": _count(known),
        "money known": 'count("$old_cost")',
        "old of all": 'coalesce(sum("$old_cost"), 0)',
        "old": f'coalesce(sum("$old_cost") FILTER (WHERE {priced}), 0)',
        "new": f'coalesce(sum("$new_cost") FILTER (WHERE {priced}), 0)',
        "saved": f'coalesce(sum("$old_cost" - "$new_cost") FILTER (WHERE {priced}), 0)',
        "spend": f'coalesce(sum("$old_cost" + "$new_cost") FILTER (WHERE {priced}), 0)',
        "named": _count(f'{known} AND ({MODEL} < 0 OR "$new" < 0 OR "$old" >= 0)'),
        "compared": _count(named),
        "changed": _count(f'{named} AND "$changed"'),
        "refused": _count(f'"$class" IN ({_places((REFUSED, UNROUTABLE))})'),
    }
    for number, name in enumerate(shares):
        inside = f"({known} AND ({_inside(ledger, name)}))"
        sums |= {f"in {number}": _count(inside), f"of {number}": _count(f"{inside} IS NOT NULL AND {known}")}
    if timed:
        answered = f'{known} AND {MODEL} >= 0 AND "$new" >= 0'
        same = f'{answered} AND "$recorded_model" = "$new" AND "$latency" IS NOT NULL'
        sums |= {
            "answered": _count(answered),
            "timed": _count(same),
            "latency": f'coalesce(sum("$latency") FILTER (WHERE {same}), 0)',
        }
    return sums


def _count(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def _places(classes: Sequence[str]) -> str:
    return ", ".join(str(CLASSES.index(name)) for name in classes)


def _inside(ledger: Ledger, name: str) -> str:
    """Whether a row is of the tier, model or rule `name`; a name that is several of them is the first.

    A tier's are the requests that a rule sends to that tier and that some model of it may take; a model's are those that it
    answers; a rule's those that it takes, and a shadow rule's those that it would take.
    """
    policy = ledger.policy
    if name in policy.tiers:
        return f"{MODEL} >= 0 AND coalesce({ledger.tiers()} = {literal(name)}, FALSE)"
    if name in policy.models:
        return f'{MODEL} >= 0 AND "$new" = {ledger.numbers[list(policy.models).index(name)]}'
    if name in ledger.query.shadows():
        return ledger.query.shadows()[name]
    return f"{RULE} = {[rule.name for rule in policy.rules].index(name)}"


def _timed(rows: str, source: str) -> str:
    """The rows with the recorded latency in microseconds, and the number of the model that it was recorded of."""
    recorded = 'SELECT row AS "$row", CAST(round(latency_ms * 1000) AS BIGINT) AS "$latency", model AS "$m", provider AS "$p"'
    return (
        f'SELECT r.*, t."$latency", s."$served" AS "$recorded_model" FROM ({rows}) r JOIN ({recorded} FROM ({source})) t USING ("$row") '
        f'LEFT JOIN served s ON s.model = t."$m" AND s.provider IS NOT DISTINCT FROM t."$p"'
    )


# -- where a gate's trace and baseline are -------------------------------------------------------------------------


def gate_traces(gate: Gate, policy_path: Path) -> list[str | Path]:
    """What `on` names, for a replay: looked for from the working folder first, then beside the policy's file.

    Raises `SimulationError` where there is nothing in either place.
    """
    named = gate.traces.removeprefix("duckdb:")
    if named != gate.traces:
        file, _, table = named.rpartition("/")
        for folder in (Path(), policy_path.parent):
            if (folder / file).is_file():
                return [f"duckdb:{folder / file}/{table}"]
    elif Path(named).exists() or _matches(named):
        return [named]
    elif (policy_path.parent / named).exists():
        return [policy_path.parent / named]
    elif _matches(beside := str(Path(glob.escape(str(policy_path.parent))) / named)):
        return [beside]
    raise SimulationError(
        f"gate `{gate.name}` is judged on `{gate.traces}`, and there is no such trace",
        f"it is looked for from the working folder, then from `{policy_path.parent}`; start where the traces are, or write the path from the policy's file",
    )


def _matches(pattern: str) -> bool:
    return glob.has_magic(pattern) and bool(glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute patterns


def gate_baseline(gate: Gate, policy: Policy) -> str:
    """What `against` names, as a replay's baseline: a tier stands for its first model."""
    chain = policy.tiers.get(gate.baseline)
    return chain[0] if chain else gate.baseline


def chosen_gates(policy: Policy, name: str) -> tuple[Gate, ...]:
    """The gate `name`, or with `all` every one. Raises `SimulationError` where there is none."""
    if not policy.gates:
        raise SimulationError(
            f"policy `{policy.name}` has no gate", 'write one: `gate release on "traces/*.parquet" against recorded { ... }`'
        )
    known = {gate.name: gate for gate in policy.gates}
    if name in known:
        return (known[name],)
    if name == "all":
        return policy.gates
    raise SimulationError(f"there is no gate `{name}`", f"gates are {', '.join(f'`{each}`' for each in known)}, or `all`")
