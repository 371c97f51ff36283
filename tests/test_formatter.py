"""The formatter: wanted outputs as files, and what must hold of every output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lark import Lark, Tree

from policyroute.language.diagnostics import PolicyError
from policyroute.language.formatter import KEPT, LINE, format_source
from policyroute.language.parser import grammar, parse
from policyroute.language.source import Source, Span

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared"
CASES = sorted((HERE / "formatter").glob("*.route"))
DESIGN = [SHARED / "design" / "policies" / f"{name}.route" for name in ("coding", "models", "support")]
FILES = [*CASES, *sorted((HERE.parent / "policies").rglob("*.route")), *(path for path in DESIGN if path.exists())]

# A text, a pattern, a comment, or other characters: enough to find comments without the formatter's own reading.
PIECE = re.compile(r'"[^"\n]*"|/(?:[^/\n\\]|\\.)+/|(#[^\n]*)|[^\s"/#]+')


def formatted(text: str) -> str:
    return format_source(Source("policy.route", text))


def halves(path: Path) -> tuple[str, str]:
    """Input and wanted output of a case; a case without `# output` is its own output."""
    text, _, wanted = path.read_text("utf-8").partition("# output\n")
    return text, wanted or text


def meaning(node: object) -> object:
    """The syntax tree without spans."""
    if is_dataclass(node):
        values = [(field.name, getattr(node, field.name)) for field in fields(node)]
        return type(node).__name__, [(name, meaning(value)) for name, value in values if not isinstance(value, Span)]
    return [meaning(item) for item in node] if isinstance(node, (tuple, list)) else node


def read(text: str) -> object:
    declarations, diagnostics = parse(Source("policy.route", text))
    assert not diagnostics
    return meaning(declarations)


def comments(text: str) -> list[tuple[str, str, bool]]:
    """Each comment with the code before it, less white space, and whether it begins its line."""
    code, found = "", []
    for match in PIECE.finditer(text):
        if match.group(1) is None:
            code += match.group()
        else:
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            found.append((code, match.group().rstrip().expandtabs(4), not line.strip()))
    return [*found, (code, "", False)]


def tidy(text: str) -> bool:
    """White space is spaces and single line feeds, none of it at a line's end, no blank line at the ends or after another."""
    ends = not text or (text.endswith("\n") and not text.startswith("\n"))
    layout = PIECE.sub("x", text)
    return ends and not re.search(r"[^\S \n]| \n|\n\n\n|\n\n$", layout) and not re.search(r"[ \t]\n", text)


def holds(text: str) -> None:
    """What is true of every text that parses."""
    once = formatted(text)
    assert read(once) == read(text)
    assert comments(once) == comments(text.replace("\r\n", "\n"))
    assert formatted(once) == once
    assert tidy(once)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    text, wanted = halves(path)
    assert formatted(text) == wanted


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_file(path: Path) -> None:
    text = halves(path)[0]
    holds(text)
    holds(text.replace("\n", "\r\n").replace("  ", "\t"))


def test_cases_use_every_rule() -> None:
    lark = Lark(grammar(), parser="lalr", keep_all_tokens=True, g_regex_flags=re.ASCII)
    tree = lark.parse(halves(HERE / "formatter" / "every_construct.route")[0])
    used = {str(node.data) for node in tree.iter_subtrees()}
    # An inlined rule (`?name`) and an expanded repetition (`__name`) leave no node of their own.
    inlined = {rule.origin.name for rule in lark.rules if rule.options.expand1 or rule.origin.name.startswith("_")}
    known = {str(rule.alias or rule.origin.name) for rule in lark.rules}
    aliased = {rule.origin.name for rule in lark.rules if rule.alias}
    assert known - inlined - aliased | {str(rule.alias) for rule in lark.rules if rule.alias} <= used


@pytest.mark.skipif(not all(path.exists() for path in DESIGN), reason="the design's policies are beside the repository only")
@pytest.mark.parametrize("path", DESIGN, ids=lambda path: path.stem)
def test_design_policies_stay_as_they_are(path: Path) -> None:
    """Up to the width of columns: what is on a line stays there, and no line is added."""
    before = path.read_text("utf-8")
    after = formatted(before)
    assert [line.split() for line in after.splitlines()] == [line.split() for line in before.splitlines()]
    assert max(map(len, after.splitlines())) <= KEPT


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("\n\n", ""),
        ("# only this", "# only this\n"),
        ("edition 1", "edition 1\n"),
        ("edition 1\r\n\r\n\r\npolicy p\r\n", "edition 1\n\npolicy p\n"),
        ("edition 1 #\tdone\t\r\n", "edition 1  #   done\n"),
        ("tier\ta\t=\tb\n", "tier a = b\n"),
        ('pattern p = /a#b\t"/ # c', 'pattern p = /a#b\t"/  # c\n'),
        ('words w = "a # b",# c\n"d  e"', 'words w = "a # b",  # c\n    "d  e"\n'),
        ("model m{}edition 1", "model m {}\nedition 1\n"),
        ("model m {\n# why\n}", "model m {\n  # why\n}\n"),
        ("let a = b # c\n# d\n\n# e", "let a = b  # c\n# d\n\n# e\n"),
    ],
)
def test_text(text: str, wanted: str) -> None:
    assert formatted(text) == wanted
    holds(text)


def spread(text: str, columns: int) -> str:
    """The text with a name so long that all of it takes `columns` columns."""
    return text.replace("NAME", "n" * (columns - len(text) + len("NAME")))


@pytest.mark.parametrize(("columns", "lines"), [(LINE, 1), (LINE + 1, 2)])
def test_what_spanned_lines_is_joined_up_to_line(columns: int, lines: int) -> None:
    text = spread("forbid NAME when escalated", columns).replace("when", "\nwhen")
    assert formatted(text).count("\n") == lines


@pytest.mark.parametrize(("columns", "lines"), [(KEPT, 1), (KEPT + 1, 4)])
def test_what_was_one_line_is_kept_up_to_kept(columns: int, lines: int) -> None:
    assert formatted(spread("rule NAME { when escalated then m }", columns)).count("\n") == lines


@pytest.mark.parametrize(("length", "aligned"), [(25, True), (26, False)])
def test_padding_ends_a_table(length: int, aligned: bool) -> None:
    lines = formatted(f"tier a = x\ntier {'b' * length} = y\n").splitlines()
    assert (lines[0].index("=") == lines[1].index("=")) is aligned


def test_errors_are_raised_with_their_places() -> None:
    with pytest.raises(PolicyError) as raised:
        formatted("edition 1\r\nrule r { when then m }\r\ntier = x\r\n")
    source = raised.value.sources[0]
    assert [source.position(found.span.start)[0] for found in raised.value.diagnostics] == [2, 3]


# -- any layout of the same words ------------------------------------------------------------------------------------------

SPACES = st.sampled_from(
    [" ", "  ", "\n", "\t", "\r\n", "\n\n\n", " # a comment\n", "\n# own line\n", "\n  #!\t x \n\n# b\n", "\f"]
)
WORDS = {path.stem: halves(path)[0] for path in CASES}


def declarations(text: str) -> Iterator[list[str]]:
    """The tokens of each declaration."""
    lark = Lark(grammar(), parser="lalr", keep_all_tokens=True, maybe_placeholders=False, g_regex_flags=re.ASCII)
    for child in lark.parse(text).children:
        assert isinstance(child, Tree)
        yield [str(token) for token in child.scan_values(lambda _: True)]


DECLARATIONS = [tokens for text in WORDS.values() for tokens in declarations(text)]


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """Some declarations of the cases, with any white space and comments between their words."""
    spaces = draw(st.sampled_from([st.just(" "), st.sampled_from([" ", " ", " ", "\n"]), SPACES]))
    text = draw(st.sampled_from(["", " ", "\n\n", "# head\n"]))
    for tokens in draw(st.lists(st.sampled_from(DECLARATIONS), max_size=6)):
        for token in tokens:
            text += token + draw(spaces)
        text += draw(SPACES)
    return text


@given(mangled())
@example("rule # a\n r # b\n # c\n { # d\n when # e\n a # f\n then # g\n b # h\n } # i")
@example('gate g on "t" against b { require share # a\n ( # b\n x # c\n ) > 1 }')
@example("signal s : int 1 # a\n .. # b\n 2 # c\n = 1")
def test_any_layout(text: str) -> None:
    holds(text)


@given(st.lists(st.sampled_from(DECLARATIONS), min_size=1, max_size=4))
def test_layouts_agree(chosen: list[list[str]]) -> None:
    """Declarations without braces or comments look the same however they were broken, as long as they fit."""
    plain = [tokens for tokens in chosen if "{" not in tokens and len(" ".join(tokens)) < LINE - 10]
    one = "\n".join(" ".join(tokens) for tokens in plain)
    other = "\n".join("\n\t".join(tokens) for tokens in plain)
    assert formatted(one) == formatted(other)
