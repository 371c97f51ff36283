"""What is to be said of conversions when a policy is loaded: what they lose, what can't be reached, which sessions can't move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from policyroute.language.policy import Policy
from policyroute.proxy.conversion import known
from policyroute.proxy.conversion.library import available
from policyroute.signals.request import Api

ORDER: tuple[Api, ...] = ("chat", "responses", "messages")
"""The API in which a model that speaks several is asked, where the client's own isn't among them."""


class Finding(NamedTuple):
    """A warning about what is served."""

    code: str
    message: str
    help: str = ""


def findings(policy: Policy, reached: Mapping[str, frozenset[str]], apis: tuple[str, ...]) -> tuple[Finding, ...]:
    """All findings. `reached`: the APIs that each model's endpoint speaks; `apis`: the surfaces that are served."""
    pairs = _pairs(reached, apis)
    made = _lossy(pairs) if available() else _missing(pairs)
    return (*made, *_moving(policy, reached, apis))


def _pairs(reached: Mapping[str, frozenset[str]], apis: tuple[str, ...]) -> dict[tuple[Api, Api], list[str]]:
    """The models by the client's and the upstream's API, where these differ."""
    pairs: dict[tuple[Api, Api], list[str]] = {}
    for client in (api for api in ORDER if api in apis):
        for model, spoken in reached.items():
            upstream = next((api for api in ORDER if api in spoken), None)
            if client not in spoken and upstream is not None:
                pairs.setdefault((client, upstream), []).append(model)
    return pairs


def _missing(pairs: Mapping[tuple[Api, Api], list[str]]) -> Iterator[Finding]:
    for client in dict.fromkeys(pair[0] for pair in pairs):
        models = [model for pair, found in pairs.items() if pair[0] == client for model in found]
        message = f"requests of the {client} API can't reach {_named(models)}: converting between APIs is not installed"
        yield Finding("conversion-missing", message, "install the extra `convert`")


def _lossy(pairs: Mapping[tuple[Api, Api], list[str]]) -> Iterator[Finding]:
    for (client, upstream), models in pairs.items():
        lost = "; ".join(known.losses(client, upstream))
        message = f"requests of the {client} API are converted to {upstream} for {_named(models)}, and lose: {lost}"
        yield Finding("lossy-conversion", message, f"a model that speaks {client} itself, or `--api {upstream}`, loses nothing")


def _moving(policy: Policy, reached: Mapping[str, frozenset[str]], apis: tuple[str, ...]) -> Iterator[Finding]:
    """Where Responses is served, sessions that providers keep, and more than one place that they could lie at."""
    places = {(model.provider, model.url) for model in policy.models.values()}
    if "responses" not in apis or len(places) < 2:
        return
    own = [name for name in policy.models if "responses" in reached.get(name, frozenset())]
    tried = f"only tried at {_named(own)}, which need not keep it" if own else "refused"
    yield Finding(
        "session-can-move",
        f"the models lie at {len(places)} places: a Responses request that refers to an earlier one (`previous_response_id`) is {tried}",
        "clients that send the whole conversation (`store` false) can be sent to any model",
    )


def _named(models: list[str]) -> str:
    return ", ".join(f"`{model}`" for model in models)
