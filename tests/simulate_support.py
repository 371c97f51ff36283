"""What the tests of replays share: the example files, policies with their prices, and a replay as the result that people read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from policyroute.language import Policy, check_file, check_text
from policyroute.prices.catalog import Catalog, complete, load_catalog
from policyroute.replay.options import Options
from policyroute.replay.report import result
from policyroute.replay.simulate import simulate

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PICODOLLARS = 10**12

Json = dict[str, Any]


@cache
def catalog() -> Catalog:
    return load_catalog()


@cache
def policy_of(path: str | Path) -> Policy:
    """The policy in a file (relative to the repository), with its models completed."""
    checked = check_file(ROOT / path)
    assert not checked.failed, checked.diagnostics
    return complete(checked.policy, catalog())[0]


def policy_from(text: str) -> Policy:
    """A policy of a test; `model` lines and `otherwise` are the test's own."""
    checked = check_text(text if text.startswith("edition") else f"edition 1\npolicy example\n{text}")
    assert not checked.diagnostics, checked.diagnostics
    return complete(checked.policy, catalog())[0]


def held(policy: Policy, paths: str | Path | Sequence[str | Path], **options: Any) -> Json:
    """A replay that keeps usage as recorded and takes every call to succeed: what plain reckonings reckon."""
    return replay(policy, paths, **{"prompt_cache": "held", "failures": False} | options)


def replay(policy: Policy, paths: str | Path | Sequence[str | Path], **options: Any) -> Json:
    """The result of a replay, as `--json` prints it."""
    paths = [paths] if isinstance(paths, str | Path) else paths
    return result(simulate(policy, paths, catalog(), Options(**options)))


def text_of(found: Json) -> str:
    """The bytes that `--json` prints."""
    return json.dumps(found, ensure_ascii=False, indent=2)


def figures(found: Json) -> Json:
    """A result without what names the files that were read."""
    return {
        **found,
        "digests": {name: digest for name, digest in found["digests"].items() if name != "trace"},
        "trace": {name: value for name, value in found["trace"].items() if name != "files"},
    }


def picodollars(amount: str | Decimal) -> int:
    """Dollars as whole picodollars; anything finer is an error of the result."""
    exact = Decimal(amount) * PICODOLLARS
    assert exact == int(exact)
    return int(exact)
