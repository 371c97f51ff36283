"""`policyroute diff`: what differs between two policies, and what that moves on a trace."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from policyroute.cli.common import FOUND, CannotRun, assumed, loaded, one_policy, priced
from policyroute.cli.trace_options import (
    catalog_of,
    machine_options,
    mapping_options,
    output_console,
    price_option,
    progress,
    reading,
    replay_options,
    replaying,
    settings,
)
from policyroute.language.policy import Policy, Value
from policyroute.render.comparison import comparison, markdown
from policyroute.replay.diff.compare import compare
from policyroute.replay.diff.report import difference, structure
from policyroute.replay.options import Options
from policyroute.replay.traces.importers import IMPORTERS
from policyroute.testing.proofs import proof, with_traffic

FORMATS = ("text", "markdown", "json")


@click.command(name="diff")
@click.argument("old")
@click.argument("new")
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--traces", multiple=True, metavar="TRACE...", help="Decide the requests of these files, folders or globs under both."
)
@click.option(
    "--format", "format_", metavar="NAME", default="text", help="text, markdown (for a pull request) or json.  [default: text]"
)
@click.option("--json", "as_json", is_flag=True, help="The same as `--format json`.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where a decision moved; without traces, where the policies differ.")
@click.option("--proofs/--no-proofs", default=True, help="Prove where the policies differ, with z3.", show_default=True)
@click.option(
    "--proof-time", type=click.FloatRange(min=0.001), default=30.0, show_default=True, metavar="SECONDS", help="For the proof."
)
@click.option("--with-text", is_flag=True, help="Add the last user message to the examples.")
@replay_options
@mapping_options
@price_option
@machine_options
def command(
    old: str, new: str, more: tuple[str, ...], traces: tuple[str, ...], format_: str, as_json: bool, exit_code: bool, proofs: bool, proof_time: float,
    with_text: bool,
    assume: tuple[str, ...], without: str, by: tuple[str, ...], cluster: str | None, trace_format: str | None, mapping: tuple[str, ...],
    incumbent: str | None, price_file: Path | None, signals_cache: str, threads: int | None, memory: str | None,
) -> None:  # fmt: skip
    """Compare the policies OLD and NEW: which requests move, what that costs, and whom it affects.

    That they decide alike is proved for every possible request, or shown by a request for each pair of rules that disagree; with
    `--traces` beside how often that happens, and what it costs.
    """
    _check(more, traces, format_)
    catalog = catalog_of(price_file)
    before, after = (priced(loaded(one_policy(name)), catalog) for name in (old, new))
    if traces and before.digest != after.digest:
        options = Options(
            assume=_assumed(before, after, assume), format=trace_format, **reading(mapping, incumbent),
            **settings(without, by, cluster, signals_cache, threads, memory),
        )  # fmt: skip
        with replaying():
            replayed = compare(before, after, [*traces, *more], catalog, options, progress, with_text=with_text)
        found = difference(replayed, catalog)
        moved = bool(found["decisions"]["moved"])
    else:
        found = structure(before, after, catalog)
        moved = not found["identical"]
    if not found["identical"] and proofs:
        found["proof"] = (
            with_traffic(proof(before, after, proof_time), found["pairs"]) if "pairs" in found else proof(before, after, proof_time)
        )
        proved = found["proof"]["status"] == "identical"
        moved = moved and not proved
    if as_json or format_ == "json":
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif format_ == "markdown":
        click.echo(markdown(found), nl=False)
    else:
        comparison(found, output_console())
    sys.exit(FOUND if exit_code and moved else 0)


def _check(more: Sequence[str], traces: Sequence[str], format_: str) -> None:
    """`--traces logs/*.parquet` is many words once the shell has read it: those after the first are traces too."""
    if more and not traces:
        raise CannotRun(f"there is a third file, `{more[0]}`", "policyroute diff OLD NEW --traces TRACE...")
    if format_ not in FORMATS:
        told = f"`--trace-format {format_}` says how the trace is read" if format_ in IMPORTERS else ", ".join(FORMATS)
        raise CannotRun(f"`{format_}` is no format of the output", told)


def _assumed(old: Policy, new: Policy, given: Sequence[str]) -> dict[str, Value]:
    """Assumptions by the types of the policy that has the signal; NEW's where both do."""
    found: dict[str, Value] = {}
    for text in given:
        name = text.partition("=")[0].strip()
        found |= assumed(old if name in old.signals and name not in new.signals else new, [text])
    return found
