"""Options of commands that read traces, declared once: how a trace is read, how it is replayed, and where results go.

A command takes a group with one decorator; `reading` and `settings` turn what click hands over into library values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from policyroute.cli.common import CannotRun, config, loaded, one_policy, pairs, priced
from policyroute.language.policy import Policy
from policyroute.prices.catalog import Catalog, load_catalog
from policyroute.prices.library import cache_folder
from policyroute.prices.litellm import PriceFileError
from policyroute.replay.options import SimulationError
from policyroute.replay.traces import TraceError

Command = TypeVar("Command", bound=Callable[..., Any])
WIDTH = 140  # columns of a result that goes into a file or a pipe


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


outcomes_options = _together(
    click.option(
        "--outcomes",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="What several models answered to the same requests: cost against quality.",
    ),
    click.option("--outcomes-format", metavar="NAME", help="The format of that file, where it should not be detected."),
)
"""Answers of all models: `outcomes`, `outcomes_format`."""

mapping_options = _together(
    click.option("--trace-format", metavar="NAME", help="The trace's format, where it should not be detected."),
    click.option(
        "--map", "mapping", multiple=True, metavar="COLUMN=FIELD", help="Read a canonical column from a field of the trace."
    ),
    click.option("--incumbent", metavar="MODEL", help="The model that served a trace which names none."),
)
"""How the trace is read: `trace_format`, `mapping` and `incumbent`."""

price_option = click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A LiteLLM price map that goes before the price library.",
)

replay_options = _together(
    click.option(
        "--assume", multiple=True, metavar="SIGNAL=VALUE", help="What holds where the trace doesn't tell a signal; it is reported."
    ),
    click.option(
        "--without",
        default="",
        metavar="KINDS",
        help="Replay as if the policy had none of these, by comma: sticky, quota, budget, escalate.",
    ),
    click.option("--by", multiple=True, metavar="COLUMN", help="Split the report by a column of the trace too."),
    click.option(
        "--cluster",
        metavar="COLUMN",
        help="What intervals draw: user, conversation, day or a column.  [default: the first that the trace has]",
    ),
)
"""What is replayed and how it is split: `assume`, `without`, `by`, `cluster`."""

machine_options = _together(
    click.option(
        "--signals-cache",
        default="on",
        metavar="FOLDER",
        help="Where extracted signals are kept: a folder, or `off`.  [default: the user's cache]",
    ),
    click.option("--threads", type=click.IntRange(1), help="Threads to use.  [default: all]"),
    click.option("--memory", metavar="SIZE", help="Memory that DuckDB may use, such as 400MB."),
)
"""What the machine may spend: `signals_cache`, `threads`, `memory`."""


def catalog_of(price_file: Path | None) -> Catalog:
    """The price library with the user's price file over it; a bad file ends the command."""
    try:
        return load_catalog(price_file)
    except PriceFileError as error:
        raise CannotRun(str(error), error.help) from None


def baseline_of(policy: Policy, named: str, catalog: Catalog) -> tuple[str, Policy | None]:
    """`--baseline` as the fields `baseline` and `baseline_policy` of `Options`."""
    if named.endswith(".route"):
        return "recorded", priced(loaded(one_policy(named)), catalog)
    if named in ("recorded", "requested") or named in policy.models:
        return named, None
    raise CannotRun(
        f"there is no baseline `{named}`", f"recorded, requested, a `.route` file, or a model: {', '.join(policy.models)}"
    )


def reading(mapping: tuple[str, ...], incumbent: str | None) -> dict[str, Any]:
    """`mapping_options` as fields of `Options`."""
    return {"mapping": pairs(mapping, "--map"), "incumbent": incumbent}


def settings(
    without: str, by: tuple[str, ...], cluster: str | None, signals_cache: str, threads: int | None, memory: str | None
) -> dict[str, Any]:
    """`replay_options` (apart from `assume`, which needs a policy's types) and `machine_options` as fields of `Options`."""
    return {
        "without": [kind.strip() for kind in without.split(",") if kind.strip()], "by": by, "cluster": cluster,
        "cache": signals_folder(signals_cache), "threads": threads, "memory": memory,
    }  # fmt: skip


def signals_folder(value: str) -> Path | None:
    """The folder of extracted signals that `--signals-cache` or the configuration names, None for `off`."""
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
def replaying() -> Iterator[None]:
    """What a trace or a replay says that it can't do ends the command with exit code 2."""
    try:
        yield
    except TraceError as error:
        raise CannotRun(str(error), error.help) from None
    except SimulationError as error:
        raise CannotRun(error.message, error.help) from None


@contextmanager
def progress(what: str, rows: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, where stderr is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(f"{what:<11}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=rows)
        yield lambda done: bar.advance(task, done)


def output_console() -> Console:
    """Where results are printed: as wide as the terminal, or `WIDTH`."""
    return Console(highlight=False, emoji=False, soft_wrap=False, width=None if sys.stdout.isatty() else WIDTH)
