"""How well a policy's tests hold it: score, survivors and missing tests, for a terminal, a pull request and machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import click

from policyroute.language.source import Source
from policyroute.testing.mutation.mutants import Mutant
from policyroute.testing.mutation.score import Score

MOST = 20  # survivors that are listed in a terminal
Json = dict[str, Any]


def percent(share: Fraction) -> str:
    """A share in percent, rounded down: 100 % is said only of all."""
    tenths = share.numerator * 1_000 // share.denominator
    return f"{tenths // 10} %" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10} %"


def headline(name: str, found: Score) -> str:
    """The counts in one line."""
    all_ = len(found.killed) + len(found.equivalent) + len(found.survivors)
    unproved = sum(not survivor.proved for survivor in found.survivors)
    parts = [f"{all_} mutants", f"{len(found.killed)} killed", f"{len(found.survivors)} survived"]
    parts += [f"{len(found.equivalent)} equivalent (proved)"] if found.equivalent else []
    parts += [f"{unproved} of the survivors not told apart in time"] if unproved else []
    return f"{name}: score {percent(found.share)}: {', '.join(parts)}"


def text(name: str, found: Score, sources: Sequence[Source]) -> Iterator[str]:
    """Lines for a terminal."""
    full = not found.survivors
    yield click.style(headline(name, found), fg="green" if full else "yellow", bold=True)
    for survivor in found.survivors[:MOST]:
        yield f"  survived  {place(survivor.mutant, sources):<28} {change(survivor.mutant)}"
    if len(found.survivors) > MOST:
        yield f"  {len(found.survivors) - MOST} more survivors, in --json"
    if found.missing:
        tests = "test kills" if len(found.missing) == 1 else "tests kill"
        told = sum(missing.kills for missing in found.missing)
        yield f"\n{len(found.missing)} {tests} {told} of them (`--write` adds {'it' if len(found.missing) == 1 else 'them'}):\n"
        for missing in found.missing:
            yield missing.block.rstrip()


def markdown(name: str, found: Score, sources: Sequence[Source]) -> str:
    """For a pull request: the headline open, survivors and tests folded."""
    lines = [f"### policyroute mutate: {headline(name, found)}", ""]
    if found.survivors:
        rows = [f"- `{place(one.mutant, sources)}` `{change(one.mutant).replace('`', chr(39))}`" for one in found.survivors]
        lines += [f"<details><summary>{len(rows)} survivors</summary>", "", *rows, "", "</details>", ""]
    if found.missing:
        blocks = [missing.block.rstrip() for missing in found.missing]
        lines += [f"<details><summary>{len(blocks)} missing tests</summary>", "", "```text", *blocks, "```", "", "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def as_json(found: Score, sources: Sequence[Source]) -> Json:
    """Everything: each mutant with its place, operator, change and fate; the missing tests as text."""
    fates = [("killed", found.killed), ("equivalent", found.equivalent), ("survived", [one.mutant for one in found.survivors])]
    return {
        "score": {"killed": found.share.numerator, "of": found.share.denominator, "percent": percent(found.share)},
        "counts": {fate: len(listed) for fate, listed in fates},
        "not_proven": sum(not survivor.proved for survivor in found.survivors),
        "mutants": [_row(mutant, fate, sources) for fate, listed in fates for mutant in listed],
        "missing": [{"name": missing.name, "test": missing.block, "kills": missing.kills} for missing in found.missing],
    }


def _row(mutant: Mutant, fate: str, sources: Sequence[Source]) -> Json:
    source = sources[mutant.span.file]
    line, column = source.position(mutant.span.start)
    return {
        "fate": fate, "operator": mutant.operator, "of": mutant.of, "file": source.name, "line": line, "column": column,
        "before": mutant.before, "after": mutant.after,
    }  # fmt: skip


def place(mutant: Mutant, sources: Sequence[Source]) -> str:
    """`file:line`."""
    source = sources[mutant.span.file]
    return f"{source.name.rsplit('/', 1)[-1]}:{source.position(mutant.span.start)[0]}"


def change(mutant: Mutant) -> str:
    """What the mutant changes, in one line."""
    return f"{mutant.of}: {mutant.before} -> {mutant.after}"
