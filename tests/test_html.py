"""The HTML report: one file without scripts or addresses, in which no name of a trace can become markup."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from policyroute.render.html import ReportExtraError, page, require
from policyroute.render.html.charts import cut
from policyroute.render.html.markup import VOID, join, prose, tag
from tests.report_fixture import OPTIONAL, PIPE, SCRIPT, Json, bare, full, logged, paired_quality, silent_quality
from tests.simulate_support import policy_of, replay

pytest.importorskip("altair", reason="the extra `report` is not installed")
pytest.importorskip("vl_convert", reason="the extra `report` is not installed")

SVG_ONLY = {"path", "g", "line", "rect", "circle"}


class Reader(HTMLParser):
    """Reads a page: its elements, its text, and whether each element is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def named(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a name."""
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def text(self) -> str:
        """All text, blanks as one."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def text() -> str:
    """The page of the made-up result."""
    return page(full())


@pytest.fixture(scope="module")
def read(text: str) -> Reader:
    """The same, read."""
    return Reader(text)


# -- one file, closed to the network -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forbidden",
    [
        "http:",
        "https:",
        "//",
        "src=",
        "href",
        "@import",
        "url(",
        "<script",
        "<link",
        "<iframe",
        "javascript:",
        "@font-face",
        "base64",
    ],
)
def test_nothing_is_fetched_or_run(text: str, forbidden: str) -> None:
    """No address, no script, no font, nothing from elsewhere."""
    assert forbidden not in text.lower()


def test_a_browser_is_told_to_load_nothing(read: Reader) -> None:
    """Whatever a name might smuggle in, the page's own policy forbids it."""
    assert {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"} in read.named(
        "meta"
    )


def test_size(text: str) -> None:
    """Charts in two widths and no fonts: a small file."""
    assert len(text) < 150_000


def test_same_bytes(text: str) -> None:
    """The same result gives the same page."""
    assert page(full()) == text


# -- names ---------------------------------------------------------------------------------------------------------


def test_names_are_text(read: Reader) -> None:
    """Every element is closed in its order, none is a script, and the names are there to read."""
    assert read.open == []
    assert {"script", "img"}.isdisjoint(tag for tag, _ in read.elements)
    assert SCRIPT in read.text and PIPE in read.text
    assert not [key for _, attributes in read.elements for key in attributes if key.startswith("on")]


def test_texts_of_requests_are_text(read: Reader) -> None:
    """A prompt is shown as it is, but for characters that a page must not hold."""
    assert f"user: {SCRIPT} please\ufffd & thank you" in read.text


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (tag("p", "a<b & c"), "<p>a&lt;b &amp; c</p>"), (tag("p", class_='x" onload="y'), '<p class="x&quot; onload=&quot;y"></p>'),
        (tag("br"), "<br>"), (tag("i", tag("b", "<"), None, data_label="n", hidden=True, open=False), '<i data-label="n" hidden><b>&lt;</b></i>'),
        (join(["<", tag("b")]), "&lt;<b></b>"), (tag("p", "\x00\x1b\ud800\t\n"), "<p>\ufffd\ufffd\ufffd\t\n</p>"),
    ],
)  # fmt: skip
def test_markup(made: Any, shown: str) -> None:
    """Text is escaped by construction."""
    assert made.text == shown


# -- what it says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "35.25 % saved", "recorded models, at our prices", "95 % interval: 32.10 to 38.40 %, $391.00 to $483.50, over 412 clusters (user_id).",
        "3.41 times as many output tokens", "Two days hold half of the spend.", "about 400 more requests are needed", "Self-test", "1 row agrees within 0.5 %",
        "$0.00 + 1 row unknown", "400 more members between these", "Nobody loses.", "moved to a dearer tier 310", "some new figure unknown",
        "Answers keep their length: the routed model is taken to write as many tokens.", "12 % of the input was cached", "1 recorded call:", "b2" * 32,
    ],
)  # fmt: skip
def test_it_says(read: Reader, said: str) -> None:
    """Headline, interval, break-even, warnings, gates, risks, assumptions, digests."""
    assert said in read.text


@pytest.mark.parametrize(
    "heading",
    [
        "Gates", "Policies side by side", "From the baseline to the new bill", "What became of each request", "By rule", "From model to model", "By day",
        "Scores", "Who moves most", "Who saves and who loses", "Risk", "Quality", "What else the policy costs", "Requests whose model changes", "Signals", "Self-test",
        "Assumed", "Digests",
    ],
)  # fmt: skip
def test_sections(text: str, heading: str) -> None:
    """Each part has its heading."""
    assert f"<h2>{heading}</h2>" in text


def rows(text: str, first: str) -> Iterator[str]:
    """The text of the lines of tables whose first cell begins so."""
    for line in re.findall(r"<tr role=\"row\">(.*?)</tr>", text, re.DOTALL):
        told = " ".join(Reader(f"<tr>{line}</tr>").text.split())
        if told.startswith(first):
            yield told


@pytest.mark.parametrize(
    ("first", "line"),
    [
        ("incident →", "incident → opus fallback sonnet 310 3.10 % 330 $120.00 $181.20 −$61.20 −$61.20"),
        ("maybe", "maybe (shadow) → cheap 1 0.01 % 1 – – – –"),
        ("enterprise", "enterprise 900 450 $300.00 $361.20 −$61.20 −20.40 %"),
        ("2026-03-08", "2026-03-08 1,280 760 $80.00 $95.00 −$15.00 35.00 %"),
        ("oracle", "oracle an oracle $620.00 0.9210 –"),
    ],
)  # fmt: skip
def test_lines_of_tables(text: str, first: str, line: str) -> None:
    """Figures are the result's own: rules with what they are worth, losers, days, quality."""
    assert line in list(rows(text, first))


def test_losers_are_listed(text: str) -> None:
    """Members that lose stand in their segment's table, the largest loss last, and among those that move most."""
    found = list(rows(text, "a|b"))
    assert found == ["a|b `c` [d](e) *f* 9 4 $1.00 $3.50 −$2.50 −250.00 %"] * 2


def test_widths_of_bars(text: str) -> None:
    """What a rule takes in its place, over what it would take alone, of all requests."""
    assert '<i style="width:54.00%" class="pale"></i><i style="width:52.00%"></i>' in text


# -- for those who listen ------------------------------------------------------------------------------------------


def test_headings_descend(read: Reader) -> None:
    """One h1, and no level is left out."""
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def test_charts_have_names(read: Reader) -> None:
    """Each chart is one picture with its figures in words."""
    charts = read.named("svg")
    assert len(charts) == 8 and all(chart["role"] == "img" and len(chart["aria-label"] or "") > 40 for chart in charts)


def test_tables_have_heads(read: Reader) -> None:
    """A caption for each table, a scope for each head."""
    assert len(read.named("caption")) == len(read.named("table"))
    assert {head.get("scope") for head in read.named("th")} == {"col", "row"}


def test_language_and_viewport(read: Reader) -> None:
    """The page says its language, and that it fits a phone."""
    assert read.named("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in read.named("meta"))


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, by WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", [0, 1, 2], ids=["light", "dark", "paper"])
@pytest.mark.parametrize(
    ("colour", "least"), [("ink", 12), ("soft", 4.5), ("saved", 4.5), ("dearer", 4.5), ("unsure", 4.5), ("total", 3)]
)
def test_contrast(text: str, palette: int, colour: str, least: float) -> None:
    """Text has WCAG's contrast on the page, bars have that of graphics."""
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", text, re.DOTALL)[palette]))
    light, dark = sorted((luminance(colours[colour]), luminance(colours["paper"])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


# -- what may be absent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", OPTIONAL)
def test_any_part_may_be_absent(key: str) -> None:
    """A key that a result lacks, or has empty, leaves its section out."""
    whole = bare() | {name: value for name, value in full().items() if name in ("interval", "risk", key)}
    for found in ({name: value for name, value in whole.items() if name != key}, whole | {key: None}):
        assert "35.25 %" in page(found)


@pytest.mark.parametrize(
    ("panel", "said", "charts"),
    [
        (paired_quality(), "Do not route: mini for all is as good and cheaper.", 2),
        (silent_quality(), "Quality is not identifiable from these traces. Add explore 1% by user to the policy.", 0),
        (silent_quality() | {"logged": [logged()]}, "doubly robust 0.4100 0.3900 to 0.4300 −0.0100 −0.0300 to 0.0100", 0),
    ],
)
def test_panels_of_quality(panel: Json, said: str, charts: int) -> None:
    """The panels of outcomes, of propensities, and of traces that can't tell are read as they are."""
    found = Reader(page(bare() | {"quality": panel}))
    assert said in found.text and len(found.named("svg")) == charts


@pytest.mark.parametrize(
    ("saving", "percent", "said"),
    [("-3.00", "-0.24", "0.24 % dearer"), ("0.00", "0.00", "0.00 % no difference"), ("2.00", "0.16", "it is not a saving")],
)
def test_what_is_no_saving_is_not_called_one(saving: str, percent: str, said: str) -> None:
    """A loss, nothing, and a difference within the self-test's error."""
    found = bare() | {"self_test": full()["self_test"]}
    found["headline"] |= {"saving_usd": saving, "saving_percent": percent}
    assert said in Reader(page(found)).text


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("use `--outcomes <F>` now", "use <code>--outcomes &lt;F&gt;</code> now"), ("one ` here", "one ` here"), ("-3.5 to 1 %, 2026-03-01, a-1", "\u22123.5 to 1\u00a0%, 2026-03-01, a-1"),
        ("from -$1 (-2)", "from \u2212$1 (\u22122)"),
    ],
)  # fmt: skip
def test_prose(text: str, made: str) -> None:
    """Sentences that other formats print too: code, units and signs as a page has them."""
    assert prose(text).text == made


def test_an_interval_around_nothing_is_said() -> None:
    """A saving whose interval includes 0 is neither green nor without a warning."""
    found = bare() | {"interval": full()["interval"] | {"saving_percent": ["-3.10", "38.40"]}}
    made = page(found)
    assert '<p class="big unsure">' in made and "The interval includes 0" in made and "\u22123.10 to 38.40" in made
    assert '<p class="big saved">' in page(full())


def test_nothing_priced() -> None:
    """No headline where nothing could be priced, and no chart of nothing."""
    found = bare() | {"rules": [], "flows": [], "segments": {}, "waterfall": [{"label": "baseline", "usd": "0", "kind": "total"}]}
    found["headline"] |= {"rows": 0}
    assert "no saving to speak of" in Reader(page(found)).text


def test_long_names_are_cut_in_charts_only() -> None:
    """A chart has no room for them; the table below has."""
    assert cut("a" * 40, 100) == "a" * 13 + "…" and cut("short", 100) == "short"


def test_of_a_replay() -> None:
    """A real result: all its sections, closed and without addresses."""
    found = replay(policy_of("policies/support.route"), "traces/support.parquet")
    made = page(found)
    read = Reader(made)
    assert read.open == [] and "//" not in made
    assert f"{found['headline']['saving_percent']} % saved" in read.text


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said, with the remedy."""
    known = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("altair", "vl_convert"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return known(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ReportExtraError, match="altair") as raised:
        require()
    assert raised.value.help == "pip install 'policyroute[report]'"
    with pytest.raises(ReportExtraError):
        page(full())
