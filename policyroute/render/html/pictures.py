"""The page's four charts. Positions are floats, since they are lengths; what is written beside them is the result's own text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from policyroute.render.html.charts import CHARACTER, SIZE, WIDE, Frame, cut, figure, var
from policyroute.render.html.markup import NOTHING, Html, plain
from policyroute.render.html.tables import minus
from policyroute.render.sentences import usd

Json = dict[str, Any]
ROW, TALL = 26, 40  # pixels of a line with its bar, on wide and narrow screens
LABELS, FIGURES = 210, 90  # pixels beside the bars
FEWEST_DAYS, MOST_DAYS = 3, 400
COLOURS = {"policy": "saved", "single": "soft", "oracle": "total", "random": "total"}
SHAPES = {"policy": "diamond", "single": "circle", "oracle": "triangle-up", "random": "square"}
KINDS = {"policy": "this policy", "single": "one model for all", "oracle": "an oracle", "random": "a random mix at the same cost"}


# -- waterfall -----------------------------------------------------------------------------------------------------


def waterfall(steps: Sequence[Json]) -> Html:
    """From the baseline to the new bill, one bar a step."""
    told = "; ".join(f"{step['label']} {usd(step['usd'], signed=step['kind'] == 'change')}" for step in steps)
    return figure(f"From the baseline to the new bill: {told}", lambda altair, width: _waterfall(altair, width, steps))


def _waterfall(altair: Any, width: int, steps: Sequence[Json]) -> tuple[Any, Frame]:
    """Names stand left of the bars, on narrow screens above them."""
    wide = width == WIDE
    frame = Frame(width, (ROW if wide else TALL) * len(steps), left=LABELS if wide else 0, right=FIGURES, top=2, bottom=2)
    rows = _steps(steps, 0.5 if wide else 0.68, 0.5 if wide else 0.27, LABELS - 10 if wide else width)
    base = altair.Chart(altair.Data(values=rows))
    ends = [min([0.0, *(row["low"] for row in rows)]), max([0.0, *(row["high"] for row in rows)]) or 1.0]
    across, down = altair.Scale(domain=ends, nice=False), altair.Scale(domain=[0, len(steps)], reverse=True, nice=False)

    def x(field: str) -> Any:
        return altair.X(f"{field}:Q", scale=across, axis=None)

    def y(field: str) -> Any:
        return altair.Y(f"{field}:Q", scale=down, axis=None)

    bars = base.mark_bar(size=14, orient="horizontal").encode(x=x("low"), x2="high", y=y("bar"), color=_as_given(altair))
    figures = _text(base, "left", 6).encode(x=x("high"), y=y("bar"), text="figure:N")
    names = _text(base, "right" if wide else "left", 0).encode(x=altair.value(-10 if wide else 0), y=y("name"), text="label:N")
    joints = altair.Chart(altair.Data(values=_joints(rows))).mark_rule(color=var("line"))
    joints = joints.encode(x=x("level"), y=y("bar"), y2="next")
    return altair.layer(joints, bars, figures, names), frame


def _as_given(altair: Any) -> Any:
    return altair.Color("colour:N", scale=None, legend=None)


def _text(base: Any, align: str, dx: int) -> Any:
    return base.mark_text(align=align, baseline="middle", dx=dx, fontSize=SIZE, font="inherit", limit=0, color=var("ink"))


def _steps(steps: Sequence[Json], bar: float, name: float, room: float) -> list[Json]:
    """Where each bar begins and ends: totals stand on zero, changes on what is left of the step before."""
    level, rows = 0.0, []
    for number, step in enumerate(steps):
        total, value = step["kind"] == "total", float(step["usd"])
        before, level = (0.0, value) if total else (level, level + value)
        colour = "total" if total else "saved" if value < 0 else "dearer"
        rows.append(
            {"label": cut(plain(step["label"]), room), "figure": minus(usd(step["usd"], signed=not total)), "low": min(before, level),
             "high": max(before, level), "level": level, "bar": number + bar, "name": number + name, "colour": var(colour)}
        )  # fmt: skip
    return rows


def _joints(rows: Sequence[Json]) -> list[Json]:
    """Thin lines from the level that one step leaves to the next."""
    return [{"level": before["level"], "bar": before["bar"], "next": after["bar"]} for before, after in pairwise(rows)]


# -- days ----------------------------------------------------------------------------------------------------------


def days(lines: Sequence[Json]) -> Html:
    """The bill of each day before and after; nothing for fewer than three days, which a table says better."""
    if not FEWEST_DAYS <= len(lines) <= MOST_DAYS:
        return NOTHING
    name = f"The bill of each day from {lines[0]['day']} to {lines[-1]['day']}, before (grey) and under the policy (green; red where that is more)"
    return figure(name, lambda altair, width: _days(altair, width, lines))


def _days(altair: Any, width: int, lines: Sequence[Json]) -> tuple[Any, Frame]:
    frame = Frame(width, 180, left=58, bottom=24)
    calendar = _calendar(lines[0]["day"], lines[-1]["day"])
    rows = [{"day": line["day"], "before": float(line["baseline_usd"]), "after": float(line["routed_usd"])} for line in lines]
    dearer = [row for row in rows if row["after"] > row["before"]]
    every = max(1, -(-len(calendar) // (8 if width == WIDE else 4)))
    axis = altair.Axis(values=calendar[::every], labelAngle=0, labelExpr="slice(datum.value, 5)", title=None, grid=False)
    x = altair.X("day:O", scale=altair.Scale(domain=calendar, paddingInner=0.25 if len(calendar) <= 62 else 0), axis=axis)
    money = altair.Axis(format="$,~r", tickCount=4, title=None)
    base = altair.Chart(altair.Data(values=rows))
    before = base.mark_bar(color=var("pale")).encode(x=x, y=altair.Y("before:Q", axis=money))
    after = base.mark_bar(color=var("saved")).encode(x=x, y=altair.Y("after:Q", axis=money))
    above = altair.Chart(altair.Data(values=dearer)).mark_bar(color=var("dearer"))
    above = above.encode(x=x, y=altair.Y("before:Q", axis=money), y2="after")
    return altair.layer(before, after, *([above] if dearer else [])), frame


def _calendar(first: str, last: str) -> list[str]:
    """All days from the first to the last, those without requests too."""
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(begin + timedelta(days=number)).isoformat() for number in range((end - begin).days + 1)]


# -- quality -------------------------------------------------------------------------------------------------------


def quality(points: Sequence[Json]) -> Html:
    """Score against cost, with intervals of the score."""
    known = [point for point in points if point["cost_usd"] is not None and point["score"] is not None]
    if len(known) < 2:
        return NOTHING
    told = "; ".join(f"{point['name']} {point['score']} at {usd(point['cost_usd'])}" for point in known)
    return figure(f"Score against cost: {told}", lambda altair, width: _quality(altair, width, known))


def _quality(altair: Any, width: int, points: Sequence[Json]) -> tuple[Any, Frame]:
    frame = Frame(width, 280, left=52, right=24, bottom=40)
    rows = [_dot(point) for point in points]
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    margin = (high - low) * 0.08 or 0.05
    most = max(row["cost"] for row in rows) or 1.0
    across, up = [0.0, most * 1.06], [low - margin, high + margin]
    base = altair.Chart(
        altair.Data(values=[row | place for row, place in zip(rows, _places(rows, frame, across, up), strict=True)])
    )
    x = altair.X(
        "cost:Q",
        scale=altair.Scale(domain=across, nice=False),
        axis=altair.Axis(format="$,~r", tickCount=4, title="cost", grid=False),
    )
    y = altair.Y(
        "score:Q", scale=altair.Scale(domain=up, nice=False, zero=False), axis=altair.Axis(format="~r", tickCount=5, title=None)
    )
    colour = _as_given(altair)
    whiskers = base.mark_rule(strokeWidth=1.5, opacity=0.55).encode(x=x, y=altair.Y("low:Q"), y2="high:Q", color=colour)
    dots = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, color=colour, shape=altair.Shape("shape:N", scale=None, legend=None)
    )
    names = [_names(altair, base, x, y, align) for align in ("left", "right")]
    return altair.layer(whiskers, dots, *names), frame


def _dot(point: Json) -> Json:
    score = float(point["score"])
    low, high = (score if point.get(key) is None else float(point[key]) for key in ("score_low", "score_high"))
    kind = point["kind"] if point["kind"] in COLOURS else "single"
    return {
        "name": cut(plain(point["name"]), 150), "cost": float(point["cost_usd"]), "score": score, "low": low, "high": high,
        "colour": var(COLOURS[kind]), "shape": SHAPES[kind], "weight": kind,
    }  # fmt: skip


def _names(altair: Any, base: Any, x: Any, y: Any, align: str) -> Any:
    side = base.transform_filter(f"datum.align === '{align}'")
    return _text(side, align, 9 if align == "left" else -9).encode(x=x, y=y, text="name:N")


def _places(rows: Sequence[Json], frame: Frame, across: Sequence[float], up: Sequence[float]) -> list[Json]:
    """On which side of its point each name stands; a name without room is left to the table below, the policy's never."""
    taken: list[tuple[float, float, float]] = []
    found: list[Json] = [{} for _ in rows]
    for number, row in sorted(enumerate(rows), key=lambda item: item[1]["weight"] != "policy"):
        x = (row["cost"] - across[0]) / (across[1] - across[0]) * frame.plot
        y = (row["score"] - up[0]) / (up[1] - up[0]) * frame.height
        long = len(row["name"]) * CHARACTER + 12
        sides = (("left", x, x + long), ("right", x - long, x))
        fits = [
            (align, begin, end)
            for align, begin, end in sides
            if begin >= 0 and end <= frame.plot + frame.right and _free(begin, end, y, taken)
        ]
        align, begin, end = fits[0] if fits else ("left" if row["weight"] == "policy" else "none", x - 6, x + 6)
        taken.append((min(begin, x - 6), max(end, x + 6), y))
        found[number] = {"align": align}
    return found


def _free(begin: float, end: float, y: float, taken: Sequence[tuple[float, float, float]]) -> bool:
    return all(end < low or begin > high or abs(y - other) >= 14 for low, high, other in taken)


# -- several policies ----------------------------------------------------------------------------------------------


def policies(lines: Sequence[Json]) -> Html:
    """The saving of each policy in percent, with its interval."""
    known = [line for line in lines if line["saving_percent"] is not None]
    if len(known) < 2:
        return NOTHING
    told = "; ".join(f"{line['policy']} {line['saving_percent']} %" for line in known)
    return figure(f"Saving of each policy: {told}", lambda altair, width: _policies(altair, width, known))


def _policies(altair: Any, width: int, lines: Sequence[Json]) -> tuple[Any, Frame]:
    left = LABELS if width == WIDE else 110
    frame = Frame(width, ROW * len(lines), left=left, right=20, bottom=24)
    rows: list[Json] = []
    for number, line in enumerate(lines):
        value = float(line["saving_percent"])
        low, high = map(float, line.get("interval") or (value, value))
        rows.append({"name": cut(plain(line["policy"]), left - 12), "value": value, "low": low, "high": high, "y": number + 0.5})
    base = altair.Chart(altair.Data(values=rows))
    ends = [min(0.0, *(row["low"] for row in rows)), max(0.0, *(row["high"] for row in rows))]
    axis = altair.Axis(labelExpr="datum.label + ' %'", format="~r", tickCount=5 if width == WIDE else 3, title=None)
    x = altair.X("low:Q", scale=altair.Scale(domain=ends, nice=True), axis=axis)
    y = altair.Y("y:Q", scale=altair.Scale(domain=[0, len(lines)], reverse=True, nice=False), axis=None)
    spans = base.mark_rule(strokeWidth=2, color=var("saved"), opacity=0.55).encode(x=x, x2="high:Q", y=y)
    dots = base.mark_point(filled=True, size=70, opacity=1, color=var("saved")).encode(x=altair.X("value:Q", axis=axis), y=y)
    return altair.layer(spans, dots, _text(base, "right", 0).encode(x=altair.value(-12), y=y, text="name:N")), frame
