"""Text of a policy to the same policy in the house's layout. Meaning and comments stay; formatting twice changes nothing.

- A declaration that was written on one line stays on it up to `KEPT` columns; others without braces are joined up to `LINE`.
- A block that was written over lines, or is too long, becomes `head {`, its entries two spaces deep, `}`. A rule has
  `owner`, `expires` on a line, then `when`, then `then`; a test `given` and `expect`, step by step; a model's and a
  classifier's entries keep the lines that they were written on, and are wrapped. `{}` stays `{}`.
- What is too long still: conditions break before `or`, then before `and`; lists after commas, all four spaces deeper.
- One space between words, two before clauses whose order is free (entries of a row, `from`, `of`, `about`, `because`, `repeated`).
- Neighbours of one kind, each on one line, without a blank or comment line between, form a table: columns at `:`, `=`,
  `{`, `when` or `from`, a model's entries, a rule's description. Tables end where padding beyond 24 columns (60 in place
  of a rule's missing description) or lines beyond `KEPT` would begin. Comments at line ends are a column, too.
- Comments keep their place between the same two words, their text and their line (own, or the end of one); they never count
  as width, and a comment inside a declaration makes it several lines. Blank lines: one at most, none inside declarations.
- LF at each line's end, spaces for tabs (texts and patterns in quotes or slashes are left alone), one LF at the file's end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

from lark import Lark, Token, Tree

from policyroute.language.alignment import SLACK, plain, tables
from policyroute.language.diagnostics import PolicyError
from policyroute.language.parser import grammar, parse
from policyroute.language.printer import lines
from policyroute.language.shapes import Shape, first, last, shape
from policyroute.language.source import Source

LINE = 120  # columns that broken declarations are laid out for
KEPT = 144  # columns up to which a line that was written as one, or stands in a table, stays one


def format_source(source: Source) -> str:
    """The formatted text of `source`. Raises `PolicyError` with the syntax errors of a text that doesn't parse."""
    text = source.text.replace("\r\n", "\n")
    normalised = Source(source.name, text)
    _, diagnostics = parse(normalised)
    if diagnostics:
        raise PolicyError(diagnostics, [normalised])
    return "".join(f"{line}\n" for line in _squeezed(_lines(text + "\n")))


@lru_cache(maxsize=1)
def _machine() -> Lark:
    """The grammar's parser, keeping keywords and signs."""
    return Lark(grammar(), parser="lalr", keep_all_tokens=True, maybe_placeholders=False, g_regex_flags=re.ASCII)


# -- reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Gap:
    """What stands between two tokens: a comment behind the first one, then lines that are comments or blank."""

    after: str
    own: tuple[str, ...]

    @property
    def comments(self) -> tuple[str, ...]:
        return tuple(line for line in self.own if line)


@dataclass(frozen=True, slots=True)
class _Row:
    """A declaration as it will be printed: lines, or a shape on one line; then the comment at its end."""

    printed: tuple[str, ...]
    shape: Shape
    comment: str

    @property
    def table(self) -> str:
        return "" if self.printed else self.shape.table


def _gap(text: str, start: int, end: int) -> _Gap:
    # Not splitlines: only a line feed ends a comment.
    after, *own = (piece.strip().expandtabs(4) for piece in text[start:end].split("\n"))
    return _Gap(after, tuple(own[:-1]))


def _lines(text: str) -> Iterator[str]:
    declarations = [child for child in _machine().parse(text).children if isinstance(child, Tree)]
    starts = [*(first(declaration).start_pos or 0 for declaration in declarations), len(text)]
    # No token is before the first comments, so they are lines of their own.
    yield from _gap("\n" + text, 0, starts[0] + 1).own
    table: list[_Row] = []
    for declaration, (start, following) in zip(declarations, pairwise(starts), strict=True):
        end = last(declaration).end_pos or 0
        gap = _gap(text, end, following)
        table.append(_row(declaration, text, "\n" in text[start:end], gap.after))
        if gap.own:
            yield from _printed(table)
            yield from gap.own
            table = []
    yield from _printed(table)


def _row(declaration: Tree[Token], text: str, spans_lines: bool, comment: str) -> _Row:
    tokens = list(declaration.scan_values(lambda _: True))
    gaps = [_gap(text, left.end_pos or 0, right.start_pos or 0) for left, right in pairwise(tokens)]
    sides = zip(tokens, [(), *(gap.comments for gap in gaps)], [*(gap.after for gap in gaps), ""], strict=True)
    comments = {token.start_pos or 0: (before, after) for token, before, after in sides if before or after}
    found = shape(declaration, text, comments)
    limit = LINE if spans_lines else KEPT
    if found.commented or (found.braced and spans_lines) or len(plain(found.row)) > limit:
        return _Row(tuple(lines(found.doc, LINE)), found, comment)
    return _Row((), found, comment)


# -- writing -------------------------------------------------------------------------------------------------------------


def _printed(rows: Sequence[_Row]) -> Iterator[str]:
    """Rows without a blank or comment line between them."""
    for table, group in groupby(rows, key=lambda row: row.table):
        members = list(group)
        if not table:
            for row in members:
                *above, end = row.printed or (plain(row.shape.row),)
                yield from [*above, f"{end}  {row.comment}".rstrip()]
            continue
        at = 0
        for lines_ in tables([row.shape.row for row in members], KEPT):
            yield from _with_comments(lines_, [row.comment for row in members[at : at + len(lines_)]])
            at += len(lines_)


def _with_comments(code: Sequence[str], comments: Sequence[str]) -> list[str]:
    widths = [len(line) for line, comment in zip(code, comments, strict=True) if comment]
    column = max(widths, default=0) if widths and max(widths) - min(widths) <= SLACK else 0
    return [f"{line.ljust(column)}  {comment}" if comment else line for line, comment in zip(code, comments, strict=True)]


def _squeezed(found: Iterator[str]) -> Iterator[str]:
    """At most one blank line in a row, none at the ends."""
    blank = begun = False
    for line in found:
        if line and blank and begun:
            yield ""
        blank = not line
        if line:
            begun = True
            yield line
