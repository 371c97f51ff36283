"""`policyroute vocabulary`: the signals, operators and abilities that every policy has."""

from __future__ import annotations

import dataclasses
import json

import click

from policyroute.language.manual import vocabulary_rows


@click.command(name="vocabulary")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def command(as_json: bool) -> None:
    """List the built-in signals, operators and abilities, from the table that every part of policyroute reads."""
    rows = vocabulary_rows()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], ensure_ascii=False, indent=2))
        return
    for kind in dict.fromkeys(row.kind for row in rows):
        click.secho(f"{kind}s".replace("ys", "ies").capitalize(), bold=True)
        for row in (row for row in rows if row.kind == kind):
            click.echo(f"  {row.name:<13} {row.type:<28} {row.doc}\n{'':<45}{click.style(row.example, dim=True)}")
