"""Gateways side by side on the same mock upstream: overhead, throughput, streams, memory, cold start.

    python benchmarks/gateway.py [--install] [--smoke] [--only NAME,...] [--rounds N] [--seconds S] [--peers DIR]

`policyroute serve` with everything on against LiteLLM's proxy, Portkey's gateway, Envoy and nginx; `direct` is the mock itself.
Linux, with a C compiler. `--install` fetches the peers into environments of their own (pip, npm, apt-get download); without it
those that aren't there are left out and named. In each round every contestant is started, measured and stopped in its turn.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from textwrap import shorten

import peers
from gateway import tables
from gateway.contestants import CONTESTANTS, OURS, AbsentError, Contestant
from gateway.measure import DidNotStartError, Figures, Target, cells, measure, started, warm_up
from gateway.native import CannotMeasureError, Client, Mock, built
from harness import Report

NAMES = (tables.DIRECT, *CONTESTANTS)
FILES = 8192  # that may be open at the same time
Results = dict[str, dict[str, list[Figures]]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Gateways side by side on the same mock upstream.")
    parser.add_argument("--smoke", action="store_true", help="small and quick; fails below half of a claimed ratio")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(NAMES)} (`direct` always takes part)")
    parser.add_argument("--rounds", type=int, help="rounds (3; 1 in a smoke run)")
    parser.add_argument("--seconds", type=float, help="seconds of one cell (4; 1 in a smoke run)")
    parser.add_argument(
        "--peers", type=Path, default=peers.folder().parent / "gateway", help="where the peers are kept (%(default)s)"
    )
    parser.add_argument("--install", action="store_true", help="install the peers that aren't there")
    found = parser.parse_args()
    found.rounds = found.rounds or (1 if found.smoke else 3)
    found.seconds = found.seconds or (1.0 if found.smoke else 4.0)
    found.only = set(found.only.split(",")) if found.only else set(NAMES)
    if unknown := found.only - set(NAMES):
        parser.error(f"who is {', '.join(sorted(unknown))}? There are {', '.join(NAMES)}")
    return found


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def present(options: argparse.Namespace) -> tuple[list[Contestant], dict[str, str], dict[str, str]]:
    """Who takes part, their versions, and why others don't."""
    taking, versions, absent = [], {}, {}
    for name, each in CONTESTANTS.items():
        if name not in options.only:
            continue
        try:
            versions[name] = _version(each, options.peers / name, options.install)
            taking.append(each)
        except AbsentError as reason:
            absent[name] = str(reason)
            _say(f"  {each.title}: {reason}")
    return taking, versions, absent


def _version(contestant: Contestant, home: Path, install: bool) -> str:
    try:
        return contestant.version(home)
    except AbsentError:
        if not install or contestant.install is None:
            raise
    _say(f"  installing {contestant.title} in {home}")
    contestant.install(home)
    return contestant.version(home)


def _measured(
    name: str, target: Target, client: Client, options: argparse.Namespace, streams: int, number: int, found: Results
) -> None:
    """All cells of one contestant in round `number`, added to `found`."""
    warm_up(target, client, options.smoke)
    for cell in cells(options.smoke, streams):
        figures, complaint = measure(cell, target, client, options.seconds)
        found[name].setdefault(cell.key, []).append({**figures, "round": number})
        cpu = f"{figures['cpu']:,.0f} µs CPU, " if target.tree else ""
        _say(f"    {cell.key}: {figures['rate']:,.0f}/s, {cpu}{figures['errors']:.0f} errors {complaint[:160]}".rstrip())


def _journaled(contestant: Contestant, client: Client, before: int, found: Results, folder: Path) -> None:
    """How many requests the journal holds, beside how many were answered (the first one was the benchmark's own)."""
    if contestant.journaled is None:
        return
    rows, answers = contestant.journaled(folder), client.answered - before + 1
    found[contestant.name].setdefault("journal", []).append({"rows": rows, "answers": answers})
    _say(f"    journal: {rows:,} rows for {answers:,} answers")


def play(
    taking: list[Contestant], options: argparse.Namespace, programs: tuple[Path, Path], folder: Path
) -> tuple[Results, dict[str, str]]:
    """Figures by contestant and cell, and who failed."""
    found: Results = {name: {} for name in (tables.DIRECT, *(each.name for each in taking))}
    failed: dict[str, str] = {}
    client = Client(programs[1], folder)
    with Mock(programs[0]) as mock:
        for number in range(options.rounds):
            _say(f"round {number + 1} of {options.rounds}\n  direct")
            _measured(tables.DIRECT, Target(mock.port, {}), client, options, 1_000, number, found)
            for each in taking:
                _say(f"  {each.title}")
                try:
                    before = client.answered
                    with started(
                        each, options.peers / each.name, mock.port, partial(_journaled, each, client, before, found)
                    ) as target:
                        processes = target.tree.count() if target.tree else 0
                        start = {"cold": target.cold, "idle": target.idle, "processes": processes}
                        found[each.name].setdefault("start", []).append(start)
                        _measured(each.name, target, client, options, each.streams, number, found)
                except DidNotStartError as reason:
                    failed[each.name] = f"did not start: {reason}"
                    _say(f"    {failed[each.name]}")
                mock.check()
    return found, failed


def _busy(seconds: float = 1.0) -> float:
    """Share of all cores that others use."""

    def read() -> tuple[int, int]:
        numbers = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return sum(numbers), numbers[3] + numbers[4]

    all_before, idle_before = read()
    time.sleep(seconds)
    all_after, idle_after = read()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _medians(found: Results) -> dict[str, dict[str, dict[str, float]]]:
    """For the result file: each figure's median, errors summed."""

    def of(rounds: list[Figures]) -> dict[str, float]:
        names = {name: None for each in rounds for name in each if name != "round"}
        kept = {name: round(tables.middle(rounds, name) or 0.0, 3) for name in names}
        return {**kept, "errors": sum(each["errors"] for each in rounds)} if "errors" in kept else kept

    return {name: {key: of(rounds) for key, rounds in cells_.items()} for name, cells_ in found.items()}


def output(report: Report, found: Results, versions: Mapping[str, str], out: Mapping[str, str]) -> str:
    """Everything that is printed."""
    titles = {tables.DIRECT: tables.DIRECT, **{name: each.title for name, each in CONTESTANTS.items()}}
    facts = report.facts
    head = f"{facts['processor']}, {os.cpu_count()} cores, Python {platform.python_version()}; {facts['rounds']} rounds of {facts['seconds']:g} s a cell"
    parts = ["## Gateways", head]
    parts += [f"{titles[name]} {versions[name]}: {each.note}" for name, each in CONTESTANTS.items() if name in versions]
    parts += [f"{titles[name]}: {shorten(reason, 90)}" for name, reason in out.items()]
    if facts["busy"] > 0.1:
        parts.append(
            f"The machine was {facts['busy']:.0%} busy with other work before or after this: read the ratios, not the figures."
        )
    listed = [
        tables.starts(found, titles, versions),
        *(tables.table(kind, found, titles) for kind in tables.TABLES),
        tables.reached(report.rows),
    ]
    return "\n".join([parts[0], "", *(f"- {each}" for each in parts[1:]), ""]) + "\n" + "\n".join(filter(None, listed))


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers that were started are stopped on the way out
    wanted = min(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    report = Report("gateway", "Gateways", ["policyroute", "granian", "httptools", "orjson", "prometheus-client"])
    with tempfile.TemporaryDirectory(prefix="policyroute-benchmark-") as place:
        try:
            programs = built(Path(place))
            taking, versions, absent = present(options)
            busy = _busy()
            found, failed = play(taking, options, programs, Path(place))
        except CannotMeasureError as reason:
            _say(f"nothing is measured: {reason}")
            return 0 if options.smoke else 2
        busy = max(busy, _busy())
    report.facts |= {
        "processor": _processor(), "busy": round(busy, 2), "rounds": options.rounds, "seconds": options.seconds,
        "peers": versions, "absent": absent, "failed": failed, "cells": _medians(found),
    }  # fmt: skip
    tables.goals(report, found)
    report.write(options.smoke or options.only != set(NAMES))
    sys.stdout.write(output(report, found, versions, {**absent, **failed}))
    if options.smoke and (OURS in failed or any(row.fails_smoke for row in report.rows)):
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
