"""`policyroute check`: read policies and say what is wrong with them."""

from __future__ import annotations

import sys

import click

from policyroute.cli.common import FOUND, policy_files, read_policy
from policyroute.language.diagnostics import Diagnostic, ordered
from policyroute.language.policy import Policy
from policyroute.language.source import Source
from policyroute.render.diagnostics import FORMATS

APPLIED = ("on failure", "on stream failure")  # constructs that `serve` applies


@click.command(name="check")
@click.argument("files", nargs=-1)
@click.option(
    "--output-format", type=click.Choice(list(FORMATS)), default="full", show_default=True, help="How findings are printed."
)
def command(files: tuple[str, ...], output_format: str) -> None:
    """Read policies and say what is wrong with them.

    FILES are `.route` files or folders; without any, the configured policies or those in `policies/`.
    Exit code 1 where something was found.
    """
    sources: list[Source] = []
    found: list[Diagnostic] = []
    undecided: dict[str, None] = {}
    movable: tuple[str, ...] = ()
    paths = policy_files(files)
    for path in paths:
        checked = read_policy(path, library=True)
        diagnostics = [*checked.diagnostics, *_unpriced(checked.policy)]
        unapplied = (construct for construct in checked.policy.constructs if construct.kind not in APPLIED)
        undecided.update(dict.fromkeys(construct.title for construct in unapplied))
        movable = movable or _places(checked.policy)
        found += [diagnostic.moved(len(sources)) for diagnostic in ordered(diagnostics)]
        sources += checked.sources
    click.echo(FORMATS[output_format](found, sources), nl=False)
    if output_format == "full":
        names = f"{len(paths)} {'policy' if len(paths) == 1 else 'policies'}"
        click.secho(f"{names}: {len(found)} found" if found else f"{names}: nothing found", err=True)
        if undecided:
            click.secho(f"checked, but not applied by this version: {', '.join(undecided)}", err=True, dim=True)
        if movable:
            click.secho(
                f"note: models lie at {', '.join(movable)}; a Responses request that refers to an earlier one is only tried where that API is spoken",
                err=True, dim=True,
            )  # fmt: skip
    sys.exit(FOUND if found else 0)


def _places(policy: Policy) -> tuple[str, ...]:
    """The providers and addresses between which rules could move a Responses session, where the policy states more than one."""
    stated = dict.fromkeys(model.url or model.provider or "" for model in policy.models.values())
    places = tuple(place for place in stated if place)
    return places if len(places) > 1 else ()


def _unpriced(policy: Policy) -> list[Diagnostic]:
    """Models without a price. The price library is opened only where a model leaves its prices out."""
    if all(model.rates for model in policy.models.values()):
        return []
    from policyroute.prices.catalog import complete, load_catalog  # slow, and seldom needed

    return complete(policy, load_catalog())[1]
