"""The formatter's view of declarations: parse tree in, cells of a one-line row and a document of several lines out.

What a construct looks like is said in the tables below by the terminals of the grammar, so that a new keyword or item
costs a word in a table, or nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lark import Token, Tree

from policyroute.language.alignment import Cell, Row
from policyroute.language.printer import Doc, Group, Line, Nest, Text, commented, flat

Node = Tree[Token] | Token
Comments = Mapping[int, tuple[tuple[str, ...], str]]  # by a token's offset: the comments before it, the one after it

INDENT = 2
HANG = 4  # indentation of what doesn't fit behind its keyword
NO_DOC = 60  # columns that a rule without a description may leave empty in a table of rules that have one

# No space before, no space after, two spaces before, a line may end before.
_TIGHT_BEFORE = {"COMMA", "RPAR", "QMARK", "DOTS"}
_TIGHT_AFTER = {"LPAR", "DOTS"}
_WIDE_BEFORE = {"ABOUT", "BECAUSE", "REPEATED", "OF"}
_BREAK_BEFORE = {"VBAR", "LESSTHAN", "REPEATED", "OF"}

# Declarations without braces: the terminals at which a cell of the row begins, with the spaces before it; those before
# which a long declaration is broken.
_CELLS: dict[str, dict[str, int]] = {
    "signal": {"COLON": 1, "FROM": 2}, "words": {"EQUAL": 1}, "words_from": {"FROM": 1}, "pattern": {"EQUAL": 1},
    "let": {"EQUAL": 1}, "tunable": {"COLON": 1}, "tier": {"EQUAL": 1}, "forbid": {"WHEN": 1}, "guarantee": {"COLON": 1},
}  # fmt: skip
_CLAUSES = {"signal": {"FROM"}, "forbid": {"WHEN", "BECAUSE"}, "guarantee": {"WHEN"}}

# Declarations that are aligned with their neighbours, under the name of the table that they form.
_TABLES = {name: name for name in (*_CELLS, "model", "rule")} | {
    "words_from": "words", "otherwise": "rule", "quota": "limit", "budget": "limit",
}  # fmt: skip

# Blocks whose children are an entry each; among them those whose entries keep the lines that they were written on.
# In other blocks an entry begins at these terminals and rules.
_FREE = {"model", "classifier"}
_LISTED = {"on_failure", "on_stream_failure", "gate", "sticky", *_FREE}
_ENTRIES = {"WHEN", "THEN", "owner", "expires"}


@dataclass(frozen=True, slots=True)
class Shape:
    """The two forms of a declaration: `row` on one line (without comments), `doc` on several.

    `table` names what the row is aligned with, or is empty. Comments allow no row. In `braced` ones the author chooses.
    """

    table: str
    row: Row
    doc: Doc
    braced: bool
    commented: bool


def first(node: Node) -> Token:
    """The first token of a node."""
    return node if isinstance(node, Token) else first(node.children[0])


def last(node: Node) -> Token:
    """The last token of a node."""
    return node if isinstance(node, Token) else last(node.children[-1])


def shape(declaration: Tree[Token], text: str, comments: Comments) -> Shape:
    """The forms of a declaration of `text`; `comments` are those between its tokens."""
    shaper = _Shaper(text, comments)
    terminals = [_terminal(child) for child in declaration.children]
    if "LBRACE" in terminals:
        at = terminals.index("LBRACE")
        return shaper.braced(str(declaration.data), declaration.children[:at], declaration.children[at:])
    return shaper.unbraced(str(declaration.data), declaration.children)


@dataclass(frozen=True, slots=True)
class _Shaper:
    text: str
    comments: Comments

    # -- phrases ---------------------------------------------------------------------------------------------------

    def doc(self, node: Node) -> Doc:
        if isinstance(node, Token):
            before, after = self.comments.get(node.start_pos or 0, ((), ""))
            return Text(str(node), before, after)
        match node.data:
            case "or_" | "and_":
                return self.condition(node)
            case "split":
                return self.split(node)
            case "metric":
                return tuple(self.doc(child) for child in node.children)
            case _:
                return self.phrase(node.children)

    def phrase(self, nodes: Sequence[Node]) -> Doc:
        """Words one after another; a line may end after a comma, and before some signs and words."""
        parts: list[Doc] = [self.doc(nodes[0])]
        for left, right in pairwise(nodes):
            gap = _gap(left, right)
            if _terminal(left) == "COMMA" or _terminal(right) in _BREAK_BEFORE:
                parts.append(Nest(HANG, Group((Line(gap), self.doc(right)))))
            else:
                parts += [Text(" " * gap), self.doc(right)] if gap else [self.doc(right)]
        return tuple(parts)

    def condition(self, node: Tree[Token]) -> Doc:
        operands, operators = node.children[::2], node.children[1::2]
        tail = [(Line(), self.doc(sign), Text(" "), self.doc(right)) for sign, right in zip(operators, operands[1:], strict=True)]
        return Group(Nest(HANG, (self.doc(operands[0]), *tail)))

    def split(self, node: Tree[Token]) -> Doc:
        at = [_terminal(child) for child in node.children].index("LBRACE")
        arms: list[Doc] = []
        for child in node.children[at + 1 : -1]:
            arms += [self.doc(child)] if _terminal(child) == "COMMA" else [Line(), self.doc(child)]
        return Group((self.phrase(node.children[: at + 1]), *self.closed(arms, node.children[-1])))

    # -- declarations ------------------------------------------------------------------------------------------------

    def unbraced(self, kind: str, nodes: Sequence[Node]) -> Shape:
        gaps = _CELLS.get(kind, {})
        cells = _cut(nodes, gaps)
        row = [Cell(str(at), flat(self.phrase(cell)), gaps.get(_terminal(cell[0]), 1)) for at, cell in enumerate(cells)]
        clauses = [self.phrase(clause) for clause in _cut(nodes, _CLAUSES.get(kind, ()))]
        doc: Doc = (clauses[0], Nest(HANG, tuple((Line(), clause) for clause in clauses[1:])))
        return Shape(_TABLES.get(kind, ""), tuple(row), doc, False, commented(doc))

    def braced(self, kind: str, head: Sequence[Node], block: Sequence[Node]) -> Shape:
        entries = _entries(kind, block[1:-1])
        doc: Doc = (self.phrase([*head, block[0]]), *self.block(kind, entries, block[-1]))
        return Shape(_TABLES.get(kind, ""), self.row(kind, head, entries), doc, bool(entries), commented(doc))

    def row(self, kind: str, head: Sequence[Node], entries: Sequence[Sequence[Node]]) -> Row:
        texts = [flat(self.phrase(entry)) for entry in entries]
        if kind in ("rule", "otherwise"):
            return (*self.rule_head(head), Cell("body", _body(kind, entries, texts), slack=NO_DOC))
        cells = [Cell("head", flat(self.phrase(head)))]
        if kind != "model" or not entries:
            return (*cells, Cell("body", _body(kind, entries, texts)))
        texts = [f"{{ {texts[0]}", *texts[1:]]
        texts[-1] += " }"
        # Entries are one column as long as the rows before them hold the same entries.
        keys = ["body", *(" ".join(_terminal(entry[0]) for entry in entries[: at + 2]) for at in range(len(entries) - 1))]
        return (*cells, *(Cell(key, text, 2 if at else 1) for at, (key, text) in enumerate(zip(keys, texts, strict=True))))

    def rule_head(self, head: Sequence[Node]) -> Row:
        """A rule's description is a column of its own, which rules without one leave empty."""
        if _terminal(head[-1]) != "STRING" or len(head) == 1:
            return (Cell("head", flat(self.phrase(head))),)
        return Cell("head", flat(self.phrase(head[:-1]))), Cell("doc", flat(self.doc(head[-1])))

    # -- blocks ------------------------------------------------------------------------------------------------------

    def block(self, kind: str, entries: Sequence[Sequence[Node]], brace: Node) -> tuple[Doc, ...]:
        inner: list[Doc] = []
        for at, entry in enumerate(entries):
            line = (Line(_entry_gap(kind, entry)), self.phrase(entry))
            inner.append(Group(line) if at and self.together(kind, entries[at - 1], entry) else line)
        return self.closed(inner, brace)

    def closed(self, inner: Sequence[Doc], brace: Node) -> tuple[Doc, ...]:
        """The inside of a block and its closing brace; the comments before that are inside, too."""
        before, after = self.comments.get(last(brace).start_pos or 0, ((), ""))
        comments = tuple((Line(), Text("", (comment,))) for comment in before)
        return Nest(INDENT, (*inner, *comments)), Line(), Text("}", (), after)

    def together(self, kind: str, left: Sequence[Node], right: Sequence[Node]) -> bool:
        """Whether two entries of a block share a line where they fit."""
        if kind in _FREE:
            return "\n" not in self.text[last(left[-1]).end_pos : first(right[0]).start_pos]
        return {_terminal(left[0]), _terminal(right[0])} <= {"owner", "expires"}


def _terminal(node: Node) -> str:
    """The terminal of a token (the grammar has no name for `..`), the rule of a tree."""
    if isinstance(node, Token):
        return "DOTS" if node == ".." else node.type
    return str(node.data)


def _gap(left: Node, right: Node) -> int:
    before, after = _terminal(first(right)), _terminal(last(left))
    if before in _TIGHT_BEFORE or after in _TIGHT_AFTER:
        return 0
    return 2 if before in _WIDE_BEFORE else 1


def _cut(nodes: Sequence[Node], starts: Collection[str]) -> list[Sequence[Node]]:
    """The nodes in pieces; each but the first begins at one of the terminals `starts`."""
    at = [index for index, node in enumerate(nodes) if index == 0 or _terminal(node) in starts]
    return [nodes[start:end] for start, end in pairwise([*at, len(nodes)])]


def _entries(kind: str, nodes: Sequence[Node]) -> list[Sequence[Node]]:
    """What a block holds, in the pieces that get a line each."""
    if kind in _LISTED:
        return [[node] for node in nodes]
    entries = _cut(nodes, _ENTRIES) if nodes else []
    return [part for entry in entries for part in _given_expect(entry)] if kind == "test" else entries


def _given_expect(nodes: Sequence[Node]) -> list[Sequence[Node]]:
    """`given ...` and `expect ...` of a test's step, `then` before the first."""
    *then, step = nodes
    assert isinstance(step, Tree)
    given, expect = _cut(step.children, {"EXPECT"})
    return [[*then, *given], expect]


def _entry_gap(kind: str, entry: Sequence[Node]) -> int:
    """Spaces before an entry on a row: one before a rule's `then`, which completes its `when`, two elsewhere."""
    return 1 if kind == "rule" and _terminal(entry[0]) == "THEN" else 2


def _body(kind: str, entries: Sequence[Sequence[Node]], texts: Sequence[str]) -> str:
    if not texts:
        return "{}"
    tail = "".join(" " * _entry_gap(kind, entry) + text for entry, text in zip(entries[1:], texts[1:], strict=True))
    return f"{{ {texts[0]}{tail} }}"
