"""Documents to lines: a small pretty printer after Wadler, "A prettier printer" (2003), that knows comments.

A document is a text, a place where a line may end, or documents one after another. `Group` is what is kept on one line
where it fits: then its `Line`s are spaces, else they are line breaks (those of inner groups are decided for themselves).

A comment belongs to a text: `before` stands on lines of its own, `after` ends the text's line. So a comment never moves
from its place between two texts; where the document allows no line break after it, one is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

CONTINUATION = 4  # columns that a line is indented by when only a comment made it begin


@dataclass(frozen=True, slots=True)
class Text:
    """Characters of one line, with the comments on the lines before and at the end of the line."""

    text: str
    before: tuple[str, ...] = ()
    after: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line break in a broken group, `spaces` spaces in a flat one."""

    spaces: int = 1


@dataclass(frozen=True, slots=True)
class Nest:
    """`doc`, with the lines that begin in it indented by `columns` more."""

    columns: int
    doc: Doc


@dataclass(frozen=True, slots=True)
class Group:
    """`doc` on one line, if it fits there up to the next place where a line may end."""

    doc: Doc


Doc = Text | Line | Nest | Group | tuple["Doc", ...]
_Todo = tuple[int, bool, Doc]  # indentation, flat, what to print


def flat(doc: Doc) -> str:
    """The document on one line, without its comments."""
    match doc:
        case Text(text):
            return text
        case Line(spaces):
            return " " * spaces
        case Nest(_, inner) | Group(inner):
            return flat(inner)
        case _:
            return "".join(flat(part) for part in doc)


def commented(doc: Doc) -> bool:
    """Whether a text of the document carries a comment."""
    match doc:
        case Text(_, before, after):
            return bool(before or after)
        case Line():
            return False
        case Nest(_, inner) | Group(inner):
            return commented(inner)
        case _:
            return any(commented(part) for part in doc)


@dataclass(slots=True)
class _Paper:
    """The lines printed so far; `closed` when a comment has ended the current one."""

    lines: list[str] = field(default_factory=list)
    current: str = ""
    closed: bool = False

    def end_line(self, indent: int) -> None:
        if self.current.strip():
            self.lines.append(self.current.rstrip())
        self.current, self.closed = " " * indent, False

    def put(self, text: Text, indent: int) -> None:
        if self.closed and text.text.isspace():
            return
        if self.closed or (text.before and self.current.strip()):
            self.end_line(indent + CONTINUATION)
        here = len(self.current)
        for comment in text.before:
            self.current += comment
            self.end_line(here)
        self.current += text.text
        if text.after:
            self.current, self.closed = f"{self.current}  {text.after}", True


def lines(doc: Doc, width: int) -> list[str]:
    """The document as lines of at most `width` columns where its groups allow that; comments don't count as columns."""
    paper = _Paper()
    todo: list[_Todo] = [(0, False, doc)]
    while todo:
        indent, is_flat, top = todo.pop()
        match top:
            case Text():
                paper.put(top, indent)
            case Line(spaces) if is_flat:
                paper.current += " " * spaces
            case Line():
                paper.end_line(indent)
            case Nest(columns, inner):
                todo.append((indent + columns, is_flat, inner))
            case Group(inner):
                room = width - len(paper.current)
                todo.append((indent, is_flat or _fits(inner, todo, room, paper.closed), inner))
            case _:
                todo += [(indent, is_flat, part) for part in reversed(top)]
    paper.end_line(0)
    return paper.lines


def _fits(doc: Doc, rest: Sequence[_Todo], room: int, closed: bool) -> bool:
    """Whether `doc`, flat, and what follows it up to a line break take at most `room` columns, and no comment is inside `doc`."""
    todo: list[tuple[bool, bool, Doc]] = [(True, True, doc)]  # flat, part of `doc`, what to measure
    following = len(rest)
    while room >= 0:
        if not todo:
            if not following:
                return True
            following -= 1
            todo.append((rest[following][1], False, rest[following][2]))
        is_flat, inside, top = todo.pop()
        match top:
            case Text(text, before, after):
                if closed or before:
                    return not inside
                room, closed = room - len(text), bool(after)
            case Line(spaces):
                if not is_flat:
                    return True
                room -= spaces
            case Nest(_, inner) | Group(inner):
                todo.append((is_flat, inside, inner))
            case _:
                todo += [(is_flat, inside, part) for part in reversed(top)]
    return False
