"""The command line: one module per command, each thin: options, one library call, render, exit code.

Exit codes: 0 clean, 1 findings, failed tests or a gate not met, 2 could not run. Human text about the run goes to
stderr, results to stdout. A command's module is imported when it is called, so that `check` starts without duckdb.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import policyroute

COMPLETE = "_POLICYROUTE_COMPLETE"  # what the scripts of `completion` ask by

# Command: its module here, and its line in the overview.
COMMANDS = {
    "init": "Write a working policy with tests, a small trace and a workflow into an empty folder",
    "check": "Read policies and say what is wrong with them",
    "fmt": "Format policies",
    "test": "Run the tests that policies hold",
    "mutate": "Change a policy in small ways and see whether its tests notice",
    "snapshot": "Keep decisions of real requests, and show which of them flip",
    "simulate": "Replay a trace under a policy: what it would have cost",
    "serve": "Serve a policy: a gateway that speaks the OpenAI and the Anthropic API",
    "keys": "Make, list and remove API keys of the gateway",
    "diff": "Compare two policies: what moves on a trace, what that costs, whom it affects",
    "tune": "Move a policy's thresholds over a trace, and judge them on a hold-out",
    "sample": "Draw requests for a human to score, stratum by stratum",
    "doctor": "Say what a trace can and cannot carry",
    "import": "Turn a trace of any known shape into a canonical parquet file",
    "explain": "Explain a diagnostic's code, or what a policy does with a request",
    "review": "Check, test, compare and replay: one comment for a pull request",
    "completion": "Print a script for shell completion",
    "vocabulary": "List signals and operators",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"policyroute.cli.{cmd_name}_command").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from difflib import get_close_matches  # only on a mistake

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no command is named `{args[0]}`" + (f"; did you mean `{near[0]}`?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(policyroute.__version__, prog_name="policyroute")
def cli() -> None:
    """One routing policy for LLM requests: checked, tested, replayed over real traces."""


def main() -> None:
    """Entry point of the `policyroute` command."""
    try:
        cli.main(standalone_mode=True, complete_var=COMPLETE)  # however the program was started
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(2)
