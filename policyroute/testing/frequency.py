"""Findings of an analysis with how often they matter: requests and dollars of a trace, and the real request that is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from policyroute.analysis.finding import Finding
from policyroute.language.policy import Expression, Policy
from policyroute.language.wording import value_text
from policyroute.prices.catalog import Catalog
from policyroute.prices.money import exact_dollars
from policyroute.replay.options import Options, Step, silent
from policyroute.replay.traffic import Real, Traffic, traffic

SHOWN = 6  # signals of a real request that are named


def counted(
    policy: Policy,
    findings: Sequence[Finding],
    paths: Sequence[str | Path],
    catalog: Catalog,
    options: Options,
    step: Step = silent,
) -> list[Finding]:
    """The findings, those that are about certain requests with a note on how many there are in `paths`. `policy` has complete models.

    Raises `TraceError` for a trace that can't be read and `SimulationError` for what can't be replayed.
    """
    placed = [(number, finding.region) for number, finding in enumerate(findings) if finding.region is not None]
    regions: list[Expression] = [region for _, region in placed]
    witnesses = [findings[number].values for number, _ in placed]
    told = traffic(policy, regions, paths, catalog, options, step, witnesses=witnesses)
    found = list(findings)
    for (number, _), seen in zip(placed, told, strict=True):
        diagnostic = findings[number].diagnostic
        notes = (*diagnostic.notes, *_notes(policy, findings[number], seen))
        found[number] = replace(findings[number], diagnostic=replace(diagnostic, notes=notes))
    return found


def _notes(policy: Policy, finding: Finding, seen: Traffic) -> list[str]:
    if not seen.rows:
        unknown = f", {seen.unknown_rows:,} can't be told" if seen.unknown_rows else ""
        return [f"none of the trace's {seen.of:,} requests{unknown}"]
    share = f"{float(seen.share * 100):.2f} %"
    notes = [f"{seen.rows:,} of the trace's {seen.of:,} requests ({share}){_money(seen)}"]
    if seen.unknown_rows:
        notes.append(f"{seen.unknown_rows:,} more can't be told: the trace lacks a signal")
    return notes + ([_real(policy, seen.nearest)] if seen.nearest and finding.values else [])


def _money(seen: Traffic) -> str:
    """What they cost, where it is known for all of them; else for how many it is."""
    parts = []
    for amount, rows, words in ((seen.paid, seen.paid_rows, "as recorded"), (seen.dollars, seen.priced_rows, "under the policy")):
        if rows:
            of = "" if rows == seen.rows else f" ({rows:,} priced)"
            parts.append(f"${exact_dollars(amount)} {words}{of}")
    return f", {', '.join(parts)}" if parts else ""


def _real(policy: Policy, real: Real) -> str:
    told = {name: value for name, value in real.values.items() if value is not None and value != policy.signals[name].default}
    shown = ", ".join(f"{name} {value_text(value)}" for name, value in list(told.items())[:SHOWN])
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return f"the nearest real request: {real.request_id or f'row {real.row}'}: {shown}{more}"
