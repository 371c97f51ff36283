"""The tables, at most 120 columns wide, and the goals.

Medians over the rounds; errors are the sum. What is `added` is over the mock asked directly in the same round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from harness import Report, Row, median

from .contestants import OURS
from .measure import Figures

DIRECT = "direct"
CHUNKS = 50  # of a stream in bursts
Rounds = Mapping[str, Sequence[Figures]]  # by cell, one entry a round
Results = Mapping[str, Rounds]  # by contestant


class Column(NamedTuple):
    """`figure` gives the column's value from one contestant's rounds and the direct ones."""

    title: str
    figure: Callable[[Sequence[Figures], Sequence[Figures]], float | None]
    digits: int = 0


def middle(rounds: Sequence[Figures], name: str) -> float | None:
    """Median of a figure over the rounds; None where it wasn't measured."""
    found = [each[name] for each in rounds if name in each]
    return median(found) if found else None


def pairs(rounds: Sequence[Figures], others: Sequence[Figures], name: str) -> list[tuple[float, float]]:
    """A figure of both in each round that has both: a contestant may have failed in one."""
    by_round = {each["round"]: each for each in others if name in each}
    return [(each[name], by_round[each["round"]][name]) for each in rounds if name in each and each["round"] in by_round]


def added(rounds: Sequence[Figures], direct: Sequence[Figures], name: str) -> float | None:
    """Median of what is on top of the direct figure of the same round."""
    found = [one - other for one, other in pairs(rounds, direct, name)]
    return median(found) if found else None


def _of(title: str, name: str, digits: int = 0, scale: float = 1.0) -> Column:
    def figure(rounds: Sequence[Figures], _: Sequence[Figures]) -> float | None:
        found = middle(rounds, name)
        return None if found is None else found * scale

    return Column(title, figure, digits)


def _added(title: str, name: str) -> Column:
    return Column(title, lambda rounds, direct: None if rounds is direct else added(rounds, direct, name), 2)


def _used(title: str, name: str, digits: int = 0, scale: float = 1.0) -> Column:
    """A figure of the process tree, which the mock asked directly doesn't have."""
    inner = _of(title, name, digits, scale)
    return inner._replace(figure=lambda rounds, direct: None if rounds is direct else inner.figure(rounds, direct))


_ERRORS = Column("errors", lambda rounds, _: sum(each["errors"] for each in rounds))
_MEMORY = _used("PSS MB", "memory")
TABLES: Mapping[str, tuple[str, str, Sequence[Column]]] = {
    "plain": (
        "Plain requests, closed loop, upstream answers at once (ms)", "at once",
        (_of("req/s", "rate"), _of("p50", "latency_p50", 2), _added("added", "latency_p50"), _of("p99", "latency_p99", 2),
         _added("added", "latency_p99"), _used("CPU µs/req", "cpu"), _MEMORY, _ERRORS),
    ),
    "low": (
        "Low load, open loop, upstream takes 20 ms (ms)", "req/s",
        (_of("kept req/s", "rate"), _of("p50", "latency_p50", 2), _added("added", "latency_p50"), _of("p99", "latency_p99", 2),
         _added("added", "latency_p99"), _used("CPU µs/req", "cpu"), _ERRORS),
    ),
    "burst": (
        f"Streams of {CHUNKS} chunks in bursts, closed loop (ms; CPU per stream)", "at once",
        (_of("streams/s", "rate"), _of("first p50", "first_p50", 2), _of("p99", "first_p99", 2),
         _of("lag p99", "lag_p99", 2), _used("CPU µs", "cpu"), _used("a chunk", "cpu", 1, 1 / CHUNKS), _MEMORY, _ERRORS),
    ),
    "slow": (
        "Slow streams held at once, a chunk each 100 ms for 10 s (ms; CPU per stream)", "streams",
        (_of("whole", "ok"), _of("chunks/s", "chunks"), _of("first p50", "first_p50", 1), _of("p99", "first_p99", 1),
         _of("lag p50", "lag_p50", 2), _of("p99", "lag_p99", 2), _used("CPU ms", "cpu", 1, 1e-3),
         _MEMORY, _ERRORS),
    ),
}  # fmt: skip


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned; the first is text."""
    widths = [max(3, *(len(line[place]) for line in (heads, *lines))) for place in range(len(heads))]

    def row(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([row(heads), row(rule), *map(row, lines)])


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def table(kind: str, results: Results, titles: Mapping[str, str]) -> str:
    """All contestants' cells of one kind."""
    heading, size, columns = TABLES[kind]
    lines = []
    for name, rounds in results.items():
        for key, figures in rounds.items():
            if not key.startswith(f"{kind} ") or not figures:
                continue
            direct = figures if name == DIRECT else results.get(DIRECT, {}).get(key, ())
            values = [_cell(column.figure(figures, direct), column.digits) for column in columns]
            lines.append([titles[name], f"{int(key.split()[1]):,}", *values])
    return f"### {heading}\n\n{grid(['', size, *(column.title for column in columns)], lines)}\n" if lines else ""


def starts(results: Results, titles: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Versions, cold starts and memory at rest."""
    lines = [
        [titles[name], versions[name], *(_cell(middle(rounds.get("start", ()), figure), digits) for figure, digits in _START)]
        for name, rounds in results.items()
        if name != DIRECT
    ]
    heads = ["", "version", "cold start s", "processes", "PSS MB at rest"]
    return f"### Start to the first good answer\n\n{grid(heads, lines)}\n" if lines else ""


_START = (("cold", 2), ("processes", 0), ("idle", 0))


# -- goals ---------------------------------------------------------------------------------------------------------------------


def goals(report: Report, results: Results) -> None:
    """What issue 4 asks for, on the report as rows with claims."""
    ours, direct = results.get(OURS, {}), results.get(DIRECT, {})
    absent = {"note": f"{OURS} was not measured"}

    def bound(what: str, value: float | None, unit: str, most: float) -> None:
        report.add(what, value, unit, claim=most, at_most=True, **(absent if value is None else {}))

    bound("CPU of a plain request, 64 at once", middle(ours.get("plain 64", ()), "cpu"), "µs", 250)
    stream = middle(ours.get("burst 16", ()), "cpu")
    bound("CPU of a streamed chunk in bursts, 16 streams at once", None if stream is None else stream / CHUNKS, "µs", 10)
    for rate in (20, 200):
        key = f"low {rate}"
        bound(f"added p50 at {rate} req/s", added(ours.get(key, ()), direct.get(key, ()), "latency_p50"), "ms", 1)
    for name, title, claim in (("litellm", "LiteLLM", 50), ("portkey", "Portkey", 8)):
        _against(report, ours, results.get(name, {}), title, claim)
    held = ours.get("slow 1000", ())
    bound("1,000 slow streams: errors", sum(each["errors"] for each in held) if held else None, "", 0)
    bound("1,000 slow streams: lag of a chunk, p99", middle(held, "lag_p99"), "ms", 5)
    bound("1,000 slow streams: memory of all processes", middle(held, "memory"), "MB", 250)


def _against(report: Report, ours: Rounds, theirs: Rounds, title: str, claim: float) -> None:
    found = [(one, other) for one, other in pairs(ours.get("plain 64", ()), theirs.get("plain 64", ()), "rate") if other]
    what = f"requests/s against {title}, 64 at once"
    if not found:
        report.add(what, claim=claim, note=f"{title} or {OURS} was not measured")
        return
    times = median([one / other for one, other in found])
    report.add(what, median([one for one, _ in found]), "req/s", ratio=times, claim=claim)


def reached(rows: Sequence[Row]) -> str:
    """The goals as a table."""
    lines = []
    for row in rows:
        unit = "×" if row.what.startswith("requests/s") else f" {row.unit}".rstrip()
        digits = 2 if unit and abs(row.measured or 0) < 10 else 0
        measured = "not measured" if row.measured is None else f"{row.measured:,.{digits}f}{unit}"
        goal = f"{'≤' if row.at_most else '≥'} {row.claim:,g}{unit}"
        lines.append([row.what, measured, goal, {None: "", True: "reached", False: "missed"}[row.holds]])
    return f"### Goals\n\n{grid(['', 'measured', 'goal', ''], lines)}\n"
