"""The language reference and the codes: tables are current, every block is a good policy, every example shows its code."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from policyroute.language import check_text
from policyroute.language.codes import BY_NUMBER, CODES
from policyroute.language.load import Checked
from policyroute.language.manual import code_page, codes_markdown, number_text, vocabulary_rows
from policyroute.language.parser import DECLARATIONS
from policyroute.language.vocabulary import OPERATORS, SIGNALS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "language.md").read_text("utf-8")
BLOCKS = [
    (f"line {PAGE[: found.start()].count(chr(10)) + 1}", found[1] or "", found[2])
    for found in re.finditer(r"^```route( fragment)?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
]

# What a fragment may refer to: kind, name, declaration. A piece is added where the fragment doesn't declare it.
PIECES = (
    ("edition", r"\d", "edition 1"), ("policy", r"\w+", "policy fragment"),
    *(("model", name, f'model {name} {{ id "{name}" }}') for name in ("nano", "mini", "strong", "local", "haiku", "sonnet", "opus")),
    ("signal", "plan", "signal plan : free | pro | enterprise = free"),
    ("signal", "region", "signal region : us | eu = us"),
    ("signal", "feature", "signal feature : (search | draft)?"),
    *(("words", name, f'words {name} = "{name}"') for name in ("urgent", "faq", "unsure")),
    ("tier", "cheap", "tier cheap = mini, haiku"), ("tier", "standard", "tier standard = haiku, sonnet"),
    ("tier", "premium", "tier premium = sonnet, opus"),
    ("rule", "short", "rule short { when tokens < 500 then mini }"),
    ("quota", "fair_use", "quota fair_use { 100 per day by user of premium then standard }"),
    ("otherwise", r"\{", "otherwise { then mini }"),
)  # fmt: skip
FILES = {
    "models.route": 'model used { id "x" }\n', "self.route": 'use "self.route"\n', "words/faq.txt": "opening hours\n",
    "cases/incident.json": '{"messages": [{"role": "user", "content": "hello"}]}', "cases/talk.json": "[]",
    "rules.route": "rule r { when code then mini }\n",
}  # fmt: skip

# Of these codes an example is nothing but the lack of a piece.
LACKS = {"edition-missing": "edition", "policy-missing": "policy", "otherwise-missing": "otherwise"}
WITH_PRICES = {"price-not-found"}  # found with the price library, which the checker of the language doesn't read


def read(path: Path) -> str:
    """The files that fragments and examples use."""
    if path.as_posix() not in FILES:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return FILES[path.as_posix()]


def checked(fragment: str, without: str = "") -> Checked:
    """A fragment checked with the pieces that it doesn't declare, but for those of the kind `without`."""
    missing = [
        text for kind, name, text in PIECES if kind != without and not re.search(rf"^{kind}\s+{name}", fragment, re.MULTILINE)
    ]
    last = [text for text in missing if text.startswith("otherwise")]
    before = [text for text in missing if not text.startswith(("otherwise", "rule"))]
    rules = [text for text in missing if text.startswith("rule") and "otherwise {" not in fragment]
    return check_text("\n".join([*before, *rules, fragment, *last]) + "\n", read=read)


@pytest.fixture(scope="module")
def build_docs() -> ModuleType:
    """`scripts/build_docs.py` as a module."""
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "scripts" / "build_docs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_pages_are_current(build_docs: ModuleType) -> None:
    """Run `python scripts/build_docs.py` after a change of vocabulary or codes."""
    assert {path: path.read_text("utf-8") for path in build_docs.pages()} == build_docs.pages()


@pytest.mark.parametrize(("place", "fragment", "text"), BLOCKS, ids=[block[0] for block in BLOCKS])
def test_blocks_are_good_policies(place: str, fragment: str, text: str) -> None:
    """Every block of the reference is accepted, whole or with the names that it mentions."""
    found = checked(text) if fragment else check_text(text, read=read)
    assert not found.diagnostics, f"{place}: {[diagnostic.message for diagnostic in found.diagnostics]}"


@pytest.mark.parametrize(
    "code", [code for code, row in CODES.items() if code not in WITH_PRICES and not row.number.startswith(("PR6", "PR7"))]
)
def test_examples_show_their_code(code: str) -> None:
    """The example of a code is refused for it and for nothing else, and what stands instead is accepted; PR6xx are found in a replay, PR7xx by an analysis."""
    row = CODES[code]
    assert {diagnostic.code for diagnostic in checked(row.example, LACKS.get(code, "")).diagnostics} == {code}
    assert [diagnostic.message for diagnostic in checked(row.instead, LACKS.get(code, "")).diagnostics] == []


@pytest.mark.parametrize("code", WITH_PRICES)
def test_examples_without_prices(code: str) -> None:
    """Example and remedy of the codes that need the price library are good for the checker of the language."""
    assert not checked(CODES[code].example).diagnostics and not checked(CODES[code].instead).diagnostics


def test_every_construct_has_a_block() -> None:
    """Each keyword that begins a declaration occurs in a block of the reference."""
    text = "\n".join(block[2] for block in BLOCKS)
    assert not [word for word in DECLARATIONS if word != "timezone" and not re.search(rf"^{word}\b", text, re.MULTILINE)]
    assert 'timezone "Europe/Berlin"' in PAGE


def test_vocabulary_rows_are_complete() -> None:
    """Every signal and operator has a row with a meaning and an example."""
    rows = vocabulary_rows()
    assert {row.name for row in rows} >= SIGNALS.keys() | OPERATORS.keys()
    assert all(row.doc and row.example for row in rows)


@pytest.mark.parametrize("row", vocabulary_rows(), ids=lambda row: f"{row.kind}-{row.name}")
def test_vocabulary_examples(row: object) -> None:
    """The example of a signal or operator is a good condition, declaration or target."""
    example = str(getattr(row, "example"))  # noqa: B009
    if "{" in example or example.startswith("explore"):
        text = f"rule r {{ when code then {example} }}" if example.startswith("split") else example
        assert not checked(text.replace("90% a, 10% b", "90% mini, 10% opus")).diagnostics
    elif example.startswith("can "):
        assert not checked(f'model m {{ id "x" {example} }}').diagnostics
    else:
        declared = f'words {example.split()[-1]} = "x"\n' if " has " in example and "urgent" not in example else ""
        assert not checked(f"{declared}rule r {{ when {example} then mini }}").diagnostics


@pytest.mark.parametrize("code", CODES)
def test_code_pages(code: str) -> None:
    """A page is found by name and by number in any case, and holds all that its row says."""
    row = CODES[code]
    assert code_page(code) == code_page(row.number.lower()) == code_page(code.upper())
    assert all(
        part in code_page(code).replace("\n  ", "\n")
        for part in (row.number, row.name, row.what, row.why, row.example, row.instead)
    )
    assert f"### {row.number} {row.name}\n" in codes_markdown()


def test_unknown_code() -> None:
    """A word that is no code is a KeyError."""
    with pytest.raises(KeyError):
        code_page("PR999")


def test_numbers_of_codes() -> None:
    """Each code has a number of its own, of the form PR and three digits."""
    assert len(BY_NUMBER) == len(CODES) and all(re.fullmatch(r"PR[0-7]\d\d", number) for number in BY_NUMBER)


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (1_000, "1k"), (1_500, "1500"), (2_000_000, "2M")])
def test_number_text(number: int, text: str) -> None:
    """Numbers are written as a policy would."""
    assert number_text(number) == text
