"""Tables, amounts and bars of the page. Bars take their width from a share that the result holds; no figure is made here.

A table is read on a phone as a stack: each row a block, each cell with its column's name. Explicit roles keep it a table
for those who listen to it, since a changed `display` takes them away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from policyroute.render.html.markup import Child, Html, join, tag
from policyroute.render.sentences import share, usd

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, and whether it holds numbers (aligned right), a bar, or what needs a line of its own on a phone."""

    name: str
    number: bool = True
    bar: bool = False
    long: bool = False


def text(name: str) -> Column:
    """A column of words."""
    return Column(name, number=False, long=True)


def interval(name: str) -> Column:
    """A column of intervals."""
    return Column(name, long=True)


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Child]], class_: str | None = None) -> Html | None:
    """A table whose first column names each row; None where it has no rows. The caption is for those who listen to it."""
    made = [_row(columns, row) for row in rows]
    if not made:
        return None
    head = tag(
        "tr", *(tag("th", column.name, scope="col", role="columnheader", class_=_class(column)) for column in columns), role="row"
    )
    return tag(
        "table", tag("caption", caption, class_="heard"), tag("thead", head, role="rowgroup"), tag("tbody", *made, role="rowgroup"),
        role="table", class_=class_,
    )  # fmt: skip


def _row(columns: Sequence[Column], cells: Sequence[Child]) -> Html:
    named, *rest = zip(columns, cells, strict=True)
    first = tag("th", named[1], scope="row", role="rowheader", class_=_class(named[0]))
    others = [tag("td", cell, role="cell", class_=_class(column), data_label=column.name) for column, cell in rest]
    return tag("tr", first, *others, role="row")


def _class(column: Column) -> str | None:
    classes = [name for name, held in (("bar", column.bar), ("n", column.number and not column.bar), ("long", column.long)) if held]
    return " ".join(classes) or None


def minus(text_: str) -> str:
    """A number with a real minus sign."""
    return text_.replace("-", "−") if text_ != "-" else "–"


def money(amount: str, *, signed: bool = False) -> Html:
    """Dollars."""
    return tag("span", minus(usd(amount, signed=signed)), class_="money")


def saving(amount: str) -> Html:
    """A saving, coloured where it is one or the opposite; the sign says it too."""
    value = Decimal(amount)
    return tag("span", minus(usd(amount)), class_=f"money {'saved' if value > 0 else 'dearer' if value < 0 else ''}".strip())


def change(amount: str) -> Html:
    """A change of the bill: what falls is a saving."""
    value = Decimal(amount)
    return tag(
        "span", minus(usd(amount, signed=True)), class_=f"money {'saved' if value < 0 else 'dearer' if value > 0 else ''}".strip()
    )


def percent(value: str | None) -> str:
    """A share."""
    return minus(share(value))


def bill(line: Json | None) -> list[Child]:
    """Before, after, saving."""
    return [money(line["baseline_usd"]), money(line["routed_usd"]), saving(line["saving_usd"])] if line else ["–", "–", "–"]


BILL = (Column("before"), Column("after"), Column("saving"))


def width(part: Decimal | int, whole: Decimal | int) -> str:
    """A bar's width in CSS, from 0 to 100 %."""
    return "0%" if not whole else f"{min(Decimal(100), max(Decimal(0), Decimal(part) * 100 / Decimal(whole))):.2f}%"


def share_bar(inner: str, outer: str | None = None) -> Html:
    """A bar of `inner`, over a paler one of `outer` where there is one (both CSS widths)."""
    pale = tag("i", style=f"width:{outer}", class_="pale") if outer else None
    return tag("span", pale, tag("i", style=f"width:{inner}"), class_="track", aria_hidden="true")


def signed_bar(value: Decimal, largest: Decimal) -> Html:
    """A bar that grows to the right for a saving and to the left for a loss."""
    side = "dearer" if value < 0 else "saved"
    half = f"width:calc({width(abs(value), largest)} / 2)"
    return tag("span", tag("i", style=half, class_=side), class_="track both", aria_hidden="true")


def pairs(lines: Iterable[tuple[Child, Child]]) -> Html:
    """Labelled values."""
    return tag("dl", join(tag("div", tag("dt", label), tag("dd", value)) for label, value in lines))
