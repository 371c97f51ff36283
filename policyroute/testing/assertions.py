"""`assert_route`: a policy's decision in a test written in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from policyroute.language.diagnostics import did_you_mean
from policyroute.language.load import load
from policyroute.language.policy import BoolType, EnumType, Expect, Given, IntType, Policy, Test, Value
from policyroute.prices.catalog import complete, load_catalog
from policyroute.testing.run import Suite


def assert_route(
    policy: Policy | str | Path, rule: str, chain: Sequence[str] | None = None, *, refused: bool = False,
    request: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None, given: Mapping[str, Value] | None = None,
    **signals: Value,
) -> None:  # fmt: skip
    """Assert that `rule` takes a request, and where `chain` is given that these models are left of it, first choice first.

    The request is what `signals` (and `given`, for names like `prompt has urgent`) say, and all else as in a policy's own test: texts
    run through the real extraction, `request` is a whole body of any of the three APIs, `headers` are read by declared signals. `policy`
    is a file or a loaded policy; its models are completed from the price library. All readings have to agree.

    Raises AssertionError with what was expected, what came and why; ValueError for a name or value that the policy doesn't know.

        assert_route("policies/support.route", "incident", ["sonnet", "gpt_4o"], plan="pro", prompt="Our shop is down")
    """
    loaded = _completed(policy)
    stated = {**(given or {}), **signals}
    for name, value in stated.items():
        _known(loaded, name, value)
    if rule not in [each.name for each in loaded.rules]:
        raise ValueError(f"no rule is named `{rule}`" + _hint(rule, [each.name for each in loaded.rules]))
    body = "" if request is None else json.dumps(request)
    asked = Given(tuple(stated.items()), request=body, headers=tuple((headers or {}).items()))
    expect = Expect(rule, () if refused else None if chain is None else tuple(chain), refused=refused)
    (outcome,) = Suite(loaded).run([Test("assert_route", ((asked, expect),))])
    if outcome.status != "passed":
        raise AssertionError("\n".join(outcome.details))


def _completed(policy: Policy | str | Path) -> Policy:
    if isinstance(policy, Policy):
        return complete(policy, load_catalog())[0]
    return _file(Path(policy).resolve(), Path(policy).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _file(path: Path, changed: int) -> Policy:
    """A file's policy; read again when the file has changed."""
    return complete(load(path), load_catalog())[0]


def _known(policy: Policy, name: str, value: Value) -> None:
    signal = policy.signals.get(name)
    if signal is None:
        raise ValueError(f"no signal is named `{name}`" + _hint(name, list(policy.signals)))
    match signal.type:
        case BoolType():
            good = isinstance(value, bool)
        case IntType(low, high):
            good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        case EnumType() as type_:
            good = isinstance(value, str) and (type_.open or value in type_.all)
        case _:
            good = isinstance(value, str)
    if not good:
        raise ValueError(f"`{name}` can't be {value!r}")


def _hint(name: str, known: Sequence[str]) -> str:
    near = did_you_mean(name, known)
    return f"; {near}" if near else ""
