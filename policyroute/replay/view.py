"""One policy's view of a trace: how its signals are read, by what the report is split, what is drawn for intervals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from policyroute.backends.sql import quoted
from policyroute.language.limits import read_signals
from policyroute.language.policy import BoolType, EnumType, Policy
from policyroute.replay.effects.classified import drawn
from policyroute.replay.extraction import extracted, wanted
from policyroute.replay.ledger import PLAIN, Effects, Ledger
from policyroute.replay.observe import ANSWER, Available, observe, wanted_content
from policyroute.replay.options import CLUSTER, DAY, Options, SimulationError, Step
from policyroute.replay.served import Served
from policyroute.replay.statistics import bag_sql
from policyroute.replay.traces import Part, Trace


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


def _shown(policy: Policy) -> Iterator[str]:
    """Signals that tell how much a classifier is shown."""
    for one in policy.classifiers.values():
        yield from ("last_tokens", "tokens") if one.text == "last" else ("tokens",)


class View:
    """One policy's view of a trace: how its signals are read, by what the report is split, and its ledger."""

    def __init__(
        self,
        policy: Policy,
        trace: Trace,
        options: Options,
        served: Served,
        baseline: str | Ledger,
        place: int = 0,
        effects: Effects = PLAIN,
    ) -> None:
        self.policy = policy
        self.trace = trace
        self.options = options
        columns = trace.present | frozenset(trace.extra)
        self.names = tuple(dict.fromkeys((*read_signals(policy), *_shown(policy))))
        self.segment_signals = [
            s.name for s in policy.signals.values() if s.kind == "declared" and isinstance(s.type, EnumType | BoolType)
        ]
        self.estimated = "input_tokens" not in columns and "messages" in columns
        usage = ("tokens", ANSWER) if self.estimated else ()
        self.content = tuple(dict.fromkeys((*wanted_content(policy, self.names, columns), *usage)))
        available = Available(columns, frozenset(self.content), not trace.relative_time)
        self.told = observe(policy, self.names, available, options.assume)  # what the trace tells
        self.observed = drawn(policy, self.told, options.mix, "request_id" in columns)
        self.cluster = _cluster(options.cluster, columns, dated=not trace.relative_time)
        self.segments = self._segments(columns, available)
        self.ledger = Ledger(
            policy, self.observed, served, baseline=baseline, place=place, segments=self.segments, columns=columns, estimated=self.estimated,
            cold="cached_tokens" in columns, dated=not trace.relative_time, full=options.output is not None or options.details, effects=effects,
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
        if "ts" in columns and not self.trace.relative_time:
            found[DAY] = "CAST(ts AS DATE)"
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
