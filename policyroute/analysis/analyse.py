"""All analyses of one policy, with the solver that there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from policyroute.analysis import chains, declarations, overlaps, owners, rules, stateful
from policyroute.analysis.finding import Finding
from policyroute.analysis.guarantees import Prices, verdicts
from policyroute.analysis.intervals import Intervals
from policyroute.analysis.kept import Kept
from policyroute.analysis.remote import PROOF_TIME, Remote, available
from policyroute.analysis.solver import Solver
from policyroute.analysis.witness import Witnesses
from policyroute.language.policy import Policy, Value
from policyroute.language.reference import evaluate
from policyroute.language.source import Source

UNPROVEN = "not-proven"


@dataclass(frozen=True)
class Analysis:
    """What was found in one policy. `proved` are the guarantees that hold for every possible request.

    `skipped` counts questions that only a proof could have answered, where no solver was there. `seconds` is the time by kind of finding.
    """

    findings: tuple[Finding, ...]
    proved: tuple[str, ...]
    skipped: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of an analysis: `seconds` for all proofs together; `proofs` False does without z3, None takes what there is;
    `pairs` adds overlaps, `owners` rules without an owner. `source` is the policy's own file, whose declarations are looked at.
    `folder` is where answers are kept (None: the user's cache folder)."""

    seconds: float = PROOF_TIME
    proofs: bool | None = None
    pairs: bool = False
    owners: bool = False
    source: Source | None = None
    folder: Path | None = None


def analyse(policy: Policy, prices: Prices, asked: Asked = Asked(), now: datetime | None = None) -> Analysis:
    """Analyse a policy whose models are complete. `now` (UTC) decides which prices are still valid and which rules have expired."""
    with ExitStack() as stack:
        proving = available() if asked.proofs is None else asked.proofs
        solver: Solver = stack.enter_context(Remote(policy, asked.seconds)) if proving else Intervals(policy, asked.seconds)
        kept = Kept(solver, asked.folder) if proving else None
        work = _Work(kept or solver, prices, now or datetime.now(UTC), asked, proving)
        witnesses = Witnesses(policy)
        found = [_witnessed(witnesses, finding) for finding in work.findings()]
        if kept:
            kept.save()
    decided = [finding for finding in found if proving or finding.diagnostic.code != UNPROVEN]
    return Analysis(tuple(decided), tuple(work.proved), len(found) - len(decided), work.seconds)


class _Work:
    def __init__(self, solver: Solver, prices: Prices, now: datetime, asked: Asked, proving: bool) -> None:
        self.solver, self.prices, self.now, self.asked, self.proving = solver, prices, now, asked, proving
        self.proved: list[str] = []
        self.seconds: dict[str, float] = {}

    def findings(self) -> Iterator[Finding]:
        """Kind after kind, each timed."""
        policy, source = self.solver.policy, self.asked.source
        kinds: dict[str, Callable[[], Iterator[Finding]]] = {
            "owners": lambda: owners.findings(policy, self.now.date(), self.asked.owners),
            "declarations": lambda: declarations.findings(policy, source) if source else iter(()),
            "rules": lambda: rules.findings(self.solver),
            "chains": lambda: chains.findings(self.solver),
            "state": lambda: stateful.findings(self.solver, proofs=self.proving),
            "guarantees": self._guarantees,
        }
        if self.asked.pairs:
            kinds["overlaps"] = lambda: overlaps.findings(self.solver)
        for kind, findings in kinds.items():
            begun = time.perf_counter()
            yield from findings()
            self.seconds[kind] = time.perf_counter() - begun

    def _guarantees(self) -> Iterator[Finding]:
        for verdict in verdicts(self.solver, self.prices, self.now):
            if verdict.finding:
                yield verdict.finding
            else:
                self.proved.append(verdict.guarantee)


def _witnessed(witnesses: Witnesses, finding: Finding) -> Finding:
    """The finding with its request as a test block: what the policy does with it now."""
    if not finding.values:
        return finding
    region = finding.region

    def shows(values: Mapping[str, Value]) -> bool:
        return region is None or bool(evaluate(region, values))

    block = witnesses.of(finding.values, shows).test(finding.diagnostic.message.replace("`", "").replace('"', "'"))
    return replace(finding, diagnostic=replace(finding.diagnostic, witness=block))
