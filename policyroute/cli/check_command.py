"""`policyroute check`: read policies and say what is wrong with them, for every possible request."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policyroute.analysis.analyse import Analysis, Asked, analyse
from policyroute.analysis.finding import Finding
from policyroute.analysis.remote import PROOF_TIME
from policyroute.cli.common import FOUND, CannotRun, assumed, config, policy_files, read_policy
from policyroute.language.codes import BY_NUMBER, CODES
from policyroute.language.diagnostics import Diagnostic, Severity, did_you_mean, ordered
from policyroute.language.load import Checked
from policyroute.language.policy import Policy
from policyroute.language.source import Source
from policyroute.proxy.crossings import crossings
from policyroute.render.diagnostics import FORMATS

if TYPE_CHECKING:
    from policyroute.prices.catalog import Catalog


@dataclass
class _Found:
    """What was found so far, in all files."""

    sources: list[Source] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    movable: tuple[str, ...] = ()
    proved: int = 0
    skipped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, checked: Checked, more: Sequence[Diagnostic]) -> None:
        found = ordered([*checked.diagnostics, *more])
        self.diagnostics += [diagnostic.moved(len(self.sources)) for diagnostic in found]
        self.sources += checked.sources

    def analysed(self, policy: Policy, analysis: Analysis) -> None:
        self.movable = self.movable or _places(policy)
        self.proved += len(analysis.proved)
        self.skipped += analysis.skipped
        for kind, seconds in analysis.seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds


@click.command(name="check")
@click.argument("files", nargs=-1)
@click.option(
    "--format",
    "--output-format",
    "format_",
    type=click.Choice(list(FORMATS)),
    default="full",
    show_default=True,
    help="How findings are printed.",
)
@click.option("--proofs/--no-proofs", default=None, help="Prove with z3, or do without.  [default: where z3 is installed]")
@click.option(
    "--proof-time",
    type=click.FloatRange(min=0.001),
    default=PROOF_TIME,
    show_default=True,
    metavar="SECONDS",
    help="For all proofs of one policy.",
)
@click.option("--notes", is_flag=True, help="Show notes too: what is worth knowing and fails nothing.")
@click.option("--overlaps", is_flag=True, help="Show rules that would send the same requests elsewhere. Implies `--notes`.")
@click.option("--owners", is_flag=True, help="Ask every rule for an owner.")
@click.option(
    "--allow", multiple=True, metavar="CODE", help="Leave a kind of finding out (repeatable); also `allow` in policyroute.toml."
)
@click.option(
    "--traces",
    multiple=True,
    metavar="TRACE",
    help="Say how many requests of these files, folders or globs a finding is about (repeatable).",
)
@click.option("--assume", multiple=True, metavar="SIGNAL=VALUE", help="What holds where a trace doesn't tell a signal.")
@click.option("--timings", is_flag=True, help="Print the time that each kind of finding took.")
def command(
    files: tuple[str, ...], format_: str, proofs: bool | None, proof_time: float, notes: bool, overlaps: bool, owners: bool,
    allow: tuple[str, ...], traces: tuple[str, ...], assume: tuple[str, ...], timings: bool,
) -> None:  # fmt: skip
    """Read policies and say what is wrong with them: in the text, and for every possible request.

    FILES are `.route` files or folders; without any, the configured policies or those in `policies/`.
    Exit code 1 where something was found, or a question was not decided; notes don't count.
    """
    allowed = _allowed([*allow, *config().values.get("allow", [])])
    asked = Asked(seconds=proof_time, proofs=proofs, pairs=overlaps, owners=owners)
    paths, found = policy_files(files), _Found()
    for path in paths:
        checked = read_policy(path, library=True)
        found.add(checked, _analysed(checked, asked, found, traces, assume))
    kept = [diagnostic for diagnostic in found.diagnostics if diagnostic.code not in allowed]
    counted = [diagnostic for diagnostic in kept if diagnostic.severity is not Severity.INFO]
    shown = kept if notes or overlaps else counted
    click.echo(FORMATS[format_](shown, found.sources), nl=False)
    if format_ == "full":
        _closing(paths, found, counted, len(kept) - len(shown))
    if timings:
        for kind, seconds in found.seconds.items():
            click.echo(f"{kind:<14} {seconds:8.3f} s", err=True)
    sys.exit(FOUND if counted else 0)


def _analysed(checked: Checked, asked: Asked, found: _Found, traces: Sequence[str], assume: Sequence[str]) -> list[Diagnostic]:
    """What an analysis finds in a policy that loads; of one that doesn't, only what its models lack."""
    from policyroute.prices.catalog import complete, load_catalog  # slow, and not needed by a policy that doesn't load

    policy = checked.policy
    priced = all(model.rates for model in policy.models.values())
    if (checked.failed or not policy.rules) and priced:
        return []
    catalog = load_catalog()
    completed, unpriced = complete(policy, catalog)
    if checked.failed or not policy.rules:
        return unpriced
    analysis = analyse(completed, catalog.for_policy(completed), replace(asked, source=checked.sources[0]))
    found.analysed(policy, analysis)
    findings = _counted(completed, analysis.findings, catalog, traces, assume) if traces else analysis.findings
    return [*unpriced, *crossings(completed), *(finding.diagnostic for finding in findings)]


def _counted(
    policy: Policy, findings: Sequence[Finding], catalog: Catalog, traces: Sequence[str], assume: Sequence[str]
) -> Sequence[Finding]:
    from policyroute.cli.trace_options import progress, replaying  # with a trace comes the engine
    from policyroute.replay.options import Options
    from policyroute.testing.frequency import counted

    with replaying():
        return counted(policy, findings, traces, catalog, Options(assume=assumed(policy, assume)), progress)


def _allowed(names: Sequence[str]) -> frozenset[str]:
    """Codes by name or number."""
    found = {BY_NUMBER[name.upper()].name if name.upper() in BY_NUMBER else name for name in names}
    for name in found - CODES.keys():
        raise CannotRun(f"no diagnostic is called `{name}`", did_you_mean(name, CODES) or "`policyroute explain` lists them all")
    return frozenset(found)


def _closing(paths: Sequence[Path], found: _Found, counted: Sequence[Diagnostic], hidden: int) -> None:
    names = f"{len(paths)} {'policy' if len(paths) == 1 else 'policies'}"
    parts = [f"{names}: {len(counted)} found" if counted else f"{names}: nothing found"]
    if found.proved:
        parts.append(f"{found.proved} {'guarantee' if found.proved == 1 else 'guarantees'} proved for every possible request")
    if hidden:
        parts.append(f"{hidden} {'note' if hidden == 1 else 'notes'} (`--notes` shows {'it' if hidden == 1 else 'them'})")
    click.secho(", ".join(parts), err=True)
    if found.skipped:
        questions = "1 question was" if found.skipped == 1 else f"{found.skipped} questions were"
        click.secho(
            f"proofs skipped: {questions} left open; `pip install 'policyroute[verify]'` answers them", err=True, fg="yellow"
        )
    if found.movable:
        click.secho(
            f"note: models lie at {', '.join(found.movable)}; a Responses request that refers to an earlier one is only tried where that API is spoken",
            err=True, dim=True,
        )  # fmt: skip


def _places(policy: Policy) -> tuple[str, ...]:
    """The providers and addresses between which rules could move a Responses session, where the policy states more than one."""
    stated = dict.fromkeys(model.url or model.provider or "" for model in policy.models.values())
    places = tuple(place for place in stated if place)
    return places if len(places) > 1 else ()
