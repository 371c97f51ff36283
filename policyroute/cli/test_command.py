"""`policyroute test`: the tests that policies hold."""

from __future__ import annotations

import sys

import click

from policyroute.cli.common import FOUND, fail_with, policy_files, priced, read_policy
from policyroute.prices.catalog import load_catalog
from policyroute.testing.run import Outcome, Suite

_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not run": ("-", "yellow")}


@click.command(name="test")
@click.argument("files", nargs=-1)
def command(files: tuple[str, ...]) -> None:
    """Run the tests of policies through the reference, the live function and SQL.

    FILES are `.route` files or folders; without any, the configured policies or those in `policies/`.
    Exit code 1 where a test fails, or where none was run.
    """
    catalog = load_catalog()
    found: list[Outcome] = []
    for path in policy_files(files):
        checked = read_policy(path, library=True)
        if checked.failed:
            fail_with(checked, path)
        if not checked.policy.rules:
            continue
        click.secho(path.as_posix(), bold=True)
        for outcome in Suite(priced(checked.policy, catalog)).run():
            found.append(outcome)
            _show(outcome)
    counts = {status: sum(outcome.status == status for outcome in found) for status in _MARKS}
    line = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no tests"
    ran = counts["passed"] + counts["failed"]
    click.secho(line if ran else f"{line}: nothing was shown", fg="red" if counts["failed"] or not ran else "green", bold=True)
    sys.exit(FOUND if counts["failed"] or not ran else 0)


def _show(outcome: Outcome) -> None:
    mark, colour = _MARKS[outcome.status]
    click.echo(f"  {click.style(mark, fg=colour)} {outcome.test.name}")
    for line in outcome.details:
        click.echo(f"      {line}")
