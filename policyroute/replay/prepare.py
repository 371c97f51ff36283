"""A trace made ready for one or several policies: opened, its models resolved, its signals extracted, prices in a table.

Whatever replays (simulate, tune, diff) begins here, so that all read a trace alike.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from policyroute.backends.sql import literal
from policyroute.language.policy import Policy
from policyroute.language.without import left_out, without
from policyroute.prices.catalog import Catalog
from policyroute.replay.effects import caching, lengths
from policyroute.replay.effects.classified import asked
from policyroute.replay.effects.failures import create_calendar
from policyroute.replay.ledger import PLAIN, Effects, Ledger
from policyroute.replay.options import DECISIVE, Options, SimulationError, Step
from policyroute.replay.outcomes import Outcomes, open_outcomes, served_numbers
from policyroute.replay.served import Served, served_models
from policyroute.replay.state.changes import Changes, changes_of
from policyroute.replay.traces import Trace, open_trace
from policyroute.replay.view import View
from policyroute.state.transitions import stateful


@dataclass(frozen=True)
class Prepared:
    """A trace as the policies see it. `views` are in the order of the policies.

    `sources` holds for each view one SELECT per part of the trace, with the canonical and the extracted columns.
    """

    connection: duckdb.DuckDBPyConnection
    trace: Trace
    served: Served
    views: tuple[View, ...]
    sources: tuple[tuple[str, ...], ...]
    outages: int = 0
    outcomes: Outcomes | None = None
    left_out: tuple[tuple[str, ...], ...] = ()  # of each policy, the constructs that `--without` names

    def pairs(self) -> list[tuple[str, str]]:
        """For each part, the SELECT of the first policy and that of its baseline policy ("" without one).

        The prompt cache's state goes through the whole trace: then all parts are one.
        """
        first = self.sources[0]
        if self.views[0].ledger.effects.cache == caching.MODEL:
            return [(" UNION ALL ".join(f"({source})" for source in first), "")]
        return list(zip(first, self.sources[1] if len(self.sources) > 1 else [""] * len(first), strict=True))

    def rows_of_pairs(self) -> list[int]:
        """How many rows each of `pairs` has."""
        parts = [part.rows for part in self.trace.parts]
        return parts if len(self.pairs()) == len(parts) else [sum(parts)]


@contextmanager
def prepared(
    policies: Sequence[Policy], paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step,
    baselines: Sequence[int | None] = (),
) -> Iterator[Prepared]:  # fmt: skip
    """Open `paths` for `policies`, whose models are completed from `catalog`.

    `baselines` gives for each policy the place of the policy that it is compared with, None for the baseline of `options`.
    Raises `TraceError` for a trace that can't be read and `SimulationError` for what can't be replayed; the
    connection is closed, and what it spilled removed, when the block ends.
    """
    _refuse_unknown(policies, options)
    left = tuple(left_out(policy, options.without) for policy in policies)
    policies = [without(policy, options.without) for policy in policies]
    with tempfile.TemporaryDirectory(prefix="policyroute-") as scratch:
        connection = _connect(options, Path(scratch))
        try:
            ready = _prepared(policies, paths, catalog, options, step, baselines, connection, Path(scratch))
            yield replace(ready, left_out=left)
        except duckdb.Error as error:
            reason = str(error).split("\n", 1)[0]
            raise SimulationError(f"the trace can't be replayed: {reason}", _remedy(error)) from error
        finally:
            connection.close()


def _prepared(
    policies: Sequence[Policy], paths: Sequence[str | Path], catalog: Catalog, options: Options, step: Step,
    baselines: Sequence[int | None], connection: duckdb.DuckDBPyConnection, scratch: Path,
) -> Prepared:  # fmt: skip
    trace = open_trace(
        paths, connection=connection, format=options.format, mapping=options.mapping, incumbent=options.incumbent, scratch=scratch
    )
    served = served_models(connection, trace.relation, policies, catalog)
    folder = _writable(options.cache) or scratch / "signals"
    places = [*baselines, *([None] * (len(policies) - len(baselines)))]
    effects = chosen(trace, options)
    outages = create_calendar(connection, trace.relation, served, policies[0], served.numbers[0]) if effects.failures else 0
    effects = replace(effects, failures=outages > 0)
    if effects.cache == caching.MODEL:
        caching.create_rules(connection, served)
    outcomes = open_outcomes(options.outcomes, connection, options.outcomes_format) if options.outcomes else None
    if outcomes is not None and effects.lengths == lengths.PAIRED:
        effects = replace(effects, outcomes=outcomes.numbered(served_numbers(policies[0], served, outcomes)))
    views: dict[int, View] = {}
    for number, place in sorted(enumerate(places), key=lambda item: item[1] is not None):
        baseline: str | Ledger = options.baseline if place is None else views[place].ledger
        views[number] = View(
            policies[number], trace, options, served, baseline, place=number, effects=effects if number == 0 else PLAIN
        )
    ordered = tuple(views[number] for number in range(len(policies)))
    sources = tuple(tuple(view.sources(connection, folder, step)) for view in ordered)
    connection.execute(ordered[0].ledger.prices.create_sql())
    if options.ask is not None and policies[0].classifiers:
        with step("asking classifiers", trace.rows) as advance:
            sources = (asked(connection, ordered[0].ledger, sources[0], options.ask, advance), *sources[1:])
        ordered[0].observed = dict(ordered[0].ledger.observed)
    for number, view in enumerate(ordered):
        if stateful(view.policy):
            view.ledger.changes = followed(connection, view, sources[number], number, scratch, step)
    return Prepared(connection, trace, served, ordered, sources, outages, outcomes)


def followed(
    connection: duckdb.DuckDBPyConnection, view: View, sources: Sequence[str], number: int, scratch: Path, step: Step
) -> Changes:  # fmt: skip
    """What state makes of the decisions of a policy, over the whole trace in its order. Raises SimulationError."""
    columns = view.trace.present | frozenset(view.trace.extra)
    if "ts" not in columns:
        titles = [one.title for one in (*((view.policy.sticky,) if view.policy.sticky else ()), *view.policy.allowances)]
        raise SimulationError(
            f"{', '.join(f'`{title}`' for title in titles)} can't be replayed: the trace has no times",
            "`--without sticky,quota,budget` replays the policy as if it had none of them, and the report says so",
        )
    with step("following state", view.trace.rows) as advance:
        return changes_of(connection, view.ledger, columns, sources, str(number), scratch, advance)


def chosen(trace: Trace, options: Options) -> Effects:
    """The effects that are asked for, or that the trace can carry."""
    columns = trace.present
    able = caching.able(columns) and options.baseline == "recorded" and options.baseline_policy is None
    cache = options.prompt_cache or (caching.MODEL if able else caching.HELD)
    if cache == caching.MODEL and not able:
        raise SimulationError(
            "the prompt cache can't be modelled: that takes conversations, times and cached tokens, and `recorded` as baseline",
            "`--cache held` keeps cached tokens as recorded; `--cache off` takes none for a changed model",
        )
    if options.lengths == lengths.PAIRED and options.outcomes is None:
        raise SimulationError("paired lengths need the answers of all models", "give them as `--outcomes FILE`")
    if options.lengths == lengths.MODELLED and (options.baseline != "recorded" or options.baseline_policy is not None):
        raise SimulationError(
            "lengths are modelled from the recorded models", "leave `--baseline` at `recorded`, or give a table of ratios"
        )
    failing = options.failures and "ts" in columns and bool({"status_code", "error_type"} & columns)
    return Effects(lengths=lengths.HELD if options.lengths == lengths.HELD else str(options.lengths), cache=cache, failures=failing)


def _writable(folder: Path | None) -> Path | None:
    """`folder`, made if need be, or None where nothing can be kept in it: then signals are extracted anew each time."""
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _remedy(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.OutOfMemoryException):
        return "a larger `--memory`, or fewer `--threads`"
    return "check that the trace is whole; `policyroute import` writes it anew"


def _refuse_unknown(policies: Sequence[Policy], options: Options) -> None:
    """A name that no policy has anything of can't be left out."""
    titles = [construct.title for policy in policies for construct in policy.constructs if construct.kind in DECISIVE]
    for name in options.without:
        if name not in DECISIVE and name not in titles:
            raise SimulationError(f"there is no `{name}` to leave out", f"`--without` takes {', '.join((*DECISIVE, *titles))}")


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
