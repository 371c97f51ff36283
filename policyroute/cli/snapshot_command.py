"""`policyroute snapshot`: golden decisions of real requests, and which of them flip."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from policyroute.cli.common import FOUND, CannotRun, assumed, loaded, one_policy, priced
from policyroute.cli.trace_options import (
    catalog_of,
    machine_options,
    mapping_options,
    price_option,
    progress,
    reading,
    replay_options,
    replaying,
    settings,
)
from policyroute.replay.options import Options
from policyroute.replay.snapshots import ROWS, Flip, Snapshot, SnapshotError, drawn, flips, read, updated, written

MOST = 20  # flips that are listed in a terminal


@click.command(name="snapshot")
@click.argument("traces", nargs=-1)
@click.option(
    "--policy", "policy_file", metavar="FILE", help="The policy; default: the configured one, or the only one in policies/."
)
@click.option(
    "--file", "file", type=click.Path(dir_okay=False, path_type=Path), help="The snapshot.  [default: snapshots/POLICY.jsonl]"
)
@click.option("--rows", type=click.IntRange(1), default=ROWS, show_default=True, help="How many requests are drawn.")
@click.option("--update", is_flag=True, help="Keep the decisions as they are now; with TRACES, draw the requests anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the flips as JSON.")
@replay_options
@mapping_options
@price_option
@machine_options
def command(
    traces: tuple[str, ...], policy_file: str | None, file: Path | None, rows: int, update: bool, as_json: bool,
    assume: tuple[str, ...], without: str, by: tuple[str, ...], cluster: str | None, trace_format: str | None, mapping: tuple[str, ...],
    incumbent: str | None, price_file: Path | None, signals_cache: str, threads: int | None, memory: str | None,
) -> None:  # fmt: skip
    """Keep a sample of real requests with rule and chain, and show which decisions flip.

    With TRACES the requests are drawn and kept in a file for review; texts are not kept. Without, the kept requests are decided again by
    the policy as it is now. Exit code 1 where a decision is another one, or can't be told from what was kept.
    """
    path = one_policy(policy_file)
    catalog = catalog_of(price_file)
    policy = priced(loaded(path), catalog)
    kept = file or Path("snapshots") / f"{path.stem}.jsonl"
    if traces:
        if kept.exists() and not update:
            raise CannotRun(
                f"`{kept.as_posix()}` is there already", "`--update` draws it anew; without TRACES its decisions are compared"
            )
        options = Options(
            assume=assumed(policy, assume), format=trace_format, **reading(mapping, incumbent),
            **settings(without, by, cluster, signals_cache, threads, memory),
        )  # fmt: skip
        with replaying():
            snapshot = drawn(policy, list(traces), catalog, options, rows, progress)
        _write(kept, snapshot)
        click.echo(f"kept {len(snapshot.requests)} requests of {_rules(snapshot)} rules in {kept.as_posix()}")
        return
    try:
        snapshot = read(kept)
    except SnapshotError as error:
        raise CannotRun(str(error), error.help) from None
    found = flips(policy, snapshot)
    if update and found:
        _write(kept, updated(policy, snapshot))
    _tell(kept, snapshot, found, update, as_json)
    sys.exit(FOUND if found and not update else 0)


def _rules(snapshot: Snapshot) -> int:
    return len({golden.rule for golden in snapshot.requests})


def _write(path: Path, snapshot: Snapshot) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(written(snapshot))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise CannotRun(
            f"`{path.as_posix()}` can't be written: {(error.strerror or str(error)).lower()}", "`--file` names another"
        ) from None


def _tell(path: Path, snapshot: Snapshot, found: Sequence[Flip], update: bool, as_json: bool) -> None:
    if as_json:
        rows = [_row(flip) for flip in found]
        click.echo(
            json.dumps(
                {"schema": "policyroute.snapshot/1", "requests": len(snapshot.requests), "flips": rows},
                ensure_ascii=False,
                indent=2,
            )
        )
        return
    for flip in found[:MOST]:
        now = f"depends on what was not kept (rule {flip.needs})" if flip.needs else _way(flip.rule, flip.chain)
        click.echo(f"  {flip.golden.request:<24} was {_way(flip.golden.rule, flip.golden.chain)}\n{'':<24}   is  {now}")
    if len(found) > MOST:
        click.echo(f"  {len(found) - MOST} more, in --json")
    count = f"{len(found)} of {len(snapshot.requests)} decisions {'flips' if len(found) == 1 else 'flip'}"
    done = ", and are kept as they are now" if update and found else ""
    click.secho(f"{path.as_posix()}: {count}{done}", fg="red" if found and not update else "green", bold=True)


def _way(rule: str, chain: Sequence[str]) -> str:
    return f"{rule} -> {', '.join(chain) or 'refused'}"


def _row(flip: Flip) -> dict[str, object]:
    now = None if flip.needs else {"rule": flip.rule, "chain": list(flip.chain)}
    was = {"rule": flip.golden.rule, "chain": list(flip.golden.chain)}
    return {"request": flip.golden.request, "was": was, "is": now, "needs": flip.needs or None, "values": dict(flip.golden.values)}
