"""`policyroute tune`: a policy's thresholds moved over a trace, and judged on a part of it that was held out."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from policyroute.cli.common import CannotRun, assumed, fail_with, loaded, one_policy, priced, read_policy
from policyroute.cli.trace_options import (
    baseline_of,
    catalog_of,
    machine_options,
    mapping_options,
    outcomes_options,
    output_console,
    price_option,
    progress,
    reading,
    replay_options,
    replaying,
    settings,
)
from policyroute.language.load import check_file, read_text
from policyroute.language.numerals import renumbered
from policyroute.render.tuning import tuning as render
from policyroute.replay.options import Options
from policyroute.replay.tuning.constraints import parse_constraint
from policyroute.replay.tuning.holdout import parse_holdout
from policyroute.replay.tuning.report import tuning
from policyroute.replay.tuning.tune import GRID, Tuning, tune


@click.command(name="tune")
@click.argument("traces", nargs=-1, required=True)
@click.option(
    "--policy", "policy_file", metavar="FILE", help="The policy; default: the configured one, or the only one in policies/."
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="BOUND",
    help="What the values have to keep: share(premium)<=15%, changed<=40%, users<=30%, quality>=80%.",
)
@click.option("--grid", type=click.IntRange(1, 200), default=GRID, show_default=True, help="Quantiles to try of each tunable.")
@click.option(
    "--holdout", default="7d", show_default=True, metavar="PART", help="What is kept for judging: the last 7d, 12h or 25%."
)
@click.option("--write", is_flag=True, help="Write the chosen values into the policy's file; without it only the diff is shown.")
@click.option(
    "--baseline",
    default="recorded",
    metavar="WHAT",
    help="recorded, requested, a model of the policy, or another .route file.  [default: recorded]",
)
@click.option(
    "--cache",
    "prompt_cache",
    type=click.Choice(["held", "model", "off"]),
    help="Other models' prompt cache in the hold-out.  [default: model where the trace tells enough, else held]",
)
@outcomes_options
@replay_options
@mapping_options
@price_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@machine_options
def command(
    traces: tuple[str, ...], policy_file: str | None, constraints: tuple[str, ...], grid: int, holdout: str, write: bool, baseline: str,
    prompt_cache: str | None, outcomes: Path | None, outcomes_format: str | None, assume: tuple[str, ...], without: str, by: tuple[str, ...],
    cluster: str | None, trace_format: str | None, mapping: tuple[str, ...], incumbent: str | None, price_file: Path | None, as_json: bool,
    signals_cache: str, threads: int | None, memory: str | None,
) -> None:  # fmt: skip
    """Move the `tunable` thresholds of a policy: values are picked on the earlier part of TRACES and judged on the rest.

    The answer is to change them, to leave them, or not to route at all. Only numbers in the policy's file are ever changed.
    """
    catalog = catalog_of(price_file)
    file = one_policy(policy_file)
    policy = priced(loaded(file), catalog)
    named, other = baseline_of(policy, baseline, catalog)
    with replaying():
        asked = Tuning(tuple(parse_constraint(text, policy) for text in constraints), grid, parse_holdout(holdout))
        options = Options(
            baseline=named, baseline_policy=other, assume=assumed(policy, assume), format=trace_format, outcomes=outcomes, outcomes_format=outcomes_format,
            prompt_cache=prompt_cache, **reading(mapping, incumbent), **settings(without, by, cluster, signals_cache, threads, memory),
        )  # fmt: skip
        found = tuning(tune(policy, list(traces), catalog, options, asked, progress))
    changed = _changed(file, found["answer"]["values"])
    found["diff"] = _diff(changed)
    if write:
        for path, (_, text) in changed.items():
            _write(path, text)
    found["written"] = write and bool(changed)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    render(found, output_console())
    _tell(found, file, write)


def _tell(found: dict[str, Any], file: Path, write: bool) -> None:
    if not found["diff"]:
        click.echo("nothing to write" if write else "")
        return
    click.echo(f"\n{found['diff']}", nl=False)
    if found["written"]:
        click.echo(f"written; `policyroute test {file.as_posix()}` says whether the file's tests still hold")
    else:
        click.echo("`--write` puts this into the file")


# -- the file ------------------------------------------------------------------------------------------------------


def _changed(file: Path, values: Mapping[str, int]) -> dict[Path, tuple[str, str]]:
    """The files in which these values stand, each with its text before and after; a used file may be among them.

    What would be written is read again first: it must be the policy that was judged.
    """
    checked = read_policy(file)
    if checked.failed:
        fail_with(checked, file)
    texts = {Path(source.name): (source.text, renumbered(source, values)) for source in checked.sources if values}
    changed = {path: pair for path, pair in texts.items() if pair[0] != pair[1]}
    if values:
        after = {path.resolve(): text for path, (_, text) in changed.items()}
        again = check_file(file, lambda path: after.get(path.resolve()) or read_text(path))
        if again.failed or again.policy.digest != check_file(file, tunables=values).policy.digest:
            raise CannotRun(
                "the changed file would not be the policy that was judged", "it is left as it is; change the numbers by hand"
            )
    return changed


def _diff(changed: Mapping[Path, tuple[str, str]]) -> str:
    lines = []
    for path, (before, after) in changed.items():
        name = path.as_posix()
        lines += list(difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=1))
    return "".join(f"{line}\n" for line in lines)


def _write(path: Path, text: str) -> None:
    """The file appears whole or not at all, with its permissions, also where `path` is a link to it."""
    target = path.resolve()
    mark = b"\xef\xbb\xbf" if target.read_bytes().startswith(b"\xef\xbb\xbf") else b""
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(mark + text.encode("utf-8"))
            shutil.copymode(target, partial)
            Path(partial).replace(target)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise CannotRun(
            f"`{path}` can't be written: {(error.strerror or str(error)).lower()}", "check the permissions of its folder"
        ) from None
