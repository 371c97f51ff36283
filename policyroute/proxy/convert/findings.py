"""What a policy's models and the served APIs mean for conversions, said when the policy is loaded and not when a request is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from policyroute.language.policy import Policy
from policyroute.proxy.convert.library import available
from policyroute.proxy.convert.loss_table import losses
from policyroute.signals.request import Api

_ORDER: tuple[Api, ...] = ("chat", "responses", "messages")
_TITLES: Mapping[str, str] = {"chat": "Chat Completions", "responses": "Responses", "messages": "Messages"}


class Finding(NamedTuple):
    """One finding: a code for it, a sentence, and what can be done."""

    code: str
    message: str
    help: str


def findings(policy: Policy, apis: Mapping[str, frozenset[str]], surfaces: Iterable[Api]) -> tuple[Finding, ...]:
    """Findings for the policy's models, of which `apis` has the APIs that each one's endpoint speaks, and the served `surfaces`.

    `conversion-missing`: models that a surface can't reach, because the extra isn't installed. `lossy-conversion`: models that it
    reaches by a conversion, and what that loses.
    """
    return tuple(_findings(policy, apis, tuple(surfaces)))


def _findings(policy: Policy, apis: Mapping[str, frozenset[str]], surfaces: tuple[Api, ...]) -> Iterator[Finding]:
    for surface in surfaces:
        others = [model for model in policy.models if surface not in apis.get(model, frozenset())]
        if not available() and others:
            yield _missing(surface, others)
            continue
        for upstream in _ORDER:
            models = [model for model in others if _spoken(apis.get(model, frozenset())) == upstream]
            if models:
                yield _lossy(surface, upstream, models)
        mute = [model for model in others if _spoken(apis.get(model, frozenset())) is None]
        if mute:
            yield _mute(surface, mute)


def _spoken(apis: frozenset[str]) -> Api | None:
    """The API in which a model is asked where it doesn't speak the client's: the first of `_ORDER` that it does speak."""
    return next((api for api in _ORDER if api in apis), None)


def _missing(surface: Api, models: list[str]) -> Finding:
    message = f"a request to {_TITLES[surface]} can't be answered by {_named(models)}: another API is spoken there"
    return Finding(
        "conversion-missing",
        message,
        "install the extra `convert`; without it that API is not served, or passes over these models where `--api` names it",
    )


def _mute(surface: Api, models: list[str]) -> Finding:
    message = (
        f"a request to {_TITLES[surface]} can't be answered by {_named(models)}: no API is spoken there that can be converted to"
    )
    return Finding("conversion-missing", message, "these models are passed over; give them a provider that speaks Chat Completions")


def _lossy(surface: Api, upstream: Api, models: list[str]) -> Finding:
    lost = "; ".join(losses(surface, upstream))
    message = (
        f"a request to {_TITLES[surface]} is converted for {_named(models)} ({_TITLES[upstream]}), which loses what that API hasn't"
    )
    return Finding("lossy-conversion", message, f"where a request or an answer has it, this is lost: {lost}")


def _named(models: list[str]) -> str:
    return ", ".join(f"`{model}`" for model in models)
