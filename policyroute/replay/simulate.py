"""`simulate`: a policy over a trace. Opens nothing but the trace, decides in DuckDB, and gives one result value."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

import policyroute
from policyroute.backends.sql import literal
from policyroute.language.policy import Policy
from policyroute.language.statements import Gate
from policyroute.prices.catalog import Catalog
from policyroute.replay.details import Details, details
from policyroute.replay.effects import caching, prefixes
from policyroute.replay.effects.classified import Bound, bounds
from policyroute.replay.effects.lengths import Ratio
from policyroute.replay.figures import Json
from policyroute.replay.gates.sums import GateSums, gate_bags
from policyroute.replay.ledger import Effects, Ledger
from policyroute.replay.measures import Partial, compute, merge_partials
from policyroute.replay.observe import Observed
from policyroute.replay.options import CLUSTER, DAY, Options, SimulationError, Step, silent
from policyroute.replay.prepare import Prepared, prepared
from policyroute.replay.quality import quality
from policyroute.replay.ratios import create_lengths
from policyroute.replay.served import Served
from policyroute.replay.state.changes import changes_of
from policyroute.replay.state.told import StateReport, state_report
from policyroute.replay.traces import Trace
from policyroute.replay.view import View
from policyroute.signals.columns import VERSION


@dataclass(frozen=True)
class Simulation:
    """Everything that a report is made from: whole numbers, and the values that say what they mean."""

    policy: Policy
    options: Options
    trace: Trace
    served: Served
    observed: dict[str, Observed]
    segments: tuple[str, ...]
    cluster: str | None
    numbers: Partial
    effects: Effects
    ratios: tuple[Ratio, ...]
    cache_check: dict[str, int] | None
    prefix_check: dict[str, int] | None
    outages: int
    details: Details | None
    quality: Json
    gates: tuple[tuple[Gate, GateSums], ...]
    prices: str
    prices_digest: str
    left_out: tuple[tuple[str, ...], ...] = ()
    state: StateReport | None = None
    bounds: tuple[Bound, ...] = ()  # what a classifier's answers could do, where they were drawn

    @property
    def engine(self) -> str:
        """What computed this: the version of policyroute and of its extractor."""
        return f"policyroute {policyroute.__version__}, extractor {VERSION}"

    @property
    def engine_digest(self) -> str:
        return hashlib.sha256(self.engine.encode()).hexdigest()


def simulate(policy: Policy, paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step = silent) -> Simulation:
    """Replay `paths` under a policy whose models are completed from `catalog`.

    Raises `TraceError` for a trace that can't be read and `SimulationError` for what can't be replayed.
    """
    other = options.baseline_policy
    policies, baselines = ([policy, other], [1, None]) if other else ([policy], [None])
    with prepared(policies, paths, catalog, options, step, baselines) as ready:
        return _simulate(ready, catalog, options, step)


def _simulate(ready: Prepared, catalog: Catalog, options: Options, step: Step) -> Simulation:
    view, trace, connection = ready.views[0], ready.trace, ready.connection
    sources = ready.pairs()
    ratios = create_lengths(connection, view.ledger, [source for source, _ in sources])
    partials = []
    with step("deciding", trace.rows) as advance:
        for rows, pair in zip(ready.rows_of_pairs(), sources, strict=True):
            partials.append(compute(connection, view.ledger, *pair))
            advance(rows)
    numbers = merge_partials(partials)
    seconds = None if numbers.first is None or numbers.last is None else (numbers.last - numbers.first) // 1_000_000
    judged = tuple((gate, gate_bags(connection, view, sources, gate)) for gate in options.gates)
    texts = [part.relation for part in trace.parts] if options.with_text else []
    found = details(connection, view.ledger, sources, step, texts) if options.details else None
    if options.output is not None:
        _write(connection, view, sources, options.output, step)
    return Simulation(
        policy=view.policy, options=options, trace=trace, served=ready.served, observed=view.observed,
        segments=tuple(name for name in view.segments if name not in (CLUSTER, DAY)), cluster=view.cluster, numbers=numbers,
        effects=view.ledger.effects, ratios=tuple(ratios), cache_check=_cache_check(connection, view.ledger, sources),
        prefix_check=prefixes.check(connection, trace.relation) if prefixes.COLUMN in trace.extra and "ts" in trace.present else None, outages=ready.outages,
        details=found, quality=quality(ready, view.policy, catalog, options.feedback, seconds), gates=judged, prices=catalog.version, prices_digest=catalog.digest,
        left_out=ready.left_out, state=state_report(ready), bounds=_bounds(ready, options),
    )  # fmt: skip


def _bounds(ready: Prepared, options: Options) -> tuple[Bound, ...]:
    if not options.mix:
        return ()
    ledger, pairs = ready.views[0].ledger, ready.pairs()

    def follow(other: Ledger, name: str) -> None:
        with tempfile.TemporaryDirectory(prefix="policyroute-") as scratch:
            other.changes = changes_of(
                ready.connection, other, ledger.columns, [source for source, _ in pairs], name, Path(scratch)
            )

    return tuple(bounds(ready.connection, ledger, ready.views[0].told, pairs, options.mix, follow))


def _cache_check(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, sources: Sequence[tuple[str, str]]
) -> dict[str, int] | None:
    """How far the model of the prompt cache is off on the recorded calls themselves."""
    if ledger.effects.cache != caching.MODEL:
        return None
    ((source, _),) = sources
    return caching.check(connection, ledger.recorded(source), ledger.prices)


def _write(connection: duckdb.DuckDBPyConnection, view: View, sources: Sequence[tuple[str, str]], target: Path, step: Step) -> None:
    """Decisions as parquet, in the order of the trace; the file appears whole or not at all."""
    query = " UNION ALL ".join(f"({view.ledger.decisions(*pair)})" for pair in sources)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with step("writing", view.trace.rows) as advance:
            connection.execute(
                f"COPY (SELECT * FROM ({query}) ORDER BY row) TO {literal(partial)} (FORMAT parquet, COMPRESSION zstd)"
            )
            advance(view.trace.rows)
        partial.replace(target)
    except (OSError, duckdb.Error) as error:
        raise SimulationError(f"`{target}` can't be written: {error}", "check the folder and the space on its disk") from None
    finally:
        partial.unlink(missing_ok=True)
