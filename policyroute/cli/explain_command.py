"""`policyroute explain`: a diagnostic's page, or what a policy says of one request and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from policyroute.cli.common import CannotRun, fail_with, one_policy, priced, read_policy
from policyroute.language.codes import BY_NUMBER, CODES
from policyroute.language.diagnostics import did_you_mean
from policyroute.language.manual import code_page
from policyroute.language.policy import Policy
from policyroute.language.source import Source

if TYPE_CHECKING:
    from policyroute.prices.price import PriceList

STDIN = "-"
NEEDED = {"chat": ("messages",), "responses": ("input",), "messages": ("messages", "max_tokens")}  # what a body of each API has
OWN = {"system", "stop_sequences", "thinking", "top_k", "anthropic_version"}  # fields of a Messages body that no other API has
UNDECIDED = ("sticky", "quota", "budget", "escalate", "classifier")  # what a request alone doesn't tell


@click.command(name="explain")
@click.argument("what", required=False, metavar="[CODE | REQUEST.json]")
@click.option("--policy", "policy_file", metavar="FILE", help="The policy.  [default: the one of the configuration]")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request (repeatable).")
@click.option("--api", type=click.Choice(list(NEEDED)), help="The API that the request is made to.  [default: told by its fields]")
@click.option("--at", metavar="TIME", help="When it is made, as 2026-11-25T10:00:00Z.  [default: now]")
@click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A LiteLLM price map that goes before the price library.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    what: str | None,
    policy_file: str | None,
    headers: tuple[str, ...],
    api: str | None,
    at: str | None,
    price_file: Path | None,
    as_json: bool,
) -> None:
    """Explain a diagnostic's code, or what a policy does with a request.

    CODE is the number of a diagnostic (PR101) or its name (duplicate-name); without one, all are listed.

    REQUEST.json is the body of a call to Chat Completions, Responses or Messages; `-` reads it from stdin. Explained are the rules that
    were tried, the conditions that didn't hold, who kept which model away, and what each model would cost.
    """
    if what == STDIN or (what and Path(what).is_file()):
        found = _request(what, policy_file, headers, api, at, price_file)
        _shown(found, as_json)
    elif policy_file or headers or api or at or price_file or as_json:
        wrong = f"there is no file `{what}`" if what else "there is no request to explain"
        raise CannotRun(wrong, "policyroute explain REQUEST.json --policy FILE")
    else:
        _code(what)


# -- codes -------------------------------------------------------------------------------------------------------------


def _code(code: str | None) -> None:
    if code is None:
        for row in CODES.values():
            click.echo(f"{row.number}  {row.name:<24} {row.what}")
        return
    name = BY_NUMBER[code.upper()].name if code.upper() in BY_NUMBER else code.lower()
    if name not in CODES and Path(code).suffix == ".json":
        raise CannotRun(f"there is no file `{code}`", "name the body of a request, as JSON")
    if name not in CODES:
        near = did_you_mean(code.upper(), BY_NUMBER) or did_you_mean(code.lower(), CODES)
        raise CannotRun(f"no diagnostic is called `{code}`", near or "`policyroute explain` lists them all")
    click.echo(code_page(name), nl=False)


# -- requests ----------------------------------------------------------------------------------------------------------


def _request(
    file: str, policy_file: str | None, headers: Sequence[str], api: str | None, at: str | None, price_file: Path | None
) -> dict[str, Any]:
    from policyroute.cli.trace_options import catalog_of  # slow, and not needed by a code's page

    path = one_policy(policy_file)
    checked = read_policy(path)
    if checked.failed:
        fail_with(checked, path)
    body, catalog = _body(file), catalog_of(price_file)
    found = {"request": file, "api": _api(file, body, api), "policy_file": path.as_posix()}
    policy = priced(checked.policy, catalog)
    return found | _explained(policy, checked.sources, catalog.for_policy(policy), body, _headers(headers), _moment(at))


def _shown(found: dict[str, Any], as_json: bool) -> None:
    from policyroute.cli.trace_options import output_console
    from policyroute.render.explanation import explanation

    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        explanation(found, output_console())


def _explained(
    policy: Policy,
    sources: Sequence[Source],
    prices: Mapping[str, PriceList],
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    at: datetime,
) -> dict[str, Any]:
    """What `POST /v1/route` says of the request, who kept models away, and what was left out of account."""
    from policyroute.backends.explain import explanation, removed
    from policyroute.backends.live import compile_policy
    from policyroute.signals.facts import Facts
    from policyroute.signals.values import Reader

    values = Reader(policy)(Facts.of_body(body, headers, at, policy.timezone))
    decision = compile_policy(policy, bounds=True).decide(values)
    found = explanation(policy, prices, sources, values, decision, at)
    tried = {rule["rule"] for rule in found["tried"]}
    return {
        "at": at.isoformat(), **found, "removed": removed(policy, sources, values, decision),
        "below": [rule.name for rule in policy.rules if rule.name not in tried],
        "left_out": [construct.title for construct in policy.constructs if construct.kind in UNDECIDED],
    }  # fmt: skip


def _body(file: str) -> dict[str, Any]:
    from policyroute.proxy.wire.body import BadBody, parse

    try:
        return parse(sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes())
    except OSError as error:
        raise CannotRun(
            f"`{file}` can't be read: {(error.strerror or str(error)).lower()}", "name a file that you may read"
        ) from None
    except BadBody as error:
        help_ = "it is the body of a call to Chat Completions, Responses or Messages"
        raise CannotRun(f"`{file}` is no request: {error}", help_) from None


def _api(file: str, body: Mapping[str, Any], asked: str | None) -> str:
    api = asked or ("responses" if "input" in body else "messages" if OWN & body.keys() else "chat")
    missing = [name for name in NEEDED[api] if name not in body]
    if missing:
        others = [name for name, needed in NEEDED.items() if all(each in body for each in needed)]
        help_ = f"it could be one of `--api {others[0]}`" if others else "a chat body has `messages`, one of Responses `input`"
        raise CannotRun(f"`{file}` is no request to this API: it has no `{missing[0]}`", help_)
    return api


def _headers(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not (colon and name.strip()):
            raise CannotRun(f"`--header {text}` is not a name and a value", "write `--header 'x-plan: pro'`")
        found[name.strip().lower()] = value.strip()
    return found


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CannotRun(f"`--at {text}` is no time", "write `--at 2026-11-25T10:00:00Z`; without a zone it is UTC") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
