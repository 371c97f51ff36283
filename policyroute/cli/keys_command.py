"""`policyroute keys`: API keys of the gateway: make one, list them, take one away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from policyroute.cli.common import CannotRun, pairs
from policyroute.language.policy import Value

FILE = click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The keys file, as `serve --keys` takes it.",
)


@click.group(name="keys")
def command() -> None:
    """Make, list and remove API keys of the gateway.

    The keys file holds hashes, never keys. A running gateway loads it again when it changes.
    """


@command.command(name="new")
@click.argument("name")
@FILE
@click.option("--user", default="", metavar="USER", help="The user that the key's requests count for.")
@click.option("--team", default="", metavar="TEAM", help="The team that the key's requests count for.")
@click.option(
    "--signal", "signals", multiple=True, metavar="NAME=VALUE", help="A declared signal's value for all of the key's requests."
)
@click.option("--model", "models", multiple=True, metavar="NAME", help="A model or tier that the key may use.  [default: all]")
@click.option("--trusted", is_flag=True, help="Believe the headers and users that its requests name: a key of your own backend.")
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Its last day, in UTC.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="POLICY",
    help="Check signals and models against this policy first.",
)
def new(
    name: str, path: Path, user: str, team: str, signals: tuple[str, ...], models: tuple[str, ...], trusted: bool,
    expires: datetime | None, policy: Path | None,
) -> None:  # fmt: skip
    """Make a key NAME, add its hash to the file, and print the key, which is shown this once."""
    from policyroute.proxy.key_file import Entry, KeysError, hashed, new_key, save, text_of, with_entry

    key = new_key()
    values = {signal: _value(text) for signal, text in pairs(signals, "--signal").items()}
    entry = Entry(name, hashed(key), user, team, values, tuple(models) or None, trusted, expires.date() if expires else None)
    try:
        text = with_entry(text_of(path) if path.exists() else "", entry, path)
        if policy is not None:
            _check(text, path, policy)
        save(path, text)
    except KeysError as error:
        raise CannotRun(error.message, error.help) from None
    click.echo(key)
    click.echo(f"key `{name}` is in {path}; only its hash is kept, so store the key now", err=True)


@command.command(name="list")
@FILE
def listed(path: Path) -> None:
    """List the keys of the file: names and what they state, never a key or a hash."""
    from policyroute.proxy.key_file import Entry, KeysError, entries, exposed, text_of

    def said(entry: Entry) -> str:
        stated = [
            f"{name}={_shown(value)}"
            for name, value in (("user", entry.user), ("team", entry.team), *entry.signals.items())
            if value != ""
        ]
        models = [f"models={','.join(entry.models)}"] if entry.models is not None else []
        expired = entry.expires is not None and entry.expires < datetime.now(UTC).date()
        until = [f"{'expired' if expired else 'expires'}={entry.expires}"] if entry.expires else []
        return "  ".join([entry.name, *stated, *models, *(["trusted"] if entry.trusted else []), *until])

    try:
        found = entries(text_of(path), path)
    except KeysError as error:
        raise CannotRun(error.message, error.help) from None
    for entry in found:
        click.echo(said(entry))
    if others := exposed(path):
        click.echo(f"others on this machine may {others} {path}: `chmod 600` keeps it yours", err=True)


@command.command(name="remove")
@click.argument("name")
@FILE
def remove(name: str, path: Path) -> None:
    """Take the key NAME out of the file. Nobody can use it once the gateway has loaded the file again."""
    from policyroute.proxy.key_file import KeysError, save, text_of, without_entry

    try:
        save(path, without_entry(text_of(path), name, path))
    except KeysError as error:
        raise CannotRun(error.message, error.help) from None
    click.echo(f"key `{name}` is removed from {path}", err=True)


def _check(text: str, path: Path, policy: Path) -> None:
    from policyroute.cli.common import loaded
    from policyroute.proxy.keys import keys_of

    keys_of(text, path, loaded(policy))


def _value(text: str) -> Value:
    """A value as TOML has it: true, false, a whole number, or a text."""
    if text in ("true", "false"):
        return text == "true"
    digits = text.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) <= 18 and str(int(text)) == text  # `007` is a text
    return int(text) if plain else text


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
