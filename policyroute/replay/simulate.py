"""`simulate`: a policy over a trace. Opens nothing but the trace, decides in DuckDB, and gives one result value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

import policyroute
from policyroute.backends.sql import literal
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog
from policyroute.replay.ledger import Served
from policyroute.replay.measures import Partial, compute, merge_partials
from policyroute.replay.observe import Observed
from policyroute.replay.options import CLUSTER, Options, SimulationError, Step, silent
from policyroute.replay.prepare import Prepared, prepared
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
    prices: str
    prices_digest: str

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
    view, trace = ready.views[0], ready.trace
    before = ready.sources[1] if len(ready.sources) > 1 else [""] * len(trace.parts)
    sources = list(zip(ready.sources[0], before, strict=True))
    partials = []
    with step("deciding", trace.rows) as advance:
        for part, pair in zip(trace.parts, sources, strict=True):
            partials.append(compute(ready.connection, view.ledger, *pair))
            advance(part.rows)
    if options.output is not None:
        _write(ready.connection, view, sources, options.output, step)
    segments = tuple(name for name in view.segments if name != CLUSTER)
    return Simulation(
        view.policy, options, trace, ready.served, view.observed, segments, view.cluster, merge_partials(partials), catalog.version, catalog.digest
    )  # fmt: skip


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
