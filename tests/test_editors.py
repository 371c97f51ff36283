"""The editors' highlighting is the grammar's, and knows what each word of a policy is."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
VSCODE = ROOT / "editors" / "vscode"
FILE = VSCODE / "syntaxes" / "route.tmLanguage.json"
RULE = 'shadow rule hour_ok "a # b" { when tokens >= 3k and last has in_doubt then split by user { 90.5% hour, 10% b } } # end'


def scopes(line: str) -> list[tuple[str, str]]:
    """The words of a line with their scopes: at each place the first pattern of the leftmost match, as TextMate does it."""
    patterns: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["patterns"]
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(line):
        matches = [
            (match.start(), index, match)
            for index, row in enumerate(patterns)
            if (match := re.compile(row["match"]).search(line, at))
        ]
        if not matches:
            break
        _, index, match = min(matches, key=lambda candidate: candidate[:2])
        captures = patterns[index].get("captures", {"0": patterns[index]})
        found += [(match.group(int(group)), row["name"].removesuffix(".route")) for group, row in captures.items()]
        at = match.end()
    return found


def test_highlighting_is_up_to_date() -> None:
    """If this fails: `python scripts/build_editors.py`."""
    build = runpy.run_path(str(ROOT / "scripts" / "build_editors.py"))
    assert FILE.read_text("utf-8") == build["highlighting"]()


def test_manifest_names_files_that_exist() -> None:
    contributes = json.loads((VSCODE / "package.json").read_text("utf-8"))["contributes"]
    paths = [row["configuration"] for row in contributes["languages"]] + [row["path"] for row in contributes["grammars"]]
    for path in paths:
        json.loads((VSCODE / path).read_text("utf-8"))
    assert [row["scopeName"] for row in contributes["grammars"]] == [json.loads(FILE.read_text("utf-8"))["scopeName"]]


@pytest.mark.parametrize(
    ("line", "word", "scope"),
    [
        (RULE, "shadow", "keyword.control"),
        (RULE, "rule", "keyword.control"),
        (RULE, "hour_ok", "entity.name"),
        (RULE, '"a # b"', "string.quoted.double"),
        (RULE, "when", "keyword.other"),
        (RULE, "tokens", "variable.other"),
        (RULE, ">=", "keyword.operator"),
        (RULE, "3k", "constant.numeric"),
        (RULE, "and", "keyword.operator.word"),
        (RULE, "in_doubt", "variable.other"),
        (RULE, "90.5%", "constant.numeric.percent"),
        (RULE, "# end", "comment.line.number-sign"),
        ("pattern trace = /(?i)a#b\\/c/ # x", "/(?i)a#b\\/c/", "string.regexp"),
        ("signal n : int 1..64k = 2", "int", "storage.type"),
        ("signal n : int 1..64k = 2", "..", "keyword.operator"),
        ("signal n : int 1..64k = 2", "64k", "constant.numeric"),
        ("sticky by user for 30min { never downgrade }", "30min", "constant.numeric.duration"),
        ("sticky by user for 30min { never downgrade }", "sticky", "keyword.control"),
        ("quota q { 5 per minute by user then m }", "minute", "keyword.other"),
        ("model m { in $0.05 from 2026-01-01 }", "$0.05", "constant.numeric.money"),
        ("model m { in $0.05 from 2026-01-01 }", "2026-01-01", "constant.other.date"),
    ],
)
def test_scope(line: str, word: str, scope: str) -> None:
    assert (word, scope) in scopes(line)
