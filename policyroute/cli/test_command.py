"""`policyroute test`: the tests that policies hold, and what they cover."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import click

from policyroute.cli.common import FOUND, CannotRun, config, fail_with, policy_files, priced, read_policy
from policyroute.language.codes import CODES
from policyroute.language.diagnostics import Diagnostic
from policyroute.language.source import Source
from policyroute.prices.catalog import Catalog, load_catalog
from policyroute.render import coverage as covering
from policyroute.render import diagnostics as finding
from policyroute.render import tests as rendering
from policyroute.testing.coverage import Coverage, measure, untested
from policyroute.testing.run import Outcome, Suite, shown

FORMATS = ("text", "json", "junit", "github", "markdown")
UNTESTED = "untested-rule"
_SHARE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?%?")
_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not run": ("-", "yellow")}


@dataclass(frozen=True, slots=True)
class _Tested:
    """One policy's results: outcomes of the chosen tests, rules that none reaches, what the tests cover."""

    path: Path
    sources: tuple[Source, ...]
    tests: int
    outcomes: tuple[Outcome, ...]
    untested: tuple[Diagnostic, ...]
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that decide what is run and how it ends."""

    chosen: str
    verbose: bool
    coverage: bool
    least: Decimal | None
    lenient: bool


@click.command(name="test")
@click.argument("files", nargs=-1)
@click.option("-k", "chosen", default="", metavar="TEXT", help="Run only tests whose `FILE::NAME` holds TEXT, in any case.")
@click.option("-v", "--verbose", is_flag=True, help="Show what each test's requests were decided to.")
@click.option("--coverage", is_flag=True, help="Show which rules and conditions the tests cover.")
@click.option("--at-least", metavar="SHARE", help="Fail where less is covered: `--at-least 80%`. Implies `--coverage`.")
@click.option("--untested", type=click.Choice(("fail", "ok")), default=None, help="What a rule without a test is.  [default: fail]")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True, help="How results are printed.")
def command(
    files: tuple[str, ...], chosen: str, verbose: bool, coverage: bool, at_least: str | None, untested: str | None, format_: str
) -> None:
    """Run the tests of policies through the reference, the live function and SQL.

    FILES are `.route` files or folders; without any, the configured policies or those in `policies/`.
    Exit code 1 where a test fails, a rule or a policy has none (`allow = ["untested-rule"]` in policyroute.toml lets them), too
    little is covered, or nothing was run.
    """
    least = None if at_least is None else _share(at_least)
    lenient = untested == "ok" if untested else bool({UNTESTED, CODES[UNTESTED].number} & set(config().values.get("allow", [])))
    asked = _Asked(chosen.lower(), verbose, coverage or least is not None, least, lenient)
    catalog = load_catalog()
    found: list[_Tested] = []
    for tested in _tested(policy_files(files), catalog, asked):
        found.append(tested)
        if format_ == "text":
            _show(tested, asked)
    if format_ != "text":
        click.echo(_rendered(found, asked, format_), nl=False)
    sys.exit(_closed(found, asked, format_ == "text"))


def _tested(paths: Sequence[Path], catalog: Catalog, asked: _Asked) -> Iterator[_Tested]:
    for path in paths:
        checked = read_policy(path, library=True)
        if checked.failed:
            fail_with(checked, path)
        if not checked.policy.rules:
            continue
        policy = priced(checked.policy, catalog)
        tests = [test for test in policy.tests if asked.chosen in f"{path.as_posix()}::{test.name}".lower()]
        if asked.chosen and not tests:
            continue
        suite = Suite(policy, path.parent)
        outcomes = tuple(suite.run(tests))
        requests = suite.requests(tests) if asked.coverage else []
        covered = measure(policy, ((request.test.name, request.values) for request in requests))
        reached = {decision.rule for outcome in outcomes for decision in outcome.decisions}
        bare = untested(policy, reached) if tests and not asked.chosen and not asked.lenient else ()
        yield _Tested(path, checked.sources, len(policy.tests), outcomes, bare, covered)


def _share(text: str) -> Decimal:
    share = Decimal(text.removesuffix("%")) if _SHARE.fullmatch(text) else Decimal(101)
    if share > 100:
        raise CannotRun(f"`--at-least {text}` is not a share", "write `--at-least 80%`")
    return share


# -- showing -------------------------------------------------------------------------------------------------------------


def _show(tested: _Tested, asked: _Asked) -> None:
    click.secho(tested.path.as_posix(), bold=True)
    for outcome in tested.outcomes:
        mark, colour = _MARKS[outcome.status]
        click.echo(f"  {click.style(mark, fg=colour)} {outcome.test.name}")
        shown_ = [shown(decision) for decision in outcome.decisions] if asked.verbose and outcome.status == "passed" else []
        for line in (*outcome.details, *shown_):
            click.echo(f"      {line}")
    click.echo(finding.concise(tested.untested, tested.sources), nl=False)
    if asked.coverage:
        click.echo(covering.text(tested.coverage), nl=False)


def _rendered(found: Sequence[_Tested], asked: _Asked, format_: str) -> str:
    results = [(tested.path, tested.sources[0], outcome) for tested in found for outcome in tested.outcomes]
    match format_:
        case "json":
            return json.dumps(_json(found, asked, rendering.as_json(results)), ensure_ascii=False, indent=2) + "\n"
        case "junit":
            return rendering.junit(results)
        case "github":
            parts = [finding.github(tested.untested, tested.sources) for tested in found]
            parts += [covering.github(tested.coverage, tested.sources) for tested in found if asked.coverage]
            return rendering.github(results) + "".join(parts)
        case _:
            tables = [
                f"\n**{tested.path.as_posix()}**\n\n{covering.markdown(tested.coverage)}" for tested in found if asked.coverage
            ]
            return rendering.markdown(results) + "".join(tables)


def _json(found: Sequence[_Tested], asked: _Asked, tests: object) -> dict[str, object]:
    findings = [item for tested in found for item in json.loads(finding.as_json(tested.untested, tested.sources))]
    whole: dict[str, object] = {"tests": tests, "findings": findings}
    if asked.coverage:
        whole["coverage"] = {tested.path.as_posix(): covering.as_json(tested.coverage, tested.sources) for tested in found}
    return whole


def _closed(found: Sequence[_Tested], asked: _Asked, text: bool) -> int:
    """The last lines and the exit code. Beside formats that programs read, what fails is said on stderr."""
    outcomes = [outcome for tested in found for outcome in tested.outcomes]
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in _MARKS}
    bare = [tested.path.as_posix() for tested in found if not tested.tests]
    rules = sum(len(tested.untested) for tested in found)
    ran = counts["passed"] + counts["failed"]
    parts = [f"{count} {status}" for status, count in counts.items() if count] or ["no tests"]
    parts += [f"{rules} {'rule' if rules == 1 else 'rules'} without a test"] if rules else []
    parts += [f"no tests in {', '.join(bare)}"] if bare and ran else []
    met, goals = (sum(getattr(tested.coverage, of) for tested in found) for of in ("met", "goals"))
    short = asked.least is not None and met * 100 < asked.least * goals
    failed = bool(counts["failed"] or not ran or rules or short or (bare and not asked.lenient))
    line = ", ".join(parts) if ran else f"{', '.join(parts)}: nothing was shown"
    if text:
        if asked.coverage and len(found) > 1:
            click.echo(covering.closing(met, goals))
        click.secho(line, fg="red" if failed else "green", bold=True)
    elif failed:
        click.echo(line, err=True)
    if short:
        click.secho(f"{covering.closing(met, goals)}, and at least {asked.least}% is asked for", fg="red", err=not text)
    return FOUND if failed else 0
