"""The page: its head, its sections in order, its style. No script, no address, nothing that is fetched."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from policyroute.render.html import evidence, money, people
from policyroute.render.html.charts import require
from policyroute.render.html.markup import Html, join, tag

Json = dict[str, Any]
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # what a browser may load for this page: nothing
SECTIONS = (
    money.headline, money.gates, money.comparison, money.waterfall, money.accounting, money.rules, money.state, money.flows, money.days,
    people.movers, people.segments, people.risk, evidence.quality, evidence.scores, money.costs, people.examples, evidence.signals, evidence.self_test,
    evidence.assumptions, evidence.digests,
)  # fmt: skip


def page(result: Json) -> str:
    """The report of a simulation's result, as the text of one HTML file.

    Raises ReportExtraError where the packages that draw charts are not installed.
    """
    require()
    title = f"{result['policy']}: what it would have cost"
    style = files("policyroute.render.html").joinpath("style.css").read_text("utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style)),
    )
    body = tag("body", tag("main", join(section(result) for section in SECTIONS)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en').text}\n"
