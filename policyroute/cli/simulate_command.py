"""`policyroute simulate`: a trace under a policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from policyroute.cli.common import CannotRun, assumed, config, loaded, one_policy, pairs, priced
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog, load_catalog
from policyroute.prices.library import cache_folder
from policyroute.prices.litellm import PriceFileError
from policyroute.render.simulation import simulation as render
from policyroute.replay.options import Options, SimulationError
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate
from policyroute.replay.traces import TraceError


@click.command(name="simulate")
@click.argument("traces", nargs=-1, required=True)
@click.option(
    "--policy", "policy_file", metavar="FILE", help="The policy; default: the configured one, or the only one in policies/."
)
@click.option(
    "--baseline",
    default="recorded",
    metavar="WHAT",
    help="recorded, requested, a model of the policy, or another .route file.  [default: recorded]",
)
@click.option(
    "--assume", multiple=True, metavar="SIGNAL=VALUE", help="What holds where the trace doesn't tell a signal; it is reported."
)
@click.option(
    "--without",
    default="",
    metavar="KINDS",
    help="Replay as if the policy had none of these, by comma: sticky, quota, budget, escalate.",
)
@click.option("--by", multiple=True, metavar="COLUMN", help="Split the report by a column of the trace too.")
@click.option(
    "--cluster",
    metavar="COLUMN",
    help="What intervals draw: user, conversation, day or a column.  [default: the first that the trace has]",
)
@click.option("--format", "format_", metavar="NAME", help="The trace's format, where it should not be detected.")
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=FIELD", help="Read a canonical column from a field of the trace.")
@click.option("--incumbent", metavar="MODEL", help="The model that served a trace which names none.")
@click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A LiteLLM price map that goes before the price library.",
)
@click.option(
    "--signals-cache",
    default="on",
    metavar="FOLDER",
    help="Where extracted signals are kept: a folder, or `off`.  [default: the user's cache]",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write one row per request as parquet."
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--threads", type=click.IntRange(1), help="Threads to use.  [default: all]")
@click.option("--memory", metavar="SIZE", help="Memory that DuckDB may use, such as 400MB.")
def command(
    traces: tuple[str, ...], policy_file: str | None, baseline: str, assume: tuple[str, ...], without: str, by: tuple[str, ...], cluster: str | None,
    format_: str | None, mapping: tuple[str, ...], incumbent: str | None, price_file: Path | None, signals_cache: str,
    output: Path | None, as_json: bool, threads: int | None, memory: str | None,
) -> None:  # fmt: skip
    """Replay TRACES under a policy: what they would have cost, by which rule, for whom.

    TRACES are files, folders or globs: parquet, JSONL, CSV, `duckdb:FILE/TABLE`, or any format that is detected.
    """
    try:
        catalog = load_catalog(price_file)
    except PriceFileError as error:
        raise CannotRun(str(error), error.help) from None
    policy = priced(loaded(one_policy(policy_file)), catalog)
    named, other = _baseline(policy, baseline, catalog)
    options = Options(
        baseline=named, baseline_policy=other, assume=assumed(policy, assume), without=[kind.strip() for kind in without.split(",") if kind.strip()],
        by=by, cluster=cluster, format=format_, mapping=pairs(mapping, "--map"), incumbent=incumbent, output=output, threads=threads, memory=memory,
        cache=_cache(signals_cache),
    )  # fmt: skip
    try:
        found = result(simulate(policy, list(traces), catalog, options, progress))
    except TraceError as error:
        raise CannotRun(str(error), error.help) from None
    except SimulationError as error:
        raise CannotRun(error.message, error.help) from None
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    render(found, Console(highlight=False, emoji=False, soft_wrap=False, width=None if sys.stdout.isatty() else 140))


def _baseline(policy: Policy, baseline: str, catalog: Catalog) -> tuple[str, Policy | None]:
    if baseline.endswith(".route"):
        return "recorded", priced(loaded(one_policy(baseline)), catalog)
    if baseline in ("recorded", "requested") or baseline in policy.models:
        return baseline, None
    raise CannotRun(
        f"there is no baseline `{baseline}`", f"recorded, requested, a `.route` file, or a model: {', '.join(policy.models)}"
    )


def _cache(value: str) -> Path | None:
    found = config()
    asked = found.values.get("signals-cache", "on") if value == "on" else value
    if asked in ("off", False):
        return None
    if asked in ("on", True):
        return cache_folder() / "signals"
    if not isinstance(asked, str):
        raise CannotRun("`signals-cache` in the configuration names no folder", 'write `signals-cache = "FOLDER"` or `"off"`')
    return Path(value) if asked == value else found.folder / asked


@contextmanager
def progress(what: str, rows: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where stderr is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(f"{what:<11}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=rows)
        yield lambda done: bar.advance(task, done)
