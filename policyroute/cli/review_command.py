"""`policyroute review`: what a pull request that changes policies should be told, as one comment."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from policyroute.cli.common import FOUND, CannotRun, policy_files, read_policy

MARKER = "<!-- policyroute -->"  # by which the comment is found again
CANNOT_TELL = 3  # a gate for which the data don't suffice


@dataclass(frozen=True, slots=True)
class _Part:
    """One command's output, and whether it failed."""

    text: str
    failed: bool = False


@click.command(name="review")
@click.argument("files", nargs=-1)
@click.option(
    "--base", metavar="REF", help="The commit or branch that the policies are compared with; without one nothing is compared."
)
@click.option("--traces", multiple=True, metavar="TRACE", help="Replay these files, folders or globs (repeatable).")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the comment to a file too.")
@click.option("--no-proofs", is_flag=True, help="Do without z3.")
def command(files: tuple[str, ...], base: str | None, traces: tuple[str, ...], output: Path | None, no_proofs: bool) -> None:
    """Check, test, compare and replay policies, and print one Markdown comment that says it all.

    FILES are `.route` files or folders; without any, the configured policies. Exit code 1 where a check, a test or a gate fails, or a
    policy can't be replayed.
    """
    paths = [path for path in policy_files(files) if read_policy(path, library=True).policy.rules]
    proofs = ["--no-proofs"] if no_proofs else []
    names = [path.as_posix() for path in paths]
    parts = [_run("check", *names, "--format", "markdown", *proofs), _run("test", *names, "--format", "markdown", "--coverage")]
    with tempfile.TemporaryDirectory() as folder:
        before = _checkout(base, Path(folder)) if base else None
        for path in paths:
            if before is not None:
                parts.append(_compared(before, path, traces, proofs))
            if traces:
                parts.append(_replayed(path, traces))
    text = "\n\n".join([MARKER, *(part.text.rstrip() for part in parts)]) + "\n"
    click.echo(text, nl=False)
    if output:
        output.write_text(text, "utf-8")
    sys.exit(FOUND if any(part.failed for part in parts) else 0)


def _run(*arguments: str) -> _Part:
    """A command of ours. One that could not run says so in the comment."""
    done = subprocess.run([sys.executable, "-m", "policyroute", *arguments], capture_output=True, text=True, check=False)
    if done.returncode > 1 and done.returncode != CANNOT_TELL:
        reason = done.stderr.strip().replace("```", "'''") or f"exit code {done.returncode}"
        return _Part(f"### policyroute {arguments[0]}: could not run\n\n```text\n{reason}\n```", True)
    return _Part(done.stdout, done.returncode == FOUND)


def _compared(before: Path, path: Path, traces: Sequence[str], proofs: Sequence[str]) -> _Part:
    """The policy against the one that stood in its place."""
    old = before / _within(path)
    if not old.is_file():
        return _Part(f"### policyroute diff: `{path.as_posix()}` is new")
    replay = [option for trace in traces for option in ("--traces", trace)]
    return _Part(_run("diff", str(old), path.as_posix(), "--format", "markdown", *replay, *proofs).text)


def _replayed(path: Path, traces: Sequence[str]) -> _Part:
    gates = ["--gate", "all"] if read_policy(path).policy.gates else []
    return _run("simulate", *traces, "--policy", path.as_posix(), "--format", "markdown", *gates)


def _checkout(base: str, folder: Path) -> Path:
    """The files of a commit, in `folder`: a policy needs the files that it uses, as they were."""
    if base.startswith("-"):
        raise CannotRun(f"`{base}` is no commit", "name a branch, a tag or a hash")
    root = Path(_git("rev-parse", "--show-toplevel").decode().strip())
    archive = _git("archive", "--format=tar", base, cwd=root)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(folder, filter="data")
    return folder


def _within(path: Path) -> Path:
    root = Path(_git("rev-parse", "--show-toplevel").decode().strip())
    absolute = path.resolve()
    return absolute.relative_to(root.resolve()) if absolute.is_relative_to(root.resolve()) else Path(path.name)


def _git(*arguments: str, cwd: Path | None = None) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, cwd=cwd, check=False)
    except OSError:
        raise CannotRun("git is not installed", "without `--base` nothing is compared") from None
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CannotRun(f"git says: {reason[-1] if reason else 'failed'}", "fetch the branch, or name another commit")
    return done.stdout
