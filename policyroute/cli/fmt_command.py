"""`policyroute fmt`: format policies."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from policyroute.cli.common import CANNOT, FOUND, CannotRun, policy_files
from policyroute.language.diagnostics import PolicyError
from policyroute.language.formatter import format_source
from policyroute.language.load import read_text
from policyroute.language.source import Source
from policyroute.render.diagnostics import full


@click.command(name="fmt")
@click.argument("files", nargs=-1)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 where a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; print what would change.")
def command(files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Format policies in place. Comments and meaning stay; formatting twice changes nothing.

    FILES are `.route` files or folders, or `-` for standard input; without any, the configured policies or those in `policies/`.
    """
    if files == ("-",):
        click.echo(_formatted(Source("<stdin>", _standard_input())), nl=False)
        return
    changed = 0
    for path in policy_files(files):
        before = _read(path)
        after = _formatted(Source(path.as_posix(), before))
        if before == after:
            continue
        changed += 1
        if diff:
            lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"{path}", f"{path} (formatted)")
            click.echo(
                "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines), nl=False
            )
        elif check:
            click.echo(f"would format {path}")
        else:
            _write(path, after)
            click.echo(f"formatted {path}")
    sys.exit(FOUND if changed and (check or diff) else 0)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CannotRun(f"standard input is not UTF-8 (byte {error.start})", "a policy is a UTF-8 text file") from None


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise CannotRun(f"`{path}` can't be read: {error}", "a policy is a UTF-8 text file") from None


def _formatted(source: Source) -> str:
    try:
        return format_source(source)
    except PolicyError as error:
        click.echo(full(error.diagnostics, error.sources), err=True)
        sys.exit(CANNOT)


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole, so that a full disk loses nothing."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, "utf-8", newline="\n")
        partial.chmod(path.stat().st_mode)
        partial.replace(path)
    except OSError as error:
        raise CannotRun(f"`{path}` can't be written: {error.strerror}", "the file is as it was") from None
    finally:
        partial.unlink(missing_ok=True)
