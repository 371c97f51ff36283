"""`simulate`: a policy over a trace. Opens nothing but the trace, decides in DuckDB, and gives one result value."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

import policyroute
from policyroute.backends.sql import literal, quoted
from policyroute.language.limits import read_signals
from policyroute.language.policy import BoolType, EnumType, Policy, Value
from policyroute.prices.catalog import Catalog
from policyroute.replay.extraction import extracted, wanted
from policyroute.replay.ledger import Ledger, Served, served_models
from policyroute.replay.measures import Partial, compute, merge_partials
from policyroute.replay.observe import ANSWER, Available, Observed, observe, wanted_content
from policyroute.replay.statistics import bag_sql
from policyroute.replay.traces import Part, Trace, open_trace
from policyroute.signals.columns import VERSION

# Constructs that change decisions or money of a replay, which this version doesn't compute: they have to be left out by name.
DECISIVE = ("sticky", "quota", "budget", "escalate")


CLUSTER = "$cluster"  # the segment that intervals are computed from


class SimulationError(Exception):
    """The replay can't be done as asked: what is wrong, and the remedy."""

    def __init__(self, message: str, help_: str) -> None:
        super().__init__(message)
        self.message, self.help = message, help_


@dataclass(frozen=True)
class Options:
    """What `simulate` can be told.

    `cluster` is the column (or `day`) whose values are drawn for intervals, None for the best that the trace has; `cache` is
    the folder of extracted signals, None to keep none.
    """

    baseline: str = "recorded"
    baseline_policy: Policy | None = None
    assume: Mapping[str, Value] = field(default_factory=dict)
    without: Sequence[str] = ()
    by: Sequence[str] = ()
    cluster: str | None = None
    format: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    incumbent: str | None = None
    cache: Path | None = None
    output: Path | None = None
    threads: int | None = None
    memory: str | None = None


Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def silent(_what: str, _rows: int) -> AbstractContextManager[Callable[[int], None]]:
    """No progress is shown."""
    return nullcontext(lambda _rows: None)


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
    _refuse_undecided([policy, *([options.baseline_policy] if options.baseline_policy else [])], options)
    with tempfile.TemporaryDirectory(prefix="policyroute-") as scratch:
        connection = _connect(options, Path(scratch))
        try:
            return _simulate(policy, paths, catalog, options, step, connection, Path(scratch))
        except duckdb.Error as error:
            reason = str(error).split("\n", 1)[0]
            raise SimulationError(f"the trace can't be replayed: {reason}", _remedy(error)) from error
        finally:
            connection.close()


def _remedy(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.OutOfMemoryException):
        return "a larger `--memory`, or fewer `--threads`"
    return "check that the trace is whole; `policyroute import` writes it anew"


def _refuse_undecided(policies: Sequence[Policy], options: Options) -> None:
    undecided = [construct for policy in policies for construct in policy.constructs if construct.kind in DECISIVE]
    titles = [construct.title for construct in undecided]
    for name in options.without:
        if name not in DECISIVE and name not in titles:
            raise SimulationError(f"there is no `{name}` to leave out", f"`--without` takes {', '.join((*DECISIVE, *titles))}")
    left = [
        construct.title
        for construct in undecided
        if construct.kind not in options.without and construct.title not in options.without
    ]
    if left:
        kinds = ",".join(dict.fromkeys(construct.kind for construct in undecided if construct.title in left))
        raise SimulationError(
            f"this version doesn't replay {', '.join(f'`{title}`' for title in left)}, which could change decisions",
            f"`--without {kinds}` replays the policy as if it had none of them, and the report says so",
        )


def _connect(options: Options, scratch: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"temp_directory": str(scratch), "preserve_insertion_order": True})
    if options.threads:
        connection.execute(f"SET threads = {int(options.threads)}")
    if options.memory:
        try:
            connection.execute(f"SET memory_limit = {literal(options.memory)}")
        except duckdb.Error:
            raise SimulationError(f"`{options.memory}` is not an amount of memory", "write it as `--memory 400MB`") from None
    return connection


def _simulate(
    policy: Policy, paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step,
    connection: duckdb.DuckDBPyConnection, scratch: Path,
) -> Simulation:  # fmt: skip
    trace = open_trace(
        paths, connection=connection, format=options.format, mapping=options.mapping, incumbent=options.incumbent, scratch=scratch
    )
    other = options.baseline_policy
    served = served_models(connection, trace.relation, [policy, *([other] if other else [])], catalog)
    folder = _writable(options.cache) or scratch / "signals"
    baseline: str | Ledger = options.baseline
    baseline_sources = [""] * len(trace.parts)
    if other is not None:
        before = _View(other, trace, options, served, "recorded", place=1)
        baseline, baseline_sources = before.ledger, before.sources(connection, folder, step)
    view = _View(policy, trace, options, served, baseline)
    sources = list(zip(view.sources(connection, folder, step), baseline_sources, strict=True))
    connection.execute(view.ledger.prices.create_sql())
    partials = []
    with step("deciding", trace.rows) as advance:
        for part, pair in zip(trace.parts, sources, strict=True):
            partials.append(compute(connection, view.ledger, *pair))
            advance(part.rows)
    if options.output is not None:
        _write(connection, view, sources, options.output, step)
    return Simulation(
        policy,
        options,
        trace,
        served,
        view.observed,
        tuple(name for name in view.segments if name != CLUSTER),
        view.cluster,
        merge_partials(partials),
        catalog.version,
        catalog.digest,
    )


def _writable(folder: Path | None) -> Path | None:
    """`folder`, made if need be, or None where nothing can be kept in it: then signals are extracted anew each time."""
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _cluster(asked: str | None, columns: frozenset[str], *, dated: bool) -> str | None:
    """What is drawn for intervals: users, else conversations, else days."""
    days = ["day"] if "ts" in columns and dated else []
    able = [*(name for name in ("user_id", "conversation_id") if name in columns), *days]
    if asked is None:
        return able[0] if able else None
    name = {"user": "user_id", "conversation": "conversation_id"}.get(asked, asked)
    if name not in columns and name not in days:
        raise SimulationError(
            f"the trace has no `{asked}` to cluster by", f"`--cluster` takes {', '.join(f'`{one}`' for one in able)} or a column"
        )
    return name


def _cluster_key(cluster: str) -> str:
    """A cluster's key as text; a request without one is a cluster of its own."""
    key = "CAST(CAST(ts AS DATE) AS VARCHAR)" if cluster == "day" else f"nullif(CAST({quoted(cluster)} AS VARCHAR), '')"
    return f"coalesce({key}, 'row ' || row)"


class _View:
    """One policy's view of a trace: how its signals are read, by what the report is split, and its ledger."""

    def __init__(
        self, policy: Policy, trace: Trace, options: Options, served: Served, baseline: str | Ledger, place: int = 0
    ) -> None:
        self.policy = policy
        self.trace = trace
        self.options = options
        columns = trace.present | frozenset(trace.extra)
        self.names = read_signals(policy)
        self.segment_signals = [
            s.name for s in policy.signals.values() if s.kind == "declared" and isinstance(s.type, EnumType | BoolType)
        ]
        self.estimated = "input_tokens" not in columns and "messages" in columns
        usage = ("tokens", ANSWER) if self.estimated else ()
        self.content = tuple(dict.fromkeys((*wanted_content(policy, self.names, columns), *usage)))
        available = Available(columns, frozenset(self.content), not trace.relative_time)
        self.observed = observe(policy, self.names, available, options.assume)
        self.cluster = _cluster(options.cluster, columns, dated=not trace.relative_time)
        self.segments = self._segments(columns, available)
        self.ledger = Ledger(
            policy, self.observed, served, baseline=baseline, place=place, segments=self.segments, columns=columns, estimated=self.estimated,
            cold="cached_tokens" in columns, dated=not trace.relative_time, full=options.output is not None,
        )  # fmt: skip

    def _segments(self, columns: frozenset[str], available: Available) -> dict[str, str]:
        seen = observe(self.policy, self.segment_signals, available, self.options.assume)
        found = {name: one.sql for name, one in seen.items() if not one.unknown}
        found |= {name: quoted(name) for name in ("team", "user_id") if name in columns}
        for name in self.options.by:
            if name not in columns:
                known = ", ".join(f"`{column}`" for column in sorted(columns))
                raise SimulationError(f"the trace has no column `{name}`", f"columns with values: {known}")
            found[name] = quoted(name)
        if self.cluster is not None:
            found[CLUSTER] = bag_sql(_cluster_key(self.cluster))
        return found

    def sources(self, connection: duckdb.DuckDBPyConnection, folder: Path, step: Step) -> list[str]:
        """For each part, a SELECT with the canonical and the extracted columns."""
        if not self.content:
            return [part.relation for part in self.trace.parts]
        needed = wanted(self.policy, self.content)
        with step("extracting", self.trace.rows) as advance:
            return [extracted(connection, self._keyed(part), needed, folder, advance) for part in self.trace.parts]

    def _keyed(self, part: Part) -> Part:
        """The part under a digest that also covers how it is read."""
        stamp = f"{part.digest}\n{self.trace.format}\n{sorted(self.options.mapping.items())!r}"
        return Part(part.name, part.relation, part.rows, hashlib.sha256(stamp.encode()).hexdigest())


def _write(
    connection: duckdb.DuckDBPyConnection, view: _View, sources: Sequence[tuple[str, str]], target: Path, step: Step
) -> None:
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
