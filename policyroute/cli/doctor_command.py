"""`policyroute doctor`: what a trace can and cannot carry."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from policyroute.cli.common import CannotRun, loaded, one_policy, pairs, priced
from policyroute.prices.catalog import load_catalog
from policyroute.prices.litellm import PriceFileError
from policyroute.render.doctor import doctor as render
from policyroute.replay.doctor.examine import doctor
from policyroute.replay.traces import TraceError


@click.command(name="doctor")
@click.argument("traces", nargs=-1, required=True)
@click.option("--policy", "policy_file", metavar="FILE", help="Say it for a policy's signals, word sets and models too.")
@click.option("--trace-format", "format_", metavar="NAME", help="The trace's format, where it should not be detected.")
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=FIELD", help="Read a canonical column from a field of the trace.")
@click.option("--incumbent", metavar="MODEL", help="The model that served a trace which names none.")
@click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A LiteLLM price map that goes before the price library.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole examination as JSON.")
def command(
    traces: tuple[str, ...], policy_file: str | None, format_: str | None, mapping: tuple[str, ...], incumbent: str | None,
    price_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Say what TRACES can and cannot carry, before anyone simulates: columns, signals, prices, users, labels."""
    try:
        catalog = load_catalog(price_file)
    except PriceFileError as error:
        raise CannotRun(str(error), error.help) from None
    policy = priced(loaded(one_policy(policy_file)), catalog) if policy_file else None
    try:
        found = doctor(traces, catalog, policy=policy, format=format_, mapping=pairs(mapping, "--map"), incumbent=incumbent)
    except TraceError as error:
        raise CannotRun(str(error), error.help) from None
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    render(found, Console(highlight=False, emoji=False, soft_wrap=False, width=None if sys.stdout.isatty() else 140))
