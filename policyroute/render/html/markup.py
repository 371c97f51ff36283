"""HTML as values: text is escaped by construction, only what this package made itself is markup.

A child or an attribute that is a plain `str` is text and escaped; `Html` is not. Characters that HTML forbids become U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from policyroute.render.sentences import sentence

VOID = {"br", "col", "hr", "meta"}
_MINUS = re.compile(r"(?<![\w-])-(?=[$\d])")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is safe to print."""

    text: str


Child = Html | str | None
NOTHING = Html("")


def plain(text: str) -> str:
    """Text without characters that a page must not hold."""
    return _FORBIDDEN.sub("\ufffd", text)


def _child(child: Child) -> str:
    return "" if child is None else child.text if isinstance(child, Html) else escape(plain(child), quote=False)


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Html:
    """An element. `class_` is `class`, `data_label` is `data-label`; an attribute that is None or False is left out."""
    told = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{told}>" if name in VOID else f"<{name}{told}>{''.join(map(_child, children))}</{name}>")


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(plain(value))}"'


def join(parts: Iterable[Child], between: str = "") -> Html:
    """Children one after the other, text escaped."""
    return Html(between.join(_child(part) for part in parts if part is not None))


def section(title: str, *children: Child, id_: str, lead: str | None = None) -> Html:
    """A section of the page under its heading; nothing where it would be empty."""
    held = [child for child in children if child is not None and child != NOTHING]
    if not held:
        return NOTHING
    return tag("section", tag("h2", title), tag("p", lead, class_="lead") if lead else None, *held, id=id_)


def folded(title: str, *children: Child, open_: bool = False) -> Html:
    """Something to open."""
    return tag("details", tag("summary", title), *children, open=open_)


def prose(text: str) -> Html:
    """A sentence of ours: figures keep their unit and have a real minus, what stands between backticks is code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return join([_figures(text)])
    return join(tag("code", piece) if number % 2 else _figures(piece) for number, piece in enumerate(pieces))


def _figures(text: str) -> str:
    return _MINUS.sub("\u2212", text.replace(" %", "\u00a0%"))


def paragraph(text: str, class_: str | None = None) -> Html:
    """A paragraph of one sentence of ours."""
    return tag("p", prose(sentence(text)), class_=class_)


def items(lines: Iterable[str], class_: str | None = None) -> Html | None:
    """A list of sentences of ours; None where it has none."""
    made = [tag("li", prose(sentence(line))) for line in lines]
    return tag("ul", *made, class_=class_) if made else None
