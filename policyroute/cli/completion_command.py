"""`policyroute completion`: a script that lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "policyroute"
PLACES = {
    "bash": 'eval "$(policyroute completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(policyroute completion zsh)"       # in ~/.zshrc, behind `compinit`',
    "fish": "policyroute completion fish | source       # in ~/.config/fish/completions/policyroute.fish",
}


@click.command(name="completion", epilog="\b\n" + "\n".join(PLACES.values()))
@click.argument("shell", type=click.Choice(list(PLACES)))
def command(shell: str) -> None:
    """Print a script for SHELL that completes commands, options and their values."""
    from policyroute.cli import COMPLETE, cli

    script = get_completion_class(shell)
    assert script is not None  # click knows all three
    click.echo(script(cli, {}, PROGRAM, COMPLETE).source())
