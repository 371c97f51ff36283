"""`--classify`: where answers of classifiers come from that a trace doesn't hold."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from policyroute.cli.common import CannotRun
from policyroute.language.policy import Policy
from policyroute.language.statements import Classifier

PARTS = 10_000
HOW = "`column`, `live`, or the shares of its members in percent: `mix 60,25,15`"


@contextmanager
def classifying(policy: Policy, given: Sequence[str], price_file: Path | None) -> Iterator[dict[str, Any]]:
    """`--classify` as the fields `mix` and `ask` of `Options`; connections are closed in the end."""
    mix: dict[str, tuple[int, ...]] = {}
    live: set[str] = set()
    for text in given:
        name, _, how = text.rpartition("=")
        if name and name not in policy.classifiers:
            known = ", ".join(f"`{each}`" for each in policy.classifiers) or "none"
            raise CannotRun(f"the policy has no classifier `{name}`", f"its classifiers: {known}")
        for one in [policy.classifiers[name]] if name else policy.classifiers.values():
            if how.startswith("mix "):
                mix[one.name] = _shares(one, how.removeprefix("mix "))
            elif how == "live":
                live.add(one.name)
            elif how != "column":
                raise CannotRun(f"`{how}` is no way to learn what `{one.name}` says", HOW)
    if not live:
        yield {"mix": mix}
        return
    from policyroute.proxy.upstream.transport import best

    with closing(best()) as transport:
        yield {"mix": mix, "ask": _asking(policy, live, price_file, transport)}


def _shares(one: Classifier, text: str) -> tuple[int, ...]:
    try:
        shares = tuple(Decimal(part.strip().removesuffix("%")) * (PARTS // 100) for part in text.split(","))
    except InvalidOperation:
        raise CannotRun(f"`{text}` are no shares", HOW) from None
    whole = all(share == int(share) and share >= 0 for share in shares)
    if len(shares) != len(one.members) or not whole or sum(shares) != PARTS:
        raise CannotRun(
            f"`{one.name}` needs {len(one.members)} shares that add up to 100 %, at most two decimals each",
            f"in this order: {', '.join(one.members)}",
        )
    return tuple(int(share) for share in shares)


def _asking(
    policy: Policy, names: set[str], price_file: Path | None, transport: Any
) -> Callable[[str, object], tuple[str, int | None]]:
    """Asks as the gateway does, with its credentials from the environment."""
    from policyroute.prices.catalog import load_catalog
    from policyroute.proxy.breaker import Breaker
    from policyroute.proxy.classifier import Classifiers
    from policyroute.proxy.means import Means
    from policyroute.proxy.providers import EndpointError, endpoint_of
    from policyroute.proxy.settings import Settings
    from policyroute.signals.facts import Facts
    from policyroute.signals.values import Reader

    try:
        endpoints = {name: endpoint_of(model, os.environ) for name, model in policy.models.items()}
    except EndpointError as error:
        raise CannotRun(error.message, error.help) from None
    classifiers = Classifiers(
        policy, endpoints, load_catalog(price_file).for_policy(policy), Means(Settings(Path()), transport, Breaker())
    )
    reader, lock = Reader(policy), threading.Lock()

    def ask(name: str, messages: object) -> tuple[str, int | None]:
        one = policy.classifiers[name]
        if name not in names or messages is None:
            return one.failed, 0
        with lock:
            values = reader(Facts.of_row(messages))
        member = classifiers.classify(values, policy.signals[name])
        cost = values.classified[-1].cost
        return member, cost.picodollars if cost is not None else None

    return ask
