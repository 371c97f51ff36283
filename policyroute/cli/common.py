"""What commands share: finding policies, loading them, failing with a place, a reason and a remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from policyroute.language.diagnostics import Severity, did_you_mean
from policyroute.language.load import Checked, check_file
from policyroute.language.policy import BoolType, EnumType, IntType, Policy, Value
from policyroute.render.diagnostics import FORMATS

if TYPE_CHECKING:
    from policyroute.prices.catalog import Catalog

FOUND, CANNOT = 1, 2


class CannotRun(click.ClickException):
    """The command can't do its work: exit code 2."""

    exit_code = CANNOT

    def __init__(self, message: str, help_: str = "") -> None:
        super().__init__(message)
        self.help = help_

    def show(self, file: Any = None) -> None:
        click.secho("error", fg="red", bold=True, nl=False, err=True)
        click.echo(f": {self.message}", err=True)
        if self.help:
            click.echo(f"  = help: {self.help}", err=True)


@dataclass(frozen=True)
class Config:
    """`policyroute.toml`, or `[tool.policyroute]` of `pyproject.toml`: the nearest one from the working folder upwards."""

    folder: Path
    values: dict[str, Any]

    def policies(self) -> list[Path]:
        """The policies named by the file (folders give theirs), else those in the folder `policies/` beside it."""
        named = self.values.get("policy", self.values.get("policies"))
        if named is None:
            return sorted((self.folder / "policies").glob("*.route"))
        names = named if isinstance(named, list) else [named]
        if not all(isinstance(name, str) for name in names):
            raise CannotRun("`policy` in the configuration names no file", 'write `policy = "FILE"`, or a list of such names')
        paths = [self.folder / name for name in names]
        return [file for path in paths for file in (sorted(path.rglob("*.route")) if path.is_dir() else [path])]


def config(start: Path | None = None) -> Config:
    """The configuration that holds in `start` (default: the working folder); an empty one where there is no file."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        for name, keys in (("policyroute.toml", ()), ("pyproject.toml", ("tool", "policyroute"))):
            values = _table(folder / name, keys)
            if values is not None:
                return Config(folder, values)
    return Config(here, {})


def _table(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: Any = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotRun(f"{path.name} is not valid TOML: {error}") from None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def shown(path: Path) -> Path:
    """`path` as a user would write it: relative to the working folder where it lies below it."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else path


def policy_files(given: Sequence[str]) -> list[Path]:
    """The `.route` files named on the command line (folders give theirs), else those of the configuration."""
    found: list[Path] = []
    for name in given:
        path = Path(name)
        if not path.exists():
            raise CannotRun(f"there is no file `{name}`", "give a `.route` file or a folder that holds some")
        found += sorted(path.rglob("*.route")) if path.is_dir() else [path]
    found = found or ([] if given else [shown(path) for path in config().policies()])
    if not found:
        raise CannotRun("there is no policy here", "name a `.route` file, or put one into `policies/`")
    return found


def one_policy(given: str | None) -> Path:
    """The policy to work with: the one named, else the one of the configuration or the only one in `policies/`."""
    found = policy_files([given] if given else [])
    if len(found) > 1:
        names = ", ".join(path.as_posix() for path in found)
        raise CannotRun(
            f"there are {len(found)} policies: {names}", 'say which: `--policy FILE`, or `policy = "FILE"` in policyroute.toml'
        )
    return found[0]


def read_policy(path: Path, *, library: bool = False, tunables: Mapping[str, int] | None = None) -> Checked:
    """Read and check a policy file, with `tunables` in place of its own values; a file that can't be read ends the command."""
    try:
        return check_file(path, library=library, tunables=tunables)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotRun(f"`{path}` can't be read: {reason}", "a policy is a UTF-8 text file") from None


def loaded(path: Path, tunables: Mapping[str, int] | None = None) -> Policy:
    """The policy in `path`. Its errors are shown on stderr and end the command with exit code 2."""
    checked = read_policy(path, tunables=tunables)
    if checked.failed:
        fail_with(checked, path)
    return checked.policy


def fail_with(checked: Checked, path: Path) -> NoReturn:
    """Show a policy's diagnostics on stderr and stop: what doesn't load can't be used."""
    click.echo(FORMATS["full"](checked.diagnostics, checked.sources), err=True)
    errors = sum(found.severity is Severity.ERROR for found in checked.diagnostics)
    raise CannotRun(f"`{path}` has {errors} {'error' if errors == 1 else 'errors'} and was not loaded")


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """`name=value` options as a mapping."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise CannotRun(f"`{option} {text}` is not a name and a value", f"write `{option} NAME=VALUE`")
        found[name.strip()] = value.strip()
    return found


def assumed(policy: Policy, given: Sequence[str]) -> dict[str, Value]:
    """`--assume SIGNAL=VALUE` options as values of the signals' types."""
    return {name: _value(policy, name, text) for name, text in pairs(given, "--assume").items()}


def _value(policy: Policy, name: str, text: str) -> Value:
    signal = policy.signals.get(name)
    if signal is None:
        raise CannotRun(f"no signal is named `{name}`", did_you_mean(name, policy.signals) or "`policyroute vocabulary` lists them")
    match signal.type:
        case IntType(low, high) if (number := whole(text)) is not None and low <= number <= high:
            return number
        case IntType(low, high):
            raise CannotRun(f"`{name}` is a number from {low} to {high}", f"write `--assume {name}={low}`")
        case BoolType() if text in ("true", "false"):
            return text == "true"
        case BoolType():
            raise CannotRun(f"`{name}` is true or false", f"write `--assume {name}=false`")
        case EnumType() as type_ if not type_.open and text not in type_.all:
            raise CannotRun(f"`{name}` has no member `{text}`", f"its members are {', '.join(type_.all)}")
        case _:
            return text


def whole(text: str) -> int | None:
    """A whole number as policies write it (`1500`, `1.5k`, `2M`), or None."""
    match = re.fullmatch(r"([0-9_]{1,18}(?:\.[0-9]{1,6})?)([kM]?)", text)
    if not match or not match[1][0].isdigit():
        return None
    number = Decimal(match[1].replace("_", "")) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]]
    return int(number) if number == int(number) else None


def priced(policy: Policy, catalog: Catalog) -> Policy:
    """The policy with its models completed from the price library; a model without a price is named on stderr."""
    from policyroute.prices.catalog import complete  # `check` does without it

    completed, diagnostics = complete(policy, catalog)
    for diagnostic in diagnostics:
        click.echo(f"warning[{diagnostic.code}]: {diagnostic.message}\n  = help: {diagnostic.help}", err=True)
    return completed
