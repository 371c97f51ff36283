"""`policyroute mutate`: would the tests notice?"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click

from policyroute.analysis.remote import available
from policyroute.cli.common import FOUND, CannotRun, fail_with, policy_files, priced, read_policy
from policyroute.language.formatter import format_source
from policyroute.language.load import Checked
from policyroute.language.source import Source
from policyroute.prices.catalog import Catalog, load_catalog
from policyroute.render import mutation as rendering
from policyroute.testing.mutation.score import PROOF_TIME, Score, score

FORMATS = ("text", "json", "markdown")


@dataclass(frozen=True)
class _Judged:
    path: Path
    checked: Checked
    found: Score
    written: int = 0  # tests that were added to the file


@click.command(name="mutate")
@click.argument("files", nargs=-1)
@click.option("--write", is_flag=True, help="Add the missing tests to the policy's file, and judge it again.")
@click.option("--at-least", metavar="SHARE", help="Exit with 1 where the score is below SHARE, as in 80%.")
@click.option(
    "--proof-time",
    type=click.FloatRange(min=0.001),
    default=PROOF_TIME,
    show_default=True,
    metavar="SECONDS",
    help="For one policy.",
)
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True, help="How the result is printed."
)
@click.option("--json", "as_json", is_flag=True, help="The same as `--format json`.")
def command(files: tuple[str, ...], write: bool, at_least: str | None, proof_time: float, format_: str, as_json: bool) -> None:
    """Change a policy in many small ways and see whether its tests notice.

    Each change (a mutant) that no test notices is printed, with the test that is missing. Mutants that decide alike for every possible
    request are proved to and don't count. FILES are `.route` files or folders; without any, the configured policies.
    """
    if not available():
        raise CannotRun("mutants are told apart by proof, and z3 is not installed", "pip install 'policyroute[verify]'")
    least = None if at_least is None else _share(at_least)
    shown = "json" if as_json else format_
    judged: list[_Judged] = []
    for one in _judged(policy_files(files), load_catalog(), proof_time, write):
        judged.append(one)
        if shown != "json":
            _show(one, shown)
    if not judged:
        raise CannotRun("none of these files holds rules", "name a policy")
    if shown == "json":
        whole = {
            one.path.as_posix(): rendering.as_json(one.found, one.checked.sources) | {"written": one.written} for one in judged
        }
        click.echo(json.dumps(whole, ensure_ascii=False, indent=2))
    low = [one for one in judged if least is not None and one.found.share < least]
    for one in low:
        click.secho(
            f"{one.path.as_posix()}: {rendering.percent(one.found.share)}, and at least {at_least} is asked for", fg="red", err=True
        )
    sys.exit(FOUND if low else 0)


def _judged(paths: list[Path], catalog: Catalog, seconds: float, write: bool) -> Iterator[_Judged]:
    for path in paths:
        checked = read_policy(path, library=True)
        if checked.failed:
            fail_with(checked, path)
        if not checked.policy.rules:
            continue
        found = _score(path, checked, catalog, seconds)
        if not write or not found.missing:
            yield _Judged(path, checked, found)
            continue
        _add(path, found)
        again = read_policy(path, library=True)
        yield _Judged(path, again, _score(path, again, catalog, seconds), len(found.missing))


def _score(path: Path, checked: Checked, catalog: Catalog, seconds: float) -> Score:
    with click.progressbar(
        length=1, label=f"telling mutants of {path.name} apart", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        return score(priced(checked.policy, catalog), path.parent, seconds, lambda done, all_: _moved(bar, done, all_))


def _moved(bar: object, done: int, all_: int) -> None:
    bar.length = all_  # type: ignore[attr-defined]
    bar.update(done - bar.pos)  # type: ignore[attr-defined]


def _add(path: Path, found: Score) -> None:
    """Append the tests, as `fmt` writes them; the text before stays as it is. The file is replaced whole."""
    blocks = format_source(Source("tests.route", "\n".join(missing.block for missing in found.missing)))
    before = path.read_text("utf-8")
    text = f"{before.rstrip()}\n\n{blocks}"
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(name).chmod(path.stat().st_mode)
        Path(name).replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotRun(f"`{path}` can't be written: {reason}", "without `--write` the tests are printed") from None


def _show(one: _Judged, format_: str) -> None:
    name = one.path.as_posix()
    if format_ == "markdown":
        click.echo(rendering.markdown(name, one.found, one.checked.sources))
        return
    if one.written:
        click.echo(f"{name}: {one.written} {'test' if one.written == 1 else 'tests'} added")
    for line in rendering.text(name, one.found, one.checked.sources):
        click.echo(line)


def _share(text: str) -> Fraction:
    try:
        share = Fraction(text.removesuffix("%").strip())
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 100:
        raise CannotRun(f"`--at-least {text}` is not a share", "write `--at-least 80%`")
    return share / 100
