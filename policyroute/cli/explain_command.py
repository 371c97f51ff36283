"""`policyroute explain CODE`: a diagnostic's page."""

from __future__ import annotations

import click

from policyroute.cli.common import CannotRun
from policyroute.language.codes import BY_NUMBER, CODES
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.manual import code_page


@click.command(name="explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain a diagnostic: CODE is its number (PR101) or its name (duplicate-name). Without one, all are listed."""
    if code is None:
        for row in CODES.values():
            click.echo(f"{row.number}  {row.name:<24} {row.what}")
        return
    name = BY_NUMBER[code.upper()].name if code.upper() in BY_NUMBER else code.lower()
    if name not in CODES:
        near = did_you_mean(code.upper(), BY_NUMBER) or did_you_mean(code.lower(), CODES)
        raise CannotRun(f"no diagnostic is called `{code}`", near or "`policyroute explain` lists them all")
    click.echo(code_page(name), nl=False)
