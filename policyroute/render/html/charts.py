"""Charts as inline SVG, drawn by altair and vl-convert while the page is made.

Colours are CSS variables, so that one picture serves light, dark and paper; text is in the page's own font. Sizes and
margins are given here, never measured from a font: the same result gives the same bytes on any machine. Each chart is
drawn for wide and for narrow screens; CSS shows one. Its name says in words what it shows; the figures stand in a table.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policyroute.render.html.markup import Html, tag

WIDE, NARROW = 720, 340
SIZE = 12  # pixels, of text
CHARACTER = 6.8  # pixels, of an average character of this size
REMEDY = "pip install 'policyroute[report]'"
_HEAD = re.compile(r"<svg\b[^>]*>")
_EMPTY = re.compile(r'<path class="(?:background|foreground)"[^>]*/>')


class ReportExtraError(ImportError):
    """The packages that draw charts are not installed; `help` is the remedy."""

    help = REMEDY


def require() -> Any:
    """The chart library. Raises ReportExtraError where it, or what turns its charts into SVG, is not installed."""
    try:
        import altair
        import vl_convert  # noqa: F401  (altair loads it only when a chart is saved)
    except ImportError as error:
        raise ReportExtraError(f"the HTML report needs altair and vl-convert-python: {error}") from error
    return altair


@dataclass(frozen=True, slots=True)
class Frame:
    """The space of a chart in pixels: the plot itself, and the margins in which labels stand."""

    width: int
    height: int
    left: int = 0
    right: int = 0
    top: int = 6
    bottom: int = 6

    @property
    def plot(self) -> int:
        """The plot's width."""
        return self.width - self.left - self.right


def cut(text: str, pixels: float) -> str:
    """Text of at most about this many pixels, shortened where it is longer."""
    most = max(4, int(pixels / CHARACTER))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def var(colour: str) -> str:
    """A colour of the stylesheet."""
    return f"var(--{colour})"


def figure(name: str, draw: Callable[[Any, int], tuple[Any, Frame]]) -> Html:
    """A chart for both widths. `draw` is given the chart library and a width; `name` says what the chart shows."""
    altair = require()
    drawn = (tag("div", _svg(*draw(altair, width), name), class_=class_) for width, class_ in ((WIDE, "wide"), (NARROW, "narrow")))
    return tag("figure", *drawn)


def _svg(chart: Any, frame: Frame, name: str) -> Html:
    padding = {"left": frame.left, "right": frame.right, "top": frame.top, "bottom": frame.bottom}
    chart = chart.properties(width=frame.plot, height=frame.height, padding=padding, autosize="none", background="transparent")
    chart = chart.configure(aria=False, font="inherit").configure_view(stroke=None)
    chart = chart.configure_axis(
        labelFont="inherit", labelFontSize=SIZE, labelColor=var("soft"), labelLimit=0, titleFont="inherit", titleFontSize=SIZE, titleFontWeight="normal",
        titleColor=var("soft"), gridColor=var("line"), domain=False, ticks=False, labelPadding=6, labelOverlap=False,
    )  # fmt: skip
    out = io.StringIO()
    chart.save(out, format="svg")
    return _inline(out.getvalue(), frame, name)


def _inline(text: str, frame: Frame, name: str) -> Html:
    """Without the names of XML vocabularies, which a page needs not and which look like addresses, and without empty boxes."""
    body = _EMPTY.sub("", _HEAD.sub("", text, count=1).removesuffix("</svg>"))
    width, height = frame.width, frame.height + frame.top + frame.bottom
    return tag(
        "svg", tag("title", name), Html(body), viewBox=f"0 0 {width} {height}", width=f"{width}", role="img", aria_label=name
    )
