"""Builds policyroute/prices/abilities.json, the context and abilities of chat models, from LiteLLM's price map.

    python scripts/build_abilities.py MAP.json[.gz] VERSION

MAP is LiteLLM's `model_prices_and_context_window.json` (MIT licence) of release VERSION. Models are grouped by what they
have in common, which keeps the file small and its changes readable. Prices are not taken.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from policyroute.prices.litellm import abilities_of, context_of, read_price_file

TARGET = Path(__file__).parents[1] / "policyroute" / "prices" / "abilities.json"
MODES = ("chat", "responses")


def letters(entry: dict[str, Any]) -> str | None:
    """`t`, `i`, `j` for tools, images, json; None where they are unknown."""
    can = abilities_of(entry)
    return None if can is None else "".join(sorted(ability[0] for ability in can))


def grouped(entries: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """`[context, letters, "id id ..."]` rows, in order; models of which nothing is known are left out."""
    groups = defaultdict(list)
    for key, entry in entries.items():
        facts = (context_of(entry), letters(entry))
        if entry.get("mode") in MODES and " " not in key and facts != (None, None):
            groups[facts].append(key)
    order = sorted(groups, key=lambda facts: (facts[0] or 0, facts[1] or ""))
    return [[*facts, " ".join(sorted(groups[facts]))] for facts in order]


def build(source: Path, version: str) -> str:
    """The file's text: a header, then one group a line."""
    header = {"source": "model_prices_and_context_window.json of LiteLLM", "version": version, "licence": "MIT, (c) 2023 Berri AI"}
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in grouped(read_price_file(source).entries))
    return json.dumps(header)[:-1] + ', "groups": [\n' + rows + "\n]}\n"


if __name__ == "__main__":
    TARGET.write_text(build(Path(sys.argv[1]), sys.argv[2]), encoding="utf-8")
