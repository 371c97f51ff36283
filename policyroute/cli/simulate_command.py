"""`policyroute simulate`: a trace under a policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from policyroute.cli.classifying import classifying
from policyroute.cli.common import CannotRun, assumed, loaded, one_policy, pairs, priced, whole
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
from policyroute.language.policy import Policy
from policyroute.language.statements import Gate
from policyroute.render.audit import audit
from policyroute.render.simulation import comparison
from policyroute.render.simulation import simulation as render
from policyroute.replay.audit.scores import judged, read_scores
from policyroute.replay.effects.lengths import HELD, MODES, PAIRED
from policyroute.replay.gates.judge import exit_code
from policyroute.replay.gates.sums import chosen_gates, gate_baseline, gate_traces
from policyroute.replay.options import Options
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate
from policyroute.replay.traces.importers import IMPORTERS
from policyroute.replay.tuning.holdout import parse_holdout
from policyroute.replay.tuning.variants import compare, variants

FORMATS = ("text", "markdown", "json")
Json = dict[str, Any]


@click.command(name="simulate")
@click.argument("traces", nargs=-1)
@click.option(
    "--policy",
    "policies",
    metavar="FILE",
    multiple=True,
    help="The policy; default: the configured one, or the only one in policies/. Several stand side by side.",
)
@click.option(
    "--set",
    "changes",
    metavar="TUNABLE=N[,N...]",
    multiple=True,
    help="Replay with other values of a tunable; several values stand side by side.",
)
@click.option(
    "--holdout", metavar="TIME", help="With several policies or values: choose on the past, judge on the rest: 7d, 12h or 25%."
)
@click.option(
    "--baseline",
    default=None,
    metavar="WHAT",
    help="recorded, requested, a model of the policy, or another .route file.  [default: recorded]",
)
@click.option(
    "--gate",
    metavar="NAME",
    help="Judge a gate of the policy (or `all`): exit code 1 where it fails, 3 where the data don't tell. Without TRACES it names the trace.",
)
@replay_options
@click.option(
    "--lengths",
    metavar="HOW",
    help="Other models' answer lengths: held, modelled, paired, or a CSV file of ratios.  [default: held; paired with --outcomes]",
)
@click.option(
    "--cache",
    "prompt_cache",
    type=click.Choice(["held", "model", "off"]),
    help="Other models' prompt cache.  [default: model where the trace tells enough, else held]",
)
@click.option("--ignore-failures", is_flag=True, help="Don't replay the recorded outages of providers.")
@outcomes_options
@click.option(
    "--outcome",
    "feedback",
    multiple=True,
    metavar="COLUMN",
    help="A column of outcomes of the logged calls, estimated for the policy from propensities.",
)
@click.option(
    "--classify",
    "classify",
    multiple=True,
    metavar="HOW",
    help="Classifiers' answers that the trace lacks: `column` (none), `live` (ask now), or drawn by their members' shares: `mix 60,25,15`; "
    "`NAME=HOW` for one of several.  [default: column]",
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="SHEET",
    help="A scored sheet of `policyroute sample`: how often each tier was right.",
)
@click.option("--scores-of-any-policy", is_flag=True, help="Take scores that were drawn under another policy.")
@mapping_options
@price_option
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write one row per request as parquet."
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the whole report as one HTML file."
)
@click.option(
    "--format", "format_", default="text", metavar="NAME", help="text, markdown (for a pull request) or json.  [default: text]"
)
@click.option("--json", "as_json", is_flag=True, help="The same as `--format json`.")
@click.option("--details", is_flag=True, help="Print all that the report holds.")
@click.option("--with-text", is_flag=True, help="Add the last user message to the examples.")
@machine_options
def command(
    traces: tuple[str, ...], policies: tuple[str, ...], changes: tuple[str, ...], holdout: str | None, baseline: str | None, gate: str | None, assume: tuple[str, ...], without: str,
    by: tuple[str, ...], cluster: str | None, lengths: str | None, prompt_cache: str | None, ignore_failures: bool, outcomes: Path | None,
    outcomes_format: str | None, feedback: tuple[str, ...], classify: tuple[str, ...], scores: Path | None, scores_of_any_policy: bool, trace_format: str | None, mapping: tuple[str, ...], incumbent: str | None,
    price_file: Path | None, output: Path | None, html: Path | None, format_: str, as_json: bool, details: bool, with_text: bool, signals_cache: str,
    threads: int | None, memory: str | None,
) -> None:  # fmt: skip
    """Replay TRACES under a policy: what they would have cost, by which rule, for whom, how sure that is.

    TRACES are files, folders or globs: parquet, JSONL, CSV, `duckdb:FILE/TABLE`, or any format that is detected.
    """
    format_ = "json" if as_json else format_
    _check_format(format_)
    if html is not None:
        _prepare_html(html)
    catalog = catalog_of(price_file)
    files = [one_policy(name) for name in policies] or [one_policy(None)]
    file = files[0]
    with replaying(), ExitStack() as open_:
        candidates = [priced(loaded(each, values), catalog) for each in files for values in variants(_changes(changes))]
        policy = candidates[0]
        gates = chosen_gates(policy, gate) if gate else ()
        paths = list(traces) or _gate_traces(gates, file)
        named, other = baseline_of(policy, baseline or _gate_baseline(gates, policy), catalog)
        full = details or html is not None or format_ != "text"
        options = Options(
            baseline=named, baseline_policy=other, assume=assumed(policy, assume), format=trace_format, output=output, gates=gates, feedback=feedback,
            lengths=_lengths(lengths, outcomes), outcomes=outcomes, outcomes_format=outcomes_format, prompt_cache=prompt_cache,
            failures=not ignore_failures, details=full, with_text=with_text, **reading(mapping, incumbent),
            **settings(without, by, cluster, signals_cache, threads, memory), **open_.enter_context(classifying(policy, classify, price_file)),
        )  # fmt: skip
        sheet = read_scores(scores) if scores else None
        found = result(simulate(policy, paths, catalog, options, progress))
        if len(candidates) > 1 or holdout is not None:
            apart = parse_holdout(holdout) if holdout is not None else None
            found["comparison"] = compare(candidates, paths, catalog, replace(options, output=None), progress, holdout=apart)
        if sheet is not None:
            found["scores"] = judged(sheet, digest=policy.digest, watched=policy.order[:1], any_policy=scores_of_any_policy)
    if html is not None:
        _write_html(found, html)
    _print(found, format_, details)
    sys.exit(exit_code(found["gates"]))


def _changes(given: Sequence[str]) -> dict[str, list[int]]:
    """`--set NAME=VALUE[,VALUE...]` options: the values to try of each tunable."""
    found: dict[str, list[int]] = {}
    for name, text in pairs(given, "--set").items():
        values = [whole(part.strip()) for part in text.split(",")]
        if None in values:
            raise CannotRun(
                f"`--set {name}={text}` holds no whole number", f"write `--set {name}=800`, or several: `--set {name}=200,400,1k`"
            )
        found[name] = [value for value in values if value is not None]
    return found


def _check_format(format_: str) -> None:
    if format_ not in FORMATS:
        told = f"`--trace-format {format_}` says how the trace is read" if format_ in IMPORTERS else ", ".join(FORMATS)
        raise CannotRun(f"`{format_}` is no format of the output", told)


def _lengths(asked: str | None, outcomes: Path | None) -> str | Path:
    if asked is None:
        return PAIRED if outcomes is not None else HELD
    if asked in MODES:
        return asked
    if not Path(asked).is_file():
        raise CannotRun(
            f"`{asked}` is neither a way to reckon lengths nor a file",
            f"`--lengths` takes {', '.join(MODES)}, or a CSV file of ratios",
        )
    return Path(asked)


def _gate_traces(gates: Sequence[Gate], file: Path) -> list[str | Path]:
    if not gates:
        raise CannotRun("there is no trace to replay", "policyroute simulate TRACE...; `policyroute import` lists the formats")
    if len({(each.traces, each.baseline) for each in gates}) > 1:
        raise CannotRun("the gates are judged on different traces or baselines", "name one: `--gate NAME`")
    return gate_traces(gates[0], file)


def _gate_baseline(gates: Sequence[Gate], policy: Policy) -> str:
    return gate_baseline(gates[0], policy) if gates else "recorded"


def _prepare_html(target: Path) -> None:
    """Say what `--html` lacks before the replay, not after it."""
    from policyroute.render.html import ReportExtraError, require

    try:
        require()
    except ReportExtraError as error:
        raise CannotRun(str(error), error.help) from None
    if not target.parent.is_dir():
        raise CannotRun(f"`{target}` can't be written: there is no folder `{target.parent}`", "make it, or name another file")


def _write_html(found: Json, target: Path) -> None:
    from policyroute.render.html import page  # the charts' packages are an extra

    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(page(found), "utf-8")
        partial.replace(target)
    except OSError as error:
        raise CannotRun(
            f"`{target}` can't be written: {error.strerror or error}", "check the folder and the space on its disk"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _print(found: Json, format_: str, details: bool) -> None:
    if format_ == "json":
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif format_ == "markdown":
        from policyroute.render.markdown import document

        click.echo(document(found), nl=False)
    else:
        render(found, output_console(), details=details)
        if details and "comparison" in found:
            comparison(found["comparison"], output_console())
        if "scores" in found:
            audit(found["scores"], output_console())
